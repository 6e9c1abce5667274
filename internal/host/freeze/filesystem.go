package freeze

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// Filesystem is an open filesystem that may be frozen. It owns raw descriptors
// until Close: an os.File would be closed when the collector finds it
// unreachable, and its number could then name another filesystem.
//
// While it is open the filesystem cannot be unmounted, except lazily. Methods
// may be called concurrently.
type Filesystem struct {
	target   Target
	devices  []DeviceNumber
	fsType   string
	source   string
	super    DeviceNumber // of the superblock; on btrfs not what stat says
	discards bool         // mounted with discard: it tells its devices what it freed, also while frozen
	mu       sync.Mutex
	fd       int   // -1 when closed
	counters []int // sysfs `stat` of each of devices
}

// Open opens what t names and compares it with what t expects.
//
// Errors: E_INVALIDARG when t names no device and inode; VSS_E_OBJECT_NOT_FOUND
// when the path is gone or names something else now; VSS_E_VOLUME_NOT_SUPPORTED
// when writes to its devices cannot be watched.
func Open(t Target) (*Filesystem, error) {
	const op = "open filesystem to freeze"
	if t.Path == "" || t.Dev == 0 || t.Ino == 0 {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: t.name(), Reason: "path, device and inode must all be given",
			Remedy: "Take device and inode from stat when the volume is chosen"}
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(t.Path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: t.name(), Reason: "it cannot be opened",
			Remedy: "Check that " + t.Path + " is mounted", Err: err}
	}
	f := &Filesystem{target: t, fd: fd}
	if err := f.examine(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Filesystem) examine() error {
	t := f.target
	if err := t.check(f.fd); err != nil {
		return err
	}
	if err := f.findMount(); err != nil {
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "open filesystem to freeze", Object: t.name(), Reason: "it is not in the mount table",
			Remedy: "Check that " + t.Path + " is mounted here", Err: err}
	}
	f.devices = slices.Clone(t.Devices)
	if major := unix.Major(t.Dev); len(f.devices) == 0 && major != 0 {
		f.devices = []DeviceNumber{{major, unix.Minor(t.Dev)}}
	}
	if len(f.devices) == 0 {
		return &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "open filesystem to freeze", Object: t.name(),
			Reason: "no block device is known on which to watch for writes", Remedy: "Choose a volume on a block device"}
	}
	for _, d := range f.devices {
		fds, err := openCounters(d)
		if err != nil {
			return &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "open filesystem to freeze", Object: t.name(),
				Reason: "writes to its device " + d.String() + " cannot be watched",
				Remedy: "Check that the device exists and write 1 to its queue/iostats in sysfs", Err: err}
		}
		f.counters = append(f.counters, fds...)
	}
	return nil
}

// findMount looks the descriptor's mount up, for the superblock's number.
func (f *Filesystem) findMount() error {
	id, err := mountID(f.fd, 0)
	if err != nil {
		return err
	}
	infos, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		found := uint64(m.ID) == id
		return !found, found
	})
	if err != nil {
		return err
	}
	if len(infos) == 0 {
		return fmt.Errorf("no mount with ID %d", id)
	}
	m := infos[0]
	f.fsType, f.source = m.FSType, m.Source
	f.super = DeviceNumber{uint32(m.Major), uint32(m.Minor)}
	f.discards = slices.ContainsFunc(strings.Split(m.VFSOptions, ","), func(o string) bool {
		return o == "discard" || strings.HasPrefix(o, "discard=")
	})
	return nil
}

// openCounters opens the sysfs `stat` of a device. A device that does not
// count would look as if nobody ever wrote to it.
func openCounters(d DeviceNumber) ([]int, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join("/sys/dev/block", d.String()))
	if err != nil {
		return nil, err
	}
	disk := dir
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		disk = filepath.Dir(dir)
	}
	if _, err := os.Stat(filepath.Join(disk, "dm")); err == nil && off(disk) {
		// Device-mapper's devices begin so on some kernels (6.1), where nobody
		// switched it off.
		if err := os.WriteFile(filepath.Join(disk, "queue", "iostats"), []byte("1"), 0); err != nil {
			return nil, fmt.Errorf("its I/O statistics are off and cannot be switched on: %w", err)
		}
	}
	counting := []string{dir}
	if off(disk) {
		if counting = pathsOf("/sys/class/block", filepath.Base(disk)); len(counting) == 0 {
			return nil, errors.New("its I/O statistics are off (queue/iostats is 0)")
		}
	}
	var fds []int
	for _, c := range counting {
		if c != dir && off(c) {
			closeAll(fds)
			return nil, fmt.Errorf("the I/O statistics of its path %s are off (queue/iostats is 0)", filepath.Base(c))
		}
		var fd int
		if err := retry(func() (err error) {
			fd, err = unix.Open(filepath.Join(c, "stat"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			return err
		}); err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func off(disk string) bool {
	on, err := os.ReadFile(filepath.Join(disk, "queue", "iostats"))
	return err == nil && string(bytes.TrimSpace(on)) == "0"
}

// pathsOf are the hidden disks of an NVMe disk that has several paths, or could
// have: nvme0c0n1 and nvme0c3n1 of nvme0n1. On some kernels (6.1) it is they that
// count, and the disk itself does not. They have no partitions: what is written
// to another partition of the disk counts as well.
func pathsOf(class, disk string) []string {
	subsystem, namespace, ok := strings.Cut(strings.TrimPrefix(disk, "nvme"), "n")
	if !ok || !strings.HasPrefix(disk, "nvme") || strings.Contains(subsystem, "c") {
		return nil
	}
	paths, _ := filepath.Glob(filepath.Join(class, "nvme"+subsystem+"c*n"+namespace))
	return paths
}

// Name is the target's name.
func (f *Filesystem) Name() string { return f.target.name() }

// Superblock is the number the mount table shows: two Filesystems with the
// same one (bind mounts, subvolumes) are frozen together, once.
func (f *Filesystem) Superblock() DeviceNumber { return f.super }

// Close releases the descriptors. It does not thaw: a Guard has copies. A
// second Close does nothing.
func (f *Filesystem) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
	}
	closeAll(f.counters)
	f.fd, f.counters = -1, nil
	return nil
}

// copyFDs duplicates the descriptors for an owner with another life.
func (f *Filesystem) copyFDs() (fd int, counters []int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd < 0 {
		return -1, nil, os.ErrClosed
	}
	if fd, err = dupFD(f.fd); err != nil {
		return -1, nil, err
	}
	for _, c := range f.counters {
		d, err := dupFD(c)
		if err != nil {
			closeAll(append(counters, fd))
			return -1, nil, err
		}
		counters = append(counters, d)
	}
	return fd, counters, nil
}
