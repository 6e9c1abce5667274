package freeze

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// thawFD issues FITHAW: 0, EINVAL when the filesystem was not frozen, or what
// kept it frozen. It can block, on an outer filesystem that is still frozen.
func thawFD(fd int) syscall.Errno {
	for {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), wire.FITHAW, 0)
		if errno != syscall.EINTR {
			return errno
		}
	}
}

func dupFD(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3) }

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
