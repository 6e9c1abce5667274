package loop_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// openFilesAre asserts that no more files are open than before, at the latest when
// a look at the disks that another test began is over.
func openFilesAre(t *testing.T, before int) {
	t.Helper()
	after := openFiles(t)
	for end := time.Now().Add(5 * time.Second); after > before && time.Now().Before(end); after = openFiles(t) {
		time.Sleep(10 * time.Millisecond)
	}
	if after > before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

func TestAttachAndDetach(t *testing.T) {
	h := looptest.NewHost(t)
	path := looptest.File(t, 8*mib)
	naa := looptest.NewNAA(t)
	info := h.Files.Add(naa, path, false)
	before := openFiles(t)

	devs, err := h.Initiator.Rescan(t.Context(), []lun.Info{info})
	if err != nil || len(devs) != 1 {
		t.Fatalf("Rescan = %v, %v", devs, err)
	}
	dev := devs[0]
	if dev.Size != 8*mib || dev.ReadOnly || dev.DiskSeq == 0 || dev.Loop.NAA != naa || dev.Loop.HostTag != h.Tag {
		t.Errorf("device %+v, loop %+v", dev, dev.Loop)
	}
	if got, ok := dev.LUN.NAA(); !ok || got != naa {
		t.Errorf("LUN identity %v", dev.LUN)
	}

	// Again: the same device, nothing opened.
	again, err := h.Initiator.Rescan(t.Context(), []lun.Info{info, info})
	if err != nil || len(again) != 1 || again[0].DiskSeq != dev.DiskSeq {
		t.Errorf("second Rescan = %v, %v", again, err)
	}

	if err := h.Initiator.Detach(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	if left := h.Attached(t); len(left) != 0 {
		t.Errorf("still attached: %v", left)
	}
	if got := h.Files.Closed(); !slices.Equal(got, []lun.NAA{naa}) {
		t.Errorf("closed %v", got)
	}
	if err := h.Initiator.Detach(t.Context(), dev); err != nil {
		t.Errorf("second Detach: %v", err)
	}
	openFilesAre(t, before)
}

func TestReadOnlyHolds(t *testing.T) {
	h := looptest.NewHost(t)
	dev := h.Attach(t, looptest.File(t, mib), true)
	if !dev.ReadOnly || !dev.Loop.ReadOnly {
		t.Errorf("device %+v", dev)
	}
	if err := block.SetReadOnly(t.Context(), dev, false); !errors.Is(err, vss.E_ACCESSDENIED) {
		t.Errorf("clearing read-only = %v", err)
	}
	if f, err := block.Open(t.Context(), dev, unix.O_RDWR); !errors.Is(err, vss.E_ACCESSDENIED) {
		if err == nil {
			f.Close()
		}
		t.Errorf("open for writing = %v", err)
	}
	f, err := os.OpenFile(dev.Path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, 4096), 0)
	if err == nil {
		err = f.Sync()
	}
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("write = %v", err)
	}
}

// TestReadOnlyFlagIsNotInherited: BLKROSET outlives an attachment. A device
// that was an imported copy must take writes again when it is somebody's
// original, whether it was detached in good order or by a crash.
func TestReadOnlyFlagIsNotInherited(t *testing.T) {
	h := looptest.NewHost(t)
	for i := range 6 {
		ro := h.Attach(t, looptest.File(t, mib), true)
		if err := block.SetReadOnly(t.Context(), ro, true); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := h.Initiator.Detach(t.Context(), ro); err != nil {
				t.Fatal(err)
			}
		} else { // nobody clears the flag
			f, err := block.Open(t.Context(), ro, unix.O_RDONLY)
			if err != nil {
				t.Fatal(err)
			}
			_, err = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD)
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
		rw := h.Attach(t, looptest.File(t, mib), false)
		f, err := block.Open(t.Context(), rw, unix.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(make([]byte, 4096), 0)
		if cerr := errors.Join(err, f.Sync(), f.Close()); cerr != nil {
			t.Fatalf("%s, which was %s read-only before: %v", rw.Path, ro.Path, cerr)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	h := looptest.NewHost(t)
	var infos []lun.Info
	for range 8 {
		infos = append(infos, h.Files.Add(looptest.NewNAA(t), looptest.File(t, mib), false))
	}
	// Two callers at once must not attach anything twice, and another host on
	// the machine takes devices from under us.
	other := looptest.NewHost(t)
	otherInfo := other.Files.Add(looptest.NewNAA(t), looptest.File(t, mib), false)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			devs, err := h.Initiator.Rescan(t.Context(), infos)
			if err != nil || len(devs) != len(infos) {
				t.Errorf("Rescan = %d devices, %v", len(devs), err)
			}
		})
	}
	wg.Go(func() {
		if _, err := other.Initiator.Rescan(t.Context(), []lun.Info{otherInfo}); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if got := len(h.Attached(t)); got != len(infos) {
		t.Errorf("%d attached, want %d", got, len(infos))
	}
}

func TestPartialSuccess(t *testing.T) {
	h := looptest.NewHost(t)
	good := h.Files.Add(looptest.NewNAA(t), looptest.File(t, mib), false)
	masked := looptest.Info(looptest.NewNAA(t))
	nameless := lun.Info{Version: lun.InfoVersion}
	devs, err := h.Initiator.Rescan(t.Context(), []lun.Info{masked, good, nameless})
	if len(devs) != 1 {
		t.Errorf("devices %v", devs)
	}
	if !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("error %v", err)
	}
}

