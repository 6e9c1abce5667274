package volume_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

var sizes = map[string]int64{"ext4": 16 * mib, "xfs": 320 * mib, "btrfs": 128 * mib}

// made attaches a new LUN with a filesystem on it.
func made(t *testing.T, h *looptest.Host, fstype string, args ...string) block.Device {
	t.Helper()
	dev := h.Attach(t, looptest.File(t, sizes[fstype]), false)
	looptest.Mkfs(t, fstype, dev.Path, args...)
	return dev
}

func resolve(t *testing.T, h *looptest.Host, name string) volume.Volume {
	t.Helper()
	v, err := volume.Resolve(t.Context(), name, h.Tag)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// refused checks for an error of a code that names what helps.
func refused(t *testing.T, h *looptest.Host, name string, code vss.HResult, says string) {
	t.Helper()
	v, err := volume.Resolve(t.Context(), name, h.Tag)
	var e *vss.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(err.Error(), says) {
		t.Errorf("Resolve(%q) = %v, %v; want %v saying %q", name, v.Name, err, code, says)
	} else if e.Remedy == "" || e.Object == "" || e.Op == "" {
		t.Errorf("Resolve(%q): half an error: %+v", name, e)
	}
}

func bind(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(from, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { looptest.Unmount(t, dir) })
	return dir
}

func TestResolveSingleDevice(t *testing.T) {
	h := looptest.NewHost(t)
	for fstype := range sizes {
		t.Run(fstype, func(t *testing.T) {
			dev := made(t, h, fstype)
			rest := resolve(t, h, dev.Path)
			if rest.Name != dev.Path || rest.MountPoint != "" || rest.Filesystem.Type != fstype {
				t.Errorf("not mounted: %+v", rest)
			}
			dir := looptest.Mount(t, fstype, dev.Path, "")
			v := resolve(t, h, dir)
			var st unix.Stat_t
			if err := unix.Stat(dir, &st); err != nil {
				t.Fatal(err)
			}
			if v.Name != dir || v.MountPoint != dir || v.MountID == 0 || v.RootDev != st.Dev || v.RootIno != st.Ino || !v.Filesystem.Same(rest.Filesystem) || v.Filesystem.Features != rest.Filesystem.Features {
				t.Errorf("mounted: %+v", v)
			}
			if len(v.Members) != 1 || v.Members[0].Device.DiskSeq != dev.DiskSeq || v.Members[0].Role != "data" {
				t.Fatalf("members %+v", v.Members)
			}
			if want := []lun.Extent{{Length: dev.Size}}; !slices.Equal(v.Extents(), want) || len(v.Disks()) != 1 {
				t.Errorf("extents %v on %v", v.Extents(), v.Disks())
			}
			if got, _ := v.Members[0].Disks[0].LUN.NAA(); got != dev.Loop.NAA {
				t.Errorf("LUN %v", got)
			}

			// Named by its device, through a link and through a bind mount of a
			// part of it, it is the same superblock.
			if byDev := resolve(t, h, dev.Path); byDev.Name != dir || byDev.SuperblockKey() != v.SuperblockKey() {
				t.Errorf("by device: %s %s", byDev.Name, byDev.SuperblockKey())
			}
			link := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(dir, link); err != nil {
				t.Fatal(err)
			}
			if byLink := resolve(t, h, link); byLink.Name != dir {
				t.Errorf("by link: %s", byLink.Name)
			}
			sub := filepath.Join(dir, "sub")
			if fstype == "btrfs" {
				looptest.Run(t, "btrfs", "-q", "subvolume", "create", sub)
			} else if err := os.Mkdir(sub, 0o700); err != nil {
				t.Fatal(err)
			}
			refused(t, h, sub, vss.E_INVALIDARG, dir)
			again := resolve(t, h, bind(t, sub))
			if again.SuperblockKey() != v.SuperblockKey() || again.Name == v.Name {
				t.Errorf("bind mount: %s %s, volume %s", again.Name, again.SuperblockKey(), v.SuperblockKey())
			}
			if fstype == "btrfs" {
				other := resolve(t, h, looptest.Mount(t, "btrfs", dev.Path, "subvol=sub"))
				if other.SuperblockKey() != v.SuperblockKey() || other.RootDev == v.RootDev {
					t.Errorf("subvolume: %s %x, volume %s %x", other.SuperblockKey(), other.RootDev, v.SuperblockKey(), v.RootDev)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	h := looptest.NewHost(t)
	refused(t, h, "", vss.E_INVALIDARG, "no volume named")
	refused(t, h, "/no/such/place", vss.VSS_E_OBJECT_NOT_FOUND, "no such")
	refused(t, h, "/proc", vss.VSS_E_VOLUME_NOT_SUPPORTED, "no block device")
	refused(t, h, "/dev/null", vss.E_INVALIDARG, "not a mount point")
	refused(t, h, t.TempDir(), vss.E_INVALIDARG, "not a mount point")

	tmpfs := t.TempDir()
	if err := unix.Mount("tmpfs", tmpfs, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { looptest.Unmount(t, tmpfs) })
	refused(t, h, tmpfs, vss.VSS_E_VOLUME_NOT_SUPPORTED, "tmpfs")

	blank := h.Attach(t, looptest.File(t, mib), false)
	refused(t, h, blank.Path, vss.VSS_E_VOLUME_NOT_SUPPORTED, "no filesystem")

	// Another host's LUN on this machine, mounted or not.
	other := looptest.NewHost(t)
	dev := made(t, other, "ext4")
	refused(t, h, dev.Path, vss.VSS_E_VOLUME_NOT_SUPPORTED, "another Umbra host")
	refused(t, h, looptest.Mount(t, "ext4", dev.Path, ""), vss.VSS_E_VOLUME_NOT_SUPPORTED, dev.Path)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := volume.Resolve(ctx, "/", h.Tag); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A disk that says nothing of itself is no LUN, but it can be described.
func TestNotOnALUN(t *testing.T) {
	h := looptest.NewHost(t)
	path := looptest.File(t, 16*mib)
	looptest.Mkfs(t, "ext4", path)
	out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v %s", err, out)
	}
	node := strings.TrimSpace(string(out))
	t.Cleanup(func() { looptest.Run(t, "losetup", "--detach", node) })
	dir := looptest.Mount(t, "ext4", node, "")
	refused(t, h, dir, vss.VSS_E_VOLUME_NOT_SUPPORTED, node)
	v, err := volume.Describe(t.Context(), dir)
	if err != nil || v.Filesystem.Type != "ext4" || len(v.Members) != 1 {
		t.Errorf("Describe = %+v, %v", v, err)
	}
}

func TestBtrfsOnTwoDevices(t *testing.T) {
	h := looptest.NewHost(t)
	a := h.Attach(t, looptest.File(t, 128*mib), false)
	b := h.Attach(t, looptest.File(t, 160*mib), false)
	looptest.Mkfs(t, "btrfs", b.Path, a.Path) // devices 1 and 2 are a and b
	check := func(v volume.Volume) {
		t.Helper()
		if len(v.Members) != 2 || v.Members[0].Device.Name != a.Name || v.Members[1].Device.Name != b.Name {
			t.Fatalf("members %+v", v.Members)
		}
		if want := []lun.Extent{{LUN: 0, Length: a.Size}, {LUN: 1, Length: b.Size}}; !slices.Equal(v.Extents(), want) {
			t.Errorf("extents %v", v.Extents())
		}
	}
	check(resolve(t, h, b.Path))
	looptest.Run(t, "btrfs", "device", "scan", a.Path, b.Path)
	dir := looptest.Mount(t, "btrfs", a.Path, "")
	check(resolve(t, h, dir))
	if v := resolve(t, h, b.Path); v.Name != dir {
		t.Errorf("the second device resolves to %s", v.Name)
	}
}

func TestBtrfsAtRestWithAMemberMissing(t *testing.T) {
	h := looptest.NewHost(t)
	a := h.Attach(t, looptest.File(t, 128*mib), false)
	b := h.Attach(t, looptest.File(t, 128*mib), false)
	looptest.Mkfs(t, "btrfs", b.Path, a.Path)
	if err := h.Initiator.Detach(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	refused(t, h, a.Path, vss.VSS_E_VOLUME_NOT_SUPPORTED, "1 of its 2 devices")
}

func TestXFSWithExternalLog(t *testing.T) {
	h := looptest.NewHost(t)
	log := h.Attach(t, looptest.File(t, 64*mib), false)
	data := made(t, h, "xfs", "-l", "logdev="+log.Path)
	refused(t, h, data.Path, vss.VSS_E_VOLUME_NOT_SUPPORTED, "log")
	v := resolve(t, h, looptest.Mount(t, "xfs", data.Path, "logdev="+log.Path))
	if len(v.Members) != 2 || v.Members[1].Device.Name != log.Name || v.Members[1].Role != "log" || len(v.Disks()) != 2 {
		t.Errorf("members %+v", v.Members)
	}
	if v.SuperDev != data.Dev() {
		t.Errorf("superblock on %x", v.SuperDev)
	}
}

func TestExt4WithExternalJournal(t *testing.T) {
	h := looptest.NewHost(t)
	journal := h.Attach(t, looptest.File(t, 16*mib), false)
	looptest.Mkfs(t, "ext4", journal.Path, "-O", "journal_dev", "-b", "4096")
	data := made(t, h, "ext4", "-b", "4096", "-J", "device="+journal.Path)
	check := func(v volume.Volume) {
		t.Helper()
		if len(v.Members) != 2 || v.Members[1].Device.Name != journal.Name || v.Members[1].Role != "journal" {
			t.Errorf("members %+v", v.Members)
		}
	}
	check(resolve(t, h, data.Path))
	check(resolve(t, h, looptest.Mount(t, "ext4", data.Path, "")))
	refused(t, h, journal.Path, vss.VSS_E_VOLUME_NOT_LOCAL, "in use")
}

// A journal that is not a LUN of this host makes the volume unfit, by name.
func TestMemberOfAnotherHost(t *testing.T) {
	h, other := looptest.NewHost(t), looptest.NewHost(t)
	log := other.Attach(t, looptest.File(t, 64*mib), false)
	data := made(t, h, "xfs", "-l", "logdev="+log.Path)
	refused(t, h, looptest.Mount(t, "xfs", data.Path, "logdev="+log.Path), vss.VSS_E_VOLUME_NOT_SUPPORTED, log.Path)
}

// What another mount namespace has mounted, nothing here can hold.
func TestMountedElsewhere(t *testing.T) {
	h := looptest.NewHost(t)
	dev := made(t, h, "ext4")
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t ext4 "$1" "$2" && echo ready && read -r _; umount "$2"`, "sh", dev.Path, t.TempDir())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends the read, and so the namespace and its mount
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	refused(t, h, dev.Path, vss.VSS_E_VOLUME_NOT_LOCAL, "in use")
}

func TestBackingAndStack(t *testing.T) {
	h := looptest.NewHost(t)
	outer := made(t, h, "xfs")
	store := looptest.Mount(t, "xfs", outer.Path, "")
	inner := h.Attach(t, looptest.FileIn(t, store, 128*mib), false)
	looptest.Mkfs(t, "btrfs", inner.Path)
	middle := looptest.Mount(t, "btrfs", inner.Path, "")
	looptest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(middle, "sub"))
	top := h.Attach(t, looptest.FileIn(t, filepath.Join(middle, "sub"), 16*mib), false)
	looptest.Mkfs(t, "ext4", top.Path)
	dir := looptest.Mount(t, "ext4", top.Path, "")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root := func(path string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Dev
	}

	vTop, vMiddle, vStore := resolve(t, h, dir), resolve(t, h, middle), resolve(t, h, store)
	below, err := volume.Backing(t.Context(), vTop)
	if err != nil {
		t.Fatal(err)
	}
	if !vMiddle.In(below) || !vStore.In(below) || vTop.In(below) {
		t.Errorf("below the top: %x", below)
	}
	// As others search it: by st_dev, of the volume and of the subvolume.
	for _, dev := range []uint64{vMiddle.RootDev, root(filepath.Join(middle, "sub")), vStore.RootDev, root(os.TempDir())} {
		if !slices.Contains(below, dev) {
			t.Errorf("%x is not in %x", dev, below)
		}
	}
	below, err = volume.Backing(t.Context(), vStore)
	if err != nil || vStore.In(below) || vMiddle.In(below) || vTop.In(below) {
		t.Errorf("below the store: %x, %v", below, err)
	}

	stack, err := volume.Stack(t.Context(), file)
	if err != nil || !vTop.In(stack) || !vMiddle.In(stack) || !vStore.In(stack) {
		t.Errorf("below the file: %x, %v", stack, err)
	}
	stack, err = volume.Stack(t.Context(), store)
	if err != nil || !vStore.In(stack) || vMiddle.In(stack) || vTop.In(stack) {
		t.Errorf("below a folder of the store: %x, %v", stack, err)
	}
	if _, err := volume.Stack(t.Context(), "/no/such/place"); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("Stack = %v", err)
	}

	// An overlay stands on its layers.
	over, work, upper := t.TempDir(), filepath.Join(dir, "work"), filepath.Join(dir, "upper")
	for _, d := range []string{work, upper} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", over, "overlay", 0, "lowerdir="+store+",upperdir="+upper+",workdir="+work); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { looptest.Unmount(t, over) })
	stack, err = volume.Stack(t.Context(), over)
	if err != nil || !vTop.In(stack) || !vStore.In(stack) {
		t.Errorf("below the overlay: %x, %v", stack, err)
	}
	refused(t, h, over, vss.VSS_E_VOLUME_NOT_SUPPORTED, "overlay")
}
