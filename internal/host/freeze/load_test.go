package freeze_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
)

// writers keep a filesystem busy until stopped. They block while it is frozen.
func writers(t *testing.T, v *volume, n int) (stop func()) {
	t.Helper()
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		path := filepath.Join(v.mount, "busy"+strconv.Itoa(i))
		wg.Go(func() {
			buf := make([]byte, 64<<10)
			for k := 0; ; k++ {
				select {
				case <-quit:
					return
				default:
				}
				f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
				if err != nil {
					t.Error(err)
					return
				}
				for range 8 {
					_, _ = f.Write(buf)
				}
				if k%3 == 0 {
					_ = f.Sync()
				}
				f.Close()
				if k%5 == 0 {
					_ = os.Remove(path)
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(quit); wg.Wait() })
}

// A filesystem under load, with discards, is quiet while it is frozen: the
// watch on its device must not see the tail of earlier I/O as a write.
func TestHoldUnderLoadIsNotMistakenForWrites(t *testing.T) {
	for _, tc := range []struct{ fsType, options string }{
		{"ext4", "discard"}, {"xfs", "discard"}, {"btrfs", "discard=async"},
	} {
		t.Run(tc.fsType, func(t *testing.T) {
			v := newVolume(t, tc.fsType)
			if err := unix.Mount("", v.mount, "", unix.MS_REMOUNT, tc.options); err != nil {
				t.Fatal(err)
			}
			fss := open(t, v)
			stop := writers(t, v, 3)
			defer stop()
			for range 8 {
				time.Sleep(20 * time.Millisecond)
				if err := fss[0].Sync(context.Background()); err != nil {
					t.Fatal(err)
				}
				g := startGuard(t, fss, freeze.Options{})
				mustFreeze(t, g)
				time.Sleep(30 * time.Millisecond)
				if r := g.Thaw(); r.Err != nil {
					t.Errorf("%v: %+v", r.Err, r.Filesystems)
				}
				g.Close()
			}
		})
	}
}

// A discard of somebody else breaks a hold, and one that the filesystem may have
// sent by itself does not.
func TestDiscardInHold(t *testing.T) {
	for _, options := range []string{"nodiscard", "discard"} {
		t.Run(options, func(t *testing.T) {
			v := newVolume(t, "ext4")
			if err := unix.Mount("", v.mount, "", unix.MS_REMOUNT, options); err != nil {
				t.Fatal(err)
			}
			fss := open(t, v)
			if err := fss[0].Sync(context.Background()); err != nil {
				t.Fatal(err)
			}
			g := startGuard(t, fss, freeze.Options{})
			mustFreeze(t, g)
			err := discard(v.loop, 8<<20, 1<<20)
			r := g.Thaw()
			if err != nil {
				t.Fatal(err)
			}
			if r.Filesystems[0].SectorsDiscarded != 2048 || (r.Err == nil) != (options == "discard") {
				t.Errorf("%v: %+v", r.Err, r.Filesystems)
			}
		})
	}
}

// discard tells a device that a range of it is not used.
func discard(device string, offset, length uint64) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	span := [2]uint64{offset, length}
	const blkDiscard = 0x1277
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkDiscard, uintptr(unsafe.Pointer(&span))); e != 0 {
		return e
	}
	return nil
}

// Whenever the guard is killed or stopped, nothing stays frozen, and a hold
// that was reported whole was whole.
func TestGuardTroubleAtAnyMoment(t *testing.T) {
	vs := []*volume{newVolume(t, "ext4"), newVolume(t, "xfs")}
	fss := open(t, vs...)
	rounds := 12
	if testing.Short() {
		rounds = 6
	}
	for i := range rounds {
		for _, v := range vs {
			v.write(t, 256<<10)
		}
		g := startGuard(t, fss, freeze.Options{Limit: time.Second})
		sig := []unix.Signal{unix.SIGKILL, unix.SIGSTOP}[i%2]
		after := time.Duration(rand.IntN(60_000)) * time.Microsecond
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(after)
			_ = unix.Kill(g.PID(), sig) // its number cannot be another's before Close
		}()
		err := g.Freeze(context.Background())
		var r freeze.Report
		if err == nil {
			time.Sleep(5 * time.Millisecond)
			r = g.Thaw()
		}
		<-done
		g.Close()
		for _, v := range vs {
			if v.wasFrozen() {
				t.Fatalf("signal %v after %v left %s frozen; freeze %v, thaw %+v", sig, after, v.mount, err, r)
			}
			if freeze.Quarantined(v.target(t).Dev) {
				t.Errorf("signal %v after %v left %s in quarantine", sig, after, v.mount)
			}
		}
	}
}
