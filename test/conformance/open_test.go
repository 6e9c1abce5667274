package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// open are the points on which the specification contradicts itself or is
// silent, as far as a row of the tables depends on them, with what was decided
// (requester.md 8; docs/decisions.md).
var open = []struct{ methods, point, decision string }{
	{"ImportSnapshots", "a second import of the same set, here or elsewhere", "pHrResult VSS_E_BAD_STATE, nothing is unmasked (8 row 2)"},
	{"ImportSnapshots", "an import beside another", "VSS_E_BAD_STATE, which matches vss.ErrImportInProgress (8 row 3)"},
	{"ImportSnapshots", "an object without a document", "VSS_E_BAD_STATE (8 row 4)"},
	{"ImportSnapshots", "a document that does not travel: at the call or as the result", "as pHrResult (8 row 5)"},
	{"InitializeForBackup InitializeForRestore", "an altered document", "VSS_E_INVALID_XML_DOCUMENT (8 row 21)"},
	{"InitializeForBackup", "a caller's \"\" beside NULL", "both are no document"},
	{"SaveAsXML", "never before PrepareForBackup, which sets without writers have not", "after DoSnapshotSet there (8 row 8)"},
	{"AddComponent", "before StartSnapshotSet or before DoSnapshotSet", "until PrepareForBackup (8 row 9)"},
	{"AbortBackup", "from StartSnapshotSet or from PrepareForBackup", "from StartSnapshotSet; elsewhere in a backup it is ignored; in a restore VSS_E_BAD_STATE (8 row 10)"},
	{"StartSnapshotSet", "in VSS_CTX_ALL", "VSS_E_BAD_STATE (8 row 15)"},
	{"SetContext", "ROLLBACK_RECOVERY or AUTORECOVER with TRANSPORTABLE", "VSS_E_UNSUPPORTED_CONTEXT (8 row 25)"},
	{"SetContext", "DIFFERENTIAL with PLEX; a modifier with CLIENT_ACCESSIBLE", "E_INVALIDARG (5.2)"},
	{"Query", "the result when nothing matches", "S_OK and an empty enumerator (8 row 18)"},
	{"ExposeSnapshot", "an auto-release copy", "VSS_E_UNSUPPORTED_CONTEXT; it is read through its device object (8 row 12)"},
	{"ExposeSnapshot", "a copy that is exposed", "VSS_E_OBJECT_ALREADY_EXISTS, as the sample refuses it"},
	{"GetSnapshotProperties DeleteSnapshots ExposeSnapshot UnexposeSnapshot CleanupImport", "GUID_NULL as an ID", "VSS_E_OBJECT_NOT_FOUND: it names nothing"},
	{"AddToSnapshotSet", "a volume that is in the set", "VSS_E_OBJECT_ALREADY_EXISTS"},
	{"IsVolumeSupported", "a provider that is not registered", "VSS_E_PROVIDER_NOT_REGISTERED, as AddToSnapshotSet"},
	{"GatherWriterStatus", "while an operation runs", "VSS_E_BAD_STATE: the status would be of no one moment"},
	{"GetWriterMetadata GetWriterMetadataCount GetWriterMetadataEx", "after FreeWriterMetadata", "VSS_E_BAD_STATE"},
	{"GetWriterStatus GetWriterStatusCount GetWriterStatusEx", "after FreeWriterStatus", "VSS_E_BAD_STATE"},
	{"EnableWriterClasses DisableWriterClasses DisableWriterInstances", "after GatherWriterMetadata", "S_OK without effect"},
	{"GetRootAndLogicalPrefixPaths", "a path that leads nowhere", "VSS_E_OBJECT_NOT_FOUND"},
	{"BreakSnapshotSet BreakSnapshotSetEx RevertToSnapshot AddSnapshotToRecoverySet RecoverSet", "not built yet", "E_NOTIMPL where the call is legal"},
	{"PreFastRecovery FastRecovery", "reserved", "E_NOTIMPL in every state, also before initialisation"},
	{"", "strings beyond 64 KiB, or that are not UTF-8", "E_INVALIDARG in every method"},
	{"", "calls on a released object, and on an IVssAsync that was released", "VSS_E_BAD_STATE (2.0 G1 says never to reuse one)"},
	{"", "which of E_INVALIDARG for a nil out parameter and VSS_E_BAD_STATE comes first", "E_INVALIDARG in vssapi; in requester a nil object comes before a nil context"},
}

func printOpen(out io.Writer) {
	fmt.Fprintf(out, "\nLeft open by the specification, and decided:\n")
	for _, o := range open {
		who := strings.ReplaceAll(o.methods, " ", ", ")
		if who == "" {
			who = "every method"
		}
		fmt.Fprintf(out, "  %s: %s\n      %s\n", who, o.point, o.decision)
	}
}

// TestOpenPoints: each is of methods that there are.
func TestOpenPoints(t *testing.T) {
	known := methods()
	for _, o := range open {
		for _, m := range strings.Fields(o.methods) {
			if !slices.Contains(known, m) {
				t.Errorf("%q is of no method %s", o.point, m)
			}
		}
	}
	for _, tr := range trials() {
		if strings.Contains(tr.source, "open") && !slices.ContainsFunc(open, func(o struct{ methods, point, decision string }) bool {
			return slices.Contains(strings.Fields(o.methods), tr.method)
		}) {
			t.Errorf("%s, %s is open, and no decision is listed", tr.method, tr.what)
		}
	}
}

// check is one line of the ImportSnapshots page, mirrored.
type check struct {
	page  string
	tests []string
}

const root = "../.."

var testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")

// checklist reads the mirrored page: every row of its tables that names tests.
func checklist() (out []check, err error) {
	b, err := os.ReadFile(filepath.Join(root, "docs/api/importsnapshots.md"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) < 3 {
			continue
		}
		c := check{page: strings.TrimSpace(cells[0])}
		for _, m := range testName.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			c.tests = append(c.tests, m[1])
		}
		if len(c.tests) > 0 {
			out = append(out, c)
		}
	}
	return out, nil
}

func printChecklist(out io.Writer) {
	fmt.Fprintf(out, "\nThe page of ImportSnapshots, with the tests that show it (make test runs them):\n")
	list, err := checklist()
	if err != nil {
		fmt.Fprintln(out, " ", err)
	}
	there := testsOfTree()
	for _, c := range list {
		mark := "x"
		for _, name := range c.tests {
			if there[name] == "" {
				mark = " "
			}
		}
		fmt.Fprintf(out, "  [%s] %s (%s)\n", mark, c.page, strings.Join(c.tests, ", "))
	}
}

// testsOfTree are all test functions of the module, with their files.
func testsOfTree() map[string]string {
	out := map[string]string{}
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				out[fn.Name.Name] = path
			}
		}
		return nil
	})
	return out
}

// TestChecklist: every line of the page is shown by a test that there is.
func TestChecklist(t *testing.T) {
	list, err := checklist()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 25 {
		t.Errorf("%d lines of the page", len(list))
	}
	there := testsOfTree()
	for _, c := range list {
		for _, name := range c.tests {
			if there[name] == "" {
				t.Errorf("%s: no test %s", c.page, name)
			}
		}
	}
}
