// Package contents says what a disk holds: its partitions, and what is on each
// of them, or on the whole disk. It reads, and makes nothing: no node, no
// partition of the kernel's, no event. So it is how volumes that nobody asked for
// are listed, and volumes of disks whose tables the kernel does not read.
package contents

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/host/partition"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// Contents is what a disk holds.
type Contents struct {
	Table   partition.Kind
	Fault   string   // why its table is not used; then there are no volumes
	Notes   []string // see partition.Table
	Volumes []Volume
}

// Volume is a run of bytes of a disk that may hold something.
type Volume struct {
	Number     int // of the partition; 0 for the whole disk
	Offset     uint64
	Length     uint64
	Name       string // of the partition
	Filesystem filesystem.Identity
	Fault      string // why what it holds is not known
}

// Read reads a disk's contents. What is wrong with them is said in them; an error
// is a disk that cannot be read, or is gone.
func Read(ctx context.Context, disk block.Device) (Contents, error) {
	// A disk may block for as long as its storage does.
	c, err := underway.Do(ctx, readTime, underway.Wait{Kind: underway.Device, What: "reading the partition table", Object: disk.Path}, func() (Contents, error) { return read(ctx, disk) }, nil)
	if errors.As(err, new(underway.Late)) {
		if ctx.Err() != nil {
			return Contents{}, ctx.Err()
		}
		return Contents{}, unreadable(disk, err)
	}
	return c, err
}

const readTime = time.Minute

func read(ctx context.Context, disk block.Device) (Contents, error) {
	f, err := block.Open(ctx, disk, unix.O_RDONLY)
	if err != nil {
		return Contents{}, err
	}
	defer f.Close() // until then no other disk is at this node
	whole, err := volume(ctx, disk, Volume{Length: disk.Size})
	if err != nil {
		return Contents{}, err
	}
	if whole.Filesystem.Type != "" || whole.Fault != "" {
		return Contents{Volumes: []Volume{whole}}, nil
	}
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return Contents{}, unreadable(disk, err)
	}
	table, err := partition.Read(f, disk.Size, sector)
	if errors.Is(err, partition.ErrUnreadable) {
		return Contents{}, unreadable(disk, err)
	}
	if err != nil {
		return Contents{Fault: "its partition table cannot be used: " + err.Error()}, nil
	}
	c := Contents{Table: table.Kind, Notes: table.Notes}
	for _, p := range table.Partitions {
		v, err := volume(ctx, disk, Volume{Number: p.Number, Offset: p.Start, Length: p.Length, Name: p.Name})
		if err != nil {
			return Contents{}, err
		}
		c.Volumes = append(c.Volumes, v)
	}
	return c, nil
}

// volume sees what a run of bytes holds.
func volume(ctx context.Context, disk block.Device, v Volume) (Volume, error) {
	id, err := filesystem.ProbeAt(ctx, disk.Path, v.Offset)
	if errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) { // damaged
		v.Fault = vss.AsError("", err).Reason
		return v, nil
	}
	v.Filesystem = id
	return v, err
}

func unreadable(disk block.Device, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "read partition table", Object: disk.Path, Reason: "the disk cannot be read", Remedy: "See the kernel log for the device", Err: err}
}
