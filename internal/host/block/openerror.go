package block

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// openError turns what the kernel says about a device node into the code a
// caller can act on.
func openError(op, path string, err error) error {
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: path, Reason: "the kernel refused", Err: err,
		Remedy: "See the kernel log for the device"}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOMEDIUM):
		return gone(path, err)
	case errors.Is(err, unix.EBUSY):
		e.Code, e.Reason = vss.VSS_E_VOLUME_IN_USE, "the device is mounted, or another device is built on it"
		e.Remedy = "Unmount the device or take apart what is built on it, and try again"
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Code, e.Reason = vss.E_ACCESSDENIED, "the device may not be opened this way"
		e.Remedy = "Run as root; a read-only LUN must be exported for writing by the array first"
	}
	return e
}
