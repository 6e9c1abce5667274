package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/partition/partitiontest"
	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

// partitioned makes a LUN on A with a table, and mounts a filesystem on each of
// its partitions by a loop device over it: this kernel may know no tables.
func (f *fixture) partitioned(name, size string, write func(disk *os.File, size uint64) error, parts []partitiontest.Part, fs []string) (mounts []string, naa string) {
	f.Helper()
	naa, device, err := f.a.NewLUN(f.ctx, name, size)
	f.must(err)
	disk, err := os.OpenFile(device, os.O_RDWR, 0)
	f.must(err)
	end, err := disk.Seek(0, 2)
	f.must(err)
	f.must(write(disk, uint64(end)))
	f.must(disk.Sync())
	f.must(disk.Close())
	for i, p := range parts {
		out, err := f.a.Run(f.ctx, "losetup", "--find", "--show", "--direct-io=on", "--offset", fmt.Sprint(p.Start), "--sizelimit", fmt.Sprint(p.Length), device)
		f.must(err)
		node := strings.TrimSpace(out)
		mount := ""
		f.Cleanup(func() {
			if _, err := f.a.Run(f.ctx, "sh", "-c", "umount "+mount+"; losetup --detach "+node); err != nil {
				f.Error(err)
			}
		})
		mount, err = f.a.Format(f.ctx, node, fmt.Sprintf("%s%d", name, i+1), fs[i])
		f.must(err)
		mounts = append(mounts, mount)
	}
	return mounts, naa
}

// onB reads a file of a copy.
func (f *fixture) onB(copies []vss.SnapshotProp, volume, name string) string {
	f.Helper()
	for _, c := range copies {
		if c.OriginalVolumeName == volume {
			b, err := os.ReadFile(f.b.Path(filepath.Join(c.DeviceObject, name)))
			f.must(err)
			return string(b)
		}
	}
	f.Fatalf("no copy of %s", volume)
	return ""
}

// lunOn is the one LUN on a host in a state.
func (f *fixture) lunOn(h *site.Host, state string) requester.LUN {
	f.Helper()
	out, err := h.Umbra(f.ctx, "list", "luns", "--output", "json")
	f.must(err)
	var all []requester.LUN
	f.must(json.Unmarshal([]byte(out), &all))
	all = slices.DeleteFunc(all, func(l requester.LUN) bool { return l.State != state })
	if len(all) != 1 {
		f.Fatalf("%d LUNs %s: %s", len(all), state, out)
	}
	return all[0]
}

func (f *fixture) gone(h *site.Host, set createdSet) {
	f.Helper()
	_, err := h.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	f.nothingOn(h)
	if c := f.copiesOnArray(); len(c) != 0 {
		f.Errorf("copies left: %+v", c)
	}
	if left, _ := filepath.Glob("/dev/.umbra-*"); len(left) != 0 {
		f.Errorf("nodes left: %v", left)
	}
}

