package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/vss"
)

// membersOf finds every block device a mounted filesystem lives on. The first
// one is where its superblock is.
func membersOf(ctx context.Context, m *mountinfo.Info) ([]Member, filesystem.Identity, error) {
	if m.FSType == filesystem.TypeBtrfs {
		return btrfsMembers(ctx, m)
	}
	dev, err := block.Inspect(ctx, fmt.Sprintf("%d:%d", m.Major, m.Minor))
	if err != nil {
		return nil, filesystem.Identity{}, err
	}
	id, err := filesystem.Probe(ctx, dev.Path)
	if err != nil {
		return nil, id, err
	}
	if id.Type == "" {
		return nil, id, unsupported(m.Mountpoint, "its device "+dev.Path+" does not hold the filesystem that is mounted",
			"Unmount the volume and check it: the device was overwritten or replaced under it")
	}
	members := []Member{{Device: dev, Role: "data"}}
	add := func(role, path string) error {
		d, err := block.Inspect(ctx, path)
		if err != nil {
			return &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: resolveOp, Object: m.Mountpoint,
				Reason: fmt.Sprintf("its %s device %s cannot be found", role, path), Err: err,
				Remedy: "Make the device's node visible to the service"}
		}
		members = append(members, Member{Device: d, Role: role})
		return nil
	}
	if p := superOption(m, "logdev"); p != "" {
		err = errors.Join(err, add("log", p))
	}
	if p := superOption(m, "rtdev"); p != "" {
		err = errors.Join(err, add("realtime", p))
	}
	if id.ExternalJournal != "" {
		journal, jerr := findJournal(ctx, m.Mountpoint, id, superOption(m, "journal_path"))
		if jerr == nil {
			members = append(members, Member{Device: journal, Role: "journal"})
		}
		err = errors.Join(err, jerr)
	}
	return members, id, err
}

// btrfsMembers asks the mounted filesystem, whose st_dev is made up.
func btrfsMembers(ctx context.Context, m *mountinfo.Info) ([]Member, filesystem.Identity, error) {
	var id filesystem.Identity
	root, err := os.OpenFile(m.Mountpoint, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, id, unreadable(m, err)
	}
	defer root.Close()
	devs, err := filesystem.BtrfsDevices(root)
	if err != nil {
		return nil, id, unreadable(m, err)
	}
	var members []Member
	for _, d := range devs {
		if d.Path == "" || d.Path == "<missing disk>" {
			return nil, id, unsupported(m.Mountpoint, fmt.Sprintf("its device number %d (%s) is missing", d.ID, d.UUID),
				"Replace the missing device with btrfs replace, then take the shadow copy")
		}
		dev, err := block.Inspect(ctx, d.Path)
		if err != nil {
			return nil, id, &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: resolveOp, Object: m.Mountpoint,
				Reason: fmt.Sprintf("its device number %d, %s, cannot be found", d.ID, d.Path), Err: err,
				Remedy: "Make the device's node visible to the service"}
		}
		members = append(members, Member{Device: dev, Role: "data"})
	}
	if len(members) == 0 {
		return nil, id, unsupported(m.Mountpoint, "the kernel names no device of it", "Mount the volume again")
	}
	id, err = filesystem.Probe(ctx, members[0].Device.Path)
	if err == nil && (id.Type != filesystem.TypeBtrfs || id.Devices != len(members)) {
		err = unsupported(m.Mountpoint, fmt.Sprintf("%s says it is one of %d devices, the kernel knows %d", members[0].Device.Path, id.Devices, len(members)),
			"Wait until adding or removing the device has finished, then take the shadow copy")
	}
	return members, id, err
}

func unreadable(m *mountinfo.Info, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: resolveOp, Object: m.Mountpoint,
		Reason: "the filesystem does not tell its devices", Remedy: "See the kernel log", Err: err}
}

// findJournal finds an ext filesystem's journal device: by the mount option,
// else by the device number in the superblock, else by its UUID among all
// devices. Whichever way, its UUID must be the one the filesystem names.
func findJournal(ctx context.Context, volume string, id filesystem.Identity, option string) (block.Device, error) {
	for _, hint := range []string{option, deviceNumber(id.JournalNumber)} {
		if hint == "" {
			continue
		}
		if dev, err := block.Inspect(ctx, hint); err == nil && isJournal(ctx, dev, id.ExternalJournal) {
			return dev, nil
		}
	}
	all, err := block.Enumerate(ctx, "")
	if err != nil {
		return block.Device{}, err
	}
	var found []block.Device
	for _, dev := range all {
		if isJournal(ctx, dev, id.ExternalJournal) {
			found = append(found, dev)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return block.Device{}, unsupported(volume, "its journal is on another device, with UUID "+id.ExternalJournal+", which is missing",
			"Attach the journal's device, or move the journal inside with tune2fs")
	}
	return block.Device{}, unsupported(volume, fmt.Sprintf("its journal's UUID %s is on %d devices (%s, %s)", id.ExternalJournal, len(found), found[0].Path, found[1].Path),
		"Detach the copy of the journal's device, or mount the volume with journal_path")
}

func isJournal(ctx context.Context, dev block.Device, uuid string) bool {
	id, err := filesystem.Probe(ctx, dev.Path)
	return err == nil && id.Type == filesystem.TypeJournal && id.UUID == uuid
}

func deviceNumber(dev uint64) string {
	if dev == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
}

// stacked reports whether a device is made of others (device-mapper, md,
// bcache), so that its bytes lie on their LUNs and not on one of its own.
func stacked(dev block.Device) bool { return len(slaves(dev)) > 0 }
