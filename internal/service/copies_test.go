package service_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

func arm(t testing.TB, spec string) (disarm func()) {
	t.Helper()
	disarm, err := failpoint.Arm(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(disarm)
	return disarm
}

func (m *machine) folder(name string) string {
	m.T.Helper()
	p := filepath.Join(m.Dir, name)
	if err := os.Mkdir(p, 0o755); err != nil {
		m.T.Fatal(err)
	}
	return p
}

// TestExpose is requester.md 2.5, ExposeSnapshot and UnexposeSnapshot.
func TestExpose(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	id := d.Set.Snapshots[0].ID
	const local = vss.ATTR_EXPOSED_LOCALLY
	full := m.folder("full")
	if err := os.WriteFile(filepath.Join(full, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := m.folder("empty")
	link := filepath.Join(m.Dir, "link")
	if err := os.Symlink(empty, link); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		id   vss.ID
		root string
		attr vss.Attributes
		name string
		want vss.HResult
	}{
		"unknown copy":   {vss.NewID(), "", local, empty, vss.VSS_E_OBJECT_NOT_FOUND},
		"no attribute":   {id, "", 0, empty, vss.E_INVALIDARG},
		"both":           {id, "", local | vss.ATTR_EXPOSED_REMOTELY, empty, vss.E_INVALIDARG},
		"path from root": {id, "x", local, empty, vss.E_INVALIDARG},
		"relative":       {id, "", local, "empty", vss.E_INVALIDARG},
		"no name":        {id, "", local, "", vss.E_INVALIDARG},
		"not there":      {id, "", local, filepath.Join(m.Dir, "no"), vss.E_INVALIDARG},
		"not empty":      {id, "", local, full, vss.E_INVALIDARG},
		"a file":         {id, "", local, filepath.Join(full, "f"), vss.E_INVALIDARG},
	} {
		got, err := bc.ExposeSnapshot(ctx, tt.id, tt.root, tt.attr, tt.name)
		if is(t, what, err, tt.want); got != "" {
			t.Errorf("%s: exposed at %q", what, got)
		}
	}
	is(t, "Unexpose of what is not exposed", bc.UnexposeSnapshot(ctx, id), vss.VSS_E_OBJECT_NOT_FOUND)
	is(t, "Unexpose of an unknown copy", bc.UnexposeSnapshot(ctx, vss.NewID()), vss.VSS_E_OBJECT_NOT_FOUND)

	m.Host.Fail("MountClone", &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "mount", Reason: "r", Remedy: "R"})
	_, err := bc.ExposeSnapshot(ctx, id, "", local, empty)
	is(t, "a mount that fails", err, vss.VSS_E_VOLUME_NOT_SUPPORTED)
	m.Host.Fail("MountClone", nil)
	if _, _, n := m.Count(); n != 0 {
		t.Errorf("%d intents", n)
	}

	got, err := bc.ExposeSnapshot(ctx, id, "", local, link+"/")
	if is(t, "Expose", err, vss.S_OK); got != empty {
		t.Errorf("exposed at %q", got)
	}
	p, _ := bc.GetSnapshotProperties(ctx, id)
	if p.ExposedName != empty || p.ExposedPath != "" || !p.Attributes.Has(local) || p.Attributes.Has(vss.ATTR_NOT_SURFACED) || !slices.Contains(m.Host.Mounts(), empty) {
		t.Errorf("%+v", p)
	}
	_, err = bc.ExposeSnapshot(ctx, id, "", local, m.folder("second"))
	is(t, "Expose again", err, vss.VSS_E_OBJECT_ALREADY_EXISTS)
	m.Host.Fail("Unmount", &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "unmount", Reason: "r", Remedy: "R"})
	is(t, "Unexpose in use", bc.UnexposeSnapshot(ctx, id), vss.VSS_E_VOLUME_IN_USE)
	m.Host.Fail("Unmount", nil)
	is(t, "Unexpose", bc.UnexposeSnapshot(ctx, id), vss.S_OK)
	p, _ = bc.GetSnapshotProperties(ctx, id)
	if p.ExposedName != "" || p.Attributes.Has(local) || !p.Attributes.Has(vss.ATTR_NOT_SURFACED) || len(m.Host.Mounts()) != 2 {
		t.Errorf("%+v, mounts %v", p, m.Host.Mounts())
	}

	auto := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.B)
	bc = m.Imported(auto, vss.VSS_S_ASYNC_FINISHED)
	_, err = bc.ExposeSnapshot(ctx, auto.Set.Snapshots[0].ID, "", local, empty)
	is(t, "an auto-release copy", err, vss.VSS_E_UNSUPPORTED_CONTEXT)
}

