package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/vss"
)

// run is a subtest on the same site.
func (f *fixture) run(name string, fn func(g *fixture)) {
	f.Run(name, func(t *testing.T) {
		g := *f
		g.T = t
		defer func() { f.docs = g.docs }()
		fn(&g)
	})
}

// allocated is how much of a thin LUN is written, which changes by itself.
var allocated = regexp.MustCompile(`"allocated": \d+,`)

// residue is everything a failed command could leave behind, as lines: what
// the array has and shows to whom, what the hosts know and have attached, the
// rules that hide LUNs, hold intents, device objects, loop devices, and files
// in the site's folder.
func (f *fixture) residue() []string {
	f.Helper()
	out, err := f.site.Array(f.ctx, "lun", "list", "--output", "json")
	f.must(err)
	lines := []string{"array " + allocated.ReplaceAllString(out, "")}
	for _, h := range []*site.Host{f.a, f.b} {
		out, err := h.Umbra(f.ctx, "list", "luns", "--output", "json")
		f.must(err)
		lines = append(lines, h.Name+" "+out)
		for _, dir := range []string{h.RulesDir(), filepath.Join(h.StateDir(), "holds"), filepath.Join(h.RunDir(), "copies")} {
			names, _ := filepath.Glob(h.Path(filepath.Join(dir, "*")))
			for _, n := range names {
				lines = append(lines, filepath.Base(dir)+"/"+filepath.Base(n))
			}
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, n := range loops {
		if b, err := os.ReadFile(n); err == nil && strings.Contains(string(b), f.site.Dir+"/") {
			lines = append(lines, "loop device of "+strings.TrimSpace(string(b)))
		}
	}
	files, err := os.ReadDir(f.site.Dir) // hidden ones, too
	f.must(err)
	for _, e := range files {
		lines = append(lines, "file "+e.Name())
	}
	slices.Sort(lines)
	return lines
}

// leavesNothing runs fn and asserts that afterwards all is as it was.
func (f *fixture) leavesNothing(fn func()) {
	f.Helper()
	before := f.residue()
	fn()
	if d := cmp.Diff(before, f.residue()); d != "" {
		f.Errorf("something was left behind, or lost:\n%s", d)
	}
}

// complaint is an error as --output json shows it.
type complaint struct {
	Code, Name, Op, Object, Reason, Remedy string
}

// complaints reads the errors of a failed command and asserts that each says
// what, on which object, why, and what helps.
func (f *fixture) complaints(err error, exit int) []complaint {
	f.Helper()
	var ce *site.CommandError
	if !errors.As(err, &ce) {
		f.Fatalf("got %v, want a failed command", err)
	}
	if ce.Code != exit {
		f.Fatalf("exit %d, want %d:\n%s", ce.Code, exit, ce.Stderr)
	}
	var out []complaint
	for d := json.NewDecoder(strings.NewReader(ce.Stderr)); d.More(); {
		var e struct{ Error complaint }
		if err := d.Decode(&e); err != nil {
			f.Fatalf("stderr is not the errors as JSON (%v):\n%s", err, ce.Stderr)
		}
		c := e.Error
		if c.Code == "" || c.Name == "" || c.Object == "" || c.Reason == "" || c.Remedy == "" {
			f.Errorf("an error that does not say everything: %+v", c)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		f.Fatalf("no error is shown: %s", ce.Stderr)
	}
	return out
}

// refused asserts that a command failed for one reason with this code.
func (f *fixture) refused(err error, code vss.HResult) complaint {
	f.Helper()
	c := f.complaints(err, 1)
	if c[0].Name != code.Name() {
		f.Fatalf("%s, want %s: %+v", c[0].Name, code.Name(), c[0])
	}
	if len(c) != 1 {
		f.Errorf("%d errors for one failure: %+v", len(c), c)
	}
	return c[0]
}

// mentions asserts that an error names what a person must know.
func (f *fixture) mentions(c complaint, words ...string) {
	f.Helper()
	all := strings.Join([]string{c.Object, c.Reason, c.Remedy}, "\n")
	for _, w := range words {
		if !strings.Contains(all, w) {
			f.Errorf("the error does not name %q: %+v", w, c)
		}
	}
}

// as runs umbra on a host, with errors as JSON.
func (f *fixture) as(h *site.Host, args ...string) (string, error) {
	return h.Umbra(f.ctx, append(args, "--output", "json")...)
}

// tryMake is tryCreate with errors as JSON and any arguments.
func (f *fixture) tryMake(args ...string) error {
	f.docs++
	doc := filepath.Join(f.site.Dir, fmt.Sprintf("set%d.umbra", f.docs))
	_, err := f.as(f.a, append([]string{"create", "--transportable", "--document", doc}, args...)...)
	return err
}

// works asserts that volumes can be copied, imported and deleted: whatever
// happened before, the machines work.
func (f *fixture) works(volumes ...string) {
	f.Helper()
	set := f.create("app-rollback", volumes...)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	if len(im.Copies) != len(volumes) {
		f.Errorf("%d of %d copies imported", len(im.Copies), len(volumes))
	}
	for _, c := range im.Copies {
		if c.DeviceObject == "" {
			f.Errorf("no device object: %+v", c)
		}
	}
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	f.must(os.Remove(set.doc))
	if c := f.copiesOnArray(); len(c) != 0 {
		f.Errorf("copies left on the array: %+v", c)
	}
}
