package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// loopTag is the name the store's own loop device carries, so that the next
// process of the array finds it again.
const loopTag = "umbra-array-store"

const (
	defaultImage = 64 << 30
	minImage     = 512 << 20 // XFS itself wants 300 MiB
)

// provideReflink makes sure that files in s.dir can share blocks: as it is, or
// on an image of the store's own.
func (s *Store) provideReflink(ctx context.Context, cfg Config) error {
	_, err := os.Stat(cfg.Image)
	hasImage := cfg.Image != "" && err == nil
	if !hasImage {
		ok, err := canReflink(s.dir)
		if err != nil || ok {
			return err
		}
		if cfg.Image == "" {
			return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "open store", Object: s.dir,
				Reason: "its filesystem cannot share blocks between files (FICLONE)",
				Remedy: "Mount an XFS made with -m reflink=1, or a btrfs, on " + s.dir}
		}
		// Mounting over LUNs would hide them.
		if _, err := os.Stat(s.luns); err == nil {
			return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "open store", Object: s.dir,
				Reason: "it has LUNs, but its filesystem cannot share blocks between files",
				Remedy: "Mount the filesystem that held the LUNs on " + s.dir + " again, or move the luns folder away"}
		}
		if err := makeImage(ctx, cfg.Image, cfg.ImageSize); err != nil {
			return err
		}
	}
	s.image = cfg.Image
	if err := s.mountImage(); err != nil {
		return err
	}
	ok, err := canReflink(s.dir)
	if err == nil && !ok {
		err = &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "open store", Object: s.image,
			Reason: "the image's filesystem cannot share blocks between files",
			Remedy: "Move the image away and let the array make a new one, or make it with mkfs.xfs -m reflink=1"}
	}
	if err != nil {
		s.release()
	}
	return err
}

// canReflink tries FICLONE on two files.
func canReflink(dir string) (bool, error) {
	a, err := os.CreateTemp(dir, ".reflink-*")
	if err != nil {
		return false, failed("open store", dir, "files cannot be made in it", "Check that it is writable", err)
	}
	defer os.Remove(a.Name())
	defer a.Close()
	b, err := os.CreateTemp(dir, ".reflink-*")
	if err != nil {
		return false, failed("open store", dir, "files cannot be made in it", "Check that it is writable", err)
	}
	defer os.Remove(b.Name())
	defer b.Close()
	if _, err := a.Write(make([]byte, backend.Align)); err != nil {
		return false, failed("open store", dir, "files cannot be written in it", "Check that it has free space", err)
	}
	return unix.IoctlFileClone(int(b.Fd()), int(a.Fd())) == nil, nil
}

// makeImage makes a sparse file with XFS on it. It is formatted under another
// name and renamed: a file called path always has a filesystem and is never
// formatted again.
func makeImage(ctx context.Context, path string, size int64) error {
	refuse := func(code vss.HResult, reason, remedy string, err error) error {
		return &vss.Error{Code: code, Op: "make store image", Object: path, Reason: reason, Remedy: remedy, Err: err}
	}
	if os.Geteuid() != 0 {
		return refuse(vss.E_ACCESSDENIED, "the store's filesystem cannot reflink, and only root can make one that does",
			"Run the array as root, or put its folder on XFS or btrfs", nil)
	}
	mkfs, err := exec.LookPath("mkfs.xfs")
	if err != nil {
		return refuse(vss.VSS_E_PROVIDER_VETO, "the store's filesystem cannot reflink, and mkfs.xfs is not installed",
			"Install xfsprogs, or put the array's folder on XFS or btrfs", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &st); err != nil {
		return failed("make store image", path, "the free space is unknown", "Check the array's folder", err)
	}
	room := int64(st.Bavail) * st.Bsize / 10 * 8
	if size == 0 {
		size = min(defaultImage, room)
	}
	size = size &^ (1<<20 - 1)
	if size < minImage || size > room {
		return refuse(vss.VSS_E_INSUFFICIENT_STORAGE, fmt.Sprintf("no room for a store: %d MiB wanted, %d MiB available", max(size, minImage)>>20, room>>20),
			"Free space, or choose a store size of at least 512 MiB", nil)
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("make store image", tmp, "a leftover cannot be removed", "Remove it", err)
	}
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return failed("make store image", tmp, "the file cannot be made", "Check the array's folder", err)
	}
	defer f.Close()
	defer os.Remove(tmp)
	if err := f.Truncate(size); err != nil {
		return failed("make store image", tmp, "the file cannot be that large", "Choose a smaller store size", err)
	}
	out, errs, err := underway.Run(ctx, mkfsTime, nil, mkfs, "-q", "-m", "reflink=1", "-L", "umbra-store", tmp)
	if err != nil {
		return refuse(vss.VSS_E_PROVIDER_VETO, "mkfs.xfs failed: "+firstLine([]byte(out+errs)), "Update xfsprogs, or put the array's folder on XFS or btrfs", err)
	}
	if err := f.Sync(); err != nil {
		return failed("make store image", tmp, "it cannot be made durable", "Check the device with dmesg", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return failed("make store image", path, "it cannot be renamed", "Check the array's folder", err)
	}
	return syncDir(filepath.Dir(path))
}

// mkfsTime is long for the making of an empty filesystem.
const mkfsTime = 5 * time.Minute

// mountImage attaches the image, or adopts the loop device an earlier process
// attached, and mounts it on s.dir unless it is mounted there already. discard
// keeps the image thin: what a deleted copy occupied goes back to the
// filesystem under it.
func (s *Store) mountImage() error {
	img, err := os.OpenFile(s.image, os.O_RDWR, 0)
	if err != nil {
		return failed("mount store", s.image, "the image cannot be opened", "Check the image and its permissions", err)
	}
	defer img.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(img.Fd()), &st); err != nil {
		return failed("mount store", s.image, "the image cannot be read", "Check the image", err)
	}
	if s.loop = findLoop(st.Dev, st.Ino); s.loop == "" {
		if s.loop, err = attachLoop(img); err != nil {
			return err
		}
	}
	if dev, ok := deviceOf(s.loop); ok && devOf(s.dir) == dev {
		s.mounted = true
		return nil
	}
	err = unix.Mount(s.loop, s.dir, "xfs", unix.MS_NOATIME|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "discard")
	if err != nil {
		loop := s.loop
		s.release()
		return failed("mount store", s.image, "the kernel does not mount it from "+loop,
			"Read dmesg; if it asks for it, run xfs_repair on the image", err)
	}
	s.mounted = true
	return nil
}