// TestDeleteOrder: unmount everything, detach, give the LUN back, show udev
// the name again.
func TestDeleteOrder(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	id := d.Set.Snapshots[0].ID
	if _, err := bc.ExposeSnapshot(ctx, id, "", vss.ATTR_EXPOSED_LOCALLY, m.folder("x")); err != nil {
		t.Fatal(err)
	}
	m.Journal.Reset()
	_, _, err := bc.DeleteSnapshots(ctx, id, vss.OBJECT_PROVIDER, false)
	is(t, "a provider", err, vss.E_INVALIDARG)
	_, _, err = bc.DeleteSnapshots(ctx, vss.NewID(), vss.OBJECT_SNAPSHOT, false)
	is(t, "an unknown copy", err, vss.VSS_E_OBJECT_NOT_FOUND)
	_, _, err = bc.DeleteSnapshots(ctx, vss.NewID(), vss.OBJECT_SNAPSHOT_SET, false)
	is(t, "an unknown set", err, vss.VSS_E_OBJECT_NOT_FOUND)
	n, failed, err := bc.DeleteSnapshots(ctx, id, vss.OBJECT_SNAPSHOT, false)
	if is(t, "Delete", err, vss.S_OK); n != 1 || !failed.IsNull() {
		t.Errorf("%d, %v", n, failed)
	}
	want := []string{"Unmount", "Unmount", "Detach", "OnLUNEmpty " + d.Set.Snapshots[0].LUNs[0].Target.Name(), "Unhide 1"}
	if got := m.Journal.Calls(); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	if c, l, i := m.Count(); c+l+i != 0 {
		t.Errorf("%d copies, %d LUNs, %d intents left", c, l, i)
	}
	_ = m.Catalog.View(func(tx *catalog.Tx) error {
		if s, _, err := tx.Set(catalog.Imported, d.Set.ID); err != nil || s.State != catalog.SetDeleted {
			t.Errorf("set %+v, %v", s, err)
		}
		return nil
	})
	_, err = bc.GetSnapshotProperties(ctx, id)
	is(t, "properties after", err, vss.VSS_E_OBJECT_NOT_FOUND)
	_, _, err = bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
	is(t, "again", err, vss.VSS_E_OBJECT_NOT_FOUND)
	// A set is imported only once, also when its copies are gone.
	op, err := m.Loaded(d).ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := op.Wait(ctx); code != vss.VSS_E_BAD_STATE {
		t.Errorf("import again: %v", code)
	}
}

// TestDeleteFails: in sequence, up to the first failure; the record stays, says
// what is still there, and the deletion can be repeated.
func TestDeleteFails(t *testing.T) {
	broken := errors.New("broken")
	for name, spoil := range map[string]func(m *machine, err error){
		"unmount": func(m *machine, err error) { m.Host.Fail("Unmount", err) },
		"detach":  func(m *machine, err error) { m.Host.Fail("Detach", err) },
		"empty":   func(m *machine, err error) { m.B.Fail("OnLUNEmpty", err) },
		"unhide":  func(m *machine, err error) { m.Host.Fail("Unhide", err) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			ctx := t.Context()
			d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.B, m.B)
			bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
			first := d.Set.Snapshots[0].ID
			if _, err := bc.ExposeSnapshot(ctx, first, "", vss.ATTR_EXPOSED_LOCALLY, m.folder("x")); err != nil {
				t.Fatal(err)
			}
			spoil(m, broken)
			n, failed, err := bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
			if err == nil || n != 0 || failed.IsNull() {
				t.Fatalf("%d, %v, %v", n, failed, err)
			}
			if c, l, i := m.Count(); c != 2 || l != 2 || i != 0 || !m.HasEvent("delete.failed") {
				t.Errorf("%d copies, %d LUNs, %d intents", c, l, i)
			}
			if p, err := bc.GetSnapshotProperties(ctx, failed); err != nil || (p.ExposedName != "" && !slices.Contains(m.Host.Mounts(), p.ExposedName)) ||
				(p.DeviceObject != "" && !slices.Contains(m.Host.Mounts(), p.DeviceObject)) {
				t.Errorf("the record names mounts that are gone: %+v, %v, mounts %v", p, err, m.Host.Mounts())
			}
			spoil(m, nil)
			n, _, err = bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
			if is(t, "repeated", err, vss.S_OK); n != 2 || len(m.Host.Attached())+len(m.Host.Mounts())+len(m.B.Names())+len(m.Host.Hidden()) != 0 {
				t.Errorf("%d deleted; attached %v, mounts %v, hidden %v", n, m.Host.Attached(), m.Host.Mounts(), m.Host.Hidden())
			}
		})
	}
}

