package volume

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/lun"
)

// Volume is one filesystem of this machine and where it lives.
type Volume struct {
	Name       string // canonical mount point, or the device's path if it is not mounted
	MountPoint string // "" if it is not mounted here
	MountID    uint64 // the mount's number in mountinfo; 0 if not mounted
	RootIno    uint64 // inode of the mount point's root
	RootDev    uint64 // st_dev there; on btrfs it is the subvolume's own

	// SuperDev is the superblock's device number as mountinfo has it: the same
	// for all mounts of one filesystem. Not mounted, it is the first member's.
	SuperDev uint64

	Filesystem filesystem.Identity
	Members    []Member
}

// Member is one block device that the filesystem lives on.
type Member struct {
	Device   block.Device   // the disk, or what lies on disks: a partition, or a loop device over a part of one
	Disks    []block.Device // the whole disks it lies on, which are LUNs; Device itself for a whole disk
	Role     string         // "data", "log", "realtime", "journal"
	Segments []lun.Segment  // where on the LUNs, in order; LUN is an index into Volume.Disks

	Logical *document.LogicalVolume // what LVM calls it; nil if it is no logical volume

	refused error // why it cannot be laid on LUNs; it is its own disk then
}

// Extents are the member's runs of bytes on LUNs.
func (m Member) Extents() []lun.Extent {
	var all []lun.Extent
	for _, g := range m.Segments {
		all = append(all, g.Extents...)
	}
	return all
}

// SuperblockKey is equal for two volumes that are one filesystem: bind mounts
// and subvolumes are frozen and copied once.
func (v Volume) SuperblockKey() string {
	return fmt.Sprintf("%d:%d", unix.Major(v.SuperDev), unix.Minor(v.SuperDev))
}

// Disks are the whole disks, each once, in the order of the members.
func (v Volume) Disks() []block.Device {
	var disks []block.Device
	for _, m := range v.Members {
		for _, disk := range m.Disks {
			if !slices.ContainsFunc(disks, func(d block.Device) bool { return d.Dev() == disk.Dev() }) {
				disks = append(disks, disk)
			}
		}
	}
	return disks
}

// Extents are those of all members, in their order.
func (v Volume) Extents() []lun.Extent {
	var all []lun.Extent
	for _, m := range v.Members {
		all = append(all, m.Extents()...)
	}
	return all
}

// In reports whether the volume is one of those whose device numbers Backing
// or Stack returned: whether freezing it would block what stands on it.
func (v Volume) In(devs []uint64) bool {
	return slices.Contains(devs, v.SuperDev) || v.RootDev != 0 && slices.Contains(devs, v.RootDev)
}