func TestWrongDescriptorIsRefused(t *testing.T) {
	for name, change := range map[string]func(*loop.Opened){
		"inode": func(o *loop.Opened) { o.Ino++ },
		"size":  func(o *loop.Opened) { o.Size += 512 },
	} {
		t.Run(name, func(t *testing.T) {
			h := looptest.NewHost(t)
			naa := looptest.NewNAA(t)
			info := h.Files.Add(naa, looptest.File(t, mib), false)
			h.Files.Change = change
			before := openFiles(t)
			devs, err := h.Initiator.Rescan(t.Context(), []lun.Info{info})
			if err == nil || len(devs) != 0 {
				t.Errorf("Rescan = %v, %v", devs, err)
			}
			if got := h.Files.Closed(); !slices.Equal(got, []lun.NAA{naa}) {
				t.Errorf("closed %v", got)
			}
			if left := h.Attached(t); len(left) != 0 {
				t.Errorf("left attached: %v", left)
			}
			openFilesAre(t, before)
		})
	}
}

func TestDetachRefusesMounted(t *testing.T) {
	h := looptest.NewHost(t)
	dev := h.Attach(t, looptest.File(t, 16*mib), false)
	looptest.Mkfs(t, "ext4", dev.Path)
	dir := looptest.Mount(t, "ext4", dev.Path, "")
	if err := h.Initiator.Detach(t.Context(), dev); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Fatalf("Detach of a mounted device = %v", err)
	}
	// Not even lazily: it must still be there after the unmount.
	if err := os.WriteFile(dir+"/x", []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
	looptest.Unmount(t, dir)
	if err := block.Verify(dev); err != nil {
		t.Errorf("after unmount: %v", err)
	}
}

func TestDetachSaysWhenItIsLazy(t *testing.T) {
	h := looptest.NewHost(t)
	dev := h.Attach(t, looptest.File(t, mib), false)
	reader, err := os.Open(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	hasty := loop.New(h.Tag, h.Files, loop.WithPatience(50*time.Millisecond))
	if err := hasty.Detach(t.Context(), dev); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Fatalf("Detach with a reader = %v", err)
	}
	if got := h.Files.Closed(); len(got) != 0 {
		t.Errorf("the array was told that %v are closed", got)
	}
	reader.Close()
	if err := h.Initiator.Detach(t.Context(), dev); err != nil {
		t.Errorf("Detach afterwards = %v", err)
	}
	if len(h.Attached(t)) != 0 {
		t.Error("still attached")
	}
}

func TestDetachOfAnotherHostsDevice(t *testing.T) {
	a, b := looptest.NewHost(t), looptest.NewHost(t)
	dev := a.Attach(t, looptest.File(t, mib), false)
	if err := b.Initiator.Detach(t.Context(), dev); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("Detach = %v", err)
	}
	if err := block.Verify(dev); err != nil {
		t.Error(err)
	}
}

func TestDetachLeavesReplacementAlone(t *testing.T) {
	h := looptest.NewHost(t)
	dev := h.Attach(t, looptest.File(t, mib), false)
	stale := dev
	stale.DiskSeq--
	stale.Loop = nil
	if err := h.Initiator.Detach(t.Context(), stale); err != nil {
		t.Errorf("Detach of a stale record = %v", err)
	}
	if err := block.Verify(dev); err != nil {
		t.Errorf("the device that took the place: %v", err)
	}
	if got := h.Files.Closed(); len(got) != 0 {
		t.Errorf("closed %v, although the LUN is attached", got)
	}
	// A record as the catalogue keeps it, without the loop's details, will do.
	bare := dev
	bare.Loop = nil
	if err := h.Initiator.Detach(t.Context(), bare); err != nil {
		t.Error(err)
	}
	if len(h.Attached(t)) != 0 {
		t.Error("still attached")
	}
}