// release undoes mountImage as far as nothing is in use: an unmount that the
// kernel refuses means that a LUN is attached.
func (s *Store) release() {
	if s.image == "" || s.loop == "" {
		return
	}
	if s.mounted {
		if err := unix.Unmount(s.dir, unix.UMOUNT_NOFOLLOW); err != nil {
			s.log.Info("the store stays mounted: it is in use", "store", s.dir, "error", err)
			return
		}
		s.mounted = false
	}
	if f, err := os.OpenFile(s.loop, os.O_RDWR, 0); err == nil {
		err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
		f.Close()
		if err != nil {
			s.log.Info("the store's loop device stays", "device", s.loop, "error", err)
		}
	}
	s.loop = ""
}

// attachLoop puts the image on a free loop device. Others take devices at the
// same time, so a device that was free when asked may be busy when used.
func attachLoop(img *os.File) (string, error) {
	refuse := func(err error) error {
		return failed("attach store", img.Name(), "no loop device can be had", "Load the loop module and run the array as root", err)
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", refuse(err)
	}
	defer ctl.Close()
	cfg := unix.LoopConfig{Fd: uint32(img.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_DIRECT_IO}}
	copy(cfg.Info.File_name[:], loopTag)
	for range 100 {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", refuse(err)
		}
		path := "/dev/loop" + strconv.Itoa(n)
		dev, err := openNode(path)
		if err != nil {
			return "", refuse(err)
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &cfg)
		if err == nil {
			// A free device may carry the read-only flag an earlier user set
			// with BLKROSET: it outlives the detach.
			err = unix.IoctlSetPointerInt(int(dev.Fd()), unix.BLKROSET, 0)
			if err != nil {
				_ = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0)
			}
			dev.Close()
			if err != nil {
				return "", refuse(err)
			}
			return path, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return "", refuse(err)
		}
	}
	return "", refuse(unix.EBUSY)
}

// openNode opens a device node that devtmpfs or udev may be a moment late with.
func openNode(path string) (*os.File, error) {
	for i := 0; ; i++ {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil || i == 100 || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// findLoop looks for the tagged loop device over the file with this device and
// inode.
func findLoop(dev, ino uint64) string {
	names, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range names {
		path := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(name)))
		info, ok := loopStatusOf(path)
		if ok && info.Device == dev && info.Inode == ino && unix.ByteSliceToString(info.File_name[:]) == loopTag {
			return path
		}
	}
	return ""
}

func loopStatusOf(path string) (*unix.LoopInfo64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	return info, err == nil
}

func deviceOf(node string) (uint64, bool) {
	var st unix.Stat_t
	if unix.Stat(node, &st) != nil {
		return 0, false
	}
	return st.Rdev, true
}

func devOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Dev
}
