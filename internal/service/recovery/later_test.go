package recovery_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/copies"
	"github.com/umbra-vss/umbra/internal/service/create"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/recovery"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/vss"
)

// world is a machine with two storage systems that boots twice.
type world struct {
	t       *testing.T
	journal *servicetest.Journal
	a, b    *servicetest.Array
	host    *servicetest.Host
	cat     *catalog.Catalog
	dir     string
	im      *importing.Importer
	keeper  *copies.Keeper
	rec     *recovery.Recovery
	creator *create.Creator

	asked atomic.Int32 // how often array a was asked about its LUNs since it is away
}

func newWorld(t *testing.T) *world {
	t.Helper()
	j := &servicetest.Journal{}
	w := &world{t: t, journal: j, a: servicetest.NewArray(1, j), b: servicetest.NewArray(2, j), dir: t.TempDir()}
	w.host = servicetest.NewHost(j, w.a, w.b)
	cat, err := catalog.Open(filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cat.Close() })
	w.cat = cat
	w.boot("boot1")
	return w
}

func (w *world) boot(id string) {
	providers := registry.New(w.a, w.b)
	w.im = importing.New(importing.Importer{Host: w.host, Providers: providers, Catalog: w.cat, HostName: "b", BootID: id, CopiesDir: filepath.Join(w.dir, "copies")})
	w.keeper = &copies.Keeper{Host: w.host, Providers: providers, Catalog: w.cat, BootID: id, DeviceObject: w.im.DeviceObject, Resurface: w.im.Resurface}
	w.rec = recovery.New(recovery.Recovery{Host: w.host, Catalog: w.cat, Providers: providers, Importer: w.im, Keeper: w.keeper, BootID: id, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	w.creator = &create.Creator{Host: w.host, Providers: providers, Catalog: w.cat, HostName: "b", BootID: id, HoldDir: w.dir, FlushTime: time.Second, Leftovers: w.rec.Wake}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// imported imports a copy of each array.
func (w *world) imported() *document.Document {
	w.t.Helper()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, w.a, w.b)
	if out := w.im.Run(w.t.Context(), vss.NewID(), d, timeline.New(), timeline.NewProgress()); out.Code != vss.VSS_S_ASYNC_FINISHED {
		w.t.Fatal(out.Err)
	}
	return d
}

func target(d *document.Document, i int) string { return d.Set.Snapshots[i].LUNs[0].Target.Name() }

// away takes array a away with its LUN, and back.
func (w *world) away(d *document.Document) {
	w.asked.Store(0)
	w.a.On("DescribeLUNs", func(context.Context) error { w.asked.Add(1); return errors.New("no answer") })
	w.a.Change(target(d, 0), func(l *servicetest.LUN) { l.Unmasked = false })
}

func (w *world) back(d *document.Document) {
	w.a.On("DescribeLUNs", func(context.Context) error { w.asked.Add(1); return nil })
	w.a.Change(target(d, 0), func(l *servicetest.LUN) { l.Unmasked = true })
}

// late is a machine that boots while array a is away. It goes on looking until
// the returned stop is called; done is closed when it has stopped.
func (w *world) late(d *document.Document) (stop func(), done chan struct{}) {
	w.t.Helper()
	w.away(d)
	w.host.Reboot()
	w.boot("boot2")
	w.journal.Reset()
	w.rec.Run(w.t.Context(), nil)
	if w.events("recovery.copy-missing") != 1 || !slices.Equal(w.host.Attached(), []string{target(d, 1)}) {
		w.t.Fatalf("attached %v", w.host.Attached())
	}
	w.journal.Reset()
	w.asked.Store(0)
	return w.goOn()
}

func (w *world) goOn() (stop func(), done chan struct{}) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done = make(chan struct{})
	go func() { defer close(done); w.rec.Continue(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
	return cancel, done
}

// idle reports whether nothing is tried any more.
func (w *world) idle() bool {
	synctest.Wait()
	calls, asked := len(w.journal.Calls()), w.asked.Load()
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	return len(w.journal.Calls()) == calls && w.asked.Load() == asked
}

func (w *world) events(name string) (n int) {
	w.t.Helper()
	w.must(w.cat.View(func(t *catalog.Tx) error {
		es, err := t.Events("", vss.GUIDNull, 1000)
		for _, e := range es {
			if e.Name == name {
				n++
			}
		}
		return err
	}))
	return n
}

func ended(done chan struct{}) bool {
	synctest.Wait()
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// TestArrayComesLate: a copy whose array came up after the service is attached,
// hidden before, mounted and exposed as it was, without anybody's help.
func TestArrayComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.imported()
		id, folder := d.Set.Snapshots[0].ID, t.TempDir()
		_, err := w.keeper.Expose(t.Context(), vss.NewID(), id, folder)
		w.must(err)
		w.late(d)

		// While it is away it is asked now and then, and nobody is kept waiting.
		time.Sleep(10 * time.Minute)
		if w.asked.Load() < 10 || w.asked.Load() > 20 || w.journal.Count("Rescan") != 0 {
			t.Errorf("asked %d times, calls %v", w.asked.Load(), w.journal.Calls())
		}
		free, err := w.im.Acquire(t.Context(), false)
		w.must(err)
		free()
		if _, err := w.keeper.Expose(t.Context(), vss.NewID(), id, t.TempDir()); vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
			t.Errorf("exposed what is missing: %v", err)
		}

		w.back(d)
		time.Sleep(longest)
		if !w.idle() || w.events("recovery.copy-found") != 1 || w.events("copy.not-mounted")+w.events("recovery.exposure-lost") != 0 {
			t.Fatalf("calls %v", w.journal.Calls())
		}
		if c := w.journal.Calls(); len(c) == 0 || c[0] != "Hide 1" || len(w.host.Exposed()) != 0 {
			t.Errorf("seen by udev: %v; calls %v", w.host.Exposed(), c)
		}
		want := []string{folder, w.im.DeviceObject(id), w.im.DeviceObject(d.Set.Snapshots[1].ID)}
		slices.Sort(want)
		if got := w.host.Mounts(); !slices.Equal(got, want) {
			t.Errorf("mounts %v, want %v", got, want)
		}
		c, err := w.keeper.Get("", id)
		if err != nil || c.BootID != "boot2" || c.Prop.ExposedName != folder || c.Prop.DeviceObject != w.im.DeviceObject(id) || c.Prop.BlockDevice != c.Attachments[0].Device {
			t.Errorf("%+v %v", c, err)
		}
		n, err := w.keeper.Delete(t.Context(), vss.NewID(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
		if err != nil || n.Count != 2 || len(w.host.Attached())+len(w.host.Mounts())+len(w.host.Hidden()) != 0 {
			t.Errorf("%+v %v", n, err)
		}
	})
}

// TestMissingCopyIsDeleted: what the user deletes is looked for no more.
func TestMissingCopyIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.imported()
		w.late(d)
		_, err := w.keeper.Delete(t.Context(), vss.NewID(), d.Set.Snapshots[0].ID, vss.OBJECT_SNAPSHOT, false)
		w.must(err)
		w.journal.Reset()
		time.Sleep(longest)
		if !w.idle() || len(w.journal.Calls()) != 0 {
			t.Errorf("calls %v", w.journal.Calls())
		}
	})
}