// TestPartitions: a LUN with three partitions of which two are copied. On B they
// are found by their bytes.
func TestPartitions(t *testing.T) {
	f := newFixture(t)
	parts := []partitiontest.Part{{Start: mib, Length: 128 * mib, Name: "db"}, {Start: 129 * mib, Length: 320 * mib, Name: "log"}, {Start: 450 * mib, Length: 60 * mib, Name: "other"}}
	mounts, naa := f.partitioned("gpt", "512M", func(d *os.File, size uint64) error { return partitiontest.GPT(d, size, 512, parts...) }, parts, []string{"ext4", "xfs", "ext4"})
	db, log, other := mounts[0], mounts[1], mounts[2]
	for _, m := range mounts {
		f.put(m, "hello", "hello from "+m)
	}

	// Where the kernel reads no table, it is listed all the same.
	if l := f.lunOn(f.a, "original"); l.Table != "gpt" || len(l.Volumes) != 3 || l.Volumes[1].Filesystem != "xfs" || l.Volumes[1].Offset != parts[1].Start {
		t.Errorf("on A: %+v", l)
	}

	f.run("two of three", func(g *fixture) {
		set := g.create("app-rollback", db, log)
		_, d := g.readSet(set)
		for i, s := range d.Set.Snapshots {
			if len(s.LUNs) != 1 || s.LUNs[0].Source.Name() != naa || len(s.LUNs[0].Extents) != 1 || s.LUNs[0].Extents[0].Offset != parts[i].Start || s.LUNs[0].Extents[0].Length != parts[i].Length {
				g.Errorf("copy %d in the document: %+v", i, s.LUNs)
			}
		}
		if d.SchemaVersion != "1.0" {
			g.Errorf("schema %s: older importers could read it", d.SchemaVersion)
		}
		if c := g.copiesOnArray(); len(c) != 1 {
			g.Errorf("the LUN was copied %d times", len(c))
		}
		g.put(db, "hello", "changed") // what comes after the copy is not in it
		im, err := g.importOn(g.b, set.doc)
		g.must(err)
		if im.Result != vss.VSS_S_ASYNC_FINISHED.Name() || len(im.Copies) != 2 {
			g.Fatalf("import: %+v", im)
		}
		for _, m := range []string{db, log} {
			if got := g.onB(im.Copies, m, "hello"); got != "hello from "+m {
				g.Errorf("the copy of %s says %q", m, got)
			}
		}
		if im.Copies[0].BlockDevice == im.Copies[1].BlockDevice {
			g.Errorf("both on %s", im.Copies[0].BlockDevice)
		}
		for _, c := range im.Copies {
			if file, err := os.OpenFile(c.BlockDevice, os.O_RDWR, 0); err == nil {
				_, err = unix.Pwrite(int(file.Fd()), make([]byte, 512), 0)
				file.Close()
				if err == nil {
					g.Errorf("%s could be written to", c.BlockDevice)
				}
			}
		}
		// What nobody asked for came as well; it is listed, and is nowhere.
		l := g.lunOn(g.b, "imported")
		if l.Table != "gpt" || len(l.Volumes) != 3 || !l.ReadOnly {
			g.Fatalf("the LUN: %+v", l)
		}
		for i, v := range l.Volumes {
			if v.Offset != parts[i].Start || v.Length != parts[i].Length || v.Name != parts[i].Name || v.Filesystem == "" || (len(v.Copies) == 1) != (i < 2) {
				g.Errorf("volume %d: %+v", i, v)
			}
		}
		out, err := g.b.Umbra(g.ctx, "list", "luns")
		g.must(err)
		if strings.Count(out, "in the set") != 3 || strings.Count(out, "not in the set") != 1 {
			g.Errorf("listed as: %s", out)
		}
		out, err = g.b.Umbra(g.ctx, "show", set.SetID.String(), "--output", "json")
		g.must(err)
		if !strings.Contains(out, `"name": "other"`) {
			g.Errorf("shown as: %s", out)
		}
		folder := filepath.Join(g.site.Dir, "exposed")
		g.must(os.Mkdir(folder, 0o755))
		_, err = g.b.Umbra(g.ctx, "expose", im.Copies[0].SnapshotID.String(), folder)
		g.must(err)
		if b, err := os.ReadFile(g.b.Path(filepath.Join(folder, "hello"))); err != nil || !strings.HasPrefix(string(b), "hello from") {
			g.Errorf("exposed: %q, %v", b, err)
		}

		// The service comes back and finds everything as it was.
		g.b.KillDaemon()
		<-g.b.DaemonDone()
		g.must(g.b.StartDaemon(g.ctx, nil))
		out, err = g.b.Umbra(g.ctx, "list", "copies", "--output", "json")
		g.must(err)
		for _, c := range im.Copies {
			if !strings.Contains(out, fmt.Sprintf(`"block_device": %q`, c.BlockDevice)) || !strings.Contains(out, fmt.Sprintf(`"device_object": %q`, c.DeviceObject)) {
				g.Errorf("%s on %s is not as it was: %s", c.DeviceObject, c.BlockDevice, out)
			}
		}
		// The LUN stays for the other copy.
		_, err = g.b.Umbra(g.ctx, "delete", "copy", im.Copies[0].SnapshotID.String())
		g.must(err)
		if got := g.onB(im.Copies, im.Copies[1].OriginalVolumeName, "hello"); got == "" {
			g.Error("the other copy went with it")
		}
		if c := g.copiesOnArray(); len(c) != 1 {
			g.Errorf("copies on the array: %+v", c)
		}
		g.gone(g.b, set)
	})
	f.run("on this machine", func(g *fixture) {
		out, err := g.a.Umbra(g.ctx, "create", "--context", "app-rollback", db, other)
		g.must(err)
		id := out[strings.Index(out, "{"):][:38]
		props, err := g.a.Umbra(g.ctx, "list", "copies", "--output", "json")
		g.must(err)
		if strings.Contains(props, `"device_object": ""`) || strings.Count(props, id) != 2 {
			g.Errorf("copies: %s", props)
		}
		_, err = g.a.Umbra(g.ctx, "delete", "set", id)
		g.must(err)
		if c := g.copiesOnArray(); len(c) != 0 {
			g.Errorf("copies left: %+v", c)
		}
	})
	f.run("one that is not what the document says", func(g *fixture) {
		set := g.create("app-rollback", log)
		g.spoilCopy(parts[1].Start)
		_, err := g.importOn(g.b, set.doc)
		g.mentions(g.refused(err, vss.VSS_E_NO_SNAPSHOTS_IMPORTED), "umbra cleanup")
		_, err = g.b.Umbra(g.ctx, "cleanup", set.SetID.String(), "--reclaim")
		g.must(err)
		g.nothingOn(g.b)
	})
}

