package volume

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/contents"
	"github.com/umbra-vss/umbra/internal/host/partition"
	"github.com/umbra-vss/umbra/vss"
)

const resolveOp = "resolve volume"

func unsupported(object, reason, remedy string) error {
	return &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: resolveOp, Object: object, Reason: reason, Remedy: remedy}
}

// refuseType says why a mounted filesystem's type cannot be copied; nil if it
// can.
func refuseType(m *mountinfo.Info) error {
	switch kindOf(m.FSType) {
	case network:
		return unsupported(m.Mountpoint, fmt.Sprintf("%s is a network or user-space filesystem, which has no LUN of this machine", m.FSType),
			"Take the shadow copy on the server that has the disks")
	case virtual:
		return unsupported(m.Mountpoint, fmt.Sprintf("%s lives in no block device", m.FSType),
			"Name a volume with ext4, xfs or btrfs")
	case other:
		return unsupported(m.Mountpoint, fmt.Sprintf("Umbra cannot hold writes to %s", m.FSType),
			"Move the data to a volume with ext4, xfs or btrfs")
	}
	return nil
}

// partitioned refuses a disk that holds no filesystem but partitions; nil if it
// has none.
func partitioned(ctx context.Context, d block.Device) error {
	c, err := contents.Read(ctx, d)
	if err != nil {
		return err
	}
	if c.Fault != "" {
		return unsupported(d.Path, c.Fault, "Repair the table, then name the mount point of one of its volumes")
	}
	if c.Table == partition.None {
		return nil
	}
	var all []string
	for _, v := range c.Volumes {
		what := v.Filesystem.Type
		if what == "" {
			what = "nothing known"
		}
		all = append(all, fmt.Sprintf("%d (%s, %d bytes from %d)", v.Number, what, v.Length, v.Offset))
	}
	return unsupported(d.Path, fmt.Sprintf("it has a partition table (%s), and its volumes are its partitions: %s", c.Table, strings.Join(all, ", ")),
		"Mount one of them and name its mount point; where the kernel makes no node of it, use losetup --direct-io=on --offset and --sizelimit")
}

// refuseDisk says why a disk cannot be part of a copy; nil if it can.
func refuseDisk(volume string, member, disk block.Device, hostTag string) error {
	switch {
	case disk.Foreign(hostTag):
		return unsupported(volume, fmt.Sprintf("its device %s is a LUN of another Umbra host on this machine", member.Path),
			"Take the shadow copy on the host that the LUN is masked to")
	case stacked(disk) && !disk.Multipath:
		return unsupported(volume, fmt.Sprintf("its device %s is built on other devices (%s), and where on their LUNs it lies is not known", member.Path, disk.Name),
			"Put the filesystem on a LUN or a partition of one")
	case !disk.Qualified():
		return unsupported(volume, fmt.Sprintf("its device %s is not on a LUN: %s has no unique page 0x83 identifier", member.Path, disk.Path),
			"Move the volume to a LUN of the storage system, see umbra array lun create")
	}
	return nil
}
