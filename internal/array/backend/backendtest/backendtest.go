// Package backendtest holds every implementation of the array's backend contract
// to package backend's documentation.
package backendtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Rig is a store under test.
type Rig struct {
	// Open opens the store; again after Close, or beside one that was not closed
	// and will not be used any more, as after a crash.
	Open func(t *testing.T) backend.Store
	// Whole reports whether the store is as a store should be that has these LUNs:
	// nothing is left of others, nothing is suspended. It may be nil.
	Whole func(t *testing.T, luns []lun.NAA)
}

const size = 4 << 20

// Run runs the suite. Each part leaves the store as it found it.
func Run(t *testing.T, r Rig) {
	x := &suite{Rig: r}
	s := r.Open(t)
	defer func() { s.Close() }()
	for _, p := range []struct {
		name string
		run  func(*testing.T, backend.Store)
	}{
		{"a new LUN is zeros of its size", x.fresh},
		{"bytes stay over a restart", x.restart},
		{"copies are of one instant and stay", x.copies},
		{"a copy of a copy", x.copyOfCopy},
		{"a batch is discarded at every step", x.discarded},
		{"a batch is forgotten at every step", x.forgotten},
		{"a source that is not there", x.noSource},
		{"holders are seen", x.holders},
		{"a copy's descriptor cannot write", x.readOnly},
		{"a LUN that is held is removed", x.removeHeld},
		{"a call that is given up", x.givenUp},
		{"room is given back", x.room},
	} {
		t.Run(p.name, func(t *testing.T) {
			before := list(t, s)
			x.now = s
			p.run(t, s)
			s = x.now
			if after := list(t, s); !slices.Equal(before, after) {
				t.Errorf("LUNs before %v, after %v", before, after)
			}
			if r.Whole != nil {
				r.Whole(t, before)
			}
		})
	}
}

type suite struct {
	Rig
	now backend.Store // the one that was opened last
}

// reopen is a new process.
func (x *suite) reopen(t *testing.T) backend.Store {
	t.Helper()
	x.now = x.Open(t)
	return x.now
}

func list(t *testing.T, s backend.Store) []lun.NAA {
	t.Helper()
	luns, others, err := s.List(t.Context())
	if err != nil || len(others) != 0 {
		t.Fatalf("others %v, %v", others, err)
	}
	slices.SortFunc(luns, func(x, y lun.NAA) int { return bytes.Compare(x[:], y[:]) })
	return luns
}

