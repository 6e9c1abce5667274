package block

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/umbra-vss/umbra/vss"
)

// Attached reports whether a loop device still is the attachment that was
// recorded, without opening it: whoever opens a loop device that is being
// detached delays that.
func Attached(dev Device) (bool, error) {
	dir := filepath.Join(sysRoot, "dev/block", fmt.Sprintf("%d:%d", dev.Major, dev.Minor))
	_, err := os.Stat(filepath.Join(dir, "loop"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "look at device", Object: dev.Path,
			Reason: "the kernel does not tell its state", Remedy: "Mount sysfs at /sys", Err: err}
	}
	seq := number(dir, "diskseq")
	return seq == 0 || dev.DiskSeq == 0 || seq == dev.DiskSeq, nil
}
