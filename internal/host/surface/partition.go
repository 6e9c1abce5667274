package surface

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/vss"
)

// sysfs is a disk's folder there.
func sysfs(d block.Device) string {
	return fmt.Sprintf("/sys/dev/block/%d:%d", d.Major, d.Minor)
}

// partitions are the kernel's partitions of a disk.
func partitions(ctx context.Context, disk block.Device) ([]block.Device, error) {
	entries, err := os.ReadDir(sysfs(disk))
	if err != nil {
		return nil, nil // the disk is gone: whoever opens it says so
	}
	var all []block.Device
	for _, e := range entries {
		dir := filepath.Join(sysfs(disk), e.Name())
		if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
			continue
		}
		number, err := os.ReadFile(filepath.Join(dir, "dev"))
		if err != nil {
			continue
		}
		d, err := block.Inspect(ctx, strings.TrimSpace(string(number)))
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		all = append(all, d)
	}
	return all, nil
}

// findPartition finds the partition that has exactly these bytes.
func findPartition(ctx context.Context, disk block.Device, offset, length uint64) (block.Device, bool, error) {
	all, err := partitions(ctx, disk)
	for _, d := range all {
		if d.Partition != nil && d.Partition.Start == offset && d.Size == length && d.DiskSeq == disk.DiskSeq {
			return d, true, nil
		}
	}
	return block.Device{}, false, err
}

// claimed reports whether another device is built on the whole disk, whose
// partitions then cannot be mounted.
func claimed(disk block.Device) bool {
	holders, err := os.ReadDir(filepath.Join(sysfs(disk), "holders"))
	return err == nil && len(holders) > 0
}

// parted reports whether one of the disks has partitions. What claims such a disk
// as a whole keeps them from being mounted.
func parted(ctx context.Context, disks ...block.Device) bool {
	return slices.ContainsFunc(disks, func(d block.Device) bool {
		all, err := partitions(ctx, d)
		return err == nil && len(all) > 0
	})
}

// Limits of partition numbers: of the kernel, and how many are tried.
const (
	blkpg          = 0x1269 // BLKPG of linux/fs.h
	mostPartitions = 255
)

// addPartition makes a partition by ioctl. Not found and no error is a disk that
// takes none, or one with partitions that these bytes overlap.
func addPartition(ctx context.Context, disk block.Device, offset, length uint64) (block.Device, bool, error) {
	if extended, err := strconv.ParseUint(attribute(disk, "ext_range"), 10, 32); err != nil || extended <= 1 {
		return block.Device{}, false, nil
	}
	all, err := partitions(ctx, disk)
	if err != nil {
		return block.Device{}, false, err
	}
	taken := map[int]bool{}
	for _, d := range all {
		if d.Partition != nil {
			taken[d.Partition.Number] = true
		}
	}
	f, err := block.Open(ctx, disk, unix.O_RDONLY)
	if err != nil {
		return block.Device{}, false, err
	}
	defer f.Close()
	number := 1
	for taken[number] {
		number++
	}
	if number > mostPartitions {
		return block.Device{}, false, nil
	}
	errno := partitionIoctl(f, unix.BLKPG_ADD_PARTITION, unix.BlkpgPartition{Start: int64(offset), Length: int64(length), Pno: int32(number)})
	if errno != 0 && !errors.Is(errno, unix.EBUSY) {
		return block.Device{}, false, nil
	}
	// EBUSY: the number or the bytes are taken. If the kernel was just adding the
	// same partition itself, that is as good.
	d, found, err := findPartition(ctx, disk, offset, length)
	if err != nil || !found {
		return d, found, err
	}
	return awaitNode(ctx, d)
}

// dropPartitions removes all partitions of a disk that is to go, the kernel's as
// well as ours: a loop device would keep ours until somebody opens it.
func dropPartitions(ctx context.Context, disk block.Device, lazily bool) error {
	all, err := partitions(ctx, disk)
	if err != nil || len(all) == 0 {
		return err
	}
	if !lazily {
		// All or none: a disk that stays keeps its partitions.
		if err := unused(ctx, all); err != nil {
			return err
		}
	}
	f, err := block.Open(ctx, disk, unix.O_RDONLY)
	if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for _, d := range all {
		if d.Partition == nil {
			continue
		}
		errno := partitionIoctl(f, unix.BLKPG_DEL_PARTITION, unix.BlkpgPartition{Pno: int32(d.Partition.Number)})
		if errno == unix.EBUSY && !lazily {
			return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: downOp, Object: d.Path, Reason: "the partition is mounted, or another device is built on it",
				Remedy: "Unmount it or take apart what is built on it, and try again", Err: errno}
		}
		// Any other refusal is the disk's own matter: partitions go with it.
	}
	return nil
}

// unused reports a partition that somebody uses.
func unused(ctx context.Context, all []block.Device) error {
	for _, d := range all {
		f, err := block.Open(ctx, d, unix.O_RDONLY|unix.O_EXCL)
		if err == nil {
			f.Close()
		} else if !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			return err
		}
	}
	return nil
}

func partitionIoctl(f *os.File, op int32, p unix.BlkpgPartition) unix.Errno {
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkpg, uintptr(unsafe.Pointer(&arg)))
	return errno
}

// awaitNode waits a moment for the partition's node.
func awaitNode(ctx context.Context, d block.Device) (block.Device, bool, error) {
	for range 50 {
		if block.Verify(d) == nil {
			return d, true, nil
		}
		select {
		case <-ctx.Done():
			return d, false, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return d, true, block.Verify(d)
}

func attribute(d block.Device, name string) string {
	b, _ := os.ReadFile(filepath.Join(sysfs(d), name))
	return strings.TrimSpace(string(b))
}
