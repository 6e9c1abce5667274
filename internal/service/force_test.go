package service_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

// busy makes a machine whose mounts and devices are all in use.
func (m *machine) busy() {
	inUse := &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "test", Object: "all", Reason: "somebody reads it", Remedy: "Wait"}
	m.Host.Fail("Unmount", inUse)
	m.Host.Fail("Detach", inUse)
}

func (m *machine) idle() { m.Host.Fail("Unmount", nil); m.Host.Fail("Detach", nil) }

func lunOf(d *document.Document, i int) string { return d.Set.Snapshots[i].LUNs[0].Target.Name() }

// TestDeleteByForce: without it a copy in use stays as it is; with it it is taken
// from its users, in the same order, and the storage system destroys its LUN.
func TestDeleteByForce(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	id := d.Set.Snapshots[0].ID
	if _, err := bc.ExposeSnapshot(ctx, id, "", vss.ATTR_EXPOSED_LOCALLY, m.folder("x")); err != nil {
		t.Fatal(err)
	}
	m.busy()
	m.Journal.Reset()
	n, failed, err := bc.DeleteSnapshots(ctx, id, vss.OBJECT_SNAPSHOT, false)
	if is(t, "in use", err, vss.VSS_E_VOLUME_IN_USE); n != 0 || failed != id || len(m.Journal.Calls()) != 0 || len(m.Host.Mounts()) != 2 || len(m.Host.Attached()) != 1 {
		t.Errorf("%d, %v, calls %v, mounts %v", n, failed, m.Journal.Calls(), m.Host.Mounts())
	}
	n, failed, err = bc.DeleteSnapshots(ctx, id, vss.OBJECT_SNAPSHOT, true)
	if is(t, "by force", err, vss.S_OK); n != 1 || !failed.IsNull() {
		t.Errorf("%d, %v", n, failed)
	}
	want := []string{"UnmountLazily", "UnmountLazily", "Abandon", "OnLUNEmptyForced " + lunOf(d, 0), "Unhide 1"}
	if got := m.Journal.Calls(); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	if c, l, i := m.Count(); c+l+i+len(m.A.Names()) != 0 {
		t.Errorf("%d copies, %d LUNs, %d intents left; array %v", c, l, i, m.A.Names())
	}
	_, _, err = bc.DeleteSnapshots(ctx, id, vss.OBJECT_SNAPSHOT, true)
	is(t, "again", err, vss.VSS_E_OBJECT_NOT_FOUND)
}

// TestForceOfNothingInUse does what deletion does, and asks the storage system
// the stronger question.
func TestForceOfNothingInUse(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	m.Journal.Reset()
	_, _, err := bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, true)
	is(t, "by force", err, vss.S_OK)
	if got, want := m.Journal.Calls(), []string{"Unmount", "Detach", "OnLUNEmptyForced " + lunOf(d, 0), "Unhide 1"}; !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

// TestForceOfAShare: it is withdrawn, and its mount left to who is in it.
func TestForceOfAShare(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	id := d.Set.Snapshots[0].ID
	if _, err := bc.ExposeSnapshot(ctx, id, "", vss.ATTR_EXPOSED_REMOTELY, "it"); err != nil {
		t.Fatal(err)
	}
	m.busy()
	_, _, err := bc.DeleteSnapshots(ctx, id, vss.OBJECT_SNAPSHOT, false)
	if is(t, "in use", err, vss.VSS_E_VOLUME_IN_USE); len(m.Shares.Published()) != 1 {
		t.Errorf("published %v", m.Shares.Published())
	}
	_, _, err = bc.DeleteSnapshots(ctx, id, vss.OBJECT_SNAPSHOT, true)
	if is(t, "by force", err, vss.S_OK); len(m.Shares.Published())+len(m.Host.Mounts())+len(m.Host.Attached()) != 0 {
		t.Errorf("published %v, mounts %v", m.Shares.Published(), m.Host.Mounts())
	}
}

// TestForceStopsAtTheFirstFailure: as without it, in sequence, leaving the rest.
func TestForceStopsAtTheFirstFailure(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B, m.A, m.B)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	m.busy()
	m.B.Fail("OnLUNEmptyForced", &vss.Error{Code: vss.E_ACCESSDENIED, Op: "delete LUN", Object: "it", Reason: "another host's", Remedy: "Ask"})
	n, failed, err := bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, true)
	c, _, i := m.Count()
	if is(t, "refused", err, vss.E_ACCESSDENIED); failed.IsNull() || c != 4-n || i != 0 || n > 2 {
		t.Errorf("%d deleted, %v failed, %d copies left, %d intents", n, failed, c, i)
	}
	if _, err := bc.GetSnapshotProperties(ctx, failed); err != nil {
		t.Error(err)
	}
	m.B.Fail("OnLUNEmptyForced", errors.New("a code the contract does not know"))
	_, _, err = bc.DeleteSnapshots(ctx, failed, vss.OBJECT_SNAPSHOT, true)
	if is(t, "unlisted", err, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR); !strings.Contains(err.Error(), "OnLUNEmptyForced") {
		t.Error(err)
	}
	m.B.Fail("OnLUNEmptyForced", nil)
	rest, failed, err := bc.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, true)
	if is(t, "repeated", err, vss.S_OK); n+rest != 4 || !failed.IsNull() || len(m.Host.Hidden()) != 0 {
		t.Errorf("%d and %d, %v", n, rest, failed)
	}
}

// TestForceIsRemembered: a deletion by force that was broken off is finished by
// force.
func TestForceIsRemembered(t *testing.T) {
	for _, point := range []string{"delete.after-intent", "delete.after-detach", "delete.after-lun-empty"} {
		t.Run(point, func(t *testing.T) {
			m := newMachine(t)
			d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
			bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
			m.busy()
			m.cut(point, func() { _, _, _ = bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, true) })
			m.Boot("boot1")
			if c, l, i := m.Count(); c+l+i+len(m.Host.Mounts())+len(m.Host.Attached())+len(m.A.Names()) != 0 || !m.HasEvent("recovery.delete-finished") {
				t.Errorf("%d copies, %d LUNs, %d intents left; mounts %v, attached %v", c, l, i, m.Host.Mounts(), m.Host.Attached())
			}
		})
	}
	// Without force it is not finished by force.
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	m.busy()
	m.cut("delete.after-intent", func() { _, _, _ = bc.DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false) })
	m.Boot("boot1")
	if c, _, i := m.Count(); c != 1 || i != 1 || m.Journal.Count("UnmountLazily")+m.Journal.Count("Abandon") != 0 {
		t.Errorf("%d copies, %d intents, calls %v", c, i, m.Journal.Calls())
	}
	m.idle()
}

// TestForceWhereCreated: of a set nobody imported the LUNs are destroyed, too.
func TestForceWhereCreated(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B)
	m.created(d)
	n, _, err := m.Initialised(vss.CTX_ALL).DeleteSnapshots(t.Context(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, true)
	if is(t, "by force", err, vss.S_OK); n != 2 || m.Journal.Count("OnLUNEmptyForced") != 2 {
		t.Errorf("%d, calls %v", n, m.Journal.Calls())
	}
}
