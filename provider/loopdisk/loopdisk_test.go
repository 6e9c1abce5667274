package loopdisk

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// disk is a file that may become a LUN; its devices go with the test.
func disk(t *testing.T) (path string, n lun.NAA) {
	t.Helper()
	if _, err := os.Stat("/dev/loop-control"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and loop devices")
	}
	path, n = filepath.Join(t.TempDir(), "file"), lun.NAA(vss.NewID())
	n[0] = 0x60
	if err := errors.Join(os.WriteFile(path, []byte("hello"), 0o600), os.Truncate(path, 1<<20)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Detach(n); err != nil || len(Devices(n)) != 0 {
			t.Errorf("left: %v, %v", Devices(n), err)
		}
	})
	return path, n
}

func attached(t *testing.T, path string, n lun.NAA, host string, write bool) string {
	t.Helper()
	if err := Attach(path, n, host, write); err != nil {
		t.Fatal(err)
	}
	ds := devices(n, host)
	if len(ds) != 1 {
		t.Fatalf("the LUN has the devices %v", ds)
	}
	return ds[0]
}

// A copy is read-only in the kernel, not by a flag that root could take away.
func TestCopiesAreReadOnly(t *testing.T) {
	path, n := disk(t)
	dev := attached(t, path, n, "host", false)
	b, err := os.ReadFile(dev)
	if err != nil || len(b) != 1<<20 || string(b[:5]) != "hello" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	f, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 0)
	w, err := os.OpenFile(dev, os.O_WRONLY|os.O_SYNC, 0)
	if err == nil {
		_, err = w.WriteAt([]byte("world"), 0)
		err = errors.Join(err, w.Sync(), w.Close())
	}
	if b, rerr := os.ReadFile(path); !errors.Is(err, unix.EPERM) || rerr != nil || string(b[:5]) != "hello" {
		t.Errorf("written: %v; the file says %q, %v", err, b[:5], rerr)
	}
}

// An original is written through its device, whoever had that before.
func TestOriginalsAreWritten(t *testing.T) {
	path, n := disk(t)
	dev := attached(t, path, n, "host", true)
	f, err := os.OpenFile(dev, os.O_WRONLY|os.O_SYNC, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("world"), 0)
		err = errors.Join(err, f.Close())
	}
	if b, rerr := os.ReadFile(path); err != nil || rerr != nil || string(b[:5]) != "world" {
		t.Errorf("%v %v", err, rerr)
	}
}

// Attached again it is the same device; each host has one of its own, also where
// one's name begins like the other's.
func TestOneDeviceForEachHost(t *testing.T) {
	path, n := disk(t)
	long := attached(t, path, n, "host2", false)
	short := attached(t, path, n, "host", false)
	if again := attached(t, path, n, "host", false); again != short || long == short {
		t.Errorf("%s, then %s; the other host has %s", short, again, long)
	}
	if ds := Devices(n); len(ds) != 2 {
		t.Errorf("the LUN has the devices %v", ds)
	}
}

// A device in use stays, and says so; one that is gone is no error.
func TestDetach(t *testing.T) {
	path, n := disk(t)
	dev := attached(t, path, n, "host", false)
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0) // as a mount has it
	if err != nil {
		t.Fatal(err)
	}
	if err := Detach(n); !errors.Is(err, unix.EBUSY) || len(Devices(n)) != 1 {
		t.Errorf("in use: %v, devices %v", err, Devices(n))
	}
	f.Close()
	for range 2 {
		if err := Detach(n); err != nil {
			t.Error(err)
		}
	}
	if err := Attach(path+"gone", n, "host", false); !errors.Is(err, os.ErrNotExist) || len(Devices(n)) != 0 {
		t.Errorf("a LUN without a file: %v", err)
	}
}

// Devices that come and go meanwhile are nobody's business.
func TestOthersComeAndGo(t *testing.T) {
	path, n := disk(t)
	other, o := disk(t)
	attached(t, path, n, "host", false)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			// Not under this package's lock, as another process would.
			if err := errors.Join(Attach(other, o, "host", false), Detach(o)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 50 {
		if ds := devices(n, ""); len(ds) != 1 {
			t.Errorf("the LUN has the devices %v", ds)
			break
		}
	}
	close(stop)
	wg.Wait()
}

// Many at once get a device each.
func TestManyAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	var ns []lun.NAA
	for range 8 {
		path, n := disk(t)
		ns = append(ns, n)
		wg.Go(func() {
			if err := Attach(path, n, "host", false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, n := range ns {
		for _, d := range Devices(n) {
			seen[d] = true
		}
	}
	if len(seen) != len(ns) {
		t.Errorf("%d LUNs have the devices %v", len(ns), seen)
	}
}
