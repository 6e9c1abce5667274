package filesystem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BtrfsDevice is one device of a mounted btrfs.
type BtrfsDevice struct {
	ID   uint64
	UUID string
	Path string // node, as the kernel remembers it
	Size uint64 // bytes
}

// From the kernel's user interface, include/uapi/linux/btrfs.h.
const (
	btrfsIocDevInfo = 0xD000941E // _IOWR(0x94, 30, struct btrfs_ioctl_dev_info_args)
	btrfsIocFSInfo  = 0x8400941F // _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)
	btrfsIocForget  = 0x50009405 // _IOW(0x94, 5, struct btrfs_ioctl_vol_args)
)

// BtrfsDevices lists the devices of the btrfs that an open file or folder is
// on. Errors are those of the ioctl; ENOTTY for another filesystem.
func BtrfsDevices(f *os.File) ([]BtrfsDevice, error) {
	var info [1024]byte
	if err := ioctl(f, btrfsIocFSInfo, info[:]); err != nil {
		return nil, err
	}
	le := binary.NativeEndian
	maxID, count := le.Uint64(info[0:]), le.Uint64(info[8:])
	var devs []BtrfsDevice
	for id := uint64(1); id <= maxID && uint64(len(devs)) < count; id++ {
		var arg [4096]byte // id, uuid, bytes_used, total_bytes, unused, path at 3072
		le.PutUint64(arg[0:], id)
		if err := ioctl(f, btrfsIocDevInfo, arg[:]); errors.Is(err, unix.ENODEV) {
			continue // a number that is free
		} else if err != nil {
			return nil, err
		}
		path, _, _ := bytes.Cut(arg[3072:], []byte{0})
		devs = append(devs, BtrfsDevice{ID: id, UUID: uuidText(arg[8:24]), Size: le.Uint64(arg[32:]), Path: string(path)})
	}
	return devs, nil
}

// forgetBtrfs makes the kernel forget an unmounted device that it learned of
// by mounting it, so that a later scan of the original does not meet a ghost.
// That it does not know the device, or has no such call, is as good.
func forgetBtrfs(path string) {
	control, err := os.OpenFile("/dev/btrfs-control", os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer control.Close()
	var arg [4096]byte // fd, then the path
	if len(path) < len(arg)-9 {
		copy(arg[8:], path)
		_ = ioctl(control, btrfsIocForget, arg[:])
	}
}

func ioctl(f *os.File, request uintptr, arg []byte) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&arg[0])))
	runtime.KeepAlive(f)
	if e != 0 {
		return e
	}
	return nil
}
