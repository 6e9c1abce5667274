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
			d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.a)
			bc := m.imported(d, vss.VSS_S_ASYNC_FINISHED)
			m.cut(point, func() {
				_, _, err := bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
				if err == nil {
					t.Error("no error")
				}
			})
			m.boot("boot1")
			if c, l, i := m.count(); c+l+i != 0 || len(m.a.Names())+len(m.host.Attached())+len(m.host.Mounts())+len(m.host.Hidden()) != 0 {
				t.Errorf("%d copies, %d LUNs, %d intents left", c, l, i)
			}
			if !m.hasEvent("recovery.delete-finished") {
				t.Error("no event")
			}
		})
	}
}

// cut lets a job be broken off at a point, as if the service had died there:
// whatever the service would do after is not done. It is stopped then.
func (m *machine) cut(point string, job func()) {
	m.t.Helper()
	disarm := arm(m.t, point+"=error")
	job()
	disarm()
	if _, _, n := m.count(); n == 0 {
		m.t.Fatalf("%s: no intent is open", point)
	}
	m.stop()
}

// TestDeletionThatCannotBeFinished is tried again at every start.
func TestDeletionThatCannotBeFinished(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.a)
	bc := m.imported(d, vss.VSS_S_ASYNC_FINISHED)
	m.cut("delete.after-detach", func() { _, _, _ = bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false) })
	m.a.Fail("OnLUNEmpty", errors.New("array down"))
	m.boot("boot1")
	if _, _, n := m.count(); n != 1 || !m.hasEvent("recovery.failed") {
		t.Errorf("%d intents", n)
	}
	m.stop()
	m.a.Fail("OnLUNEmpty", nil)
	m.boot("boot1")
	if c, l, i := m.count(); c+l+i != 0 {
		t.Errorf("%d copies, %d LUNs, %d intents left", c, l, i)
	}
}

// TestCreatedDeletionIsFinished is the same for a set deleted by its creator.
func TestCreatedDeletionIsFinished(t *testing.T) {
	for _, point := range []string{"delete-created.after-intent", "delete-created.after-lun-empty"} {
		m := newMachine(t)
		d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.a, m.b)
		m.created(d)
		bc := m.initialised(vss.CTX_ALL)
		m.cut(point, func() { _, _, _ = bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false) })
		m.boot("boot1")
		if _, _, n := m.count(); n != 0 || m.createdState(d.Set.ID) != catalog.SetDeleted || len(m.a.Names())+len(m.b.Names()) != 0 {
			t.Errorf("%s: %d intents, state %s", point, n, m.createdState(d.Set.ID))
		}
	}
}

