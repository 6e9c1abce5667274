package block

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// Enumerate lists the block devices of the host with this tag: disks,
// partitions and stacked devices that have a size, sorted by name. Loop
// devices that another Umbra host of this machine attached are left out, and
// so are loop devices with nothing attached. An empty tag lists those of every
// host, for diagnosis. Of several paths to a LUN one device is listed: the
// multipath map, or the disk that is in use, or the first that works.
//
// A device that goes while the list is made is simply not in it. Errors:
// VSS_E_UNEXPECTED if the machine's devices cannot be listed at all.
func Enumerate(ctx context.Context, hostTag string) ([]Device, error) {
	return devicesOf(ctx, hostTag, "")
}

func devicesOf(ctx context.Context, hostTag, prefix string) ([]Device, error) {
	class := filepath.Join(sysRoot, "class/block")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, unlisted(class, err)
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
		// Hidden disks are single paths of an NVMe multipath disk.
		if number(dir, "size") == 0 || number(dir, "hidden") != 0 {
			continue
		}
		major, minor, ok := parseNumber(attr(dir, "dev"))
		if !ok {
			continue
		}
		dev, err := inspectNumber(major, minor, "")
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || unanswered(err) {
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
	devices = onePerLUN(devices)
	sort.Slice(devices, func(i, j int) bool { return devices[i].Name < devices[j].Name })
	return devices, nil
}

// unanswered reports a loop device whose backing file's filesystem is dead (a
// FUSE server that ended). Whosever it is, it must not hide all others.
func unanswered(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.EIO)
}

// Foreign reports whether another Umbra host of this machine attached the
// device. Nothing is foreign to the empty tag.
func (d Device) Foreign(hostTag string) bool {
	if hostTag == "" {
		return false
	}
	if d.NBD != nil {
		return d.NBD.HostTag != hostTag
	}
	return d.Loop != nil && d.Loop.HostTag != "" && d.Loop.HostTag != hostTag
}

// Loops is Enumerate for attached loop devices alone.
func Loops(ctx context.Context, hostTag string) ([]Device, error) {
	return devicesOf(ctx, hostTag, "loop")
}

// Own lists the loop devices that the host with this tag attached, which is
// what an initiator asks before it attaches more. Of a machine's hundreds of
// others it does no more than read their names.
func Own(ctx context.Context, hostTag string) ([]Device, error) {
	names, err := attachedLoops()
	if err != nil {
		return nil, err
	}
	var devices []Device
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if foreignNode("/dev/"+name, hostTag) {
			continue
		}
		dev, err := Inspect(ctx, name)
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || unanswered(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if dev.Loop != nil && dev.Loop.HostTag == hostTag {
			devices = append(devices, dev)
		}
	}
	return devices, nil
}

// attachedLoops names the loop devices that have a size. One read of this file
// spares a look at each of the many that do not.
func attachedLoops() ([]string, error) {
	const path = "/proc/partitions"
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, unlisted(path, err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		// major, minor, blocks, name
		if f := strings.Fields(line); len(f) == 4 && f[0] == strconv.Itoa(loopMajor) {
			names = append(names, f[3])
		}
	}
	return names, nil
}

// foreignNode reports whether a loop device certainly is not of the host.
func foreignNode(node, hostTag string) bool {
	fd, err := open(node)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK || unix.Major(st.Rdev) != loopMajor {
		return false
	}
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return errors.Is(err, unix.ENXIO)
	}
	_, tag, ours := ParseLoopName(unix.ByteSliceToString(info.File_name[:]))
	return !ours || tag != hostTag
}

func unlisted(class string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "enumerate devices", Object: class,
		Reason: "the kernel's list of block devices cannot be read", Remedy: "Mount sysfs at /sys and proc at /proc", Err: err}
}
