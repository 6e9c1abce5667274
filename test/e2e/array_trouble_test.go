package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/vss"
)

// TestArrayFull: a copy that might not have room to live is not made.
func TestArrayFull(t *testing.T) {
	f := newFixture(t, "--store-size", "600M", "--watermark", "0.3")
	v, _, _ := f.volume("v", "ext4")
	big := f.a.Path(filepath.Join(v, "big"))
	_, err := f.a.Run(f.ctx, "dd", "if=/dev/urandom", "of="+filepath.Join(v, "big"), "bs=1M", "count=440", "conv=fsync", "status=none")
	f.must(err)
	th := f.thawer(v)
	f.leavesNothing(func() {
		f.refused(f.tryMake(v), vss.VSS_E_INSUFFICIENT_STORAGE)
	})
	if th.frozen(t) {
		t.Error("the volume is frozen")
	}
	f.must(os.Remove(big))
	_, err = f.a.Run(f.ctx, "sh", "-ec", "sync -f "+v+" && fstrim "+v)
	f.must(err)
	f.works(v)
}

// TestSlowClone: a set whose cloning would hold writes too long is refused
// before anything is held.
func TestSlowClone(t *testing.T) {
	f := newFixture(t, "--clone-limit", "5ms")
	v, _, naa := f.volume("v", "ext4")
	other, _, _ := f.volume("w", "ext4")
	// Every second block of a file that has its place on the LUN: an extent each.
	file, err := os.Create(f.a.Path(filepath.Join(v, "scattered")))
	f.must(err)
	defer file.Close()
	f.must(unix.Fallocate(int(file.Fd()), 0, 0, 64<<20))
	for i := range int64(8000) {
		_, err := file.WriteAt([]byte("scattered"), i*8192)
		f.must(err)
	}
	f.must(file.Sync())
	f.must(file.Close())
	f.leavesNothing(func() {
		f.mentions(f.refused(f.tryMake(v), vss.VSS_E_PROVIDER_VETO), "clon", naa)
	})
	f.works(other)
}

// TestArrayDown: without the array nothing is begun, nothing lost.
func TestArrayDown(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.put(v, "hello", "hello")
	set := f.create("app-rollback", v)
	th := f.thawer(v)
	before := f.residue()
	f.site.KillArray()
	f.run("create", func(g *fixture) {
		g.mentions(g.complaints(g.tryMake(v), 1)[0], "array")
		if th.frozen(g.T) {
			g.Error("the volume is frozen")
		}
	})
	f.run("import", func(g *fixture) {
		for _, args := range [][]string{{"import", set.doc, "--check"}, {"import", set.doc}} {
			_, err := g.as(g.b, args...)
			g.Logf("%+v", g.complaints(err, 1))
		}
		for _, o := range g.orphans(g.b) { // it may have been unmasked, for all B knows
			g.Logf("listed: %+v", o)
		}
	})
	f.run("A's volumes live on", func(g *fixture) {
		g.put(v, "meanwhile", "written without an array")
		_, err := g.a.Run(g.ctx, "sync", "-f", v)
		g.must(err)
	})
	f.must(f.site.StartArray(f.ctx, nil))
	if len(f.orphans(f.b)) > 0 {
		_, err := f.b.Umbra(f.ctx, "cleanup", set.SetID.String())
		f.must(err)
	}
	if after := f.residue(); len(after) != len(before) {
		t.Errorf("before:\n%v\nafter:\n%v", before, after)
	}
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	if got, err := os.ReadFile(f.b.Path(im.Copies[0].DeviceObject + "/hello")); err != nil || string(got) != "hello" {
		t.Errorf("%q %v", got, err)
	}
	_, err = f.b.Umbra(f.ctx, "delete", "all")
	f.must(err)
	f.works(v)
}

// TestHostRemoved: a host the array has put out can do nothing with it any more.
func TestHostRemoved(t *testing.T) {
	f := newFixture(t)
	v, _, naa := f.volume("v", "ext4")
	set := f.create("app-rollback", v)
	_, err := f.site.Array(f.ctx, "host", "remove", f.b.Name)
	f.must(err)
	f.leavesNothing(func() {
		_, err := f.as(f.b, "import", set.doc)
		f.mentions(f.refused(err, vss.E_ACCESSDENIED), f.b.Name, "umbra array enroll")
	})
	_, err = f.site.Array(f.ctx, "host", "remove", f.a.Name, "--output", "json")
	f.mentions(f.complaints(err, 1)[0], f.a.Name) // it has LUNs attached
	_, err = f.site.Array(f.ctx, "host", "remove", f.a.Name, "--force")
	f.must(err)
	th := f.thawer(v)
	f.leavesNothing(func() {
		f.mentions(f.refused(f.tryMake(v), vss.E_ACCESSDENIED), f.a.Name, "umbra array enroll")
	})
	if th.frozen(t) {
		t.Error("the volume is frozen")
	}
	f.put(v, "still", "written by a host the array does not know")
	_, err = f.a.Run(f.ctx, "sync", "-f", v)
	f.must(err)

	// Enrolled and joined again all works, and the set is still to be had.
	for _, h := range []*site.Host{f.a, f.b} {
		bundle := filepath.Join(f.site.Dir, h.Name+".bundle")
		_, err = f.site.Array(f.ctx, "enroll", h.Name, "--bundle", bundle)
		f.must(err)
		_, err = h.Umbra(f.ctx, "join", bundle)
		f.must(err)
	}
	_, err = f.site.Array(f.ctx, "unmask", naa, f.a.Name)
	f.must(err)
	_, err = f.importOn(f.b, set.doc)
	f.must(err)
	_, err = f.b.Umbra(f.ctx, "delete", "all")
	f.must(err)
	f.works(v)
}
