package recovery_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/catalog/catalogtest"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/vss"
)

// TestManyCopiesMissing: the first have events of their own, and say briefly
// why; the rest has one, so that the event log keeps what it held. A copy that
// is there is back all the same, with its mount.
func TestManyCopiesMissing(t *testing.T) {
	w := newWorld(t)
	d := w.imported()
	w.must(catalogtest.Fill(t.Context(), w.cat, 0, 300, 10))
	w.boot("boot2")
	w.host.Reboot()
	w.rec.Run(t.Context(), nil)

	var events []catalog.Event
	w.must(w.cat.View(func(tx *catalog.Tx) error {
		es, err := tx.Events("", vss.GUIDNull, 10000)
		for _, e := range es {
			if e.Name == "recovery.copy-missing" {
				events = append(events, e)
			}
		}
		return err
	}))
	if len(events) != 21 {
		t.Fatalf("%d events", len(events))
	}
	if m := events[0].Message; !strings.HasPrefix(m, "1480 more ") || events[0].Level != "error" {
		t.Errorf("the rest: %+v", events[0])
	}
	for _, e := range events[1:] {
		if e.Object == "" || e.SetID.IsNull() || e.Failure == nil || e.Failure.Remedy == "" || len(e.Failure.Reason) > 2000 {
			t.Errorf("%+v", e)
		}
	}
	for _, s := range d.Set.Snapshots {
		c, err := w.keeper.Get("test", s.ID)
		if err != nil || c.BootID != "boot2" || c.Prop.DeviceObject != w.im.DeviceObject(s.ID) {
			t.Errorf("a copy that is there: %+v, %v", c, err)
		}
	}
	if len(w.host.Mounts()) != len(d.Set.Snapshots) {
		t.Errorf("mounts %v", w.host.Mounts())
	}
}

// TestVolumesAfterReboot: devices that were made of LUNs are made again, and the
// record says where they are now.
func TestVolumesAfterReboot(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	servicetest.Share(d)
	if out := w.im.Run(t.Context(), vss.NewID(), d, timeline.New(), timeline.NewProgress()); out.Code != vss.VSS_S_ASYNC_FINISHED {
		t.Fatal(out.Err)
	}
	before := w.host.Surfaced()
	w.boot("boot2")
	w.host.Reboot()
	w.rec.Run(t.Context(), nil)
	after := w.host.Surfaced()
	if len(before) != 2 || len(after) != 2 || slices.Equal(before, after) {
		t.Fatalf("devices %v, then %v", before, after)
	}
	for _, s := range d.Set.Snapshots {
		c, err := w.keeper.Get("test", s.ID)
		if err != nil || !slices.Contains(after, c.Surfaces[0].Device) || c.Prop.BlockDevice != c.Surfaces[0].Device || c.Surfaces[0].DiskSeq != c.Attachments[0].DiskSeq {
			t.Errorf("%+v, %v", c, err)
		}
	}
	// The LUN goes with the last copy, the other's device does not.
	if _, err := w.keeper.Delete(t.Context(), vss.NewID(), d.Set.Snapshots[0].ID, vss.OBJECT_SNAPSHOT, false); err != nil {
		t.Fatal(err)
	}
	if s := w.host.Surfaced(); len(s) != 1 || len(w.host.Attached()) != 1 {
		t.Errorf("devices %v", s)
	}
	if _, err := w.keeper.Delete(t.Context(), vss.NewID(), d.Set.Snapshots[1].ID, vss.OBJECT_SNAPSHOT, false); err != nil {
		t.Fatal(err)
	}
	if s := w.host.Surfaced(); len(s)+len(w.host.Attached()) != 0 {
		t.Errorf("devices %v", s)
	}
}

// TestManyCopiesEnd: of copies whose life has ended and that cannot be deleted
// the first have events, too.
func TestManyCopiesEnd(t *testing.T) {
	w := newWorld(t)
	const n = 50
	w.must(w.cat.Update(t.Context(), func(tx *catalog.Tx) error {
		for range n { // of a provider that is not registered any more
			if err := tx.PutCopy(catalog.Copy{AutoRelease: true, Prop: vss.SnapshotProp{SnapshotID: vss.NewID(), SnapshotSetID: vss.NewID(), ProviderID: vss.NewID()}}); err != nil {
				return err
			}
		}
		return nil
	}))
	w.rec.Run(t.Context(), nil)
	if e := w.events("recovery.not-released"); e != 21 {
		t.Errorf("%d events for %d copies", e, n)
	}
}
