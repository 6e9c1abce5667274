package file

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// kinds are the filesystems that hold a store.
var kinds = []struct {
	name string
	open func(testing.TB) *Store
}{
	{"own image", func(t testing.TB) *Store { s, _ := newStore(t); return s }},
	{"xfs", func(t testing.TB) *Store { return openOn(t, on(t, "xfs", "-m", "reflink=1")) }},
	{"btrfs", func(t testing.TB) *Store { return openOn(t, on(t, "btrfs")) }},
}

// onEach runs a test on a store of every kind.
func onEach(t *testing.T, test func(*testing.T, *Store)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k.open(t)) })
	}
}

// on mounts a new filesystem until the test ends.
func on(t testing.TB, fstype string, mkfs ...string) string {
	t.Helper()
	if fstype == "tmpfs" {
		needRoot(t)
		return looptest.Mount(t, fstype, fstype, "size=1g")
	}
	dev := looptest.NewHost(t).Attach(t, looptest.File(t, 1<<30), false)
	looptest.Mkfs(t, fstype, dev.Path, mkfs...)
	return looptest.Mount(t, fstype, dev.Path, "")
}

// openOn opens a store in a folder whose filesystem can do without an image.
func openOn(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: filepath.Join(dir, "store"), Image: filepath.Join(dir, "store.img")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeForGood(t, s) })
	if s.Image() != "" {
		t.Fatalf("%s got an image", dir)
	}
	return s
}

// A filesystem that cannot share blocks gets an image, whatever it is.
func TestImageWhereNothingReflinks(t *testing.T) {
	for _, fs := range [][]string{{"ext4"}, {"xfs", "-m", "reflink=0"}, {"tmpfs"}} {
		t.Run(strings.Join(fs, " "), func(t *testing.T) {
			dir := on(t, fs[0], fs[1:]...)
			cfg := Config{Dir: filepath.Join(dir, "store"), Image: filepath.Join(dir, "store.img")}
			if _, err := Open(t.Context(), Config{Dir: cfg.Dir}); vss.CodeOf(err) != vss.VSS_E_PROVIDER_VETO {
				t.Fatalf("it needs no image: %v", err)
			}
			s, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeForGood(t, s) })
			if s.Image() != cfg.Image {
				t.Fatalf("its image is %q", s.Image())
			}
			batch(t, s)
			devs := s.Devices(t.Context())
			if dev, _ := statOf(t, dir); devs[dev] == "" {
				t.Errorf("the filesystem below the image is not among %v", devs)
			}
		})
	}
}

// What Persist has returned for is there after a power failure. The disk at
// that instant is the backing file: nothing of the filesystem's own memory is
// in it.
func TestPersistSurvivesPowerFailure(t *testing.T) {
	for _, fs := range []string{"xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			disk := looptest.File(t, 1<<30)
			cut := disk + "-cut"
			var targets []lun.NAA
			var want [][]byte
			t.Run("before", func(t *testing.T) {
				dev := looptest.NewHost(t).Attach(t, disk, false)
				looptest.Mkfs(t, fs, dev.Path)
				s := openOn(t, looptest.Mount(t, fs, dev.Path, ""))
				var sources []backend.Source
				for range 3 {
					n := newLUN(t, s, 4*backend.MinSize)
					want = append(want, fill(t, s, n, backend.MinSize))
					sources = append(sources, backend.Source{NAA: n, Size: 4 * backend.MinSize})
				}
				b := begin(t, s, sources)
				targets = b.targets
				took, err := b.Commit(t.Context())
				if err == nil {
					err = b.Persist(t.Context(), took)
				}
				if err != nil {
					t.Fatal(err)
				}
				looptest.Run(t, "cp", "--sparse=always", disk, cut)
				b.Finish()
			})
			dev := looptest.NewHost(t).Attach(t, cut, false)
			s := openOn(t, looptest.Mount(t, fs, dev.Path, ""))
			for i, n := range targets {
				got, err := os.ReadFile(s.Path(n))
				if err != nil || len(got) != 4*backend.MinSize || !bytes.Equal(got[:backend.MinSize], want[i]) {
					t.Errorf("copy %d is lost: %d bytes, %v", i, len(got), err)
				}
			}
		})
	}
}