// TestImportBrokenOff: the service dies amid an import. Its LUNs stay as they
// are and are listed, until the requester cleans up.
func TestImportBrokenOff(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.a, m.b)
	// As the catalogue and the host are when the service dies after LocateLUNs.
	m.imported(d, vss.VSS_S_ASYNC_FINISHED)
	err := m.cat.Update(t.Context(), func(tx *catalog.Tx) error {
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
	m.stop()
	m.journal.Reset()
	attached, hidden := m.host.Attached(), m.host.Hidden()
	m.boot("boot1")
	if c := m.journal.Calls(); len(c) != 0 || !slices.Equal(attached, m.host.Attached()) || !slices.Equal(hidden, m.host.Hidden()) {
		t.Errorf("recovery touched the LUNs: %v", c)
	}
	_ = m.cat.View(func(tx *catalog.Tx) error {
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
	if _, _, n := m.count(); n != 0 || !m.hasEvent("recovery.import-interrupted") {
		t.Errorf("%d intents", n)
	}
	done, err := m.initialised(vss.CTX_ALL).CleanupImport(t.Context(), d.Set.ID, 0)
	if err != nil || len(done) != 2 || len(m.host.Attached())+len(m.host.Hidden()) != 0 {
		t.Errorf("%v, %v", done, err)
	}
}

// TestPersistentCopiesComeBack: after a restart they are as they were, after a
// reboot they are attached and mounted anew, hidden first.
func TestPersistentCopiesComeBack(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.a, m.b)
	bc := m.imported(d, vss.VSS_S_ASYNC_FINISHED)
	id := d.Set.Snapshots[0].ID
	x := m.folder("x")
	if _, err := bc.ExposeSnapshot(ctx, id, "", vss.ATTR_EXPOSED_LOCALLY, x); err != nil {
		t.Fatal(err)
	}
	before, _ := bc.GetSnapshotProperties(ctx, id)
	m.stop()
	m.host.Reboot()
	m.journal.Reset()
	m.boot("boot2")
	after, err := m.initialised(vss.CTX_ALL).GetSnapshotProperties(ctx, id)
	if err != nil || after.ExposedName != x || after.DeviceObject != before.DeviceObject || after.BlockDevice == before.BlockDevice {
		t.Errorf("before %+v\nafter %+v, %v", before, after, err)
	}
	if m.journal.Index("Hide 2") != 0 || m.journal.Count("Rescan") != 1 || len(m.host.Mounts()) != 3 || len(m.host.Exposed()) != 0 {
		t.Errorf("calls %v, mounts %v", m.journal.Calls(), m.host.Mounts())
	}
	// A LUN that does not come back is said, and the other copy is there.
	m.stop()
	m.host.Reboot()
	m.host.Delay(d.Set.Snapshots[0].LUNs[0].Target.Name(), servicetest.Never)
	m.boot("boot3")
	if !m.hasEvent("recovery.copy-missing") || len(m.host.Attached()) != 1 {
		t.Errorf("attached %v", m.host.Attached())
	}
	if c, _, _ := m.count(); c != 2 {
		t.Errorf("%d copies on record", c)
	}
}

// TestAutoReleaseAfterDeath: the requester is gone, so are its copies.
func TestAutoReleaseAfterDeath(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.a)
	m.a.Fail("OnLUNEmpty", errors.New("array down")) // so that stopping cannot delete it
	m.imported(d, vss.VSS_S_ASYNC_FINISHED)
	m.stop()
	m.a.Fail("OnLUNEmpty", nil)
	m.host.Reboot()
	m.boot("boot2")
	if c, l, i := m.count(); c+l+i != 0 || len(m.a.Names()) != 0 || !m.hasEvent("recovery.auto-released") {
		t.Errorf("%d copies, %d LUNs, %d intents left", c, l, i)
	}
}

// TestExposureIsTakenBack: mounted, but not on record.
func TestExposureIsTakenBack(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.a)
	bc := m.imported(d, vss.VSS_S_ASYNC_FINISHED)
	x := m.folder("x")
	m.cut("expose.after-mount", func() {
		if _, err := bc.ExposeSnapshot(t.Context(), d.Set.Snapshots[0].ID, "", vss.ATTR_EXPOSED_LOCALLY, x); err == nil {
			t.Error("no error")
		}
	})
	if !slices.Contains(m.host.Mounts(), x) {
		t.Fatal("the test mounted nothing")
	}
	m.boot("boot1")
	if slices.Contains(m.host.Mounts(), x) {
		t.Error("the mount stays")
	}
	if _, _, n := m.count(); n != 0 {
		t.Errorf("%d intents", n)
	}
	if _, err := os.Stat(x); err != nil {
		t.Error(err)
	}
}

// TestCleanupBrokenOff: what is not clean stays listed.
func TestCleanupBrokenOff(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.a)
	m.a.Change(d.Set.Snapshots[0].LUNs[0].Target.Name(), func(l *servicetest.LUN) { l.Generation++ })
	bc := m.imported(d, vss.VSS_E_NO_SNAPSHOTS_IMPORTED)
	m.cut("cleanup.after-intent", func() {
		if _, err := bc.CleanupImport(t.Context(), d.Set.ID, 0); err == nil {
			t.Error("no error")
		}
	})
	m.boot("boot1")
	if _, l, i := m.count(); l != 1 || i != 0 || !m.hasEvent("recovery.cleanup-interrupted") {
		t.Errorf("%d LUNs, %d intents", l, i)
	}
	if _, err := m.initialised(vss.CTX_ALL).CleanupImport(t.Context(), d.Set.ID, 0); err != nil {
		t.Error(err)
	}
}
