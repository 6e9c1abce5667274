package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// TestBtrfsOverLUNs: a filesystem on two LUNs is copied whole or not at all;
// the copy is imported, and why it has no device object is said.
func TestBtrfsOverLUNs(t *testing.T) {
	f := newFixture(t)
	var devices []string
	for _, n := range []string{"b1", "b2"} {
		_, d, err := f.a.NewLUN(f.ctx, n, "256M")
		f.must(err)
		devices = append(devices, d)
	}
	dir := filepath.Join(f.site.Dir, f.a.Name, "srv")
	both, half := filepath.Join(dir, "both"), filepath.Join(dir, "half")
	f.must(os.MkdirAll(both, 0o755))
	f.must(os.MkdirAll(half, 0o755))
	_, err := f.a.Run(f.ctx, "sh", "-ec", "mkfs.btrfs -q -f -d raid0 -m raid1 "+strings.Join(devices, " ")+
		" && btrfs device scan "+strings.Join(devices, " ")+" > /dev/null && mount -t btrfs "+devices[0]+" "+both)
	f.must(err)
	f.put(both, "hello", "hello")

	f.run("whole", func(g *fixture) {
		set := g.create("app-rollback", both)
		_, d := g.readSet(set)
		if s := d.Set.Snapshots[0]; len(s.LUNs) != 2 || s.Filesystem.DeviceCount != 2 {
			g.Errorf("in the document: %+v", s)
		}
		im, err := g.importOn(g.b, set.doc)
		g.must(err)
		if im.Result != vss.VSS_S_ASYNC_FINISHED.Name() || len(im.Copies) != 1 || im.Copies[0].DeviceObject != "" || im.Copies[0].BlockDevice == "" {
			g.Errorf("import: %+v", im)
		}
		out, err := g.b.Umbra(g.ctx, "list", "events", "--set", set.SetID.String(), "--output", "json")
		g.must(err)
		if !strings.Contains(out, "copy.not-mounted") || !strings.Contains(out, "umbra list luns") {
			g.Errorf("no event with a remedy: %s", out)
		}
		folder := filepath.Join(g.site.Dir, "mnt")
		g.must(os.Mkdir(folder, 0o755))
		_, err = g.as(g.b, "expose", im.Copies[0].SnapshotID.String(), folder)
		g.refused(err, vss.VSS_E_VOLUME_NOT_SUPPORTED)
		_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
		g.must(err)
		g.nothingOn(g.b)
		if c := g.copiesOnArray(); len(c) != 0 {
			g.Errorf("copies left: %+v", c)
		}
	})
	f.run("by its second device, twice", func(g *fixture) {
		g.leavesNothing(func() {
			g.refused(g.tryMake(both, devices[1]), vss.VSS_E_OBJECT_ALREADY_EXISTS)
		})
	})
	f.run("with a device of nobody", func(g *fixture) {
		_, lun, err := g.a.NewLUN(g.ctx, "b3", "256M")
		g.must(err)
		file := filepath.Join(g.site.Dir, "nobody.img")
		out, err := g.a.Run(g.ctx, "sh", "-ec", "truncate -s 256M "+file+" && losetup --find --show "+file)
		g.must(err)
		nobody := strings.TrimSpace(out)
		defer func() {
			_, err := g.a.Run(g.ctx, "sh", "-c", "umount "+half+"; losetup -d "+nobody+"; btrfs device scan --forget "+lun)
			g.must(err)
			g.must(os.Remove(file))
		}()
		_, err = g.a.Run(g.ctx, "sh", "-ec", "mkfs.btrfs -q -f "+lun+" "+nobody+" && btrfs device scan "+lun+" "+nobody+" > /dev/null && mount -t btrfs "+lun+" "+half)
		g.must(err)
		g.leavesNothing(func() {
			g.mentions(g.refused(g.tryMake(half), vss.VSS_E_VOLUME_NOT_SUPPORTED), nobody)
		})
	})
}