// Extents that lie one behind the other are cloned one by one; FIEMAP shows
// them as one. What the array recommends brings them together.
func TestBtrfsCountsWhatIsCloned(t *testing.T) {
	s := openOn(t, on(t, "btrfs"))
	const extents = 1500 // more than one answer of the kernel holds
	n := newLUN(t, s, 16<<20)
	f, err := os.OpenFile(s.Path(n), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range extents {
		if _, err := f.WriteAt(make([]byte, backend.Align), int64(i)*backend.Align); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			t.Fatal(err)
		}
	}
	counted := func() uint64 {
		t.Helper()
		b := begin(t, s, []backend.Source{{NAA: n, Size: 16 << 20}})
		if _, err := b.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Finish() // the copy stays: what is defragmented has shared blocks
		total, _, _ := b.Pieces()
		return total
	}
	total := counted()
	shown, err := countExtents(int(f.Fd()))
	if err != nil || shown >= extents {
		t.Fatalf("FIEMAP shows %d, %v: there is nothing to test", shown, err)
	}
	if total < extents || total > extents+2 {
		t.Errorf("counted %d, want %d; FIEMAP shows %d", total, extents, shown)
	}
	looptest.Run(t, "sh", "-c", s.defragment(n))
	if after := counted(); after > extents/10 {
		t.Errorf("%d of %d extents are left by %s", after, extents, s.defragment(n))
	}
}

// A LUN is written in place: what is written again is the same extents.
func TestBtrfsWritesInPlace(t *testing.T) {
	dir := on(t, "btrfs")
	looptest.Run(t, "chattr", "+c", dir) // inherited, and not to be had together with writing in place
	s := openOn(t, dir)
	n := newLUN(t, s, 16<<20)
	fill(t, s, n, 4*backend.MinSize)
	f, err := os.OpenFile(s.Path(n), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := func() uint64 {
		t.Helper()
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		c, err := countItems(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := count()
	for i := range 200 {
		if _, err := f.WriteAt([]byte("again"), int64(i)*4*backend.Align); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); before == 0 || after != before {
		t.Errorf("%d extents became %d", before, after)
	}
}

// LUNs of both kinds, with checksums and without, are copied: one that was
// moved here keeps its kind.
func TestBtrfsClonesBothKinds(t *testing.T) {
	s := openOn(t, on(t, "btrfs"))
	moved := newLUN(t, s, backend.MinSize)
	if err := os.Remove(s.Path(moved)); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("moved..."), backend.MinSize/8)
	elsewhere := filepath.Join(s.Dir(), "elsewhere")
	if err := os.WriteFile(elsewhere, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(elsewhere, s.Path(moved)); err != nil {
		t.Fatal(err)
	}
	made := newLUN(t, s, backend.MinSize)
	also := fill(t, s, made, backend.MinSize)
	b := begin(t, s, []backend.Source{{NAA: moved, Size: backend.MinSize}, {NAA: made, Size: backend.MinSize}})
	defer b.Discard(context.WithoutCancel(t.Context()))
	if _, err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, content := range [][]byte{want, also} {
		if got, err := os.ReadFile(s.Path(b.targets[i])); err != nil || !bytes.Equal(got, content) {
			t.Errorf("copy %d differs: %v", i, err)
		}
	}
}

// A store in a subvolume must not be frozen through a mount of another one.
func TestBtrfsDevicesOfAllSubvolumes(t *testing.T) {
	dir := on(t, "btrfs")
	sub := filepath.Join(dir, "sub")
	looptest.Run(t, "btrfs", "subvolume", "create", sub)
	s := openOn(t, sub)
	devs := s.Devices(t.Context())
	for _, path := range []string{sub, dir, os.TempDir()} {
		dev, _ := statOf(t, path)
		if devs[dev] == "" {
			t.Errorf("%s, %x, is not among %x", path, dev, devs)
		}
	}
}

// Without the right to count extents there is no store on btrfs.
func TestBtrfsNeedsRoot(t *testing.T) {
	dir := on(t, "btrfs")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, fewer [2]unix.CapUserData
	if err := unix.Capget(&hdr, &all[0]); err != nil {
		t.Fatal(err)
	}
	fewer = all
	fewer[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	if err := unix.Capset(&hdr, &fewer[0]); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{Dir: filepath.Join(dir, "store")})
	if rerr := unix.Capset(&hdr, &all[0]); rerr != nil {
		t.Fatal(rerr)
	}
	if err == nil {
		s.Close()
	}
	if vss.CodeOf(err) != vss.E_ACCESSDENIED || !strings.Contains(vss.AsError("", err).Remedy, "root") {
		t.Fatalf("got %v", err)
	}
}