// spoilCopy overwrites a block of the only copy, in the array's store.
func (f *fixture) spoilCopy(offset uint64) {
	f.Helper()
	c := f.copiesOnArray()
	if len(c) != 1 {
		f.Fatalf("copies %+v", c)
	}
	file, err := os.OpenFile(f.site.LUNFile(c[0].NAA), os.O_WRONLY, 0)
	f.must(err)
	_, err = file.WriteAt(make([]byte, 4096), int64(offset))
	f.must(err)
	f.must(file.Close())
}

// TestLogicalPartition: of an MBR.
func TestLogicalPartition(t *testing.T) {
	f := newFixture(t)
	parts := []partitiontest.Part{{Start: mib, Length: 64 * mib}, {Start: 66 * mib, Length: 64 * mib, Logical: true}, {Start: 131 * mib, Length: 320 * mib, Logical: true}}
	mounts, _ := f.partitioned("mbr", "512M", func(d *os.File, size uint64) error { return partitiontest.MBR(d, size, 512, parts...) }, parts, []string{"ext4", "ext4", "xfs"})
	for _, m := range mounts {
		f.put(m, "hello", m)
	}
	set := f.create("app-rollback", mounts[1], mounts[2])
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	for _, m := range mounts[1:] {
		if got := f.onB(im.Copies, m, "hello"); got != m {
			f.Errorf("the copy of %s says %q", m, got)
		}
	}
	_, err = f.b.Umbra(f.ctx, "delete", "all")
	f.must(err)
	f.nothingOn(f.b)
}

// TestKilledSurfacing: the daemon dies while it makes devices of an import, or
// takes them down.
func TestKilledSurfacing(t *testing.T) {
	f := newFixture(t)
	parts := []partitiontest.Part{{Start: mib, Length: 64 * mib}, {Start: 66 * mib, Length: 64 * mib}}
	mounts, _ := f.partitioned("gpt", "256M", func(d *os.File, size uint64) error { return partitiontest.GPT(d, size, 512, parts...) }, parts, []string{"ext4", "ext4"})
	f.put(mounts[0], "hello", "hello")
	f.put(mounts[1], "hello", "hello")
	for _, point := range f.points("surface.") {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", mounts...)
			g.armOn(g.b, point+"=kill")
			_, err := g.importOn(g.b, set.doc)
			if point == "surface.after-take-down" {
				g.must(err)
				_, err := g.as(g.b, "delete", "set", set.SetID.String())
				g.refused(err, vss.VSS_E_UNEXPECTED)
				<-g.b.DaemonDone()
				g.must(g.b.StartDaemon(g.ctx, nil))
				_, _ = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String()) // the copy that was not begun
				g.nothingOn(g.b)
				g.died(point, "B's daemon", "delete of a set of partitions", err, "what was begun is deleted at the start, the rest when the command is given again")
				return
			}
			killed := err
			g.refused(killed, vss.VSS_E_UNEXPECTED)
			<-g.b.DaemonDone()
			g.must(g.b.StartDaemon(g.ctx, nil))
			if o := g.orphans(g.b); len(o) != 1 {
				g.Errorf("orphans %+v", o)
			}
			_, err = g.b.Umbra(g.ctx, "cleanup", set.SetID.String())
			g.must(err)
			g.nothingOn(g.b)
			im, err := g.importOn(g.b, set.doc)
			g.must(err)
			for _, m := range mounts {
				if got := g.onB(im.Copies, m, "hello"); got != "hello" {
					g.Errorf("the copy of %s says %q", m, got)
				}
			}
			g.gone(g.b, set)
			g.died(point, "B's daemon", "import of partitions", killed, "nothing is imported; the LUNs are listed until `umbra cleanup`, after which the import works")
		})
	}
}

