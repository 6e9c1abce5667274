package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/vss"
)

// Resolve finds the volume that a mount point or block device names and checks
// that a transportable copy of it is possible: its filesystem can be held, and
// every one of its members is on a LUN of this host (hostTag, see
// block.HostTag).
//
// A device that is mounted resolves to its mount point. Errors:
// VSS_E_OBJECT_NOT_FOUND if the name leads nowhere, E_INVALIDARG for a plain
// folder (the error names the mount point that contains it),
// VSS_E_VOLUME_NOT_LOCAL for a device in use that no mount here shows, and
// VSS_E_VOLUME_NOT_SUPPORTED for everything else that cannot be copied.
func Resolve(ctx context.Context, name, hostTag string) (Volume, error) {
	v, err := Describe(ctx, name)
	if err != nil {
		return Volume{}, err
	}
	for _, m := range v.Members {
		if m.refused != nil {
			e := *vss.AsError(resolveOp, m.refused)
			e.Object = v.Name
			return Volume{}, &e
		}
		for _, disk := range m.Disks {
			if err := refuseDisk(v.Name, m.Device, disk, hostTag); err != nil {
				return Volume{}, err
			}
		}
	}
	return v, nil
}

// Root is the mount point that a path lies under, through symbolic links.
// E_INVALIDARG for no path, VSS_E_OBJECT_NOT_FOUND for one that leads nowhere.
func Root(ctx context.Context, path string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	_, at, ms, err := find(path)
	if err != nil {
		return "", err
	}
	m := ms.byID(at.mountID)
	if m == nil {
		return "", notFound(path, errors.New("its mount is not in this mount namespace"))
	}
	return m.Mountpoint, nil
}

// Describe is Resolve without the question whether the members are on LUNs of
// this host: for volumes that are not to be transported.
func Describe(ctx context.Context, name string) (Volume, error) {
	if err := ctx.Err(); err != nil {
		return Volume{}, err
	}
	path, at, ms, err := find(name)
	if err != nil {
		return Volume{}, err
	}
	if at.mode&unix.S_IFMT == unix.S_IFBLK {
		return fromDevice(ctx, ms, path, at.rdev)
	}
	m := ms.byID(at.mountID)
	if m == nil {
		return Volume{}, notFound(name, errors.New("its mount is not in this mount namespace"))
	}
	if m.Mountpoint != path {
		return Volume{}, &vss.Error{Code: vss.E_INVALIDARG, Op: resolveOp, Object: path,
			Reason: "not a mount point: it is a folder or file of the volume " + m.Mountpoint,
			Remedy: "Name the volume " + m.Mountpoint}
	}
	return fromMount(ctx, m, at)
}

func notFound(name string, err error) error {
	e := &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: resolveOp, Object: name,
		Reason: "there is no such mount point or device", Remedy: "Name a mount point or a block device of this machine", Err: err}
	if errors.Is(err, os.ErrPermission) {
		e.Code, e.Reason, e.Remedy = vss.E_ACCESSDENIED, "the path may not be looked at", "Run the service as root"
	}
	return e
}

func fromMount(ctx context.Context, m *mountinfo.Info, at place) (Volume, error) {
	if err := refuseType(m); err != nil {
		return Volume{}, err
	}
	members, id, err := membersOf(ctx, m)
	if err == nil {
		err = placeMembers(ctx, members)
	}
	if err != nil {
		return Volume{}, err
	}
	return Volume{
		Name: m.Mountpoint, MountPoint: m.Mountpoint, MountID: at.mountID,
		RootIno: at.ino, RootDev: at.dev, SuperDev: superDevOf(m),
		Filesystem: id, Members: members,
	}, nil
}

// fromDevice resolves a block device: to its mount point if it is mounted
// here, else to the filesystem at rest on it.
func fromDevice(ctx context.Context, ms mounts, path string, dev uint64) (Volume, error) {
	if m, err := mountedAt(ctx, ms, dev); err != nil {
		return Volume{}, err
	} else if m != nil {
		at, err := locate(m.Mountpoint)
		if err != nil {
			return Volume{}, notFound(m.Mountpoint, err)
		}
		return fromMount(ctx, m, at)
	}
	d, err := block.Inspect(ctx, path)
	if err != nil {
		return Volume{}, err
	}
	// A device that is mounted in another namespace only, or that something
	// is built on, changes while it is copied, and nothing here can hold it.
	hold, err := block.Open(ctx, d, unix.O_RDONLY|unix.O_EXCL)
	if errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		return Volume{}, &vss.Error{Code: vss.VSS_E_VOLUME_NOT_LOCAL, Op: resolveOp, Object: d.Path,
			Reason: "the device is in use, but not by a mount that the service sees", Err: err,
			Remedy: "Name the volume that is built on the device, or run the service in the mount namespace where it is mounted"}
	}
	if err != nil {
		return Volume{}, err
	}
	hold.Close()
	id, err := filesystem.Probe(ctx, d.Path)
	if err == nil && id.Type == "" {
		err = partitioned(ctx, d)
	}
	if err != nil {
		return Volume{}, err
	}
	members, err := atRest(ctx, d, id)
	if err == nil {
		err = placeMembers(ctx, members)
	}
	if err != nil {
		return Volume{}, err
	}
	return Volume{Name: d.Path, SuperDev: members[0].Device.Dev(), Filesystem: id, Members: members}, nil
}

