package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/demo"
	"github.com/umbra-vss/umbra/vss"
)

// TestTransport is the main job: three filesystems, one instant, another
// machine, nothing of A alive.
func TestTransport(t *testing.T) {
	f := newFixture(t)
	ext, _, _ := f.volume("ext", "ext4")
	xfs, _, _ := f.volume("xfs", "xfs")
	btr, _, _ := f.volume("btr", "btrfs")
	for _, m := range []string{ext, xfs, btr} {
		f.put(m, "hello", "written before the copy in "+m)
	}
	w, err := demo.StartWorkload(f.ctx, f.a.Path(filepath.Join(ext, "log")), f.a.Path(filepath.Join(xfs, "log")))
	f.must(err)
	eventually(t, "the workload runs", 1e10, func() bool { return w.Written() > 50 })
	before := w.Written()
	set := f.create("app-rollback", ext, xfs, btr)
	f.must(w.Stop())
	f.put(ext, "later", "after the copy")
	for _, c := range f.copiesOnArray() {
		if len(c.Masks) != 0 {
			t.Errorf("copy %s is unmasked to %v before any import", c.NAA, c.Masks)
		}
	}

	f.a.StopDaemon()
	if _, err := f.b.Umbra(f.ctx, "import", set.doc, "--check"); err != nil {
		t.Fatal(err)
	}
	if len(f.orphans(f.b)) != 0 {
		t.Fatal("--check left LUNs")
	}
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	if im.Result != "VSS_S_ASYNC_FINISHED" || len(im.Copies) != 3 {
		t.Fatalf("import: %+v", im)
	}

	byVolume := map[string]vss.SnapshotProp{}
	for _, c := range im.Copies {
		byVolume[c.OriginalVolumeName] = c
		if !c.Attributes.Has(vss.ATTR_IMPORTED | vss.ATTR_TRANSPORTABLE | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_NOT_SURFACED) {
			t.Errorf("attributes of %s: %s", c.OriginalVolumeName, c.Attributes)
		}
		if c.OriginatingMachine != f.a.Name || c.SnapshotsCount != 3 || c.Status != vss.SS_CREATED {
			t.Errorf("properties: %+v", c)
		}
		// Readable at once, without expose: device object + original path.
		got, err := os.ReadFile(f.b.Path(filepath.Join(c.DeviceObject, "hello")))
		if err != nil || string(got) != "written before the copy in "+c.OriginalVolumeName {
			t.Errorf("%s: %q, %v", c.OriginalVolumeName, got, err)
		}
		if err := os.WriteFile(f.b.Path(filepath.Join(c.DeviceObject, "intruder")), nil, 0o600); err == nil {
			t.Errorf("%s can be written to", c.OriginalVolumeName)
		}
		if rules := f.rules(f.b, "10-umbra-naa.*"); len(rules) != 3 {
			t.Errorf("udev rules that hide the copies: %v", rules)
		}
	}
	if _, err := os.Stat(f.b.Path(filepath.Join(byVolume[ext].DeviceObject, "later"))); err == nil {
		t.Error("the copy has a file from after it was made")
	}
	n, err := demo.VerifyPrefix(f.b.Path(filepath.Join(byVolume[ext].DeviceObject, "log")), f.b.Path(filepath.Join(byVolume[xfs].DeviceObject, "log")))
	if err != nil || n < before {
		t.Errorf("prefix %d of at least %d: %v", n, before, err)
	}

	// Once per set, here and in the world.
	_, err = f.importOn(f.b, set.doc)
	f.fails(err, 1, vss.VSS_E_BAD_STATE)
	c := f.host("hostc")
	_, err = f.importOn(c, set.doc)
	f.fails(err, 1, vss.VSS_E_BAD_STATE)
	for _, l := range f.copiesOnArray() {
		if strings.Join(l.Masks, ",") != f.b.Name {
			t.Errorf("%s is unmasked to %v", l.NAA, l.Masks)
		}
	}
	if o := f.orphans(c); len(o) != 0 {
		t.Errorf("a refused import lists %v", o)
	}

	// Expose, unexpose, delete.
	id := byVolume[ext].SnapshotID.String()
	folder := filepath.Join(f.site.Dir, "mnt")
	f.must(os.Mkdir(folder, 0o755))
	_, err = f.b.Umbra(f.ctx, "expose", id, folder)
	f.must(err)
	if _, err := os.ReadFile(f.b.Path(filepath.Join(folder, "hello"))); err != nil {
		t.Error(err)
	}
	_, err = f.b.Umbra(f.ctx, "expose", id, folder)
	f.fails(err, 1, vss.VSS_E_OBJECT_ALREADY_EXISTS)
	_, err = f.b.Umbra(f.ctx, "unexpose", folder)
	f.must(err)
	_, err = f.b.Umbra(f.ctx, "unexpose", id)
	f.fails(err, 1, vss.VSS_E_OBJECT_NOT_FOUND)
	_, err = f.b.Umbra(f.ctx, "expose", id, folder)
	f.must(err)
	_, err = f.b.Umbra(f.ctx, "delete", "copy", id)
	f.must(err)
	if got := len(f.copiesOnArray()); got != 2 {
		t.Errorf("%d copies on the array after one was deleted, want 2", got)
	}
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	if got := f.copiesOnArray(); len(got) != 0 {
		t.Errorf("left on the array: %v", got)
	}
	if rules := f.rules(f.b, "*-naa.*"); len(rules) != 0 {
		t.Errorf("udev rules left: %v", rules)
	}
}

// TestAutoRelease: copies of context backup are read through their device
// object, cannot be exposed, and go with their requester.
func TestAutoRelease(t *testing.T) {
	f := newFixture(t)
	m, _, _ := f.volume("v", "ext4")
	f.put(m, "hello", "hello")
	set := f.create("backup", m)
	script := filepath.Join(f.site.Dir, "use")
	out := filepath.Join(f.site.Dir, "out")
	f.must(os.WriteFile(script, []byte("#!/bin/sh\nset -e\ncat \"$UMBRA_PATH_1/hello\" > "+out+"\nmkdir -p "+f.site.Dir+"/e\nif "+binary+" expose \"$UMBRA_COPY_1\" "+f.site.Dir+"/e 2>> "+out+"; then exit 1; fi\n"), 0o755))
	_, err := f.importOn(f.b, set.doc, "--exec", script)
	f.must(err)
	b, err := os.ReadFile(out)
	f.must(err)
	if !strings.HasPrefix(string(b), "hello") || !strings.Contains(string(b), "VSS_E_UNSUPPORTED_CONTEXT") {
		t.Errorf("the program saw: %s", b)
	}
	eventually(t, "the copy goes with its requester", 1e10, func() bool { return len(f.copiesOnArray()) == 0 })
	if ds, err := f.b.Umbra(f.ctx, "list", "luns", "--output", "json"); err != nil || strings.TrimSpace(ds) != "null" {
		t.Errorf("LUNs on B: %s %v", ds, err)
	}
}