// TestDetachOfAReusedNumber: another disk has the number by now, and is mounted
// from it. The record's device is gone, not in use.
func TestDetachOfAReusedNumber(t *testing.T) {
	h := looptest.NewHost(t)
	was := h.Attach(t, looptest.File(t, mib), true)
	if err := h.Initiator.Detach(t.Context(), was); err != nil {
		t.Fatal(err)
	}
	var now block.Device
	for range 20 { // the kernel gives the lowest number that is free
		if now = h.Attach(t, looptest.File(t, 16*mib), false); now.Minor == was.Minor {
			break
		}
	}
	if now.Minor != was.Minor || now.DiskSeq == was.DiskSeq {
		t.Skipf("the number was not used again: %s, then %s", was.Path, now.Path)
	}
	looptest.Mkfs(t, "ext4", now.Path)
	dir := looptest.Mount(t, "ext4", now.Path, "")
	bare := was
	bare.Loop = nil
	for _, record := range []block.Device{was, bare} {
		if err := h.Initiator.Detach(t.Context(), record); err != nil {
			t.Errorf("Detach = %v", err)
		}
		if _, err := block.Open(t.Context(), record, unix.O_RDONLY|unix.O_EXCL); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			t.Errorf("Open = %v", err)
		}
	}
	if err := os.WriteFile(dir+"/x", []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
	if err := h.Initiator.Detach(t.Context(), now); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Errorf("Detach of the disk that is mounted = %v", err)
	}
}

// TestAbandon: a device that is mounted, in nobody's sight any more, and read goes
// when its last user does. Until then it is not the LUN's, which can be attached
// anew.
func TestAbandon(t *testing.T) {
	h := looptest.NewHost(t)
	dev := h.Attach(t, looptest.File(t, 16*mib), false)
	looptest.Mkfs(t, "ext4", dev.Path)
	dir := looptest.Mount(t, "ext4", dev.Path, "")
	if err := os.WriteFile(dir+"/x", []byte("still here"), 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(dir + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := filesystem.UnmountLazily(t.Context(), dir, dev); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still to be found: %v", err)
	}
	if err := h.Initiator.Detach(t.Context(), dev); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Fatalf("Detach = %v", err)
	}
	bare := dev // as the catalogue keeps it
	bare.Loop = nil
	for range 2 {
		if err := h.Initiator.Abandon(t.Context(), bare); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.Files.Closed(); !slices.Contains(got, dev.Loop.NAA) {
		t.Errorf("closed %v", got)
	}
	buf := make([]byte, 10)
	if _, err := reader.ReadAt(buf, 0); err != nil || string(buf) != "still here" {
		t.Errorf("read %q, %v", buf, err)
	}
	if here, err := block.Attached(dev); err != nil || !here {
		t.Errorf("gone from under its reader: %v, %v", here, err)
	}
	reader.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		here, err := block.Attached(dev)
		if err != nil {
			t.Fatal(err)
		}
		if !here {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not go with its last user")
		}
	}
	if err := h.Initiator.Abandon(t.Context(), bare); err != nil {
		t.Errorf("Abandon of what is gone = %v", err)
	}
	// What is another host's, or took the place, is left alone.
	other := looptest.NewHost(t).Attach(t, looptest.File(t, mib), false)
	if err := h.Initiator.Abandon(t.Context(), other); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("Abandon of another host's = %v", err)
	}
	mine := h.Attach(t, looptest.File(t, mib), false)
	stale := mine
	stale.DiskSeq--
	stale.Loop = nil
	if err := h.Initiator.Abandon(t.Context(), stale); err != nil {
		t.Errorf("Abandon of a stale record = %v", err)
	}
	for _, d := range []block.Device{other, mine} {
		if err := block.Verify(d); err != nil {
			t.Error(err)
		}
	}
}

func TestCancelled(t *testing.T) {
	h := looptest.NewHost(t)
	info := h.Files.Add(looptest.NewNAA(t), looptest.File(t, mib), false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if devs, err := h.Initiator.Rescan(ctx, []lun.Info{info}); !errors.Is(err, context.Canceled) || len(devs) != 0 {
		t.Errorf("Rescan = %v, %v", devs, err)
	}
	if len(h.Attached(t)) != 0 {
		t.Error("attached all the same")
	}
}

// What is written through the device must be what is in the file, and what is
// read through another attachment of it: an export that lies is worse than
// none.
func TestBytesAreTheSame(t *testing.T) {
	h := looptest.NewHost(t)
	const size = 16 * mib
	for _, store := range []string{"plain", "xfs"} {
		t.Run(store, func(t *testing.T) {
			dir := t.TempDir()
			if store == "xfs" {
				dir = h.Store(t)
			}
			path := looptest.FileIn(t, dir, size)
			dev := h.Attach(t, path, false)
			want := make([]byte, size)
			rnd := rand.New(rand.NewPCG(1, 2))
			f, err := block.Open(t.Context(), dev, unix.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			for range 800 {
				// Sizes and places that are no multiple of anything.
				n := 1 + rnd.IntN(20000)
				off := rnd.IntN(size - n)
				for i := range want[off : off+n] {
					want[off+i] = byte(rnd.Uint32())
				}
				if _, err := f.WriteAt(want[off:off+n], int64(off)); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := h.Initiator.Detach(t.Context(), dev); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatal("the file differs from what was written to the device")
			}
			copyDev := h.Attach(t, path, true)
			got, err = os.ReadFile(copyDev.Path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatal("the device differs from what was written")
			}
		})
	}
}
