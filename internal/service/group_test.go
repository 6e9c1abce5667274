package service_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

const (
	oldGroup = "aUt5mI-C6Ul-ejVp-w5FO-gTFk-a1y3-Zw45ZB"
	oldDisk0 = "r8grWr-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k"
	oldDisk1 = "gu1eGk-w1S7-ACtV-SreD-OmQe-SVVT-TG54H5"
	oldDB    = "dFavU5-ZI2i-jK7m-z2gO-hMHm-5CYa-3pQuHH"
	oldLog   = "CIpmtz-VEAs-g3DV-52GX-mYw6-ahHt-0Dww5d"
)

// logicalSet is a set of three copies: of two volumes of a group on two LUNs, the
// first of which lies on both, and of a LUN without LVM.
func logicalSet(m *machine) *document.Document {
	const half = servicetest.Size / 2
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.A, m.A)
	ss := d.Set.Snapshots
	db, log := &ss[0], &ss[1]
	shared := log.LUNs[0]
	logical := func(name, uuid string, disks ...document.PhysicalVolume) *document.LogicalVolume {
		return &document.LogicalVolume{Group: "data", GroupUUID: oldGroup, Name: name, UUID: uuid, Disks: disks}
	}
	shared.Extents = []lun.Extent{{LUN: 1, Length: half}}
	db.LUNs = append(db.LUNs, shared)
	db.Devices = []document.BlockDevice{{Role: document.RoleData, Segments: []lun.Segment{{Extents: db.LUNs[0].Extents}, {Extents: shared.Extents}},
		Logical: logical("db", oldDB, document.PhysicalVolume{UUID: oldDisk0}, document.PhysicalVolume{UUID: oldDisk1, LUN: 1})}}
	log.LUNs[0].Extents = []lun.Extent{{Offset: half, Length: half}}
	log.Filesystem = db.Filesystem
	m.A.Change(log.LUNs[0].Target.Name(), func(l *servicetest.LUN) { l.Filesystem.UUID = db.Filesystem.UUID })
	log.Devices = []document.BlockDevice{{Role: document.RoleData, Segments: []lun.Segment{{Extents: log.LUNs[0].Extents}}, Logical: logical("log", oldLog, document.PhysicalVolume{UUID: oldDisk1})}}
	for i, uuid := range []string{oldDisk0, oldDisk1} {
		m.A.Change(db.LUNs[i].Target.Name(), func(l *servicetest.LUN) {
			l.LVM = lvm.Disk{UUID: uuid, Group: lvm.Group{Name: "data", UUID: oldGroup}}
		})
	}
	servicetest.Sign(d)
	return d
}

func grouped(t *testing.T, m *machine) (*document.Document, *requester.BackupComponents, []requester.LogicalVolume) {
	t.Helper()
	d := logicalSet(m)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	vs, err := bc.ExposeVolumeGroups(t.Context(), d.Set.ID, "")
	if err != nil {
		t.Fatal(err)
	}
	return d, bc, vs
}

