package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Device is one block device as it was when it was looked at.
type Device struct {
	Name      string     // the kernel's name: "sda", "loop3", "nvme0n1p2"
	Path      string     // its node: "/dev/sda"
	Major     uint32     //
	Minor     uint32     //
	DiskSeq   uint64     // the kernel's number for this attachment; 0 where the kernel has none (before 5.15)
	Size      uint64     // bytes
	ReadOnly  bool       // the host's flag, or the backing's
	LUN       lun.Info   // what the device says of itself; empty for partitions and stacked devices
	Loop      *Loop      // for loop devices
	NBD       *NBD       // for those that Umbra gave to the kernel's NBD client
	Partition *Partition // for partitions
	Multipath bool       // a map that multipathd made of a LUN's paths
}

// Partition says where a partition lies on its disk.
type Partition struct {
	Disk   string // the kernel's name of the whole disk
	Number int
	Start  uint64 // bytes from the start of the disk
}

// BaseName is the kernel's name of the device with this node.
func BaseName(path string) string { return strings.TrimPrefix(path, "/dev/") }

// Dev is the device number as stat(2) has it.
func (d Device) Dev() uint64 { return unix.Mkdev(d.Major, d.Minor) }

// Going reports whether the device is detached, as far as that goes, and there
// only for who still uses it.
func (d Device) Going() bool {
	return d.Loop != nil && d.Loop.Autoclear || d.NBD != nil && d.NBD.Going
}

// Qualified reports whether the device says something by which it can be told
// from every other LUN (page 0x83 type 1, 2, 3 or 8).
func (d Device) Qualified() bool {
	for _, id := range d.LUN.StorageIDs {
		// Some devices fill an identifier with zeros or blanks.
		if id.Qualifies() && len(bytes.Trim(id.Identifier, "\x00 ")) > 0 {
			return true
		}
	}
	return false
}

// openTime bounds the opening of a node, which waits for its driver.
const openTime = 30 * time.Second

// Open opens the device's node and makes sure that it is still the device that
// was recorded. While the file is open no other disk can take the device's
// place. flags are those of open(2), such as unix.O_RDWR or unix.O_EXCL;
// O_CLOEXEC is added. The caller closes the file.
//
// A device that is gone or was replaced is VSS_E_OBJECT_NOT_FOUND; one that is
// claimed by a mount or a stacked device, with O_EXCL, is VSS_E_VOLUME_IN_USE;
// a read-only one opened for writing is E_ACCESSDENIED.
func Open(ctx context.Context, dev Device, flags int) (*os.File, error) {
	const op = "open device"
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := underway.Do(ctx, openTime, underway.Wait{Kind: underway.Device, What: "open", Object: dev.Path}, func() (*os.File, error) {
		return os.OpenFile(dev.Path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	}, func(f *os.File) { f.Close() })
	if late := (underway.Late{}); errors.As(err, &late) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: dev.Path, Reason: late.Error() + ": the storage below does not answer",
			Remedy: "See the kernel log for the device, and `umbra doctor`", Err: err}
	}
	if errors.Is(err, unix.EBUSY) && flags&unix.O_EXCL != 0 {
		// Perhaps it is another disk that is in use here now.
		if gone := Verify(dev); errors.Is(gone, vss.VSS_E_OBJECT_NOT_FOUND) {
			return nil, gone
		}
	}
	if err != nil {
		return nil, openError(op, dev.Path, err)
	}
	if err := verifyOpen(f, dev); err != nil {
		f.Close()
		return nil, err
	}
	// The kernel opens a read-only device for writing, and fails each write.
	if ro, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET); err == nil && ro != 0 && flags&unix.O_ACCMODE != unix.O_RDONLY {
		f.Close()
		return nil, openError(op, dev.Path, unix.EROFS)
	}
	return f, nil
}

// Verify asks whether the node still leads to the device that was recorded:
// same number, same disk sequence number, same backing file. It returns
// VSS_E_OBJECT_NOT_FOUND if the device is gone or was replaced.
//
// The answer is true for the moment of asking. Whoever acts on it holds the
// device with [Open] instead.
func Verify(dev Device) error {
	f, err := Open(context.Background(), dev, unix.O_RDONLY)
	if err != nil {
		return err
	}
	return f.Close()
}

func verifyOpen(f *os.File, dev Device) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return openError("verify device", dev.Path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != dev.Dev() {
		return replaced(dev, "its node leads to another device number")
	}
	// Kernels before 5.15 have no sequence number; then the backing file and
	// the size are all there is to compare.
	if seq, err := diskSeq(f); err == nil && dev.DiskSeq != 0 && seq != dev.DiskSeq {
		return replaced(dev, fmt.Sprintf("disk sequence number is %d, was %d", seq, dev.DiskSeq))
	}
	if dev.Loop != nil {
		l, err := loopStatus(f)
		if err != nil {
			return gone(dev.Path, err)
		}
		if l.Dev != dev.Loop.Dev || l.Ino != dev.Loop.Ino || l.Offset != dev.Loop.Offset {
			return replaced(dev, "it has another backing file")
		}
	}
	return nil
}

func replaced(dev Device, how string) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "verify device", Object: dev.Path,
		Reason: "device was replaced: " + how,
		Remedy: "Look up the LUN by its identifier again and use the device it has now"}
}

func gone(path string, cause error) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "verify device", Object: path,
		Reason: "there is no device here now",
		Remedy: "Look up the LUN by its identifier again, or attach it", Err: cause}
}
