package file

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a filesystem on a loop device")
	}
}

// newStore opens a store on an image of its own and takes it away again.
func newStore(t testing.TB) (*Store, Config) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	cfg := Config{Dir: filepath.Join(dir, "store"), Image: filepath.Join(dir, "store.img"), ImageSize: 1 << 30}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeForGood(t, s) })
	return s, cfg
}

// closeForGood waits for the last user of the store, so that no test leaves a
// mount behind.
func closeForGood(t testing.TB, s *Store) {
	t.Helper()
	for range 100 {
		if s.Close(); s.loop == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("store %s stays mounted on %s", s.dir, s.loop)
}

func newLUN(t testing.TB, s *Store, size uint64) lun.NAA {
	t.Helper()
	n := name(t)
	if err := s.Create(t.Context(), n, size); err != nil {
		t.Fatal(err)
	}
	return n
}

func name(t testing.TB) lun.NAA {
	t.Helper()
	n, err := identity.New("0123abcde")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func fill(t testing.TB, s *Store, n lun.NAA, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	rand.Read(b)
	f, err := os.OpenFile(s.Path(n), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func fragment(t testing.TB, s *Store, n lun.NAA, extents int) {
	t.Helper()
	f, err := os.OpenFile(s.Path(n), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range extents {
		if _, err := f.WriteAt(make([]byte, backend.Align), int64(i)*2*backend.Align); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func TestImageIsAdopted(t *testing.T) {
	s, cfg := newStore(t)
	n := newLUN(t, s, backend.MinSize)
	want := fill(t, s, n, backend.MinSize)

	// A LUN in use keeps the store mounted through a clean close.
	f, err := s.Descriptor(n, true, 7)
	if err != nil {
		t.Fatal(err)
	}
	loop := s.loop
	s.Close()
	if s.loop == "" {
		t.Fatal("the store was unmounted under an open LUN")
	}
	again, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if again.loop != loop {
		t.Fatalf("adopted %s, was %s", again.loop, loop)
	}
	if h, err := again.Holders(n); err != nil || !slices.Equal(h, []uint32{7}) {
		t.Fatalf("holders after a restart: %v, %v", h, err)
	}
	f.Close()
	closeForGood(t, again)
	s.loop = ""

	third, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer closeForGood(t, third)
	got, err := os.ReadFile(third.Path(n))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the LUN's content is lost: %v", err)
	}
}

func TestImageIsNeverFormattedAgain(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	img := filepath.Join(dir, "store.img")
	want := bytes.Repeat([]byte("precious"), 1<<16)
	if err := os.WriteFile(img, want, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Dir: filepath.Join(dir, "store"), Image: img})
	if err == nil || vss.AsError("", err).Remedy == "" {
		t.Fatalf("got %v", err)
	}
	if got, _ := os.ReadFile(img); !bytes.Equal(got, want) {
		t.Fatal("the image was overwritten")
	}
	if findLoop(statOf(t, img)) != "" {
		t.Fatal("a failed open left a loop device")
	}
}

func statOf(t *testing.T, path string) (dev, ino uint64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Dev, st.Ino
}

func TestNoMkfs(t *testing.T) {
	dir := on(t, "tmpfs")
	t.Setenv("PATH", t.TempDir())
	_, err := Open(t.Context(), Config{Dir: filepath.Join(dir, "store"), Image: filepath.Join(dir, "store.img")})
	if vss.CodeOf(err) != vss.VSS_E_PROVIDER_VETO || !strings.Contains(vss.AsError("", err).Remedy, "xfsprogs") {
		t.Fatalf("got %v", err)
	}
	_, err = Open(t.Context(), Config{Dir: filepath.Join(dir, "store")})
	if vss.CodeOf(err) != vss.VSS_E_PROVIDER_VETO || !strings.Contains(vss.AsError("", err).Remedy, "reflink=1") {
		t.Fatalf("without an image: %v", err)
	}
}

func TestHolders(t *testing.T) { onEach(t, holders) }

func holders(t *testing.T, s *Store) {
	n := newLUN(t, s, backend.MinSize)
	var files []*os.File
	for _, who := range []uint32{3, 0, 1 << 31, 4, 3, 5} {
		f, err := s.Descriptor(n, who%2 == 1, who)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if h, err := s.Holders(n); err != nil || !slices.Equal(h, []uint32{0, 3, 4, 5, 1 << 31}) {
		t.Fatalf("%v, %v", h, err)
	}
	files[0].Close() // 3 holds it twice
	files[1].Close()
	if h, _ := s.Holders(n); !slices.Equal(h, []uint32{3, 4, 5, 1 << 31}) {
		t.Fatalf("%v", h)
	}
	for _, f := range files[2:] {
		f.Close()
	}
	if h, err := s.WaitUnheld(t.Context(), n, 0); err != nil || len(h) != 0 {
		t.Fatalf("%v, %v", h, err)
	}
}

// The read-only flag a loop device got from an earlier user is not the store's.
func TestStaleReadOnlyFlag(t *testing.T) {
	needRoot(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(backend.MinSize); err != nil {
		t.Fatal(err)
	}
	for range 2 { // likely the same device twice
		dev, err := attachLoop(f)
		if err != nil {
			t.Fatal(err)
		}
		loop, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		ro, err := unix.IoctlGetInt(int(loop.Fd()), unix.BLKROGET)
		_ = unix.IoctlSetPointerInt(int(loop.Fd()), unix.BLKROSET, 1)
		_ = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
		loop.Close()
		if err != nil || ro != 0 {
			t.Fatalf("%s is read-only: %d, %v", dev, ro, err)
		}
	}
}

// A loop device holds the description it was given: the LUN is held until the
// device is detached, also when every process has closed its descriptor.
func TestLoopDeviceHoldsItsLUN(t *testing.T) { onEach(t, loopDeviceHoldsItsLUN) }

func loopDeviceHoldsItsLUN(t *testing.T, s *Store) {
	n := newLUN(t, s, backend.MinSize)
	fill(t, s, n, backend.MinSize)
	f, err := s.Descriptor(n, true, 42)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, unix.EBADF) {
		t.Fatalf("writing through a read-only descriptor: %v", err)
	}
	dev, err := attachLoop(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	loop, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	detach := func() { _ = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0); loop.Close() }
	if ro, err := unix.IoctlGetInt(int(loop.Fd()), unix.BLKROGET); err != nil || ro != 1 {
		detach()
		t.Fatalf("the device over a read-only descriptor is writable: %d, %v", ro, err)
	}
	if h, err := s.Holders(n); err != nil || !slices.Equal(h, []uint32{42}) {
		detach()
		t.Fatalf("%v, %v", h, err)
	}
	detach()
	if h, err := s.WaitUnheld(t.Context(), n, 2*time.Second); err != nil || len(h) != 0 {
		t.Fatalf("still held: %v, %v", h, err)
	}
}

func TestBatch(t *testing.T) { onEach(t, batch) }

func batch(t *testing.T, s *Store) {
	var sources []backend.Source
	var want [][]byte
	for range 5 {
		n := newLUN(t, s, 4*backend.MinSize)
		want = append(want, fill(t, s, n, backend.MinSize))
		sources = append(sources, backend.Source{NAA: n, Size: 4 * backend.MinSize})
	}
	b := begin(t, s, sources)
	targets := b.targets
	took, err := b.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range sources { // writes after the commit are not in the copy
		fill(t, s, p.NAA, backend.MinSize)
	}
	if err := b.Persist(t.Context(), took); err != nil {
		t.Fatal(err)
	}
	b.Finish()
	for i, n := range targets {
		got, err := os.ReadFile(s.Path(n))
		if err != nil || len(got) != 4*backend.MinSize || !bytes.Equal(got[:backend.MinSize], want[i]) {
			t.Fatalf("copy %d differs: %v", i, err)
		}
	}
	if s.Rate().Last() != took {
		t.Fatal("the last batch's time is not kept")
	}
}

func begin(t testing.TB, s *Store, sources []backend.Source) *Batch {
	t.Helper()
	var names []lun.NAA
	for range sources {
		names = append(names, name(t))
	}
	b, err := s.begin(sources)
	if err == nil {
		err = b.Count(t.Context())
	}
	if err == nil {
		err = b.MakeTargets(t.Context(), names)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBatchIsAllOrNothing(t *testing.T) { onEach(t, batchIsAllOrNothing) }

func batchIsAllOrNothing(t *testing.T, s *Store) {
	var sources []backend.Source
	for range 3 {
		sources = append(sources, backend.Source{NAA: newLUN(t, s, backend.MinSize), Size: backend.MinSize})
	}
	b := begin(t, s, sources)
	disarm, err := failpoint.Arm("array.commit.before-clone=2*error")
	if err != nil {
		t.Fatal(err)
	}
	defer disarm()
	if _, err := b.Commit(t.Context()); !errors.Is(err, failpoint.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	if err := b.Persist(t.Context(), 0); vss.CodeOf(err) != vss.VSS_E_BAD_STATE {
		t.Fatalf("half a batch was made durable: %v", err)
	}
	if err := b.Discard(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := b.Discard(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal("discarding twice:", err)
	}
	luns, others, err := s.List(t.Context())
	if err != nil || len(luns) != 3 || len(others) != 0 {
		t.Fatalf("left over: %v %v %v", luns, others, err)
	}
}

func TestExtentsArePredicted(t *testing.T) { onEach(t, extentsArePredicted) }

func extentsArePredicted(t *testing.T, s *Store) {
	n := newLUN(t, s, 64<<20)
	smooth := newLUN(t, s, 64<<20)
	fragment(t, s, n, 5000)
	fill(t, s, smooth, backend.MinSize)
	b := begin(t, s, []backend.Source{{NAA: smooth, Size: 64 << 20}, {NAA: n, Size: 64 << 20}})
	defer b.Discard(context.WithoutCancel(t.Context()))
	total, most, worst := b.Pieces()
	if worst != n || most != 5000 || total < 5001 || total > 5010 {
		t.Fatalf("total %d, most %d of %s; want 5000 of %s", total, most, worst, n)
	}
	took, err := b.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	predicted := b.Predict()
	t.Logf("5000 extents: predicted %v, took %v (%v an extent, %v a file, %d at a time)", predicted, took, s.Rate().Extent(), s.Rate().File(), s.Rate().Parallel())
	if took > 5*predicted || predicted > 20*took {
		t.Errorf("predicted %v, took %v", predicted, took)
	}
}

func TestCountHonoursContext(t *testing.T) { onEach(t, countHonoursContext) }

func countHonoursContext(t *testing.T, s *Store) {
	n := newLUN(t, s, backend.MinSize)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b, err := s.begin([]backend.Source{{NAA: n, Size: backend.MinSize}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Discard(context.WithoutCancel(t.Context()))
	// The flush of a clean file may win the race; what must not happen is
	// another error.
	if err := b.Count(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := b.Commit(ctx); vss.CodeOf(err) != vss.E_ABORT {
		t.Fatalf("committed for a caller that is gone: %v", err)
	}
}

func TestDevicesReachBelowTheImage(t *testing.T) {
	s, cfg := newStore(t)
	devs := s.Devices(t.Context())
	for _, path := range []string{cfg.Dir, filepath.Dir(cfg.Image)} {
		if dev, _ := statOf(t, path); devs[dev] == "" {
			t.Errorf("%s is not among %v", path, devs)
		}
	}
}

func TestRateBelievesSlowerAtOnce(t *testing.T) {
	r := &Rate{base: 50 * time.Microsecond, perExtent: 10_000, parallel: 1}
	before := r.Predict(1, 10_000)
	r.learn(1, 10_000, 400*time.Millisecond)
	if after := r.Predict(1, 10_000); after < 2*before {
		t.Fatalf("predicted %v, saw 400ms, now predicts %v", before, after)
	}
	slow := r.Predict(1, 10_000)
	r.learn(1, 10_000, 50*time.Millisecond)
	if after := r.Predict(1, 10_000); after >= slow || after < slow*8/10 {
		t.Fatalf("one fast batch moved %v to %v", slow, after)
	}
	r.learn(64, 64, 64*100*time.Microsecond)
	if f := r.File(); f != 75*time.Microsecond {
		t.Fatalf("a file costs %v", f)
	}
}