// TestNewIdentity: a set's volumes in one group are shown together, whichever of
// its copies is named; the record has what they were called and are called.
func TestNewIdentity(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d, bc, vs := grouped(t, m)
	name := "data_" + d.Set.ID.Bare()[:8]
	if len(vs) != 2 || vs[0].Name != "db" || vs[0].UUID != oldDB || vs[0].NewGroup != name || vs[0].Path != "/dev/"+name+"/db" || vs[0].NewUUID != "new-"+oldDB ||
		vs[0].GroupUUID != oldGroup || vs[0].NewGroupUUID == "" || len(vs[0].Disks) != 2 || vs[0].Disks[1].NewUUID != "new-"+oldDisk1 || vs[1].Name != "log" {
		t.Errorf("%+v", vs)
	}
	g, ok := m.Host.Groups()[name]
	const half = servicetest.Size / 2
	want := []lvm.Segment{{Kind: "striped", Length: servicetest.Size, Areas: []lvm.Area{{Disk: oldDisk0}}}, {Kind: "striped", Length: half, Areas: []lvm.Area{{Disk: oldDisk1}}}}
	if !ok || len(g.Disks) != 2 || !lvm.Same(g.Volumes[oldDB], want) || !lvm.Same(g.Volumes[oldLog], []lvm.Segment{{Kind: "striped", Length: half, Areas: []lvm.Area{{Disk: oldDisk1, Offset: half}}}}) {
		t.Errorf("shown: %+v", g)
	}
	host := requester.NewHost(requester.Endpoint(m.Socket))
	defer host.Close()
	s, err := host.Set(ctx, d.Set.ID)
	if err != nil || len(s.LogicalVolumes) != 2 || s.LogicalVolumes[1].NewGroup != name || s.LogicalVolumes[1].Group != "data" || s.Snapshots[0].VolumeGroup != name && s.Snapshots[1].VolumeGroup != name {
		t.Errorf("on record: %+v, %v", s, err)
	}
	// Beside it a copy is exposed as ever.
	if _, err := bc.ExposeSnapshot(ctx, d.Set.Snapshots[0].ID, "", vss.ATTR_EXPOSED_LOCALLY, m.folder("x")); err != nil {
		t.Error(err)
	}
	is(t, "Unexpose the folder", bc.UnexposeSnapshot(ctx, d.Set.Snapshots[0].ID), vss.S_OK)
	if len(m.Host.Groups()) != 1 {
		t.Error("the group went with the folder")
	}
	for what, c := range map[string]struct {
		id   vss.ID
		name string
		want vss.HResult
	}{
		"the set again":              {d.Set.ID, "other", vss.VSS_E_OBJECT_ALREADY_EXISTS},
		"one of its copies":          {d.Set.Snapshots[1].ID, "", vss.VSS_E_OBJECT_ALREADY_EXISTS},
		"a copy that is on no group": {d.Set.Snapshots[2].ID, "", vss.E_INVALIDARG},
		"nothing":                    {vss.NewID(), "", vss.VSS_E_OBJECT_NOT_FOUND},
	} {
		_, err := bc.ExposeVolumeGroups(ctx, c.id, c.name)
		is(t, what, err, c.want)
	}
	m.Host.Fail("EndGroup", &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "end", Reason: "r", Remedy: "R"})
	is(t, "Unexpose in use", bc.UnexposeVolumeGroups(ctx, d.Set.ID), vss.VSS_E_VOLUME_IN_USE)
	_, _, err = bc.DeleteSnapshots(ctx, d.Set.Snapshots[0].ID, vss.OBJECT_SNAPSHOT, false)
	is(t, "Delete in use", err, vss.VSS_E_VOLUME_IN_USE)
	m.Host.Fail("EndGroup", nil)
	is(t, "Unexpose a copy of it", bc.UnexposeSnapshot(ctx, d.Set.Snapshots[1].ID), vss.S_OK)
	is(t, "Unexpose again", bc.UnexposeVolumeGroups(ctx, d.Set.ID), vss.VSS_E_OBJECT_NOT_FOUND)
	if p, _ := bc.GetSnapshotProperties(ctx, d.Set.Snapshots[0].ID); p.VolumeGroup != "" || len(m.Host.Groups()) != 0 {
		t.Errorf("%+v, %v", p, m.Host.Groups())
	}

	// Refused by the host: nothing is left.
	m.Host.Fail("ShowGroup", &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "show", Reason: "r", Remedy: "R"})
	_, err = bc.ExposeVolumeGroups(ctx, d.Set.ID, "")
	is(t, "without LVM", err, vss.VSS_E_NOT_SUPPORTED)
	if _, _, n := m.Count(); n != 0 {
		t.Errorf("%d intents", n)
	}
}

// TestNewIdentityOfTwoSets: each has a group of its own, and a name is given once,
// also if LVM does not know of it.
func TestNewIdentityOfTwoSets(t *testing.T) {
	m := newMachine(t)
	_, _, vs := grouped(t, m)
	d2 := logicalSet(m)
	bc := m.Imported(d2, vss.VSS_S_ASYNC_FINISHED)
	_, err := bc.ExposeVolumeGroups(t.Context(), d2.Set.ID, vs[0].NewGroup)
	is(t, "the other set's name", err, vss.VSS_E_OBJECT_ALREADY_EXISTS)
	vs2, err := bc.ExposeVolumeGroups(t.Context(), d2.Set.Snapshots[0].ID, "mine")
	if err != nil || len(vs2) != 2 || vs2[0].NewGroup != "mine" || len(m.Host.Groups()) != 2 {
		t.Errorf("%+v, %v, %v", vs2, err, m.Host.Groups())
	}
	auto := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.B)
	auto.Set.Snapshots[0].Devices = []document.BlockDevice{{Role: document.RoleData, Segments: []lun.Segment{{Extents: auto.Set.Snapshots[0].LUNs[0].Extents}},
		Logical: &document.LogicalVolume{Group: "g", GroupUUID: oldGroup, Name: "v", UUID: oldDB, Disks: []document.PhysicalVolume{{UUID: oldDisk0}}}}}
	m.B.Change(auto.Set.Snapshots[0].LUNs[0].Target.Name(), func(l *servicetest.LUN) { l.LVM = lvm.Disk{UUID: oldDisk0} })
	servicetest.Sign(auto)
	_, err = m.Imported(auto, vss.VSS_S_ASYNC_FINISHED).ExposeVolumeGroups(t.Context(), auto.Set.ID, "")
	is(t, "an auto-release copy", err, vss.VSS_E_UNSUPPORTED_CONTEXT)
}

