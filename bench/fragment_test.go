package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

const block = 4096

// extents counts the extents of a file (FIEMAP without room for any).
func extents(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const fsIocFiemap = 0xC020660B
	req := struct {
		start, length                         uint64
		flags, mapped, extentCount, reserved_ uint32
	}{length: ^uint64(0)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIocFiemap, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return 0, errno
	}
	return int(req.mapped), nil
}

// fragment writes to the volume until the LUN's file has at least n extents:
// every other block of a file whose blocks the filesystem has laid side by
// side, so that every write is an extent of its own in the array.
func (v *volume) fragment(n int) error {
	have, err := extents(v.lun)
	if err != nil || have >= n {
		return err
	}
	f, err := os.OpenFile(filepath.Join(v.path, "fragments"), os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(n+n/10)*2*block); err != nil {
		return err
	}
	page, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // O_DIRECT wants it aligned
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(page) }()
	page[0] = 1
	for i := range n + n/10 {
		if _, err := f.WriteAt(page, int64(i)*2*block); err != nil {
			return err
		}
		if i%1000 == 999 || i == n+n/10-1 {
			if have, err = extents(v.lun); err != nil || have >= n {
				return err
			}
		}
	}
	return fmt.Errorf("%s: %d extents after all writes, want %d", v.lun, have, n)
}
