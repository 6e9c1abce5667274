package conformance

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// clean fails a test that leaves goroutines behind, once its service is down.
// It must come before the service.
func clean(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { settled(t, before) })
}

// settled waits until there is nothing beside what there was before. A busy
// machine takes its time to close connections.
func settled(t *testing.T, before goleak.Option) {
	t.Helper()
	var err error
	for range 20 { // each of which has patience of its own
		if err = goleak.Find(before); err == nil {
			return
		}
	}
	t.Error(err)
}

// TestThousandCalls at once on one object: each has a code that the call may
// have in some order of them, and the service serves the next object.
func TestThousandCalls(t *testing.T) {
	mayBe := map[vss.HResult]bool{ok: true, bad: true, notFound: true, vss.E_NOTIMPL: true, vss.VSS_E_OBJECT_ALREADY_EXISTS: true,
		vss.VSS_E_SNAPSHOT_SET_IN_PROGRESS: true}
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			clean(t)
			w := newWorld(t, f)
			for _, state := range in("NEW META SET_OPEN B_LOADED R_META") {
				p := w.reach(state)
				ms := methods()
				var ready, done sync.WaitGroup
				ready.Add(1000)
				var mu sync.Mutex
				seen := map[vss.HResult]int{}
				for i := range 1000 {
					method := ms[i%len(ms)]
					input := w.good(method)
					done.Go(func() {
						ready.Done()
						ready.Wait()
						code, op, has := p.call(method, input)
						if !has {
							return
						}
						if op != nil {
							op.result()
							op.release()
						}
						mu.Lock()
						defer mu.Unlock()
						seen[code]++
						if !mayBe[code] {
							t.Errorf("from %s, %s: %v", state, method, code)
						}
					})
				}
				done.Wait()
				p.leave()
				if seen[ok] == 0 || seen[bad] == 0 {
					t.Errorf("from %s: %v", state, seen)
				}
			}
			p := w.reach("CREATED")
			p.do("BackupComplete")
			p.leave()
		})
	}
}

// TestUnreleased: ten thousand operations that nobody releases meet the quota,
// and not the memory.
func TestUnreleased(t *testing.T) {
	clean(t)
	w := newWorld(t, faces[0])
	p := w.reach("B_INIT")
	bc := p.object.(goObject).bc
	ctx := context.Background()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var kept []*requester.Async
	refused := 0
	for range 10_000 {
		op, err := bc.GatherWriterStatus(ctx)
		switch {
		case err == nil:
			kept = append(kept, op)
		case errors.Is(err, vss.E_OUTOFMEMORY):
			refused++
		default:
			t.Fatal(err)
		}
	}
	if len(kept) != service.MaxOperations || refused != 10_000-service.MaxOperations {
		t.Errorf("%d operations, %d refused", len(kept), refused)
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("%d operations cost %d bytes", len(kept), grown)
	}
	// What is released is there for others, and so is all that a closed object
	// had.
	other := w.reach("B_LOADED")
	if code, _, _ := other.call("ImportSnapshots", input{}); code != vss.E_OUTOFMEMORY {
		t.Errorf("another object: %v", code)
	}
	if err := kept[0].Release(ctx); err != nil {
		t.Error(err)
	}
	other.do("ImportSnapshots")
	p.leave()
	for range 100 {
		other.begins("GatherWriterStatus")
	}
	other.leave()
}

// TestManyOperations: an object that lives long and releases what it begins
// costs what a new one does.
func TestManyOperations(t *testing.T) {
	clean(t)
	w := newWorld(t, faces[1])
	p := w.reach("B_INIT")
	for range 6000 { // beyond the quota, one after the other
		p.do("GatherWriterStatus")
	}
	p.leave()
}

// TestClosed: an object that was closed leaves no goroutine, here or in the
// service, while that goes on.
func TestClosed(t *testing.T) {
	for _, f := range faces {
		w := newWorld(t, f)
		w.reach("CREATED").leave()
		before := goleak.IgnoreCurrent()
		for _, state := range in("NEW B_INIT SET_OPEN CREATING IMPORTED R_PRE") {
			w.reach(state).leave()
		}
		settled(t, before)
	}
}
