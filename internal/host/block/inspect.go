package block

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Inspect looks at one block device, named by the kernel's name ("loop3"), by
// a path (a node or a link to one) or by its number ("7:3").
//
// Errors: VSS_E_OBJECT_NOT_FOUND if there is no such device or nothing is
// attached to it, E_INVALIDARG if the path leads to something else.
func Inspect(ctx context.Context, device string) (Device, error) {
	const op = "inspect device"
	if err := ctx.Err(); err != nil {
		return Device{}, err
	}
	if device == "" {
		return Device{}, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: `""`,
			Reason: "no device named", Remedy: "Name a block device, such as /dev/sda"}
	}
	if major, minor, ok := parseNumber(device); ok {
		return inspectNumber(major, minor, "")
	}
	if !strings.Contains(device, "/") {
		// A slash in a kernel name is written as '!' in sysfs.
		if _, err := os.Stat(filepath.Join(sysRoot, "class/block", device)); err == nil {
			if major, minor, ok := parseNumber(attr(filepath.Join(sysRoot, "class/block", device), "dev")); ok {
				return inspectNumber(major, minor, "")
			}
		}
		return Device{}, gone(device, unix.ENODEV)
	}
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return Device{}, openError(op, device, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Device{}, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: device,
			Reason: "not a block device", Remedy: "Name a block device, such as /dev/sda"}
	}
	return inspectNumber(unix.Major(st.Rdev), unix.Minor(st.Rdev), device)
}

func parseNumber(s string) (major, minor uint32, ok bool) {
	a, b, ok := strings.Cut(s, ":")
	if !ok {
		return 0, 0, false
	}
	x, errA := strconv.ParseUint(a, 10, 32)
	y, errB := strconv.ParseUint(b, 10, 32)
	return uint32(x), uint32(y), errA == nil && errB == nil
}

// inspectNumber reads sysfs, and for a loop device its driver. path is the
// node by which the caller came, used where /dev has no node of that name.
func inspectNumber(major, minor uint32, path string) (Device, error) {
	link := filepath.Join(sysRoot, "dev/block", fmt.Sprintf("%d:%d", major, minor))
	target, err := os.Readlink(link)
	dir := filepath.Join(filepath.Dir(link), target)
	if err != nil {
		return Device{}, gone(fmt.Sprintf("block device %d:%d", major, minor), err)
	}
	dev := Device{
		Name:  strings.ReplaceAll(filepath.Base(dir), "!", "/"),
		Major: major, Minor: minor,
		Size:     number(dir, "size") * 512, // sysfs counts in 512 bytes whatever the block size
		ReadOnly: number(dir, "ro") != 0,
	}
	dev.Path = nodeOf(dev, path)
	disk := dir
	if exists(dir, "partition") {
		disk = filepath.Dir(dir)
		dev.Partition = &Partition{
			Disk:   strings.ReplaceAll(filepath.Base(disk), "!", "/"),
			Number: int(number(dir, "partition")),
			Start:  number(dir, "start") * 512,
		}
	}
	dev.DiskSeq = number(disk, "diskseq")
	if dev.Partition != nil {
		return dev, nil
	}
	if isLoop(dir) {
		return inspectLoop(dev, dir)
	}
	for _, read := range []func(string) (lun.Info, bool){scsiInfo, nvmeInfo} {
		if info, ok := read(dir); ok {
			dev.LUN = info
			break
		}
	}
	if n := nbdInfo(dir); n != nil {
		dev.NBD = n
		if !n.Going { // else nothing of the LUN can be had through it
			dev.LUN = nbdLUN(n)
		}
	}
	if info, ok := mapInfo(dir); ok {
		dev.LUN, dev.Multipath = info, true
	}
	return dev, nil
}

// nodeOf finds the node of a device: /dev/NAME if that is the device, else the
// path by which the caller came.
func nodeOf(dev Device, path string) string {
	node := "/dev/" + dev.Name
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == dev.Dev() {
		return node
	}
	if path != "" {
		return path
	}
	return node
}

// isLoop asks by the driver's number, which is fixed (LOOP_MAJOR).
func isLoop(dir string) bool {
	major, _, ok := parseNumber(attr(dir, "dev"))
	return ok && major == loopMajor
}

const loopMajor = 7

// inspectLoop takes everything of a loop device from one open descriptor, so
// that size, sequence number and backing file belong together.
func inspectLoop(dev Device, dir string) (Device, error) {
	if !exists(dir, "loop") {
		return Device{}, gone(dev.Path, unix.ENXIO)
	}
	f, err := os.OpenFile(dev.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Device{}, openError("inspect device", dev.Path, err)
	}
	defer f.Close()
	l, err := loopStatus(f)
	if errors.Is(err, unix.ENXIO) {
		return Device{}, gone(dev.Path, err)
	}
	if err != nil {
		return Device{}, openError("inspect device", dev.Path, err)
	}
	l.BackingFile = attr(filepath.Join(dir, "loop"), "backing_file")
	dev.Loop, dev.LUN = l, loopInfo(l)
	if seq, err := diskSeq(f); err == nil {
		dev.DiskSeq = seq
	}
	dev.Size, dev.ReadOnly = number(dir, "size")*512, number(dir, "ro") != 0
	return dev, nil
}