// TestNewIdentityIsDeleted: a group goes before its LUNs do, with the first copy
// of it, in use or not if by force.
func TestNewIdentityIsDeleted(t *testing.T) {
	for _, force := range []bool{false, true} {
		m := newMachine(t)
		d, bc, _ := grouped(t, m)
		if force {
			m.Host.Fail("EndGroup", &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "end", Reason: "r", Remedy: "R"})
		}
		m.Journal.Reset()
		_, _, err := bc.DeleteSnapshots(t.Context(), d.Set.Snapshots[0].ID, vss.OBJECT_SNAPSHOT, force)
		is(t, "Delete", err, vss.S_OK)
		if end, detach := m.Journal.Index("EndGroup"), m.Journal.Index("Detach"); end < 0 || detach < end {
			t.Errorf("calls %v", m.Journal.Calls())
		}
		if p, _ := bc.GetSnapshotProperties(t.Context(), d.Set.Snapshots[1].ID); p.VolumeGroup != "" || len(m.Host.Groups()) != 0 {
			t.Errorf("the other copy: %+v, %v", p, m.Host.Groups())
		}
	}
}

// TestNewIdentityBrokenOff: what was not recorded ends, what was is shown again,
// under the same name with the same UUIDs, after the machine booted as well.
func TestNewIdentityBrokenOff(t *testing.T) {
	for _, point := range []string{"group.after-intent", "group.after-show"} {
		m := newMachine(t)
		d := logicalSet(m)
		bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
		m.cut(point, func() {
			if _, err := bc.ExposeVolumeGroups(t.Context(), d.Set.ID, ""); err == nil {
				t.Error("no error")
			}
		})
		if n := len(m.Host.Groups()); (n == 1) != (point == "group.after-show") {
			t.Errorf("%s: the test shows %d groups", point, n)
		}
		m.Boot("boot1")
		if _, _, n := m.Count(); n != 0 || len(m.Host.Groups()) != 0 {
			t.Errorf("%s: %d intents, %v", point, n, m.Host.Groups())
		}
		if _, err := m.Initialised(vss.CTX_ALL).ExposeVolumeGroups(t.Context(), d.Set.ID, ""); err != nil {
			t.Errorf("%s: given again: %v", point, err)
		}
	}

	m := newMachine(t)
	d, bc, vs := grouped(t, m)
	disarm := arm(t, "group.after-end=error")
	if err := bc.UnexposeVolumeGroups(t.Context(), d.Set.ID); err == nil || len(m.Host.Groups()) != 0 {
		t.Errorf("%v, %v", err, m.Host.Groups())
	}
	disarm()
	m.Stop()
	for _, boot := range []string{"boot1", "boot2"} {
		if boot == "boot2" {
			m.Stop()
			m.Host.Reboot()
		}
		m.Boot(boot)
		g, ok := m.Host.Groups()[vs[0].NewGroup]
		if !ok || g.Identity.UUID != vs[0].NewGroupUUID || g.Identity.Volumes[oldDB] != vs[0].NewUUID {
			t.Errorf("%s: %+v", boot, g)
		}
	}
	// A LUN that does not come back keeps the group from being shown, not from being
	// on record.
	m.Stop()
	m.Host.Reboot()
	m.Host.Delay(d.Set.Snapshots[0].LUNs[0].Target.Name(), servicetest.Never)
	m.Boot("boot3")
	if len(m.Host.Groups()) != 0 || m.HasEvent("recovery.exposure-lost") {
		t.Errorf("%v", m.Host.Groups())
	}
	if p, _ := m.Initialised(vss.CTX_ALL).GetSnapshotProperties(t.Context(), d.Set.Snapshots[1].ID); p.VolumeGroup != vs[0].NewGroup {
		t.Errorf("%+v", p)
	}
	// One that cannot be shown is not on record any more, and that is said.
	m.Stop()
	m.Host.Reboot()
	m.Host.Undelay(d.Set.Snapshots[0].LUNs[0].Target.Name())
	m.Host.Fail("ShowGroup", errors.New("no"))
	m.Boot("boot4")
	if p, _ := m.Initialised(vss.CTX_ALL).GetSnapshotProperties(t.Context(), d.Set.Snapshots[1].ID); p.VolumeGroup != "" || !m.HasEvent("recovery.exposure-lost") {
		t.Errorf("%+v", p)
	}
	var es []catalog.Event
	_ = m.Catalog.View(func(t *catalog.Tx) (err error) { es, err = t.Events("", vss.GUIDNull, 100); return err })
	if !slices.ContainsFunc(es, func(e catalog.Event) bool {
		return e.Name == "recovery.exposure-lost" && strings.Contains(e.Object, "data_")
	}) {
		t.Errorf("%+v", es)
	}
}
