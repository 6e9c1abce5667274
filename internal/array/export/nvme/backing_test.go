package nvme

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
)

// synced reports whether every write to the file is on disk when it ends.
func synced(t *testing.T, name string) bool {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Fatal(err)
	}
	return flags&fsSync != 0
}

// TestLoops: an original's device writes through to its file; a copy's refuses,
// whatever is asked of it; and a device is found again by who made it, for what
// it is.
func TestLoops(t *testing.T) {
	looptest.NeedRoot(t)
	file := filepath.Join(t.TempDir(), "lun")
	if err := os.WriteFile(file, bytes.Repeat([]byte("o"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDevices()
	l := export.LUN{NAA: naa(t, "fe"), File: file, Size: 1 << 20}
	t.Cleanup(func() {
		if err := d.Drop(l.NAA); err != nil {
			t.Error(err)
		}
	})
	dev, err := d.Make(l, false)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := newDevices().Make(l, false); err != nil || again != dev || !d.Is(dev, l, false) || d.Is(dev, l, true) {
		t.Errorf("made again it is %s, not %s: %v", again, dev, err)
	}
	if d.direct && !synced(t, file) {
		t.Error("what is acknowledged is not on disk")
	}
	write := func() error {
		f, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("new"), 0)
		return errors.Join(err, f.Sync(), f.Close())
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(file); !bytes.HasPrefix(b, []byte("newo")) {
		t.Errorf("the file begins with %q", b[:4])
	}
	if fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		if n, err := unix.IoctlGetInt(fd, unix.BLKSSZGET); n != 512 {
			t.Errorf("its blocks have %d bytes, over iSCSI 512: %v", n, err)
		}
		unix.Close(fd)
	}
	if all, err := d.All(); err != nil || len(all) != 1 || all[0] != l.NAA {
		t.Errorf("all: %v, %v", all, err)
	}
	if err := d.Drop(l.NAA); err != nil {
		t.Fatal(err)
	}
	if synced(t, file) || d.Is(dev, l, false) {
		t.Error("after it was dropped something is left")
	}

	// The part of a copy's that this machine's kernel has: the device-mapper
	// device over it is for the lab.
	o, err := d.attach(l, true)
	if err != nil {
		t.Fatal(err)
	}
	dev = d.node(o.number)
	if err := write(); err == nil {
		t.Error("a copy was written")
	}
	if _, found := d.find(l, true); !found {
		t.Error("it is not found")
	}
	other := l
	other.File = filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other.File, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, found := d.find(other, true); found {
		t.Error("the device of another file is taken for the LUN's")
	}
	l.Size *= 2
	if _, err := d.Make(l, false); err == nil {
		t.Error("a file that is smaller than the LUN is exported")
	}
}