// TestSharedLUN: it goes with the last copy on it.
func TestSharedLUN(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.A)
	servicetest.Share(d)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	_, _, err := bc.DeleteSnapshots(ctx, d.Set.Snapshots[0].ID, vss.OBJECT_SNAPSHOT, false)
	if is(t, "the first", err, vss.S_OK); m.Journal.Count("OnLUNEmpty")+m.Journal.Count("Detach") != 0 {
		t.Errorf("calls %v", m.Journal.Calls())
	}
	if p, err := bc.GetSnapshotProperties(ctx, d.Set.Snapshots[1].ID); err != nil || !slices.Contains(m.Host.Mounts(), p.DeviceObject) {
		t.Errorf("the other: %+v, %v", p, err)
	}
	_, _, err = bc.DeleteSnapshots(ctx, d.Set.Snapshots[1].ID, vss.OBJECT_SNAPSHOT, false)
	if is(t, "the last", err, vss.S_OK); m.Journal.Count("OnLUNEmpty") != 1 || m.Journal.Count("Detach") != 1 || len(m.Host.Hidden()) != 0 {
		t.Errorf("calls %v", m.Journal.Calls())
	}
	// Two at once: one of them is the last.
	d = servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.A)
	servicetest.Share(d)
	m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	m.Journal.Reset()
	errs := make(chan error, 2)
	for _, s := range d.Set.Snapshots {
		go func() {
			_, err := m.Keeper.Delete(ctx, vss.NewID(), s.ID, vss.OBJECT_SNAPSHOT, false)
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil || m.Journal.Count("OnLUNEmpty") != 1 {
		t.Errorf("%v, calls %v", err, m.Journal.Calls())
	}
}

// created puts a set on record as the machine that created it has it.
func (m *machine) created(d *document.Document) {
	m.T.Helper()
	err := m.Catalog.Update(m.T.Context(), func(t *catalog.Tx) error {
		return t.PutSet(catalog.Set{ID: d.Set.ID, Role: catalog.Created, State: catalog.SetCreated, Description: d.Set})
	})
	if err != nil {
		m.T.Fatal(err)
	}
}

func (m *machine) createdState(id vss.ID) (s catalog.SetState) {
	_ = m.Catalog.View(func(t *catalog.Tx) error {
		set, _, err := t.Set(catalog.Created, id)
		s = set.State
		return err
	})
	return s
}

// TestDeleteCreated: a transportable set nobody imported is deleted where it
// was created.
func TestDeleteCreated(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	bc := m.Initialised(vss.CTX_ALL)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B, m.A)
	d.Set.Snapshots[2].LUNs[0].Target = d.Set.Snapshots[0].LUNs[0].Target // a shared LUN
	m.created(d)
	m.B.Fail("OnLUNEmpty", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "OnLUNEmpty", Reason: "imported by b", Remedy: "Delete it there"})
	n, failed, err := bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
	if is(t, "imported elsewhere", err, vss.VSS_E_PROVIDER_VETO); n != 1 || failed != d.Set.Snapshots[1].ID || m.createdState(d.Set.ID) != catalog.SetCreated {
		t.Errorf("%d, %v, %v", n, failed, m.createdState(d.Set.ID))
	}
	m.B.Fail("OnLUNEmpty", nil)
	_, _, err = bc.DeleteSnapshots(ctx, d.Set.Snapshots[0].ID, vss.OBJECT_SNAPSHOT, false)
	is(t, "a copy that is not here", err, vss.VSS_E_OBJECT_NOT_FOUND)
	n, failed, err = bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
	if is(t, "Delete", err, vss.S_OK); n != 3 || !failed.IsNull() || m.createdState(d.Set.ID) != catalog.SetDeleted || m.Journal.Count("OnLUNEmpty") != 3 {
		t.Errorf("%d, %v, %v, %v", n, failed, m.createdState(d.Set.ID), m.Journal.Calls())
	}
	_, _, err = bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
	is(t, "again", err, vss.VSS_E_OBJECT_NOT_FOUND)

	// What an import here left is cleaned up first.
	d = servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	m.created(d)
	m.A.Change(d.Set.Snapshots[0].LUNs[0].Target.Name(), func(l *servicetest.LUN) { l.Generation++ })
	m.Imported(d, vss.VSS_E_NO_SNAPSHOTS_IMPORTED)
	_, _, err = bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
	is(t, "a LUN is left here", err, vss.VSS_E_PROVIDER_VETO)
	if _, err := bc.CleanupImport(ctx, d.Set.ID, 0); err != nil {
		t.Fatal(err)
	}
	_, _, err = bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
	is(t, "after the clean-up", err, vss.S_OK)
}