func name(t *testing.T) lun.NAA {
	t.Helper()
	n, err := identity.New("0123abcde")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func code(err error) vss.HResult {
	var e *vss.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// create makes a LUN of random bytes that goes with the test.
func create(t *testing.T, s backend.Store) (lun.NAA, []byte) {
	t.Helper()
	n := name(t)
	must(t, s.Create(t.Context(), n, size))
	return n, fill(t, s, n)
}

func fill(t *testing.T, s backend.Store, n lun.NAA) []byte {
	t.Helper()
	b := make([]byte, size)
	src := rand.NewChaCha8([32]byte(append(n[:], n[:]...)))
	_, _ = src.Read(b)
	// Another content each time.
	for i := range 8 {
		b[i] = byte(time.Now().UnixNano() >> (8 * i))
	}
	write(t, s, n, b, 0)
	return b
}

func write(t *testing.T, s backend.Store, n lun.NAA, b []byte, at int64) {
	t.Helper()
	f, err := os.OpenFile(s.Path(n), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(b, at)
	must(t, err)
	must(t, f.Sync())
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return b
}

func same(t *testing.T, s backend.Store, n lun.NAA, want []byte) {
	t.Helper()
	if got := read(t, s.Path(n)); !bytes.Equal(got, want) {
		t.Errorf("%s has other bytes (%d, want %d)", n, len(got), len(want))
	}
}

func remove(t *testing.T, s backend.Store, luns ...lun.NAA) {
	t.Helper()
	for _, n := range luns {
		must(t, s.Remove(t.Context(), n))
	}
}

func (x *suite) fresh(t *testing.T, s backend.Store) {
	n := name(t)
	must(t, s.Create(t.Context(), n, size))
	same(t, s, n, make([]byte, size))
	if got := s.Allocated(n); got > size/2 {
		t.Errorf("%d bytes are allocated before one is written", got)
	}
	if err := s.Create(t.Context(), n, size); code(err) != vss.VSS_E_OBJECT_ALREADY_EXISTS {
		t.Error("made twice:", err)
	}
	if !slices.Contains(list(t, s), n) {
		t.Error("it is not listed")
	}
	// Blocks that another LUN had are zeros again.
	fill(t, s, n)
	remove(t, s, n, n) // and again
	m := name(t)
	must(t, s.Create(t.Context(), m, size))
	write(t, s, m, []byte{1}, 0)
	same(t, s, m, append([]byte{1}, make([]byte, size-1)...))
	remove(t, s, m)
}

func (x *suite) restart(t *testing.T, s backend.Store) {
	n, want := create(t, s)
	s.Close()
	s = x.reopen(t)
	same(t, s, n, want)
	s = x.reopen(t) // a crash: nobody closed it
	same(t, s, n, want)
	remove(t, s, n)
}

// steps runs a batch up to a step; 0 is Begin, 4 Persist.
func steps(t *testing.T, s backend.Store, last int, sources ...lun.NAA) (backend.Batch, []lun.NAA) {
	t.Helper()
	var from []backend.Source
	var targets []lun.NAA
	for _, n := range sources {
		from, targets = append(from, backend.Source{NAA: n, Size: size}), append(targets, name(t))
	}
	b, err := s.Begin(t.Context(), from)
	must(t, err)
	if last >= 1 {
		must(t, b.Count(t.Context()))
		if b.Predict() <= 0 || b.Predict() > 10*time.Second {
			t.Error("predicts", b.Predict())
		}
	}
	if last >= 2 {
		must(t, b.MakeTargets(t.Context(), targets))
		must(t, b.Count(t.Context()))
	}
	var took time.Duration
	if last >= 3 {
		took, err = b.Commit(t.Context())
		must(t, err)
	}
	if last >= 4 {
		must(t, b.Persist(t.Context(), took))
	}
	return b, targets
}

func snapshot(t *testing.T, s backend.Store, sources ...lun.NAA) []lun.NAA {
	t.Helper()
	b, targets := steps(t, s, 4, sources...)
	b.Finish()
	return targets
}

func (x *suite) copies(t *testing.T, s backend.Store) {
	n1, was1 := create(t, s)
	n2, was2 := create(t, s)
	c := snapshot(t, s, n1, n2)
	is1, is2 := fill(t, s, n1), fill(t, s, n2)
	check := func() {
		t.Helper()
		same(t, s, c[0], was1)
		same(t, s, c[1], was2)
		same(t, s, n1, is1)
		same(t, s, n2, is2)
	}
	check()
	s.Close()
	s = x.reopen(t)
	check()
	// The originals may go, the copies stay.
	remove(t, s, n1, n2)
	same(t, s, c[0], was1)
	same(t, s, c[1], was2)
	remove(t, s, c...)
}

func (x *suite) copyOfCopy(t *testing.T, s backend.Store) {
	n, was := create(t, s)
	c := snapshot(t, s, n)
	d := snapshot(t, s, c[0])
	write(t, s, c[0], make([]byte, 4096), 4096)
	same(t, s, d[0], was)
	same(t, s, n, was)
	remove(t, s, c[0], d[0], n)
}

func (x *suite) discarded(t *testing.T, s backend.Store) {
	n, want := create(t, s)
	for last := range 5 {
		b, targets := steps(t, s, last, n)
		must(t, b.Discard(t.Context()))
		must(t, b.Discard(t.Context())) // it is gone
		if luns := list(t, s); slices.Contains(luns, targets[0]) {
			t.Errorf("discarded after step %d, its target is there", last)
		}
		want[0]++
		write(t, s, n, want[:1], 0)
		same(t, s, n, want)
	}
	remove(t, s, n)
}

// forgotten is what a process leaves that dies: the next removes the targets.
func (x *suite) forgotten(t *testing.T, s backend.Store) {
	n, want := create(t, s)
	for last := range 5 {
		b, targets := steps(t, s, last, n)
		b.Finish() // a process that dies lets go of its descriptors
		s = x.reopen(t)
		remove(t, s, targets...)
		if luns := list(t, s); slices.Contains(luns, targets[0]) {
			t.Errorf("forgotten after step %d and removed, its target is there", last)
		}
		want[0]++
		write(t, s, n, want[:1], 0)
		same(t, s, n, want)
	}
	remove(t, s, n)
}

func (x *suite) noSource(t *testing.T, s backend.Store) {
	if _, err := s.Begin(t.Context(), []backend.Source{{NAA: name(t), Size: size}}); code(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		t.Error(err)
	}
	if _, err := s.Descriptor(name(t), true, 1); code(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		t.Error(err)
	}
}

func (x *suite) holders(t *testing.T, s backend.Store) {
	n, _ := create(t, s)
	held := func(d time.Duration) []uint32 {
		t.Helper()
		h, err := s.WaitUnheld(t.Context(), n, d)
		must(t, err)
		return h
	}
	if h := held(0); len(h) != 0 {
		t.Error("held by", h)
	}
	f, err := s.Descriptor(n, false, 7)
	must(t, err)
	g, err := s.Descriptor(n, true, 3)
	must(t, err)
	if h := held(0); !slices.Equal(h, []uint32{3, 7}) {
		t.Error("held by", h)
	}
	dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	f.Close()
	g.Close()
	if h := held(0); !slices.Equal(h, []uint32{7}) {
		t.Error("passed on, held by", h)
	}
	unix.Close(dup)
	if h := held(time.Second); len(h) != 0 {
		t.Error("let go, held by", h)
	}
	remove(t, s, n)
}

func (x *suite) readOnly(t *testing.T, s backend.Store) {
	n, was := create(t, s)
	c := snapshot(t, s, n)
	f, err := s.Descriptor(c[0], true, 1)
	must(t, err)
	if _, err := f.Write([]byte("no")); err == nil {
		t.Error("written")
	}
	f.Close()
	// And opened for writing where the array says so.
	g, err := s.Descriptor(c[0], false, 1)
	must(t, err)
	if _, err := g.Write(was[:1]); err != nil {
		t.Error(err)
	}
	g.Close()
	same(t, s, c[0], was)
	remove(t, s, c[0], n)
}

func (x *suite) removeHeld(t *testing.T, s backend.Store) {
	n, want := create(t, s)
	f, err := s.Descriptor(n, true, 1)
	must(t, err)
	must(t, s.Remove(t.Context(), n))
	if slices.Contains(list(t, s), n) {
		t.Error("it is listed")
	}
	got := make([]byte, size)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Error("its holder reads something else:", err)
	}
	f.Close()
	remove(t, s, n)
}

func (x *suite) givenUp(t *testing.T, s backend.Store) {
	n, want := create(t, s)
	b, targets := steps(t, s, 2, n)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Commit(ctx); code(err) != vss.E_ABORT {
		t.Error(err)
	}
	if err := b.Persist(t.Context(), 0); code(err) != vss.VSS_E_BAD_STATE {
		t.Error(err)
	}
	must(t, b.Discard(t.Context()))
	same(t, s, n, want)
	write(t, s, n, want[:1], 0) // it is not stopped
	if slices.Contains(list(t, s), targets[0]) {
		t.Error("the target is there")
	}
	remove(t, s, n)
}

func (x *suite) room(t *testing.T, s backend.Store) {
	free := func() uint64 {
		t.Helper()
		sp, err := s.Space(t.Context())
		must(t, err)
		if sp.Free > sp.Total || sp.MetadataFree > sp.MetadataTotal || sp.Total == 0 {
			t.Fatalf("%+v", sp)
		}
		return sp.Free
	}
	// A filesystem gives back in the background, also what was removed before.
	settled := func() uint64 {
		last := free()
		for same := 0; same < 10; {
			time.Sleep(10 * time.Millisecond)
			if now := free(); now != last {
				last, same = now, 0
			} else {
				same++
			}
		}
		return last
	}
	before := settled()
	n, _ := create(t, s)
	c := snapshot(t, s, n)
	fill(t, s, n)
	if full := settled(); before-full < 2*size-size/4 {
		t.Errorf("%d bytes are taken for a LUN of %d and a copy of other content", int64(before-free()), size)
	}
	if got := s.Allocated(n); got < size {
		t.Errorf("allocated: %d", got)
	}
	remove(t, s, c[0], n)
	for until := time.Now().Add(5 * time.Second); before-min(free(), before) > size/8; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Errorf("%d bytes are not given back", before-free())
			break
		}
	}
}
