// Package docs_test holds the documentation to the program: its links lead
// somewhere, its commands exist, and every configuration key, flag and event
// is in it.
package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/daemon"
	"github.com/umbra-vss/umbra/internal/service/doctor"
)

const root = ".."

// TestNamedTests: a page that says which test shows something names one that is
// there.
func TestNamedTests(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				there[fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`(Test[A-Z][A-Za-z0-9_]*)`")
	found := 0
	for page, text := range pages(t) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			found++
			if !there[m[1]] {
				t.Errorf("%s: there is no %s", page, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no page names a test")
	}
}

// pages are README, CHANGELOG and the pages of docs, by path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(root + "/docs/*.md")
	api, aerr := filepath.Glob(root + "/docs/api/*.md")
	if err != nil || aerr != nil || len(files) == 0 || len(api) == 0 {
		t.Fatalf("no page: %v, %v", err, aerr)
	}
	files = append(files, api...)
	out := map[string]string{}
	for _, f := range append(files, root+"/README.md", root+"/CHANGELOG.md") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, f)
		if err != nil {
			t.Fatal(err)
		}
		out[rel] = string(b)
	}
	return out
}

// split separates prose from what is in code fences.
func split(text string) (prose, code []string) {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			inside = !inside
		case inside:
			code = append(code, line)
		default:
			prose = append(prose, line)
		}
	}
	return prose, code
}

// anchors are the names GitHub gives to a page's headings.
func anchors(text string) []string {
	var out []string
	prose, _ := split(text)
	for _, line := range prose {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			name := strings.ToLower(strings.TrimSpace(title))
			name = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(name, "")
			out = append(out, strings.ReplaceAll(name, " ", "-"))
		}
	}
	return out
}