const longest = time.Minute + time.Second // between two attempts

// TestLookingWaitsItsTurn: nothing is attached while an import or a clean-up
// runs, or an exposure or a deletion. A copy that was deleted meanwhile is not
// brought back.
func TestLookingWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.imported()
		w.late(d)
		free, err := w.im.Acquire(t.Context(), false)
		w.must(err)
		w.back(d)
		time.Sleep(10 * time.Minute)
		if c := w.journal.Calls(); len(c) != 0 {
			t.Errorf("beside an import: %v", c)
		}
		deleting := make(chan struct{})
		w.a.On("OnLUNEmpty", func(context.Context) error { <-deleting; return nil })
		deleted := make(chan error, 1)
		go func() {
			_, err := w.keeper.Delete(t.Context(), vss.NewID(), d.Set.Snapshots[0].ID, vss.OBJECT_SNAPSHOT, false)
			deleted <- err
		}()
		synctest.Wait()
		free()
		time.Sleep(10 * time.Minute)
		if n := w.journal.Count("Rescan") + w.journal.Count("Hide"); n != 0 {
			t.Errorf("beside a deletion: %v", w.journal.Calls())
		}
		close(deleting)
		w.must(<-deleted)
		time.Sleep(longest)
		if !w.idle() || w.journal.Count("Rescan") != 0 || !slices.Equal(w.host.Hidden(), []string{target(d, 1)}) {
			t.Errorf("hidden %v, calls %v", w.host.Hidden(), w.journal.Calls())
		}
	})
}

