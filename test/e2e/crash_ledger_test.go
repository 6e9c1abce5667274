package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/site"
)

// The crash matrix: at which failpoint which process was killed during what,
// and what came of it. Tests that kill enter a row for each death they have
// looked at; the whole is docs/crash-matrix.md, and TestMain holds that page to
// what a complete run entered, and the run to the failpoints there are.

// death is a row.
type death struct {
	Point   string
	Process string // who was killed
	During  string // the command that ran
	Answer  string // what the command's caller was told
	After   string // what there was when the process ran again
}

var (
	ledger []death
	update = flag.Bool("update", false, "write docs/crash-matrix.md anew")
)

const matrixPage = "../../docs/crash-matrix.md"

// died enters a row for a test that has not failed. answer is nil where the
// caller was told nothing bad.
func (f *fixture) died(point, process, during string, answer error, after string) {
	f.Helper()
	if f.Failed() {
		return
	}
	told := "done"
	if answer != nil {
		told = "fails"
		var ce *site.CommandError
		if errors.As(answer, &ce) {
			told = strings.Join(codesIn(ce.Stderr), ", ")
		}
	}
	ledger = append(ledger, death{point, process, during, told, after})
}

// codesIn are the result codes that a command's errors name.
func codesIn(stderr string) (codes []string) {
	for _, w := range strings.FieldsFunc(stderr, func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) {
		if (strings.HasPrefix(w, "VSS_E_") || strings.HasPrefix(w, "E_")) && !slices.Contains(codes, w) {
			codes = append(codes, w)
		}
	}
	return codes
}

// elsewhere are failpoints at which this package kills nobody, with the test
// that does.
var elsewhere = map[string]string{
	// Hosts of this package's sites are on the array's machine.
	"array.export.before-record":  inExport,
	"array.export.after-record":   inExport,
	"array.export.after-map":      inExport,
	"array.unexport.after-record": inExport,
	// What would change a copy's access, break and automatic recovery, is not
	// built yet.
	"array.access.before-record":  inChange,
	"array.access.after-record":   inChange,
	"array.thin.reserved":         inThin,
	"array.thin.made":             inThin,
	"array.thin.device-removed":   inThin,
	"array.thin.deleted":          inThin,
	"array.thin.targets-recorded": inThin,
	"array.thin.before-suspend":   inThin,
	"array.thin.suspended":        inThin,
	"array.thin.copied":           inThin,
	"array.thin.resumed":          inThin,
	"writers.tell":                "no state changes there: tests of cancelling wait at it (`internal/service`)",
}

const (
	inThin   = "`TestDeath` (`internal/array/backend/lvmthin`), on a kernel with device-mapper: the lab's `TestThinPool`, and `TestThinArray` with the LUNs suspended"
	inExport = "`TestDeathInAnExport` (`internal/array`), on a copy of the database as it was then; over iSCSI the lab's `TestArrayGone`"
	inChange = "`TestDeathInAChange` (`internal/array`), on a copy of the database as it was then"
)

// missing are the failpoints that nobody died at.
func missing() (out []string) {
	seen := map[string]bool{}
	for _, d := range ledger {
		seen[d.Point] = true
	}
	for _, n := range failpoint.Names() {
		if !seen[n] && elsewhere[n] == "" {
			out = append(out, n)
		}
	}
	return out
}

// matrix is the page.
func matrix() string {
	var b strings.Builder
	b.WriteString(`# The crash matrix

Every place in the service, the host's part of it, the array and the freeze guard
where state changes is a failpoint (` + "`internal/failpoint`" + `). The end-to-end tests kill the process
with SIGKILL at each, start it again as its unit would, and check: nothing is
frozen, every LUN is owned, listed or gone, nothing is left on the machine that
nobody accounts for, and the same command works when it is given again. This
page is what they found; ` + "`make crash-matrix`" + ` writes it, and ` + "`make test`" + ` fails if it
is not true any more or a failpoint is not in it. What a caller of a dead array is
told depends on how soon the array is back, because harmless calls are repeated
once; for these rows it is what was seen last.

| Failpoint | Killed | During | The caller is told | Afterwards |
|---|---|---|---|---|
`)
	rows := slices.Clone(ledger)
	slices.SortStableFunc(rows, func(x, y death) int {
		return strings.Compare(x.Point+"\x00"+x.Process+"\x00"+x.During, y.Point+"\x00"+y.Process+"\x00"+y.During)
	})
	for _, d := range slices.Compact(rows) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Point, d.Process, d.During, d.Answer, d.After)
	}
	b.WriteString("\nNobody is killed here:\n\n")
	var others []string
	for n, why := range elsewhere {
		others = append(others, fmt.Sprintf("- `%s`: %s.\n", n, why))
	}
	slices.Sort(others)
	b.WriteString(strings.Join(others, ""))
	return b.String()
}

// checkMatrix is called after a run that passed. A part of the tests says
// nothing of the whole.
func checkMatrix() error {
	if part := flag.Lookup("test.run").Value.String() + flag.Lookup("test.skip").Value.String(); part != "" && part != "TestKilled" {
		return nil
	}
	if m := missing(); len(m) > 0 {
		return fmt.Errorf("nobody dies at %s: add the failpoint to a test that kills, or say in crash_ledger_test.go where it is shown", strings.Join(m, ", "))
	}
	page := matrix()
	if *update {
		return os.WriteFile(filepath.FromSlash(matrixPage), []byte(page), 0o644)
	}
	have, err := os.ReadFile(filepath.FromSlash(matrixPage))
	if err != nil {
		return err
	}
	if d := differing(string(have), page); d != "" {
		return fmt.Errorf("docs/crash-matrix.md is not what was seen; if it should be, run `make crash-matrix`:\n%s", d)
	}
	if testing.Verbose() {
		fmt.Print(page)
	}
	return nil
}

// differing are the lines that only one of two texts has. What the array's
// callers are told depends on how soon it is back: their harmless calls are
// repeated once. Of its rows only what was done counts.
func differing(a, b string) string {
	lines := func(text string) map[string]bool {
		out := map[string]bool{}
		for l := range strings.Lines(text) {
			if cells := strings.Split(l, " | "); len(cells) > 2 && cells[1] == "array" {
				l = strings.Join(cells[:3], " | ") + "\n"
			}
			out[l] = true
		}
		return out
	}
	in, seen := lines(a), lines(b)
	var out []string
	for l := range in {
		if !seen[l] {
			out = append(out, "- "+l)
		}
	}
	for l := range seen {
		if !in[l] {
			out = append(out, "+ "+l)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}