func TestLinks(t *testing.T) {
	all := pages(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	n := 0
	for page, text := range all {
		prose, _ := split(text)
		for _, m := range link.FindAllStringSubmatch(strings.Join(prose, "\n"), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			n++
			to := page
			if target != "" {
				to = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: %s leads nowhere", page, m[1])
			} else if anchor != "" && !slices.Contains(anchors(all[to]), anchor) {
				t.Errorf("%s: %s has no heading %q", page, to, anchor)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d links found", n)
	}
}

// command is an `umbra …` line of a code block.
type command struct {
	page, line string
	words      []string
}

func commands(t *testing.T) []command {
	t.Helper()
	var out []command
	for page, text := range pages(t) {
		_, code := split(text)
		for _, line := range code {
			if i := strings.Index(line, " #"); i >= 0 {
				line = line[:i]
			}
			line = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "$ "), "&")
			if words := strings.Fields(line); len(words) > 1 && words[0] == "umbra" {
				out = append(out, command{page, line, words[1:]})
			}
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d commands found", len(out))
	}
	return out
}

func binary(t *testing.T) string {
	t.Helper()
	b := os.Getenv("UMBRA_BINARY")
	if b == "" {
		b = root + "/bin/umbra"
	}
	b, err := filepath.Abs(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b); err != nil {
		t.Skip("umbra is not built: run make build, or set UMBRA_BINARY")
	}
	return b
}

// help is what `umbra PATH… --help` says.
type help struct {
	path   []string        // the command
	args   []string        // names of its arguments
	group  bool            // it has subcommands and does nothing itself
	values map[string]bool // flag name to whether it takes a value
}

var (
	usageLine = regexp.MustCompile(`(?m)^Usage:\n  umbra ?(.*)$`)
	flagLine  = regexp.MustCompile(`(?m)^ +(?:-(\w), )?--([a-z-]+)(?: (\w+))?  `)
)

func askHelp(t *testing.T, binary string, words []string) (help, string) {
	t.Helper()
	out, err := exec.Command(binary, append(slices.Clone(words), "--help")...).CombinedOutput()
	if err != nil {
		return help{}, err.Error() + ": " + string(out)
	}
	m := usageLine.FindStringSubmatch(string(out))
	if m == nil {
		return help{}, "no usage line: " + string(out)
	}
	h := help{values: map[string]bool{}}
	for _, w := range strings.Fields(m[1]) {
		switch {
		case w == "[flags]":
		case w == "[command]":
			h.group = true
		case strings.Trim(w, "abcdefghijklmnopqrstuvwxyz-") == "":
			h.path = append(h.path, w)
		default:
			h.args = append(h.args, w)
		}
	}
	for _, f := range flagLine.FindAllStringSubmatch(string(out), -1) {
		h.values[f[2]] = f[3] != ""
		if f[1] != "" {
			h.values[f[1]] = f[3] != ""
		}
	}
	return h, ""
}

// TestCommands: every command of the documentation is one the program takes.
func TestCommands(t *testing.T) {
	umbra := binary(t)
	for _, c := range commands(t) {
		h, why := askHelp(t, umbra, c.words)
		if why != "" {
			t.Errorf("%s: %q: %s", c.page, c.line, why)
			continue
		}
		var args []string
		skip, path := false, h.path
		for _, w := range c.words {
			name, _, joined := strings.Cut(strings.TrimLeft(w, "-"), "=")
			switch {
			case skip:
				skip = false
			case strings.HasPrefix(w, "-"):
				value, known := h.values[name]
				if !known {
					t.Errorf("%s: %q: %s has no flag %s", c.page, c.line, h.path, w)
				}
				skip = value && !joined
			case len(path) > 0 && w == path[0]:
				path = path[1:]
			default:
				args = append(args, w)
			}
		}
		least, most := 0, len(h.args)
		for _, a := range h.args {
			if !strings.HasPrefix(a, "[") {
				least++
			}
			if strings.Contains(a, "...") {
				most = 1 << 10
			}
		}
		if h.group || len(path) > 0 || len(args) < least || len(args) > most {
			t.Errorf("%s: %q: arguments %q do not fit `umbra %s %s`", c.page, c.line, args, strings.Join(h.path, " "), strings.Join(h.args, " "))
		}
	}
}

func operations(t *testing.T) string {
	t.Helper()
	return pages(t)["docs/operations.md"]
}

func TestConfigurationKeys(t *testing.T) {
	text := operations(t)
	var check func(string, reflect.Type)
	check = func(table string, in reflect.Type) {
		for f := range in.Fields() {
			key := f.Tag.Get("toml")
			switch {
			case key == "":
			case f.Type.Kind() == reflect.Struct:
				check(table+key+".", f.Type)
			case !strings.Contains(text, "| `"+table+key+"` |"):
				t.Errorf("key %s is not in docs/operations.md", table+key)
			}
		}
	}
	check("", reflect.TypeFor[daemon.Config]())
}

func TestServiceFlags(t *testing.T) {
	umbra, text := binary(t), operations(t)
	for _, words := range [][]string{{"daemon"}, {"array", "serve"}} {
		h, why := askHelp(t, umbra, words)
		if why != "" {
			t.Fatal(why)
		}
		for name := range h.values {
			if len(name) > 1 && name != "help" && !strings.Contains(text, "--"+name) {
				t.Errorf("flag --%s of umbra %s is not in docs/operations.md", name, strings.Join(words, " "))
			}
		}
	}
}

// TestEvents: the page has the register's table, the code writes only what is
// in the register, with its level, and the register has nothing else.
func TestEvents(t *testing.T) {
	var table strings.Builder
	for _, k := range catalog.Kinds {
		fmt.Fprintf(&table, "| `%s` | %d | %s | %s |\n", k.Name, k.Number, k.Level, k.When)
	}
	const head = "| Event | Number | Level | When |\n|---|---|---|---|\n"
	if !strings.Contains(operations(t), head+table.String()+"\n") {
		t.Errorf("docs/operations.md does not have the table of events as the code has it, which is\n%s%s", head, &table)
	}
	used := map[string]bool{}
	for _, e := range events(t) {
		if strings.HasSuffix(e.name, ".") { // put together
			if !catalog.KnownName(e.name) {
				t.Errorf("%s: no event is called %s…", e.path, e.name)
			}
			for _, k := range catalog.Kinds {
				used[k.Name] = used[k.Name] || strings.HasPrefix(k.Name, e.name)
			}
			continue
		}
		k, ok := catalog.KindOf(e.name)
		if !ok {
			t.Errorf("%s: event %s is not in catalog.Kinds", e.path, e.name)
		}
		if ok && len(e.levels) > 0 && !slices.Contains(e.levels, string(k.Level)) {
			t.Errorf("%s: event %s has level %s, in catalog.Kinds %s", e.path, e.name, e.levels, k.Level)
		}
		used[e.name] = true
	}
	for _, k := range catalog.Kinds {
		if !used[k.Name] {
			t.Errorf("event %s is written nowhere", k.Name)
		}
	}
}

// TestFindings holds what `umbra doctor` may find to docs/operations.md, and the
// code to the list.
func TestFindings(t *testing.T) {
	var table strings.Builder
	for _, k := range doctor.Kinds {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s | %s |\n", k.Name, k.Severity, k.When, k.Why, k.Help)
	}
	const head = "| Finding | Severity | When | Why it matters | What helps |\n|---|---|---|---|---|\n"
	if !strings.Contains(operations(t), head+table.String()+"\n") {
		t.Errorf("docs/operations.md does not have the table of findings as the code has it, which is\n%s%s", head, &table)
	}
	var code strings.Builder
	files, err := filepath.Glob("../internal/service/doctor/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && filepath.Base(f) != "kinds.go" && !strings.HasSuffix(f, "_test.go") {
			code.Write(b)
		}
	}
	if !slices.IsSortedFunc(doctor.Kinds, func(a, b doctor.Kind) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the findings are not in order")
	}
	for _, k := range doctor.Kinds {
		if !strings.Contains(code.String(), strconv.Quote(k.Name)) {
			t.Errorf("%s is found nowhere", k.Name)
		}
	}
}

// event is the name in an Event literal of the code, and what its level may be.
type event struct {
	path, name string
	levels     []string
}

// events reads them out of the code: every Event literal. A name that is put
// together gives its constant beginning.
func events(t *testing.T) []event {
	t.Helper()
	var out []event
	err := filepath.WalkDir(root+"/internal", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/gen/") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || !isEvent(lit.Type) {
				return true
			}
			var names, levels []string
			for _, e := range lit.Elts {
				kv, ok := e.(*ast.KeyValueExpr)
				switch {
				case !ok:
				case isIdent(kv.Key, "Name"):
					if names = constants(file, kv.Value); len(names) == 0 {
						t.Errorf("%s: an event's name cannot be read", path)
					}
				case isIdent(kv.Key, "Level"):
					levels = constants(file, kv.Value)
				}
			}
			for _, name := range names {
				out = append(out, event{path, name, levels})
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 15 {
		t.Fatalf("only %d events found in the code: %v", len(out), out)
	}
	return out
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func isEvent(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return isIdent(e, "Event") || ok && sel.Sel.Name == "Event" && isIdent(sel.X, "catalog")
}

// constants are the strings an expression may be: a literal, the beginning of
// a sum, or whatever is assigned to a variable of that name in the file.
func constants(file *ast.File, e ast.Expr) []string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil {
			return []string{s}
		}
	case *ast.BinaryExpr:
		return constants(file, e.X)
	case *ast.Ident:
		var out []string
		ast.Inspect(file, func(n ast.Node) bool {
			as, ok := n.(*ast.AssignStmt)
			if !ok || len(as.Lhs) != len(as.Rhs) {
				return true
			}
			for i, l := range as.Lhs {
				if lit, ok := as.Rhs[i].(*ast.BasicLit); ok && isIdent(l, e.Name) {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						out = append(out, s)
					}
				}
			}
			return true
		})
		return out
	}
	return nil
}
