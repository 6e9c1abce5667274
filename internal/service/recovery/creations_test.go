package recovery_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/service/create"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// begun is a set of one volume on array a, which will fail to make it.
func (w *world) begun(volume string) *create.Set {
	w.t.Helper()
	w.host.AddVolume(volume, w.a.Add(servicetest.Size, filesystem.Identity{Type: "ext4", UUID: volume, Size: servicetest.Size, DeviceSize: servicetest.Size, Devices: 1}))
	s, err := w.creator.Start(vss.NewID(), vss.CTX_NAS_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE))
	w.must(err)
	_, err = s.Add(w.t.Context(), volume, vss.GUIDNull)
	w.must(err)
	return s
}

func (w *world) fails(s *create.Set) {
	w.t.Helper()
	if _, err := s.Do(w.t.Context(), timeline.New(), timeline.NewProgress()); err == nil {
		w.t.Fatal("the set was made")
	}
}

func (w *world) intents() (n int) {
	w.t.Helper()
	w.must(w.cat.View(func(t *catalog.Tx) error {
		is, err := t.Intents()
		n = len(is)
		return err
	}))
	return n
}

// TestLeftoversOfACreation: what a failed set left is dropped as soon as its
// array answers again, and nothing of a set that is being made.
func TestLeftoversOfACreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.rec.Run(t.Context(), nil)
		w.goOn()
		if !w.idle() {
			t.Error("it looks for nothing")
		}
		// One that leaves nothing.
		w.fails(w.begun("/clean"))
		if w.intents() != 0 || !w.idle() {
			t.Error("something is left of a set that was dropped")
		}

		w.a.Fail("AbortSnapshots", errors.New("no answer"))
		w.fails(w.begun("/left"))
		if w.intents() != 1 {
			t.Fatalf("%d intents", w.intents())
		}
		w.journal.Reset()
		time.Sleep(10 * time.Minute)
		if n := w.journal.Count("AbortSnapshots array1"); n < 10 || n > 20 || w.intents() != 1 {
			t.Errorf("%d attempts, %d intents", n, w.intents())
		}

		// Another set is being made when the array answers again.
		making := make(chan struct{})
		w.a.On("EndPrepareSnapshots", func(context.Context) error { <-making; return nil })
		s := w.begun("/making")
		done := make(chan error, 1)
		go func() {
			_, err := s.Do(t.Context(), timeline.New(), timeline.NewProgress())
			done <- err
		}()
		synctest.Wait()
		w.a.Fail("AbortSnapshots", nil)
		w.journal.Reset()
		time.Sleep(longest)
		if n := w.journal.Count("AbortSnapshots array1"); n != 1 || w.intents() != 1 || w.events("recovery.create-dropped") != 1 || !w.idle() {
			t.Errorf("%d intents, calls %v", w.intents(), w.journal.Calls())
		}
		close(making)
		if err := <-done; err == nil || w.intents() != 0 {
			t.Errorf("%d intents, %v", w.intents(), err)
		}
	})
}

// TestLeftoversWaitForAHold: nothing is asked of an array while another set
// holds writes.
func TestLeftoversWaitForAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.goOn()
		w.a.Fail("AbortSnapshots", errors.New("no answer"))
		w.fails(w.begun("/left"))
		w.a.Fail("AbortSnapshots", nil)
		w.journal.Reset()
		release, err := w.cat.Hold(t.Context())
		w.must(err)
		time.Sleep(10 * time.Second)
		if c := w.journal.Calls(); len(c) != 0 {
			t.Errorf("during the hold: %v", c)
		}
		release()
		time.Sleep(longest)
		if w.intents() != 0 || w.journal.Count("AbortSnapshots array1") != 1 {
			t.Errorf("%d intents, calls %v", w.intents(), w.journal.Calls())
		}
	})
}

// TestBrokenOffCreationWithoutItsArray: it is named at the start, and dropped
// when the array is there.
func TestBrokenOffCreationWithoutItsArray(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := vss.NewID()
		w.must(w.cat.Update(t.Context(), func(tx *catalog.Tx) error {
			_, err := tx.OpenIntent(catalog.Intent{Kind: "create", Role: catalog.Created, SetID: id, BootID: "boot1"})
			return errors.Join(err, tx.PutSet(catalog.Set{ID: id, Role: catalog.Created, State: catalog.SetCreating}))
		}))
		w.a.Fail("AbortSnapshots", errors.New("no answer"))
		w.boot("boot2")
		w.rec.Run(t.Context(), nil)
		if w.intents() != 1 || w.events("recovery.failed") != 1 {
			t.Fatalf("%d intents", w.intents())
		}
		w.goOn()
		time.Sleep(10 * time.Minute)
		w.a.Fail("AbortSnapshots", nil)
		time.Sleep(longest)
		if w.intents() != 0 || w.events("recovery.create-dropped") != 1 || w.events("recovery.failed") != 1 || !w.idle() {
			t.Errorf("%d intents, calls %v", w.intents(), w.journal.Calls())
		}
		w.must(w.cat.View(func(tx *catalog.Tx) error {
			s, _, err := tx.Set(catalog.Created, id)
			if s.State != catalog.SetFailed || s.Failure == nil {
				t.Errorf("set %+v", s)
			}
			return err
		}))
	})
}

// TestBrokenOffAfterItsCopiesWereComplete: AbortSnapshots leaves a complete set
// alone, and its provider has no DropSet: its copies go one by one. Nobody is
// asked who had no part in the set.
func TestBrokenOffAfterItsCopiesWereComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, gone := vss.NewID(), vss.NewID()
		original := w.a.Add(servicetest.Size, filesystem.Identity{Type: "ext4"}).Info
		copied, err := w.a.GetTargetLUNs(t.Context(), id, nil, []lun.Info{original})
		w.must(err)
		w.must(w.cat.Update(t.Context(), func(tx *catalog.Tx) error {
			_, err := tx.OpenIntent(catalog.Intent{Kind: "create", Role: catalog.Created, SetID: id, BootID: "boot1",
				Parts: []catalog.IntentPart{{ProviderID: w.a.ID, LUNs: []lun.Info{original}}, {ProviderID: gone, LUNs: []lun.Info{original}}}})
			return errors.Join(err, tx.PutSet(catalog.Set{ID: id, Role: catalog.Created, State: catalog.SetCreating}))
		}))
		w.b.Fail("AbortSnapshots", errors.New("no answer"))
		// It may be that it cannot say whether there are copies: then it is asked again.
		w.a.Fail("GetTargetLUNs", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Reason: "no answer"})
		w.boot("boot2")
		w.rec.Run(t.Context(), nil)
		if _, there := w.a.LUN(copied[0].Name()); !there || w.intents() != 1 {
			t.Fatalf("%d intents", w.intents())
		}
		w.a.Fail("GetTargetLUNs", nil)
		w.goOn()
		time.Sleep(longest)
		if _, there := w.a.LUN(copied[0].Name()); there || w.intents() != 0 || !w.idle() {
			t.Errorf("%d intents, calls %v", w.intents(), w.journal.Calls())
		}
		if _, there := w.a.LUN(original.Name()); !there {
			t.Error("the original is gone")
		}
		said := false
		w.must(w.cat.View(func(tx *catalog.Tx) error {
			es, err := tx.Events("", vss.GUIDNull, 1000)
			for _, e := range es {
				said = said || e.Name == "recovery.create-dropped" && strings.Contains(e.Message, gone.String())
			}
			return err
		}))
		if !said {
			t.Error("that a provider is gone, and may have copies, is not said")
		}
	})
}
