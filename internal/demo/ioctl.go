package demo

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func ioctlPointer(fd, req uintptr, buf []byte) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, req, uintptr(unsafe.Pointer(&buf[0])))
	return errno
}
