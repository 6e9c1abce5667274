package freeze_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/freeze/freezetest"
)

const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// volume is a real filesystem on a loop device, and a descriptor opened before
// anything is frozen: the only way to ask and to thaw afterwards.
type volume struct {
	fsType, mount, image, loop string
	keeper                     int
}

var sizes = map[string]int64{"ext4": 48 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}

// onEach runs a test once for each kind of filesystem.
func onEach(t *testing.T, test func(t *testing.T, fsType string)) {
	t.Helper()
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) { test(t, fsType) })
	}
}

// oneOfEach is a volume of each kind, for a test that holds them together.
func oneOfEach(t *testing.T) []*volume {
	t.Helper()
	return []*volume{newVolume(t, "ext4"), newVolume(t, "xfs"), newVolume(t, "btrfs")}
}

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: it mounts and freezes real filesystems")
	}
}

func run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func newVolume(tb testing.TB, fsType string) *volume {
	tb.Helper()
	needRoot(tb)
	return newVolumeIn(tb, fsType, tb.TempDir(), sizes[fsType])
}

func newVolumeIn(tb testing.TB, fsType, dir string, size int64) *volume {
	tb.Helper()
	v := &volume{fsType: fsType, mount: filepath.Join(dir, "mnt"), image: filepath.Join(dir, "image"), keeper: -1}
	f, err := os.Create(v.image)
	if err != nil {
		tb.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		tb.Fatal(err)
	}
	f.Close()
	if err := os.Mkdir(v.mount, 0o755); err != nil {
		tb.Fatal(err)
	}
	args := map[string][]string{
		"ext4":  {"-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"},
		"xfs":   {"-q", "-f"},
		"btrfs": {"-q", "-f"},
	}[fsType]
	run(tb, "mkfs."+fsType, append(args, v.image)...)
	v.loop = run(tb, "losetup", "--find", "--show", v.image)
	run(tb, "blockdev", "--setrw", v.loop) // its last user may have left it read-only
	tb.Cleanup(func() { run(tb, "losetup", "--detach", v.loop) })
	if err := unix.Mount(v.loop, v.mount, fsType, 0, ""); err != nil {
		tb.Fatalf("mount %s: %v", fsType, err)
	}
	tb.Cleanup(func() { v.remove(tb) })
	if v.keeper, err = unix.Open(v.mount, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		tb.Fatal(err)
	}
	return v
}

// remove thaws and unmounts, waiting for descriptors of others to close.
func (v *volume) remove(tb testing.TB) {
	v.thaw()
	if v.keeper >= 0 {
		_ = unix.Close(v.keeper)
	}
	var err error
	for range 200 {
		if err = unix.Unmount(v.mount, 0); err != unix.EBUSY {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err == unix.EBUSY {
		tb.Errorf("%s is still busy at the end of the test", v.mount)
		_ = unix.Unmount(v.mount, unix.MNT_DETACH)
	}
}

func (v *volume) target(tb testing.TB) freeze.Target {
	tb.Helper()
	var st, dev unix.Stat_t
	if err := unix.Stat(v.mount, &st); err != nil {
		tb.Fatal(err)
	}
	if err := unix.Stat(v.loop, &dev); err != nil {
		tb.Fatal(err)
	}
	return freeze.Target{
		Name: v.fsType + ":" + v.mount, Path: v.mount, Dev: uint64(st.Dev), Ino: st.Ino,
		Devices: []freeze.DeviceNumber{{Major: unix.Major(uint64(dev.Rdev)), Minor: unix.Minor(uint64(dev.Rdev))}},
	}
}

func (v *volume) open(tb testing.TB) *freeze.Filesystem {
	tb.Helper()
	f, err := freeze.Open(v.target(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}

// wasFrozen thaws, which is the only question that can be asked.
func (v *volume) wasFrozen() bool { return v.thaw() == 0 }

func (v *volume) thaw() syscall.Errno   { return ioctl(v.keeper, fiThaw) }
func (v *volume) freeze() syscall.Errno { return ioctl(v.keeper, fiFreeze) }

func ioctl(fd int, req uintptr) syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), req, 0)
	return errno
}

func (v *volume) write(tb testing.TB, bytes int) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(v.mount, "data"), make([]byte, bytes), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func open(tb testing.TB, vs ...*volume) []*freeze.Filesystem {
	tb.Helper()
	var fss []*freeze.Filesystem
	for _, v := range vs {
		fss = append(fss, v.open(tb))
	}
	return fss
}

func startGuard(tb testing.TB, fss []*freeze.Filesystem, o freeze.Options) *freeze.Guard {
	tb.Helper()
	o.Binary = freezetest.Build(tb)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}
	g, err := freeze.StartGuard(context.Background(), fss, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { g.Close() })
	return g
}

func mustFreeze(tb testing.TB, g *freeze.Guard) {
	tb.Helper()
	if err := g.Freeze(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

func eventually(tb testing.TB, within time.Duration, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not within %v: %s", within, what)
		}
	}
}
