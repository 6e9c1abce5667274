package service_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

// TestDeletionIsFinished: broken off anywhere, it is done at the next start.
func TestDeletionIsFinished(t *testing.T) {
	for _, point := range []string{"delete.after-intent", "delete.after-detach", "delete.after-lun-empty"} {
		t.Run(point, func(t *testing.T) {
			m := newMachine(t)
			d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
			bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
			m.cut(point, func() {
				_, _, err := bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
				if err == nil {
					t.Error("no error")
				}
			})
			m.Boot("boot1")
			if c, l, i := m.Count(); c+l+i != 0 || len(m.A.Names())+len(m.Host.Attached())+len(m.Host.Mounts())+len(m.Host.Hidden()) != 0 {
				t.Errorf("%d copies, %d LUNs, %d intents left", c, l, i)
			}
			if !m.HasEvent("recovery.delete-finished") {
				t.Error("no event")
			}
		})
	}
}

// cut lets a job be broken off at a point, as if the service had died there:
// whatever the service would do after is not done. It is stopped then.
func (m *machine) cut(point string, job func()) {
	m.T.Helper()
	disarm := arm(m.T, point+"=error")
	job()
	disarm()
	if _, _, n := m.Count(); n == 0 {
		m.T.Fatalf("%s: no intent is open", point)
	}
	m.Stop()
}

// TestDeletionThatCannotBeFinished is tried again at every start.
func TestDeletionThatCannotBeFinished(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	m.cut("delete.after-detach", func() { _, _, _ = bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false) })
	m.A.Fail("OnLUNEmpty", errors.New("array down"))
	m.Boot("boot1")
	if _, _, n := m.Count(); n != 1 || !m.HasEvent("recovery.failed") {
		t.Errorf("%d intents", n)
	}
	m.Stop()
	m.A.Fail("OnLUNEmpty", nil)
	m.Boot("boot1")
	if c, l, i := m.Count(); c+l+i != 0 {
		t.Errorf("%d copies, %d LUNs, %d intents left", c, l, i)
	}
}

// TestCreatedDeletionIsFinished is the same for a set deleted by its creator.
func TestCreatedDeletionIsFinished(t *testing.T) {
	for _, point := range []string{"delete-created.after-intent", "delete-created.after-lun-empty"} {
		m := newMachine(t)
		d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B)
		m.created(d)
		bc := m.Initialised(vss.CTX_ALL)
		m.cut(point, func() { _, _, _ = bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false) })
		m.Boot("boot1")
		if _, _, n := m.Count(); n != 0 || m.createdState(d.Set.ID) != catalog.SetDeleted || len(m.A.Names())+len(m.B.Names()) != 0 {
			t.Errorf("%s: %d intents, state %s", point, n, m.createdState(d.Set.ID))
		}
	}
}

