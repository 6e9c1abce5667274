package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// TestElsewhere: a LUN that another host has, or that this one has lost, is
// neither copied nor imported, and whoever has it keeps it.
func TestElsewhere(t *testing.T) {
	f := newFixture(t)
	v, dev, naa := f.volume("v", "ext4")
	f.put(v, "hello", "hello")
	th := f.thawer(v)
	f.run("create after the array masked the LUN", func(g *fixture) {
		_, err := g.site.Array(g.ctx, "mask", naa, g.a.Name, "--output", "json")
		g.mentions(g.refused(err, vss.VSS_E_VOLUME_IN_USE), g.a.Name) // it is attached
		_, err = g.site.Array(g.ctx, "mask", naa, g.a.Name, "--force")
		g.must(err)
		g.leavesNothing(func() { g.refused(g.tryMake(v), vss.VSS_E_VOLUME_NOT_SUPPORTED) })
		if th.frozen(g) {
			g.Error("the volume is frozen")
		}
		_, err = g.site.Array(g.ctx, "unmask", naa, g.a.Name)
		g.must(err)
		g.works(v)
	})
	f.run("create on a host that only sees the device", func(g *fixture) {
		dir := filepath.Join(g.site.Dir, g.b.Name, "srv")
		g.must(os.MkdirAll(dir, 0o755))
		_, err := g.b.Run(g.ctx, "mount", "-t", "ext4", dev, dir)
		g.must(err)
		defer func() {
			_, err := g.b.Run(g.ctx, "umount", dir)
			g.must(err)
		}()
		g.leavesNothing(func() {
			_, err := g.as(g.b, "create", dir, "--transportable", "--document", filepath.Join(g.site.Dir, "never"))
			g.mentions(g.refused(err, vss.VSS_E_VOLUME_NOT_SUPPORTED), dir)
		})
	})
	f.run("import of what another host has imported", func(g *fixture) {
		set := g.create("app-rollback", v)
		_, err := g.importOn(g.b, set.doc)
		g.must(err)
		g.leavesNothing(func() {
			for _, args := range [][]string{{"import", set.doc, "--check"}, {"import", set.doc}} {
				_, err := g.as(g.a, args...)
				g.mentions(g.refused(err, vss.VSS_E_BAD_STATE), g.b.Name)
			}
			_, err := g.as(g.a, "delete", "set", set.SetID.String()) // not behind B's back
			g.complaints(err, 1)
			_, err = g.site.Array(g.ctx, "lun", "delete", g.copiesOnArray()[0].NAA, "--output", "json")
			g.refused(err, vss.VSS_E_VOLUME_IN_USE)
		})
		_, err = g.as(g.b, "import", set.doc)
		g.refused(err, vss.VSS_E_BAD_STATE) // a second import of the same set
		_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
		g.must(err)
		g.leavesNothing(func() {
			_, err = g.as(g.b, "import", set.doc) // and after it was deleted
			g.refused(err, vss.VSS_E_BAD_STATE)
			_, err = g.as(g.a, "import", set.doc)
			g.refused(err, vss.VSS_E_PROVIDER_VETO)
		})
	})
	f.run("import of a copy the array has masked meanwhile", func(g *fixture) {
		set := g.create("app-rollback", v)
		g.armOn(g.b, "import.after-locate=touch("+filepath.Join(g.site.Dir, "here")+")+sleep(500ms)")
		done := make(chan error, 1)
		go func() { _, err := g.importOn(g.b, set.doc); done <- err }()
		eventually(g, "the LUN is unmasked", 1e10, exists(filepath.Join(g.site.Dir, "here")))
		_, err := g.site.Array(g.ctx, "mask", g.copiesOnArray()[0].NAA, g.b.Name)
		g.must(err)
		g.fails(<-done, 1, vss.VSS_E_NO_SNAPSHOTS_IMPORTED)
		if o := g.orphans(g.b); len(o) != 1 || o[0].Reason == "" {
			g.Errorf("listed: %+v", o)
		}
		_, err = g.b.Umbra(g.ctx, "cleanup", set.SetID.String())
		g.must(err)
		g.armOn(g.b, "")
		_, err = g.importOn(g.b, set.doc)
		g.must(err)
		_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
		g.must(err)
		g.nothingOn(g.b)
	})
}
