package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestArrayDiesCreating: the array dies in the middle of a creation. The
// volumes run on at once; when it is back, no copy is nobody's.
func TestArrayDiesCreating(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	here := filepath.Join(f.site.Dir, "here")
	for _, point := range []string{"create.after-intent", "create.after-end-prepare", "create.in-hold", "create.after-release", "create.after-post-commit", "create.before-record"} {
		f.run(point, func(g *fixture) {
			th, th2 := g.thawer(v), g.thawer(w)
			_ = os.Remove(here)
			g.armOn(g.a, point+"=touch("+here+")+sleep(300ms)")
			done := make(chan error, 1)
			go func() { _, err := g.tryCreate("app-rollback", v, w); done <- err }()
			eventually(g, "the creation is there", 10*time.Second, exists(here))
			g.site.KillArray()
			err := <-done
			if th.frozen(g) || th2.frozen(g) {
				g.Error("a volume is frozen")
			}
			if err != nil {
				g.complaints(err, 1)
			} else if point != "create.before-record" { // from there on the array is not needed
				g.Error("create succeeded without the array")
			}
			g.must(g.site.StartArray(g.ctx, nil))
			g.armOn(g.a, "")
			if err == nil {
				_, err := g.a.Umbra(g.ctx, "delete", "set", g.lastSet())
				g.must(err)
			}
			if c := g.copiesOnArray(); len(c) != 0 {
				g.Errorf("copies: %+v", c)
			}
			g.works(v, w)
		})
	}
}

// TestArrayDiesImporting: LUNs that may be unmasked stay listed while the
// array cannot be asked, and can be cleaned up when it can.
func TestArrayDiesImporting(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	here := filepath.Join(f.site.Dir, "here")
	for _, point := range []string{"import.before-locate", "import.after-locate", "import.after-arrive"} {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", v)
			_ = os.Remove(here)
			g.armOn(g.b, point+"=touch("+here+")+sleep(300ms)")
			done := make(chan error, 1)
			go func() { _, err := g.importOn(g.b, set.doc); done <- err }()
			eventually(g, "the import is there", 10*time.Second, exists(here))
			g.site.KillArray()
			err := <-done
			switch {
			case err != nil:
				g.complaints(err, 1)
			case point != "import.after-arrive": // by then it may have said all it is asked
				g.Error("import succeeded without the array")
			}
			o := g.orphans(g.b)
			if err != nil && point != "import.before-locate" {
				if len(o) != 1 {
					g.Errorf("listed: %+v", o)
				}
				_, cerr := g.as(g.b, "cleanup", set.SetID.String())
				g.complaints(cerr, 1)
				if after := g.orphans(g.b); len(after) != 1 {
					g.Errorf("listed after a clean-up that failed: %+v", after)
				}
			}
			g.must(g.site.StartArray(g.ctx, nil))
			g.armOn(g.b, "")
			if err == nil {
				_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
				g.must(err)
				g.nothingOn(g.b)
				return
			}
			if len(o) > 0 {
				_, err = g.b.Umbra(g.ctx, "cleanup", set.SetID.String())
				g.must(err)
			}
			g.nothingOn(g.b)
			_, err = g.importOn(g.b, set.doc)
			g.must(err)
			_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
			g.must(err)
		})
	}
	f.run("deletion", func(g *fixture) {
		set := g.create("app-rollback", v)
		_, err := g.importOn(g.b, set.doc)
		g.must(err)
		g.site.KillArray()
		_, err = g.as(g.b, "delete", "set", set.SetID.String())
		g.complaints(err, 1)
		g.must(g.site.StartArray(g.ctx, nil))
		_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
		g.must(err)
		g.nothingOn(g.b)
		if c := g.copiesOnArray(); len(c) != 0 {
			g.Errorf("copies: %+v", c)
		}
	})
}
