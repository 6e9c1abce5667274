package importing_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

// cancelAt starts an import, cancels it at a failpoint and returns how it ended.
func cancelAt(t *testing.T, w *world, point string, d *document.Document) vss.HResult {
	t.Helper()
	here := filepath.Join(t.TempDir(), "here")
	arm(t, point+"=touch("+here+")+sleep(5s)")
	op := w.start(d)
	for range 2000 {
		if _, err := os.Stat(here); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	code, err := op.Cancel(t.Context())
	if err != nil {
		t.Errorf("Cancel: %v", err)
	}
	if end := op.Status().Code; code == vss.S_OK && end != vss.VSS_S_ASYNC_CANCELLED {
		t.Errorf("cancelled, but ended with %v", end)
	}
	return code
}

// TestCancelAtEveryStep: the import ends as cancelled, nothing is undone, and
// what may be unmasked is listed (requester.md 3.5 F0).
func TestCancelAtEveryStep(t *testing.T) {
	for point, listed := range map[string]int{"import.after-intent": 0, "import.after-hide": 0, "import.before-locate": 0,
		"import.after-locate": 2, "import.after-arrive": 2, "import.after-verify": 2} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.b)
			if code := cancelAt(t, w, point, d); code != vss.S_OK {
				t.Fatalf("Cancel: %v", code)
			}
			want := map[catalog.LUNState]int{}
			if listed > 0 {
				want[catalog.LUNOrphaned] = listed
			}
			wantLUNs(t, w, want)
			if n := len(w.host.Hidden()); n != listed {
				t.Errorf("%d LUNs hidden, want %d", n, listed)
			}
			if n := w.journal.Count("Mask") + w.journal.Count("OnLUNEmpty") + w.journal.Count("ReleaseImport") + w.journal.Count("Detach"); n != 0 {
				t.Errorf("something was undone: %v", w.journal.Calls())
			}
			s := w.set(d.Set.ID)
			if s.State != catalog.SetImportFailed || s.Failure.Code != vss.E_ABORT || len(w.intents()) != 0 || len(w.copies()) != 0 {
				t.Errorf("set %+v, intents %v", s, w.intents())
			}
			w.event("import.failed")
		})
	}
}

// TestCancelTooLate: once the outcome is on disk it is the outcome.
func TestCancelTooLate(t *testing.T) {
	for _, point := range []string{"import.after-record", "import.after-mount"} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
			here := filepath.Join(t.TempDir(), "here")
			arm(t, point+"=touch("+here+")+sleep(100ms)")
			op := w.start(d)
			for range 2000 {
				if _, err := os.Stat(here); err == nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if code, err := op.Cancel(t.Context()); code != finished || err != nil {
				t.Fatalf("Cancel: %v, %v", code, err)
			}
			if s := w.set(d.Set.ID); s.State != catalog.SetImported {
				t.Errorf("set %+v", s)
			}
			if len(w.host.Mounts()) != 1 {
				t.Errorf("mounts %v", w.host.Mounts())
			}
		})
	}
}

// TestCancelInProvider: a provider that is cancelled amid its call answers with
// whatever it likes; the import is cancelled, and what it may have unmasked is
// listed.
func TestCancelInProvider(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.a.On("LocatedLUNs", func(ctx context.Context) error {
		<-ctx.Done()
		return &vss.Error{Code: vss.E_ABORT, Op: "LocateLUNs", Reason: "given up", Err: ctx.Err()}
	})
	op := w.start(d)
	w.waitFor("LocateLUNs")
	if code, err := op.Cancel(t.Context()); code != vss.S_OK || err != nil {
		t.Fatalf("Cancel: %v, %v", code, err)
	}
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 1})
	if s := w.set(d.Set.ID); s.Failure.Code != vss.E_ABORT {
		t.Errorf("failure %+v", s.Failure)
	}
}

// TestCancelStopsTheRescan: no disk arrives after the import has ended.
func TestCancelStopsTheRescan(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	stopped := make(chan struct{})
	w.host.On("Rescan", func(ctx context.Context) error { <-ctx.Done(); close(stopped); return ctx.Err() })
	out := w.run(t.Context(), d) // its deadline is 200 ms
	w.want(out, none)
	select {
	case <-stopped:
	default:
		t.Error("the import ended before its rescan")
	}
}

// TestServiceStops: an import that ends with the service says so.
func TestServiceStops(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	ctx, stop := context.WithCancel(t.Context())
	w.a.On("LocatedLUNs", func(context.Context) error { stop(); return nil })
	out := w.run(ctx, d)
	w.want(out, vss.VSS_E_UNEXPECTED)
	wantWords(t, out.Err)
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 1})
}

// TestOneAtATime is requester.md 3.2 P6.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t)
	release, err := w.im.Acquire(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.im.Acquire(t.Context(), false); !errors.Is(err, vss.ErrImportInProgress) || !errors.Is(err, vss.VSS_E_BAD_STATE) {
		t.Errorf("second: %v", err)
	}
	if _, err := w.im.Cleanup(t.Context(), w.session, vss.NewID(), 0); !errors.Is(err, vss.VSS_E_BAD_STATE) {
		t.Errorf("clean-up beside an import: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		r, err := w.im.Acquire(t.Context(), true)
		if err == nil {
			defer r()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("a queued import did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	release, _ = w.im.Acquire(t.Context(), true)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.im.Acquire(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the queue: %v", err)
	}
}
