package block

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// SetReadOnly sets or clears the host's read-only flag of the device, after
// making sure that it is still the device that was recorded.
//
// The flag is the second lock: root can clear it and a revalidation may. The
// first is the array's export. Clearing the flag of a LUN that the array
// exports read-only is E_ACCESSDENIED, because the kernel then keeps it.
func SetReadOnly(ctx context.Context, dev Device, ro bool) error {
	const op = "set read-only"
	f, err := Open(ctx, dev, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	want := 0
	if ro {
		want = 1
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, want); err != nil {
		return openError(op, dev.Path, err)
	}
	got, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err != nil {
		return openError(op, dev.Path, err)
	}
	if (got != 0) == ro {
		return nil
	}
	if ro {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: dev.Path,
			Reason: "the kernel did not keep the read-only flag",
			Remedy: "Export the LUN read-only from the array"}
	}
	return &vss.Error{Code: vss.E_ACCESSDENIED, Op: op, Object: dev.Path,
		Reason: "the array exports this LUN read-only",
		Remedy: "Break the shadow copy with --writable, which exports the LUN anew"}
}