// mountedAt finds a mount of the filesystem that lives on a device; the one
// nearest to the filesystem's root if there are several.
func mountedAt(ctx context.Context, ms mounts, dev uint64) (*mountinfo.Info, error) {
	var best *mountinfo.Info
	seen := make(map[uint64]bool) // btrfs superblocks asked
	hit := make(map[uint64]bool)
	for _, m := range ms {
		super := superDevOf(m)
		if m.FSType == filesystem.TypeBtrfs && !seen[super] {
			members, _, err := btrfsMembers(ctx, m)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				continue // a mount hidden below another answers for that one
			}
			seen[super] = true
			for _, x := range members {
				hit[super] = hit[super] || x.Device.Dev() == dev
			}
		}
		if super != dev && !hit[super] {
			continue
		}
		if at, err := locate(m.Mountpoint); err != nil || at.mountID != uint64(m.ID) {
			continue // covered by another mount
		}
		if best == nil || len(m.Root) < len(best.Root) {
			best = m
		}
	}
	return best, nil
}

// atRest finds the members of a filesystem that is not mounted.
func atRest(ctx context.Context, d block.Device, id filesystem.Identity) ([]Member, error) {
	members := []Member{{Device: d, Role: "data"}}
	switch {
	case id.Type == "":
		return nil, unsupported(d.Path, "it holds no filesystem that Umbra can hold writes to", "Name a volume with ext4, xfs or btrfs")
	case id.Type == filesystem.TypeLUKS:
		return nil, unsupported(d.Path, "it holds LUKS, and a copy of what is encrypted could not be verified or read without the key",
			"Put the filesystem on an unencrypted volume, and encrypt on the storage system or below the LUN")
	case id.Type == filesystem.TypeLVM:
		return nil, unsupported(d.Path, "it is a disk of an LVM volume group", "Name the logical volume, or where it is mounted")
	case id.Type == filesystem.TypeJournal:
		return nil, unsupported(d.Path, "it is the journal of another volume", "Name the volume that the journal belongs to")
	case id.ExternalLog || id.Realtime:
		return nil, unsupported(d.Path, "it has its log or realtime data on another device, which only a mount names", "Mount the volume first")
	case id.ExternalJournal != "":
		journal, err := findJournal(ctx, d.Path, id, "")
		if err != nil {
			return nil, err
		}
		return append(members, Member{Device: journal, Role: "journal"}), nil
	case id.Devices > 1:
		return btrfsAtRest(ctx, d, id)
	}
	return members, nil
}

// btrfsAtRest finds the devices of an unmounted btrfs by its UUID.
func btrfsAtRest(ctx context.Context, d block.Device, id filesystem.Identity) ([]Member, error) {
	all, err := block.Enumerate(ctx, "")
	if err != nil {
		return nil, err
	}
	byNumber := make(map[uint64]block.Device)
	for _, dev := range all {
		other, err := filesystem.Probe(ctx, dev.Path)
		if err != nil || other.Type != filesystem.TypeBtrfs || other.UUID != id.UUID {
			continue
		}
		if twin, ok := byNumber[other.DeviceID]; ok {
			return nil, unsupported(d.Path, fmt.Sprintf("%s and %s both say they are its device number %d", twin.Path, dev.Path, other.DeviceID),
				"Detach the copy, or mount the volume and name its mount point")
		}
		byNumber[other.DeviceID] = dev
	}
	if len(byNumber) != id.Devices {
		return nil, unsupported(d.Path, fmt.Sprintf("%d of its %d devices are here", len(byNumber), id.Devices),
			"Attach the missing devices of the btrfs")
	}
	var numbers []uint64
	for n := range byNumber {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var members []Member
	for _, n := range numbers {
		members = append(members, Member{Device: byNumber[n], Role: "data"})
	}
	return members, nil
}

// find follows a name to where it leads, and reads the mounts beside it.
func find(name string) (path string, at place, ms mounts, err error) {
	if name == "" {
		return "", place{}, nil, &vss.Error{Code: vss.E_INVALIDARG, Op: resolveOp, Object: `""`,
			Reason: "no volume named", Remedy: "Name a mount point or a block device"}
	}
	path, err = filepath.Abs(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err == nil {
		at, err = locate(path)
	}
	if err != nil {
		return "", place{}, nil, notFound(name, err)
	}
	ms, err = readMounts(resolveOp)
	if err != nil {
		return "", place{}, nil, err
	}
	return path, at, ms, nil
}
