package filesystem_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// hangs mounts a filesystem whose server takes no request: what asks it waits
// until the server ends.
func hangs(t *testing.T) (at string, server *os.File) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	at = t.TempDir()
	if err := unix.Mount("hangs", at, "fuse", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())); err != nil {
		fuse.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		fuse.Close()
		_ = unix.Unmount(at, unix.MNT_DETACH)
	})
	return at, fuse
}

// TestUnmountHangs: a mount whose server does not answer is not waited for beyond
// the caller's time; who waits in the kernel is listed until that comes back, and
// what cannot be told is not taken for something else.
func TestUnmountHangs(t *testing.T) {
	at, fuse := hangs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := filesystem.Unmount(ctx, at, block.Device{Path: "/dev/loop99", Major: 7, Minor: 99})
	if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	ws := underway.Waits()
	if len(ws) != 1 || ws[0].Kind != underway.Mount || ws[0].Object != at || ws[0].Since.Before(begin) {
		t.Errorf("while it hangs: %+v", ws)
	}
	fuse.Close() // the server's end
	for deadline := time.Now().Add(10 * time.Second); len(underway.Waits()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it has come back, and is listed: %+v", underway.Waits())
		}
	}
	if err := filesystem.Unmount(t.Context(), at, block.Device{Path: "/dev/loop99", Major: 7, Minor: 99}); vss.CodeOf(err) != vss.VSS_E_UNEXPECTED {
		t.Errorf("what lies there does not answer: %v", err)
	}
}

// TestDeviceHangs: a device that does not answer is given up, and is listed for
// as long as somebody waits for it.
func TestDeviceHangs(t *testing.T) {
	at, server := hangs(t)
	device := filepath.Join(at, "disk")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := filesystem.Probe(ctx, device)
	if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	if ws := underway.Waits(); len(ws) != 1 || ws[0].Kind != underway.Device || ws[0].Object != device || ws[0].Since.Before(begin) {
		t.Errorf("while it hangs: %+v", ws)
	}
	server.Close()
	for deadline := time.Now().Add(10 * time.Second); len(underway.Waits()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it has come back, and is listed: %+v", underway.Waits())
		}
	}
}
