package importing_test

import (
	"errors"
	"testing"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

var errBroken = errors.New("broken")

// failed is a machine on which an import mapped nothing and left two LUNs
// attached.
func failed(t *testing.T) (*world, *document.Document) {
	t.Helper()
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.b)
	arm(t, "import.after-verify=error")
	if out := w.run(t.Context(), d); out.Code != vss.VSS_E_UNEXPECTED {
		t.Fatalf("%v %v", out.Code, out.Err)
	}
	arm(t, "import.after-verify=sleep(0s)")
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 2})
	w.journal.Reset()
	return w, d
}

func TestCleanupMask(t *testing.T) {
	w, d := failed(t)
	// Until then the set cannot be imported again.
	if out := w.run(t.Context(), d); out.Code != vss.VSS_E_BAD_STATE {
		t.Errorf("import before the clean-up: %v", out.Code)
	}
	done, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Mask)
	if err != nil || len(done) != 2 || done[0].Action != "masked" || done[0].Device == "" {
		t.Fatalf("%+v, %v", done, err)
	}
	if len(w.host.Attached())+len(w.host.Hidden()) != 0 || len(w.a.Names()) != 1 {
		t.Errorf("attached %v, hidden %v, LUNs %v", w.host.Attached(), w.host.Hidden(), w.a.Names())
	}
	// Detached before masked before shown to udev again.
	j := w.journal
	if j.Index("Detach") > j.Index("Mask") || j.Index("Mask") > j.Index("Unhide") || j.Count("ReleaseImport") != 2 || j.Count("OnLUNEmpty") != 0 {
		t.Errorf("calls %v", j.Calls())
	}
	if !w.a.Bound(d.Set.ID).IsNull() || !w.b.Bound(d.Set.ID).IsNull() {
		t.Error("still bound")
	}
	wantLUNs(t, w, nil)
	w.event("cleanup.masked")
	// It can be said again, and the set can be imported.
	if done, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Mask); err != nil || len(done) != 0 {
		t.Errorf("again: %v, %v", done, err)
	}
	w.want(w.run(t.Context(), d), finished)
	if _, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Reclaim); err != nil {
		t.Error(err)
	}
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 2}) // imported copies are not a clean-up's
	if w.a.Bound(d.Set.ID).IsNull() {
		t.Error("the binding of imported copies was released")
	}
}

func TestCleanupReclaim(t *testing.T) {
	w, d := failed(t)
	done, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Reclaim)
	if err != nil || len(done) != 2 || done[0].Action != "reclaimed" {
		t.Fatalf("%+v, %v", done, err)
	}
	if len(w.a.Names())+len(w.b.Names())+len(w.host.Attached())+len(w.host.Hidden()) != 0 {
		t.Error("something is left")
	}
	wantLUNs(t, w, nil)
}

// TestCleanupAfterFailures: what is not clean stays listed, the rest does not,
// and the binding goes only with the last.
func TestCleanupAfterFailures(t *testing.T) {
	for name, spoil := range map[string]func(w *world, err error){
		"enumerate": func(w *world, err error) { w.host.Fail("Enumerate", err) },
		"unmount":   func(w *world, err error) { w.host.Fail("Unmount", err) },
		"detach":    func(w *world, err error) { w.host.Fail("Detach", err) },
		"mask":      func(w *world, err error) { w.a.Fail("OnLUNStateChange", err) },
		"unhide":    func(w *world, err error) { w.host.Fail("Unhide", err) },
		"release":   func(w *world, err error) { w.a.Fail("ReleaseImport", err) },
	} {
		t.Run(name, func(t *testing.T) {
			w, d := failed(t)
			spoil(w, errBroken)
			if _, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Mask); err == nil {
				t.Fatal("no error")
			}
			if len(w.intents()) != 0 {
				t.Errorf("open intents %v", w.intents())
			}
			w.event("cleanup.failed")
			if w.a.Bound(d.Set.ID).IsNull() {
				t.Error("released before everything was clean")
			}
			if name == "mask" {
				wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 1})
			}
			spoil(w, nil)
			if _, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Mask); err != nil {
				t.Fatalf("repeated: %v", err)
			}
			wantLUNs(t, w, nil)
			if len(w.host.Attached())+len(w.host.Hidden()) != 0 || !w.a.Bound(d.Set.ID).IsNull() {
				t.Errorf("attached %v, hidden %v, bound %v", w.host.Attached(), w.host.Hidden(), w.a.Bound(d.Set.ID))
			}
			w.want(w.run(t.Context(), d), finished)
		})
	}
}

// TestImportAgainAfterReleaseFailed: the LUNs are clean but the binding could
// not be released; the same machine may import again all the same.
func TestImportAgainAfterReleaseFailed(t *testing.T) {
	w, d := failed(t)
	w.a.Fail("ReleaseImport", errBroken)
	if _, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Mask); err == nil {
		t.Fatal("no error")
	}
	wantLUNs(t, w, nil)
	w.want(w.run(t.Context(), d), finished)
}

// TestCleanupOfPartial: the binding stays, because a copy is mapped.
func TestCleanupOfPartial(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	w.a.Change(target(d, 1), func(l *servicetest.LUN) { l.Generation++ })
	w.want(w.run(t.Context(), d), some)
	done, err := w.im.Cleanup(t.Context(), w.session, d.Set.ID, importing.Mask)
	if err != nil || len(done) != 1 {
		t.Fatalf("%v, %v", done, err)
	}
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1})
	if w.journal.Count("ReleaseImport") != 0 || len(w.host.Mounts()) != 1 {
		t.Errorf("calls %v", w.journal.Calls())
	}
	if out := w.run(t.Context(), d); out.Code != vss.VSS_E_BAD_STATE {
		t.Errorf("second import: %v", out.Code)
	}
}

func TestCleanupOfUnknown(t *testing.T) {
	w := newWorld(t)
	if _, err := w.im.Cleanup(t.Context(), w.session, vss.NewID(), importing.Mask); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Error(err)
	}
}