// TestNobodyBesideLooking is the other way round: while a copy is attached
// again nothing is imported, cleaned up, exposed or deleted.
func TestNobodyBesideLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.imported()
		w.late(d)
		attaching := make(chan struct{})
		w.host.On("Rescan", func(context.Context) error { <-attaching; return nil })
		w.back(d)
		time.Sleep(10 * time.Second)
		if _, err := w.im.Cleanup(t.Context(), vss.NewID(), d.Set.ID, importing.Mask); !errors.Is(err, vss.ErrImportInProgress) {
			t.Errorf("cleaned up: %v", err)
		}
		deleted := make(chan error, 1)
		go func() {
			_, err := w.keeper.Delete(t.Context(), vss.NewID(), d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
			deleted <- err
		}()
		time.Sleep(10 * time.Second)
		if len(deleted) != 0 || w.journal.Count("OnLUNEmpty") != 0 {
			t.Errorf("deleted beside: %v", w.journal.Calls())
		}
		close(attaching)
		w.must(<-deleted)
		if !w.idle() || len(w.host.Attached())+len(w.host.Mounts())+len(w.host.Hidden()) != 0 {
			t.Errorf("attached %v, mounts %v, hidden %v", w.host.Attached(), w.host.Mounts(), w.host.Hidden())
		}
	})
}

// TestLookingAgainAfterTrouble: an array that answers is not yet a disk that
// comes; and a copy that comes in pieces of bad luck is found all the same.
func TestLookingAgainAfterTrouble(t *testing.T) {
	for _, at := range []string{"Hide", "Rescan", "panic"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := w.imported()
				w.late(d)
				method, trouble := at, func(context.Context) error { return errors.New("trouble") }
				if at == "panic" {
					method, trouble = "Rescan", func(context.Context) error { panic("trouble") }
				}
				w.host.On(method, trouble)
				w.back(d)
				time.Sleep(10 * time.Minute)
				if n := w.journal.Count("Hide"); n < 10 {
					t.Errorf("%d attempts", n)
				}
				w.host.On(method, nil)
				time.Sleep(longest)
				if !w.idle() || w.events("recovery.copy-found") != 1 || len(w.host.Mounts()) != 2 {
					t.Errorf("mounts %v, calls %v", w.host.Mounts(), w.journal.Calls())
				}
			})
		})
	}
}

// TestLookingEndsWithTheService, whatever it waits for.
func TestLookingEndsWithTheService(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for at, arrange := range map[string]func(w *world, d *document.Document){
		"pause":  func(*world, *document.Document) {},
		"answer": func(w *world, d *document.Document) { w.a.On("DescribeLUNs", hang) },
		"rescan": func(w *world, d *document.Document) { w.back(d); w.host.On("Rescan", hang) },
		"import": func(w *world, d *document.Document) { w.back(d); _, _ = w.im.Acquire(w.t.Context(), false) },
		"turn":   func(w *world, d *document.Document) { w.back(d); _, _ = w.keeper.Turn(w.t.Context()) },
	} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := w.imported()
				stop, done := w.late(d)
				arrange(w, d)
				time.Sleep(1500 * time.Millisecond)
				if ended(done) {
					t.Error("it does not look")
				}
				stop()
				if !ended(done) {
					t.Error("it still looks")
				}
			})
		})
	}
}
