package surface

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/vss"
)

// reaching keeps two from making a device each.
var reaching sync.Mutex

// Reached returns the block device that has a run of bytes of an original: the
// kernel's partition, or a loop device, whoever made it.
func Reached(ctx context.Context, disk block.Device, offset, length uint64) (Device, bool, error) {
	d, found, err := findPartition(ctx, disk, offset, length)
	if found || err != nil {
		return Device{d, Partition}, found, err
	}
	all, err := block.Loops(ctx, "")
	for _, d := range all {
		if d.Loop.Backing == disk.Dev() && d.Loop.Offset == offset && d.Size == length && !d.Loop.ReadOnly && !d.Loop.Autoclear {
			return Device{d, Loop}, true, nil
		}
	}
	return Device{}, false, err
}

// Reach is Surface for a partition of an original whose table the kernel has not
// read: it can be written to, and nothing hides it, since its disk is not hidden.
// It stays until its disk goes (Clear), whoever uses it.
func (s *Surfacer) Reach(ctx context.Context, disk block.Device, offset, length uint64) (Device, error) {
	reaching.Lock()
	defer reaching.Unlock()
	if err := block.Verify(disk); err != nil {
		return Device{}, err
	}
	if d, found, err := Reached(ctx, disk, offset, length); found || err != nil {
		return d, err
	}
	if !claimed(disk) {
		if d, found, err := addPartition(ctx, disk, offset, length); found || err != nil {
			return Device{d, Partition}, err
		}
	}
	backing, err := block.Open(ctx, disk, unix.O_RDWR)
	if err != nil {
		return Device{}, err
	}
	defer backing.Close()
	sector, err := sectorSize(disk)
	if err != nil {
		return Device{}, err
	}
	config := unix.LoopConfig{Fd: uint32(backing.Fd()), Size: uint32(sector)}
	config.Info.Offset, config.Info.Sizelimit = offset, length
	config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], s.loopName())
	taken, err := takeLoop(ctx, &config)
	if err != nil {
		return Device{}, err
	}
	path := taken.Name()
	taken.Close()
	d, err := block.Inspect(ctx, path)
	if err == nil && (d.Loop == nil || d.Loop.Backing != disk.Dev() || d.Loop.Offset != offset || d.Size != length || d.ReadOnly) {
		err = refuse(vss.VSS_E_UNEXPECTED, path, "the loop device is not what it was made to be", "Try again; see the kernel log", nil)
	}
	return Device{d, Loop}, err
}
