package importing_test

import (
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const (
	groupUUID = "aUt5mI-C6Ul-ejVp-w5FO-gTFk-a1y3-Zw45ZB"
	disk0     = "r8grWr-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k"
	disk1     = "gu1eGk-w1S7-ACtV-SreD-OmQe-SVVT-TG54H5"
)

// logicalSet is a set of two volumes: one on a LUN of its own, and a logical
// volume that goes over that LUN's neighbour and a third.
func logicalSet(w *world) *document.Document {
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a, w.a)
	ss := d.Set.Snapshots
	lv := &ss[1]
	second := ss[2].LUNs[0]
	second.Extents = []lun.Extent{{LUN: 1, Length: servicetest.Size}}
	lv.LUNs = append(lv.LUNs, second)
	lv.Devices = []document.BlockDevice{{Role: document.RoleData,
		Segments: []lun.Segment{{Extents: lv.LUNs[0].Extents}, {Extents: second.Extents}},
		Logical: &document.LogicalVolume{Group: "data", GroupUUID: groupUUID, Name: "db", UUID: groupUUID,
			Disks: []document.PhysicalVolume{{UUID: disk0, LUN: 0}, {UUID: disk1, LUN: 1}}}}}
	for i, uuid := range []string{disk0, disk1} {
		w.a.Change(lv.LUNs[i].Target.Name(), func(l *servicetest.LUN) {
			l.LVM = lvm.Disk{UUID: uuid, Group: lvm.Group{Name: "data", UUID: groupUUID}}
		})
	}
	d.Set.Snapshots, d.Set.Count = ss[:2], 2
	servicetest.Sign(d)
	return d
}

func TestLogicalVolume(t *testing.T) {
	w := newWorld(t)
	d := logicalSet(w)
	w.want(w.run(t.Context(), d), finished)
	// Its identity stays on record.
	if l := w.set(d.Set.ID).Description.Snapshots[1].Devices[0].Logical; l == nil || l.Group != "data" || len(l.Disks) != 2 {
		t.Errorf("on record: %+v", l)
	}
}

// TestPhysicalVolumeMissing: without one of its disks a logical volume is not
// imported, the others of the set are, and there is a way back.
func TestPhysicalVolumeMissing(t *testing.T) {
	second := func(d *document.Document) string { return d.Set.Snapshots[1].LUNs[1].Target.Name() }
	for name, tt := range map[string]struct {
		spoil func(w *world, lun string)
		code  vss.HResult
		says  string
	}{
		"its LUN does not come": {func(w *world, n string) { w.host.Delay(n, servicetest.Never) }, vss.VSS_E_MISSING_DISK, "did not arrive"},
		"its LUN is no physical volume": {func(w *world, n string) {
			w.a.Change(n, func(l *servicetest.LUN) { l.LVM = lvm.Disk{} })
		}, vss.VSS_E_MISSING_HIDDEN_VOLUME, "no physical volume"},
		"its LUN is another disk of the group": {func(w *world, n string) {
			w.a.Change(n, func(l *servicetest.LUN) { l.LVM.UUID = disk0 })
		}, vss.VSS_E_MISSING_HIDDEN_VOLUME, "is the physical volume " + disk0},
		"its LUN is of another group": {func(w *world, n string) {
			w.a.Change(n, func(l *servicetest.LUN) { l.LVM.Group.UUID = disk0 })
		}, vss.VSS_E_MISSING_HIDDEN_VOLUME, "is of volume group data"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := logicalSet(w)
			tt.spoil(w, second(d))
			w.im.ArrivalTimeout = 20 * time.Millisecond
			w.want(w.run(t.Context(), d), some)
			s := w.set(d.Set.ID)
			f := s.Copies[1].Failure
			if s.Copies[0].Code != vss.S_OK || s.Copies[1].Code != tt.code {
				t.Fatalf("copies %+v", s.Copies)
			}
			for _, word := range []string{disk1, "data", "is missing", tt.says} {
				if !strings.Contains(f.Reason, word) {
					t.Errorf("%q is not in %q", word, f.Reason)
				}
			}
			if f.Remedy == "" || len(w.host.Surfaced()) != 0 {
				t.Errorf("remedy %q, surfaced %v", f.Remedy, w.host.Surfaced())
			}
			wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1, catalog.LUNOrphaned: 2})
			cleaned, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, 0)
			if err != nil || len(cleaned) != 2 {
				t.Errorf("cleaned %v, %v", cleaned, err)
			}
			wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1})
		})
	}
	// A set of nothing else is not imported at all.
	w := newWorld(t)
	d := logicalSet(w)
	d.Set.Snapshots, d.Set.Count = d.Set.Snapshots[1:], 1
	servicetest.Sign(d)
	w.host.Delay(d.Set.Snapshots[0].LUNs[1].Target.Name(), servicetest.Never)
	w.im.ArrivalTimeout = 20 * time.Millisecond
	out := w.run(t.Context(), d)
	w.want(out, none)
	wantWords(t, out.Err)
}
