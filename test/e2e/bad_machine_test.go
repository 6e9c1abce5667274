package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// TestNotRoot: who is neither root nor an operator gets nothing, and is told.
func TestNotRoot(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	set := f.create("app-rollback", v)
	f.must(os.Chmod(f.site.Dir, 0o755))
	prog := filepath.Join(f.site.Dir, "umbra")
	f.must(exec.Command("cp", binary, prog).Run())
	f.must(os.Chmod(prog, 0o755))
	f.must(os.Chmod(set.doc, 0o644))
	docs := filepath.Join(f.site.Dir, "docs")
	f.must(os.Mkdir(docs, 0o755))
	f.must(os.Chmod(docs, 0o777))
	id := vss.NewID().String()
	for name, args := range map[string][]string{
		"create":       {"create", v, "--transportable", "--document", docs + "/set.umbra"},
		"import":       {"import", set.doc},
		"check":        {"import", set.doc, "--check"},
		"expose":       {"expose", id, docs},
		"delete":       {"delete", "set", set.SetID.String()},
		"cleanup":      {"cleanup", id},
		"list":         {"list", "copies"},
		"luns":         {"list", "luns"},
		"sets":         {"list", "sets"},
		"show":         {"show", set.SetID.String()},
		"events":       {"list", "events"},
		"join":         {"join", set.doc},
		"save":         {"save", set.SetID.String(), "--document", docs + "/saved.umbra"},
		"status":       {"status"},
		"daemon":       {"daemon", "--state-dir", docs + "/s", "--run-dir", docs + "/r", "--socket", docs + "/sock"},
		"array":        {"array", "serve", "--dir", docs + "/array"},
		"demo":         {"demo"},
		"thaw-intents": {"thaw-intents", "--state-dir", f.a.StateDir()},
	} {
		f.run(name, func(g *fixture) {
			g.leavesNothing(func() {
				full := append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", prog, "--socket", g.a.Socket()}, args...)
				_, err := g.a.Run(g.ctx, "setpriv", append(full, "--output", "json")...)
				g.refused(err, vss.E_ACCESSDENIED)
			})
			if left, err := os.ReadDir(docs); err != nil || len(left) != 0 {
				g.Errorf("left: %v %v", left, err)
			}
		})
	}
}

// TestNoLoopDevices: a machine that cannot attach LUNs refuses the import
// before the array unmasks any, so that another machine can have the set.
func TestNoLoopDevices(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	set := f.create("app-rollback", v)
	c := f.host("hostc")
	_, err := c.Run(f.ctx, "sh", "-ec", "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9")
	f.must(err)
	for _, args := range [][]string{{"import", set.doc, "--check"}, {"import", set.doc}} {
		_, err = f.as(c, args...)
		f.mentions(f.refused(err, vss.VSS_E_NOT_SUPPORTED), "/dev/loop-control")
	}
	if o := f.orphans(c); len(o) != 0 {
		t.Errorf("listed: %+v", o)
	}
	if l := f.copiesOnArray(); len(l) != 1 || len(l[0].Masks) != 0 {
		t.Errorf("on the array: %+v", l)
	}
	_, err = c.Run(f.ctx, binary, "demo", "--output", "json")
	f.mentions(f.refused(err, vss.VSS_E_NOT_SUPPORTED), "/dev/loop-control")
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	if len(im.Copies) != 1 {
		t.Errorf("%+v", im)
	}
}

// TestNoReflink: an array without a filesystem that shares blocks, and without
// the means to make one, says what to install.
func TestNoReflink(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(f.site.Dir, "second")
	f.must(os.Mkdir(dir, 0o755))
	_, err := f.a.Run(f.ctx, "mount", "-t", "tmpfs", "none", dir)
	f.must(err)
	f.leavesNothing(func() {
		_, err = f.a.Run(f.ctx, "env", "PATH=/nowhere", binary, "array", "serve", "--dir", filepath.Join(dir, "array"), "--array-socket", filepath.Join(dir, "a"),
			"--data-socket", filepath.Join(dir, "d"), "--listen", "unix://"+filepath.Join(dir, "h"), "--output", "json")
		f.mentions(f.refused(err, vss.VSS_E_PROVIDER_VETO), "xfsprogs", dir)
	})
}
