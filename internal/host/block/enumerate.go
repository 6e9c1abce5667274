package block

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// Enumerate lists the block devices of the host with this tag: disks,
// partitions and stacked devices that have a size, sorted by name. Loop
// devices that another Umbra host of this machine attached are left out, and
// so are loop devices with nothing attached. An empty tag lists those of every
// host, for diagnosis.
//
// A device that goes while the list is made is simply not in it. Errors:
// VSS_E_UNEXPECTED if the machine's devices cannot be listed at all.
func Enumerate(ctx context.Context, hostTag string) ([]Device, error) {
	return list(ctx, hostTag, "")
}

func list(ctx context.Context, hostTag, prefix string) ([]Device, error) {
	class := filepath.Join(sysRoot, "class/block")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "enumerate devices", Object: class,
			Reason: "the kernel's list of block devices cannot be read", Remedy: "Mount sysfs at /sys", Err: err}
	}
	var devices []Device
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		dir := filepath.Join(class, e.Name())
		if strings.HasPrefix(e.Name(), "loop") && !worthALook(dir, e.Name(), hostTag) {
			continue
		}
		// Hidden disks are single paths of an NVMe multipath disk.
		if number(dir, "size") == 0 || number(dir, "hidden") != 0 {
			continue
		}
		major, minor, ok := parseNumber(attr(dir, "dev"))
		if !ok {
			continue
		}
		dev, err := inspectNumber(major, minor, "")
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if dev.Foreign(hostTag) || prefix != "" && dev.Loop == nil {
			continue
		}
		devices = append(devices, dev)
	}
	sort.Slice(devices, func(i, j int) bool { return devices[i].Name < devices[j].Name })
	return devices, nil
}

// Foreign reports whether another Umbra host of this machine attached the
// device. Nothing is foreign to the empty tag.
func (d Device) Foreign(hostTag string) bool {
	return hostTag != "" && d.Loop != nil && d.Loop.HostTag != "" && d.Loop.HostTag != hostTag
}

// Loops is Enumerate for attached loop devices alone: what an initiator asks
// before it attaches.
func Loops(ctx context.Context, hostTag string) ([]Device, error) {
	return list(ctx, hostTag, "loop")
}

// worthALook spares loop devices that Enumerate would leave out the dozen
// files of a full inspection: a machine may have hundreds, of which the host
// that imports wants one. When in doubt it is true.
func worthALook(dir, name, hostTag string) bool {
	if !exists(dir, "loop") {
		return exists(dir, "partition") // the driver makes the folder when it attaches
	}
	fd, err := unix.Open("/dev/"+name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK || unix.Major(st.Rdev) != 7 {
		return true
	}
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return !errors.Is(err, unix.ENXIO)
	}
	_, tag, ours := ParseLoopName(unix.ByteSliceToString(info.File_name[:]))
	return !ours || hostTag == "" || tag == hostTag
}
