// Package looptest gives tests real LUNs: files attached as loop devices by
// the loop initiator, and real filesystems on them. Everything it makes is
// taken apart when the test ends, however it ends, and nothing else is touched:
// other programs on the machine have loop devices too.
package looptest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// NeedRoot skips a test that works on devices where we are not root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: attaches loop devices and mounts filesystems")
	}
}

// File makes a sparse file of size bytes in a folder of the test's own.
func File(t testing.TB, size int64) string {
	t.Helper()
	return FileIn(t, t.TempDir(), size)
}

// FileIn makes a sparse file named after a new LUN, as an array does.
func FileIn(t testing.TB, dir string, size int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, NewNAA(t).String()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// NewNAA draws a LUN identifier.
func NewNAA(t testing.TB) lun.NAA {
	t.Helper()
	n := lun.NAA{0x60, 0x01, 0x40, 0x50}
	if _, err := rand.Read(n[4:]); err != nil {
		t.Fatal(err)
	}
	return n
}

// NewHostTag draws the tag of a host of the test's own.
func NewHostTag(t testing.TB) string {
	t.Helper()
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return block.HostTag(hex.EncodeToString(b))
}

// Files is a loop.Target that opens files.
type Files struct {
	mu     sync.Mutex
	luns   map[lun.NAA]file
	closed []lun.NAA

	// Change, if set, may spoil what is about to be returned.
	Change func(*loop.Opened)
}

type file struct {
	path     string
	readOnly bool
}

// Add makes a file a LUN.
func (f *Files) Add(naa lun.NAA, path string, readOnly bool) lun.Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.luns == nil {
		f.luns = make(map[lun.NAA]file)
	}
	f.luns[naa] = file{path, readOnly}
	return Info(naa)
}

// Info is a LUN with nothing but a name.
func Info(naa lun.NAA) lun.Info {
	return lun.Info{Version: lun.InfoVersion, StorageIDs: []lun.StorageID{naa.StorageID()}}
}

// Closed lists what CloseLUNs was told.
func (f *Files) Closed() []lun.NAA {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]lun.NAA(nil), f.closed...)
}

// OpenLUNs implements loop.Target; LUNs it does not have are left out.
func (f *Files) OpenLUNs(_ context.Context, naas []lun.NAA) ([]loop.Opened, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []loop.Opened
	for _, naa := range naas {
		l, ok := f.luns[naa]
		if !ok {
			continue
		}
		mode := unix.O_RDWR
		if l.readOnly {
			mode = unix.O_RDONLY
		}
		fd, err := unix.Open(l.path, mode|unix.O_CLOEXEC, 0)
		if err != nil {
			return out, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return out, err
		}
		o := loop.Opened{NAA: naa, FD: fd, Size: uint64(st.Size), ReadOnly: l.readOnly, Dev: st.Dev, Ino: st.Ino}
		if f.Change != nil {
			f.Change(&o)
		}
		out = append(out, o)
	}
	return out, nil
}

// CloseLUNs implements loop.Target.
func (f *Files) CloseLUNs(_ context.Context, naas []lun.NAA) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = append(f.closed, naas...)
	return nil
}

// Host is a host with an array of its own.
type Host struct {
	Tag       string
	Files     *Files
	Initiator *loop.Initiator
}

// NewHost makes a host that is known to no other test.
func NewHost(t testing.TB) *Host {
	t.Helper()
	NeedRoot(t)
	h := &Host{Tag: NewHostTag(t), Files: &Files{}}
	h.Initiator = loop.New(h.Tag, h.Files)
	t.Cleanup(func() {
		// Whatever a failing test left attached.
		for _, dev := range h.Attached(t) {
			Detach(t, h.Initiator, dev)
		}
	})
	return h
}

// Attached lists the host's LUNs that are attached.
func (h *Host) Attached(t testing.TB) []block.Device {
	t.Helper()
	all, err := block.Loops(context.Background(), h.Tag)
	if err != nil {
		t.Error(err)
	}
	var mine []block.Device
	for _, d := range all {
		if d.Loop.HostTag == h.Tag {
			mine = append(mine, d)
		}
	}
	return mine
}

// Attach attaches a file as a new LUN until the test ends.
func (h *Host) Attach(t testing.TB, path string, readOnly bool) block.Device {
	t.Helper()
	info := h.Files.Add(NewNAA(t), path, readOnly)
	devs, err := h.Initiator.Rescan(t.Context(), []lun.Info{info})
	if err != nil || len(devs) != 1 {
		t.Fatalf("attach %s: %v, %v", path, devs, err)
	}
	t.Cleanup(func() { Detach(t, h.Initiator, devs[0]) })
	return devs[0]
}

// Detach detaches a device; it is for use in cleanups.
func Detach(t testing.TB, i *loop.Initiator, dev block.Device) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := i.Detach(ctx, dev)
	// A namespace that a test beside us makes copies our mounts for a moment.
	for deadline := time.Now().Add(5 * time.Second); errors.Is(err, vss.VSS_E_VOLUME_IN_USE) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		err = i.Detach(ctx, dev)
	}
	if err != nil {
		t.Errorf("detach %s: %v", dev.Path, err)
	}
}

// Run runs a program and fails the test if it fails.
func Run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// Mkfs makes a filesystem on a device or file.
func Mkfs(t testing.TB, fstype, path string, args ...string) {
	t.Helper()
	quiet := map[string][]string{"xfs": {"-q", "-f"}, "btrfs": {"-q", "-f"}}[fstype]
	if quiet == nil {
		quiet = []string{"-q", "-F"}
	}
	Run(t, "mkfs."+fstype, append(append(quiet, args...), path)...)
}

// Mount mounts a device on a new folder until the test ends.
func Mount(t testing.TB, fstype, path, data string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(path, dir, fstype, 0, data); err != nil {
		t.Fatalf("mount %s: %v", path, err)
	}
	t.Cleanup(func() { Unmount(t, dir) })
	return dir
}

// Unmount unmounts a folder, if anything is mounted there.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	var err error
	for range 50 {
		if err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != unix.EBUSY {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil && err != unix.EINVAL && err != unix.ENOENT {
		t.Errorf("unmount %s: %v", dir, err)
	}
}

// Store makes a mounted XFS on which files can be cloned in an instant.
func (h *Host) Store(t testing.TB) string {
	t.Helper()
	dev := h.Attach(t, File(t, 4<<30), false)
	Mkfs(t, "xfs", dev.Path)
	return Mount(t, "xfs", dev.Path, "")
}

// Freezing ioctls of the kernel's user interface.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// CloneFrozen freezes the filesystem mounted at dir, clones a file with
// FICLONE and thaws: a shadow copy at its smallest.
func CloneFrozen(t testing.TB, dir, from, to string) {
	t.Helper()
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	src, err := unix.Open(from, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(src)
	dst, err := unix.Open(to, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dst)
	if err := unix.Syncfs(root); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.IoctlSetInt(root, fiThaw, 0) }() // before the freeze, whatever comes
	if err := unix.IoctlSetInt(root, fiFreeze, 0); err != nil {
		t.Fatalf("freeze %s: %v", dir, err)
	}
	cloneErr := unix.IoctlFileClone(dst, src)
	if err := unix.IoctlSetInt(root, fiThaw, 0); err != nil {
		t.Fatalf("thaw %s: %v", dir, err)
	}
	if cloneErr != nil {
		t.Fatalf("clone: %v", cloneErr)
	}
}
