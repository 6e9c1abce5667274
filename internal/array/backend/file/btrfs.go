package file

import (
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// Btrfs clones as XFS does, but two things about it are different.
//
// It writes every block to a new place and keeps a checksum of it. For a LUN
// that means one more extent with every write, and clones that hold writes
// longer from week to week; and what a filesystem changes in a page that is on
// its way to the disk is a checksum error later. So LUNs are files without
// copy-on-write, which have no checksums either: they are written in place,
// blocks that a copy shares excepted.
//
// And FIEMAP joins neighbours on the disk into one, where FICLONE copies each
// extent item for itself: a file that was written and flushed in small pieces
// shows one extent where cloning it takes the time of thousands. So the items
// are counted.

// From the kernel's user interface, include/uapi/linux/fs.h and btrfs.h.
const (
	flagCompress     = 0x00000004 // FS_COMPR_FL
	flagDontCompress = 0x00000400 // FS_NOCOMP_FL
	flagNoCOW        = 0x00800000 // FS_NOCOW_FL

	btrfsIocTreeSearchV2 = 0xC0709411 // _IOWR(0x94, 17, struct btrfs_ioctl_search_args_v2)
	btrfsExtentData      = 108        // BTRFS_EXTENT_DATA_KEY
)

func isBtrfs(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && uint32(st.Type) == unix.BTRFS_SUPER_MAGIC
}

// prepareBtrfs makes files that will be made in dir files without
// copy-on-write, and tries whether extents can be counted: not to be able to
// foretell a hold is found out here, not by every set. Files that are there stay
// as they are: only an empty one can be changed.
func prepareBtrfs(dir string) error {
	refuse := func(code vss.HResult, reason, remedy string, err error) error {
		return &vss.Error{Code: code, Op: "open store", Object: dir, Reason: reason, Remedy: remedy, Err: err}
	}
	d, err := os.Open(dir)
	if err != nil {
		return failed("open store", dir, "the folder cannot be opened", "Check that the store is mounted", err)
	}
	defer d.Close()
	if err := setNoCOW(d, true); err != nil {
		return refuse(vss.VSS_E_PROVIDER_VETO, "this btrfs has no files without copy-on-write (NOCOW), so LUNs would fall into ever more pieces",
			"Put the array's folder on XFS, or on a btrfs on which `chattr +C` works", err)
	}
	switch _, err := countItems(int(d.Fd())); {
	case errors.Is(err, unix.EPERM):
		return refuse(vss.E_ACCESSDENIED, "only root may count extents on btrfs, and without that nobody knows how long a copy holds writes",
			"Run the array as root, or put its folder on XFS", err)
	case err != nil:
		return refuse(vss.VSS_E_PROVIDER_VETO, "this kernel cannot count extents on btrfs", "Put the array's folder on XFS", err)
	}
	return nil
}

// alike makes a new, empty target a file of the kind its source is: btrfs
// refuses to clone between files with checksums and files without. A source
// has them if it was made by hand or moved here.
func alike(target, source *os.File) error {
	flags, err := unix.IoctlGetUint32(int(source.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	return setNoCOW(target, flags&flagNoCOW != 0)
}

func setNoCOW(f *os.File, on bool) error {
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	want := flags &^ flagNoCOW
	if on {
		// What is compressed, or told not to be, must lose that first.
		if want = flags &^ (flagCompress | flagDontCompress); want != flags {
			if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(want)); err != nil {
				return err
			}
		}
		want |= flagNoCOW
	}
	if want == flags {
		return nil
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(want))
}

// countItems counts the extent items of a file on btrfs. The kernel allows it
// to root only.
func countItems(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	const header, room = 32, 64 << 10
	req := struct {
		tree, minObject, maxObject, minOffset, maxOffset, minTransaction, maxTransaction uint64
		minType, maxType, items, unused                                                  uint32
		_                                                                                [4]uint64
		size                                                                             uint64
		buf                                                                              [room]byte
	}{minObject: st.Ino, maxObject: st.Ino, maxOffset: ^uint64(0), maxTransaction: ^uint64(0), minType: btrfsExtentData, maxType: btrfsExtentData, size: room}
	le := binary.NativeEndian
	for n := uint64(0); ; {
		req.items = ^uint32(0)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), btrfsIocTreeSearchV2, uintptr(unsafe.Pointer(&req))); errno != 0 {
			return 0, errno
		}
		if req.items == 0 {
			return n, nil
		}
		n += uint64(req.items)
		// Each item has a header: transaction, object, offset, type, length.
		at, last := 0, uint64(0)
		for range req.items {
			last = le.Uint64(req.buf[at+16:])
			at += header + int(le.Uint32(req.buf[at+28:]))
		}
		req.minOffset = last + 1
	}
}