// TestImportBrokenOff: the service dies amid an import. Its LUNs stay as they
// are and are listed, until the requester cleans up.
func TestImportBrokenOff(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B)
	// As the catalogue and the host are when the service dies after LocateLUNs.
	m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	err := m.Catalog.Update(t.Context(), func(tx *catalog.Tx) error {
		s, _, err := tx.Set(catalog.Imported, d.Set.ID)
		s.State, s.Copies = catalog.SetImporting, nil
		err = errors.Join(err, tx.PutSet(s))
		for _, sn := range d.Set.Snapshots {
			l, _, lerr := tx.LUN(sn.LUNs[0].Target.Name())
			l.State = catalog.LUNUnmasking
			err = errors.Join(err, lerr, tx.PutLUN(l), tx.DeleteCopy(sn.ID))
		}
		_, oerr := tx.OpenIntent(catalog.Intent{Kind: "import", Role: catalog.Imported, SetID: d.Set.ID, BootID: "boot1"})
		return errors.Join(err, oerr)
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Stop()
	m.Journal.Reset()
	attached, hidden := m.Host.Attached(), m.Host.Hidden()
	m.Boot("boot1")
	if c := m.Journal.Calls(); len(c) != 0 || !slices.Equal(attached, m.Host.Attached()) || !slices.Equal(hidden, m.Host.Hidden()) {
		t.Errorf("recovery touched the LUNs: %v", c)
	}
	_ = m.Catalog.View(func(tx *catalog.Tx) error {
		ls, err := tx.LUNs()
		for _, l := range ls {
			if l.State != catalog.LUNOrphaned || l.Reason == "" {
				t.Errorf("%+v", l)
			}
		}
		s, _, serr := tx.Set(catalog.Imported, d.Set.ID)
		if len(ls) != 2 || s.State != catalog.SetImportFailed || s.Failure == nil {
			t.Errorf("%d LUNs, set %+v", len(ls), s)
		}
		return errors.Join(err, serr)
	})
	if _, _, n := m.Count(); n != 0 || !m.HasEvent("recovery.import-interrupted") {
		t.Errorf("%d intents", n)
	}
	done, err := m.Initialised(vss.CTX_ALL).CleanupImport(t.Context(), d.Set.ID, 0)
	if err != nil || len(done) != 2 || len(m.Host.Attached())+len(m.Host.Hidden()) != 0 {
		t.Errorf("%v, %v", done, err)
	}
}

// TestPersistentCopiesComeBack: after a restart they are as they were, after a
// reboot they are attached and mounted anew, hidden first.
func TestPersistentCopiesComeBack(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	id := d.Set.Snapshots[0].ID
	x := m.folder("x")
	if _, err := bc.ExposeSnapshot(ctx, id, "", vss.ATTR_EXPOSED_LOCALLY, x); err != nil {
		t.Fatal(err)
	}
	before, _ := bc.GetSnapshotProperties(ctx, id)
	m.Stop()
	m.Host.Reboot()
	m.Journal.Reset()
	m.Boot("boot2")
	after, err := m.Initialised(vss.CTX_ALL).GetSnapshotProperties(ctx, id)
	if err != nil || after.ExposedName != x || after.DeviceObject != before.DeviceObject || after.BlockDevice == before.BlockDevice {
		t.Errorf("before %+v\nafter %+v, %v", before, after, err)
	}
	if m.Journal.Index("Hide 2") != 0 || m.Journal.Count("Rescan") != 1 || len(m.Host.Mounts()) != 3 || len(m.Host.Exposed()) != 0 {
		t.Errorf("calls %v, mounts %v", m.Journal.Calls(), m.Host.Mounts())
	}
	// A LUN that does not come back is said, and the other copy is there.
	m.Stop()
	m.Host.Reboot()
	m.Host.Delay(d.Set.Snapshots[0].LUNs[0].Target.Name(), servicetest.Never)
	m.Boot("boot3")
	if !m.HasEvent("recovery.copy-missing") || len(m.Host.Attached()) != 1 {
		t.Errorf("attached %v", m.Host.Attached())
	}
	if c, _, _ := m.Count(); c != 2 {
		t.Errorf("%d copies on record", c)
	}
}

// TestAutoReleaseAfterDeath: the requester is gone, so are its copies.
func TestAutoReleaseAfterDeath(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.A)
	m.A.Fail("OnLUNEmpty", errors.New("array down")) // so that stopping cannot delete it
	m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	m.Stop()
	m.A.Fail("OnLUNEmpty", nil)
	m.Host.Reboot()
	m.Boot("boot2")
	if c, l, i := m.Count(); c+l+i != 0 || len(m.A.Names()) != 0 || !m.HasEvent("recovery.auto-released") {
		t.Errorf("%d copies, %d LUNs, %d intents left", c, l, i)
	}
}

// TestExposureIsTakenBack: mounted, but not on record.
func TestExposureIsTakenBack(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	x := m.folder("x")
	m.cut("expose.after-mount", func() {
		if _, err := bc.ExposeSnapshot(t.Context(), d.Set.Snapshots[0].ID, "", vss.ATTR_EXPOSED_LOCALLY, x); err == nil {
			t.Error("no error")
		}
	})
	if !slices.Contains(m.Host.Mounts(), x) {
		t.Fatal("the test mounted nothing")
	}
	m.Boot("boot1")
	if slices.Contains(m.Host.Mounts(), x) {
		t.Error("the mount stays")
	}
	if _, _, n := m.Count(); n != 0 {
		t.Errorf("%d intents", n)
	}
	if _, err := os.Stat(x); err != nil {
		t.Error(err)
	}
}

// TestCleanupBrokenOff: what is not clean stays listed.
func TestCleanupBrokenOff(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	m.A.Change(d.Set.Snapshots[0].LUNs[0].Target.Name(), func(l *servicetest.LUN) { l.Generation++ })
	bc := m.Imported(d, vss.VSS_E_NO_SNAPSHOTS_IMPORTED)
	m.cut("cleanup.after-intent", func() {
		if _, err := bc.CleanupImport(t.Context(), d.Set.ID, 0); err == nil {
			t.Error("no error")
		}
	})
	m.Boot("boot1")
	if _, l, i := m.Count(); l != 1 || i != 0 || !m.HasEvent("recovery.cleanup-interrupted") {
		t.Errorf("%d LUNs, %d intents", l, i)
	}
	if _, err := m.Initialised(vss.CTX_ALL).CleanupImport(t.Context(), d.Set.ID, 0); err != nil {
		t.Error(err)
	}
}
