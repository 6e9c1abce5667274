package block

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// diskSeq asks the kernel for the disk sequence number behind an open node.
func diskSeq(f *os.File) (uint64, error) {
	var seq uint64
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETDISKSEQ, uintptr(unsafe.Pointer(&seq))); e != 0 {
		return 0, e
	}
	return seq, nil
}
