package recovery_test

import (
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/vss"
)

// spanning imports a set of two, and makes its copies one on two LUNs.
func (w *world) spanning() (id vss.ID, luns []string) {
	w.t.Helper()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, w.a, w.a)
	if out := w.im.Run(w.t.Context(), vss.NewID(), d, timeline.New(), timeline.NewProgress()); out.Code != vss.VSS_S_ASYNC_FINISHED {
		w.t.Fatal(out.Err)
	}
	id = d.Set.Snapshots[0].ID
	w.must(w.cat.Update(w.t.Context(), func(t *catalog.Tx) error {
		c, _, err := t.Copy(id)
		if err != nil {
			return err
		}
		second, _, err := t.Copy(d.Set.Snapshots[1].ID)
		if err != nil {
			return err
		}
		if err := t.DeleteCopy(second.Prop.SnapshotID); err != nil {
			return err
		}
		c.Attachments = append(c.Attachments, second.Attachments...)
		return t.PutCopy(c)
	}))
	return id, []string{target(d, 0), target(d, 1)}
}

// TestPartOfACopyComesBack: what came of it is on no record, and goes with the
// copy all the same, before its storage system is told that it is empty.
func TestPartOfACopyComesBack(t *testing.T) {
	for _, missing := range []int{0, 1} {
		w := newWorld(t)
		id, luns := w.spanning()
		w.host.Reboot()
		w.a.Change(luns[missing], func(l *servicetest.LUN) { l.Unmasked = false })
		w.boot("boot2")
		w.rec.Run(t.Context(), nil)
		if got := w.host.Attached(); !slices.Equal(got, []string{luns[1-missing]}) || w.events("recovery.copy-missing") != 1 {
			t.Fatalf("attached %v", got)
		}
		// In use, it stays.
		w.host.Fail("Detach", &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "detach", Object: luns[1-missing], Reason: "it is read", Remedy: "Wait"})
		w.journal.Reset()
		n, err := w.keeper.Delete(t.Context(), vss.NewID(), id, vss.OBJECT_SNAPSHOT, false)
		if vss.CodeOf(err) != vss.VSS_E_VOLUME_IN_USE || n.Count != 0 || n.FirstFailed != id || w.journal.Count("OnLUNEmpty") != 0 {
			t.Errorf("%+v, %v, calls %v", n, err, w.journal.Calls())
		}
		w.host.Fail("Detach", nil)
		n, err = w.keeper.Delete(t.Context(), vss.NewID(), id, vss.OBJECT_SNAPSHOT, false)
		if err != nil || n.Count != 1 {
			t.Errorf("%+v, %v", n, err)
		}
		if len(w.host.Attached())+len(w.host.Hidden())+len(w.a.Names()) != 0 {
			t.Errorf("attached %v, hidden %v, array %v", w.host.Attached(), w.host.Hidden(), w.a.Names())
		}
		if d := w.journal.Index("Detach"); d < 0 || d > w.journal.Index("OnLUNEmpty") {
			t.Errorf("calls %v", w.journal.Calls())
		}
	}
}

// TestPartOfACopyIsMended: what came is used when the rest comes.
func TestPartOfACopyIsMended(t *testing.T) {
	w := newWorld(t)
	id, luns := w.spanning()
	w.host.Reboot()
	w.a.Change(luns[1], func(l *servicetest.LUN) { l.Unmasked = false })
	w.boot("boot2")
	w.rec.Run(t.Context(), nil)
	first, _ := w.host.Enumerate(t.Context())
	w.a.Change(luns[1], func(l *servicetest.LUN) { l.Unmasked = true })
	w.boot("boot2")
	w.rec.Run(t.Context(), nil)
	c, err := w.keeper.Get("test", id)
	if err != nil || c.BootID != "boot2" || len(first) != 1 || c.Attachments[0].DiskSeq != first[0].DiskSeq || len(w.host.Attached()) != 2 {
		t.Errorf("%+v, %v; first %v", c, err, first)
	}
	if _, err := w.keeper.Delete(t.Context(), vss.NewID(), id, vss.OBJECT_SNAPSHOT, false); err != nil || len(w.host.Attached()) != 0 {
		t.Errorf("%v, attached %v", err, w.host.Attached())
	}
}
