package importing_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// world is an importing machine with two arrays and a real catalogue.
type world struct {
	t       *testing.T
	journal *servicetest.Journal
	a, b    *servicetest.Array
	host    *servicetest.Host
	cat     *catalog.Catalog
	im      *importing.Importer
	session vss.ID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	j := &servicetest.Journal{}
	w := &world{t: t, journal: j, a: servicetest.NewArray(1, j), b: servicetest.NewArray(2, j), session: vss.NewID()}
	w.host = servicetest.NewHost(j, w.a, w.b)
	cat, err := catalog.Open(filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cat.Close() })
	w.cat = cat
	w.im = importing.New(importing.Importer{Host: w.host, Providers: registry.New(w.a, w.b), Catalog: cat, HostName: "b", BootID: "boot",
		CopiesDir: t.TempDir(), ArrivalTimeout: 200 * time.Millisecond})
	return w
}

// run imports as the service does.
func (w *world) run(ctx context.Context, d *document.Document) async.Outcome {
	return w.im.Run(ctx, w.session, d, timeline.New(), timeline.NewProgress())
}

// start imports in the background, as an operation that can be cancelled.
func (w *world) start(d *document.Document) *async.Operation {
	return async.Start(w.t.Context(), "op", "ImportSnapshots", func(ctx context.Context, o *async.Operation) async.Outcome {
		return w.im.Run(ctx, w.session, d, o.Timeline, o.Progress)
	}, nil)
}

func (w *world) view(f func(t *catalog.Tx) error) {
	w.t.Helper()
	if err := w.cat.View(f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) set(id vss.ID) (s catalog.Set) {
	w.t.Helper()
	w.view(func(t *catalog.Tx) (err error) { s, _, err = t.Set(catalog.Imported, id); return err })
	return s
}

// luns counts the listed LUNs by state.
func (w *world) luns() map[catalog.LUNState]int {
	w.t.Helper()
	n := map[catalog.LUNState]int{}
	w.view(func(t *catalog.Tx) error {
		ls, err := t.LUNs()
		for _, l := range ls {
			n[l.State]++
		}
		return err
	})
	return n
}

func (w *world) copies() (cs []catalog.Copy) {
	w.t.Helper()
	w.view(func(t *catalog.Tx) (err error) { cs, err = t.Copies(); return err })
	return cs
}

func (w *world) intents() (in []catalog.Intent) {
	w.t.Helper()
	w.view(func(t *catalog.Tx) (err error) { in, err = t.Intents(); return err })
	return in
}

func (w *world) event(name string) catalog.Event {
	w.t.Helper()
	var found catalog.Event
	w.view(func(t *catalog.Tx) error {
		es, err := t.Events("", vss.GUIDNull, 1000)
		for _, e := range es {
			if e.Name == name {
				found = e
			}
		}
		return err
	})
	if found.ID == "" {
		w.t.Errorf("no event %s", name)
	}
	return found
}

func (w *world) want(out async.Outcome, code vss.HResult) {
	w.t.Helper()
	if out.Code != code {
		w.t.Fatalf("code %v (%v), want %v", out.Code, out.Err, code)
	}
	if len(w.intents()) != 0 {
		w.t.Errorf("open intents: %+v", w.intents())
	}
	if e := w.host.Exposed(); len(e) != 0 {
		w.t.Errorf("udev saw %v before a rule hid it", e)
	}
}

func wantLUNs(t *testing.T, w *world, want map[catalog.LUNState]int) {
	t.Helper()
	got := w.luns()
	for s, n := range want {
		if got[s] != n {
			t.Errorf("%d LUNs %s, want %d (%v)", got[s], s, n, got)
		}
	}
	for s, n := range got {
		if want[s] != n {
			t.Errorf("%d LUNs %s, want %d", n, s, want[s])
		}
	}
}

func arm(t *testing.T, spec string) {
	t.Helper()
	disarm, err := failpoint.Arm(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(disarm)
}

func target(d *document.Document, i int) string { return d.Set.Snapshots[i].LUNs[0].Target.Name() }

// wantWords holds an error to the rule that it says what helps.
func wantWords(t *testing.T, err error) {
	t.Helper()
	var e *vss.Error
	if !errors.As(err, &e) {
		t.Errorf("%v is no *vss.Error", err)
	} else if e.Reason == "" || e.Remedy == "" || e.Op == "" || e.EventID == "" {
		t.Errorf("error without op, reason, remedy or event: %+v", e)
	}
}

// Both fakes keep every optional promise.
var (
	_ provider.Hardware        = (*servicetest.Array)(nil)
	_ provider.ImportBinder    = (*servicetest.Array)(nil)
	_ provider.Describer       = (*servicetest.Array)(nil)
	_ provider.LUNStateChanger = (*servicetest.Array)(nil)
	_ provider.ImportChecker   = (*servicetest.Array)(nil)
	_ provider.TicketVerifier  = (*servicetest.Array)(nil)
	_ importing.Host           = (*servicetest.Host)(nil)
)

// waitFor waits until a call is in the journal.
func (w *world) waitFor(call string) {
	w.t.Helper()
	for range 2000 {
		if w.journal.Index(call) >= 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("%s was not called: %v", call, slices.Clone(w.journal.Calls()))
}
