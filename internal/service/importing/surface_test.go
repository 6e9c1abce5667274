package importing_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

// lun is the record of the one LUN of a world.
func (w *world) lun() (l catalog.LUN) {
	w.t.Helper()
	w.view(func(t *catalog.Tx) error {
		all, err := t.LUNs()
		if len(all) != 1 {
			w.t.Fatalf("LUNs %+v", all)
		}
		l = all[0]
		return err
	})
	return l
}

// TestTwoVolumesOfOneLUN: each has a device of its own, on record, and what else
// is on the LUN is on record too.
func TestTwoVolumesOfOneLUN(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	servicetest.Share(d)
	w.want(w.run(t.Context(), d), finished)
	cs := w.copies()
	if len(cs) != 2 || len(w.host.Surfaced()) != 2 {
		t.Fatalf("copies %+v, devices %v", cs, w.host.Surfaced())
	}
	for _, c := range cs {
		s := c.Surfaces
		if len(s) != 1 || s[0].Device == c.Attachments[0].Device || c.Prop.BlockDevice != s[0].Device || s[0].Size != servicetest.Size/2 || !slices.Contains(w.host.Surfaced(), s[0].Device) {
			t.Errorf("copy %+v", c)
		}
	}
	l := w.lun()
	if l.Contents == nil || l.Contents.Table != "gpt" || len(l.Contents.Volumes) != 2 || !slices.Equal(l.Contents.Volumes[1].Copies, []vss.ID{d.Set.Snapshots[1].ID}) {
		t.Errorf("LUN %+v", l)
	}
}

// TestContentsThatCannotBeRead: an import does not depend on what it was not
// asked for.
func TestContentsThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	servicetest.Share(d)
	w.host.Fail("Contents", errBroken)
	w.want(w.run(t.Context(), d), finished)
	if l := w.lun(); l.Contents == nil || l.Contents.Fault == "" {
		t.Errorf("LUN %+v", l)
	}
}

// TestRefusedVolumeLeavesNoDevice: on a LUN that stays for another copy.
func TestRefusedVolumeLeavesNoDevice(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	servicetest.Share(d)
	d.Set.Snapshots[1].Filesystem.UUID = "another"
	servicetest.Sign(d)
	w.want(w.run(t.Context(), d), some)
	if s := w.host.Surfaced(); len(s) != 1 || s[0] != w.copies()[0].Surfaces[0].Device {
		t.Errorf("devices %v", s)
	}
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1})
}

// TestSurfaceFails: the copy is not imported, its LUN is listed and goes.
func TestSurfaceFails(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.host.Fail("Surface", &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "surface volume", Reason: "no device-mapper", Remedy: "Load it"})
	out := w.run(t.Context(), d)
	w.want(out, none)
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 1})
	if f := w.set(d.Set.ID).Copies[0].Failure; !errors.Is(f.Err(), vss.VSS_E_VOLUME_NOT_SUPPORTED) {
		t.Errorf("why: %+v", f)
	}
	if _, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Mask); err != nil {
		t.Error(err)
	}
	wantLUNs(t, w, nil)
}

// TestVolumeSizes: of a filesystem that is not as large as it was.
func TestVolumeSizes(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.a.Change(target(d, 0), func(l *servicetest.LUN) {
		l.Filesystem = filesystem.Identity{Type: "ext4", UUID: l.Filesystem.UUID, Size: 1}
	})
	w.want(w.run(t.Context(), d), none)
}