// TestPartitionNodes: this kernel may read no table, and makes no nodes of a loop
// device's partitions in any case. On request A has them; what is on one is copied
// and found on B, and with the LUN they go.
func TestPartitionNodes(t *testing.T) {
	f := newFixture(t)
	naa, device, err := f.a.NewLUN(f.ctx, "nodes", "256M")
	f.must(err)
	parts := []partitiontest.Part{{Start: mib, Length: 64 * mib, Name: "db"}, {Start: 66 * mib, Length: 64 * mib, Name: "log"}}
	disk, err := os.OpenFile(device, os.O_RDWR, 0)
	f.must(err)
	end, err := disk.Seek(0, 2)
	f.must(err)
	f.must(partitiontest.GPT(disk, uint64(end), 512, parts...))
	f.must(disk.Sync())
	f.must(disk.Close())
	for _, v := range f.lunOn(f.a, "original").Volumes {
		if v.Device != "" {
			f.Fatalf("this kernel makes nodes by itself, which this test is not about: %+v", v)
		}
	}
	rescan := func() (nodes []string) {
		f.Helper()
		out, err := f.a.Umbra(f.ctx, "rescan", "--partitions", naa)
		f.must(err)
		for _, v := range f.lunOn(f.a, "original").Volumes {
			if v.Device == "" || !strings.Contains(out, v.Device) {
				f.Fatalf("no node for %+v:\n%s", v, out)
			}
			nodes = append(nodes, v.Device)
		}
		return nodes
	}
	nodes := rescan()
	if len(nodes) != 2 || nodes[0] == nodes[1] {
		f.Fatalf("nodes: %v", nodes)
	}
	if again := rescan(); !slices.Equal(again, nodes) {
		f.Errorf("asked again it has %v, not %v", again, nodes)
	}
	mount, err := f.a.Format(f.ctx, nodes[1], "log", "ext4")
	f.must(err)
	unmount := func() error { _, err := f.a.Run(f.ctx, "umount", mount); return err }
	f.Cleanup(func() { _ = unmount() })
	f.put(mount, "hello", "hello from a partition")
	set := f.create("app-rollback", mount)
	f.put(mount, "hello", "changed")
	_, d := f.readSet(set)
	if x := d.Set.Snapshots[0].LUNs[0].Extents; len(x) != 1 || x[0].Offset != parts[1].Start || x[0].Length != parts[1].Length {
		f.Errorf("it lies at %+v", x)
	}
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	if got := f.onB(im.Copies, mount, "hello"); got != "hello from a partition" {
		f.Errorf("the copy says %q", got)
	}
	f.gone(f.b, set)

	_, err = f.as(f.a, "detach", naa)
	f.refused(err, vss.VSS_E_VOLUME_IN_USE)
	if b, err := os.ReadFile(f.a.Path(filepath.Join(mount, "hello"))); err != nil || string(b) != "changed" {
		f.Errorf("after a refusal: %q, %v", b, err)
	}
	f.must(unmount())
	_, err = f.a.Umbra(f.ctx, "detach", naa)
	f.must(err)
	f.nothingOn(f.a)
	for _, n := range nodes {
		if b, err := os.ReadFile("/sys/block/" + filepath.Base(n) + "/loop/backing_file"); err == nil && strings.Contains(string(b), device) {
			f.Errorf("%s is left over %s", n, b)
		}
	}
}
