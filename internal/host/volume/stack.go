package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
)

// Backing returns the device numbers of the filesystems below a volume: the
// one that has the backing file of its loop device, the one below that, and so
// on. A volume on real disks has none. A btrfs has many numbers, the superblock's
// and one for each subvolume; those of all its mounts here are in the list, so
// that it may be searched for any volume's RootDev or SuperDev ([Volume.In]).
func Backing(ctx context.Context, v Volume) ([]uint64, error) {
	ms, err := readMounts("find backing store")
	if err != nil {
		return nil, err
	}
	s := stack{ms: ms, seen: make(map[uint64]bool)}
	for _, m := range v.Members {
		if err := s.device(ctx, m.Device.Dev()); err != nil {
			return nil, err
		}
	}
	return s.found, nil
}

// Stack returns the device number of the filesystem that a path is on and
// those of everything below it: what must not be frozen if the path is to stay
// usable. It returns VSS_E_OBJECT_NOT_FOUND if there is no such path.
func Stack(ctx context.Context, path string) ([]uint64, error) {
	ms, err := readMounts("find backing store")
	if err != nil {
		return nil, err
	}
	s := stack{ms: ms, seen: make(map[uint64]bool)}
	at, err := locate(path)
	if err != nil {
		return nil, notFound(path, err)
	}
	if err := s.path(ctx, at); err != nil {
		return nil, err
	}
	return s.found, nil
}

// stack walks down from filesystems to devices to filesystems.
type stack struct {
	ms    mounts
	seen  map[uint64]bool // devices walked
	found []uint64        // filesystems
}

func (s *stack) add(dev uint64) {
	if !slices.Contains(s.found, dev) {
		s.found = append(s.found, dev)
	}
}

// path walks the filesystem that a path is on.
func (s *stack) path(ctx context.Context, at place) error {
	s.add(at.dev)
	if m := s.ms.byID(at.mountID); m != nil {
		return s.mount(ctx, m)
	}
	return s.filesystem(ctx, at.dev)
}

// filesystem walks the filesystem with this st_dev, as a loop device tells it.
func (s *stack) filesystem(ctx context.Context, dev uint64) error {
	s.add(dev)
	if unix.Major(dev) != 0 {
		if ms := s.ms.of(dev); len(ms) > 0 {
			return s.mount(ctx, ms[0])
		}
		return s.device(ctx, dev)
	}
	// A made-up number: of btrfs, whose subvolumes each have one, or of a
	// filesystem without a device. Look for a mount that shows it; a network
	// mount is not asked, it may never answer.
	for _, m := range s.ms {
		if m.Major != 0 || kindOf(m.FSType) == network {
			continue
		}
		if at, err := locate(m.Mountpoint); err == nil && at.dev == dev && at.mountID == uint64(m.ID) {
			return s.mount(ctx, m)
		}
	}
	return nil
}

// mount walks a mounted filesystem's devices.
func (s *stack) mount(ctx context.Context, m *mountinfo.Info) error {
	s.add(superDevOf(m))
	if m.FSType == "overlay" {
		return s.overlay(ctx, m)
	}
	if kindOf(m.FSType) != supported {
		if m.Major != 0 {
			return s.device(ctx, superDevOf(m))
		}
		return nil
	}
	if m.FSType == filesystem.TypeBtrfs {
		// Each subvolume has an st_dev of its own, and all are one superblock.
		for _, x := range s.ms.of(superDevOf(m)) {
			if at, err := locate(x.Mountpoint); err == nil && at.mountID == uint64(x.ID) {
				s.add(at.dev)
			}
		}
	}
	members, _, err := membersOf(ctx, m)
	if err != nil && m.FSType != filesystem.TypeBtrfs {
		// Whatever else it has, it lives on the device of its number.
		return s.device(ctx, superDevOf(m))
	}
	for _, x := range members {
		if err := s.device(ctx, x.Device.Dev()); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// overlay walks the layers of an overlay, as far as their paths are visible.
func (s *stack) overlay(ctx context.Context, m *mountinfo.Info) error {
	for _, key := range []string{"upperdir", "lowerdir"} {
		for _, dir := range strings.Split(superOption(m, key), ":") {
			at, err := locate(dir)
			if dir == "" || err != nil || slices.Contains(s.found, at.dev) {
				continue
			}
			if err := s.path(ctx, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// device walks what a block device is made of.
func (s *stack) device(ctx context.Context, dev uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.seen[dev] {
		return nil
	}
	s.seen[dev] = true
	d, err := block.Inspect(ctx, deviceNumber(dev))
	if err != nil {
		return ctx.Err() // gone: nothing is below it
	}
	if d.Partition != nil {
		disk, err := block.Inspect(ctx, d.Partition.Disk)
		if err != nil {
			return ctx.Err()
		}
		return s.device(ctx, disk.Dev())
	}
	if d.Loop != nil {
		return s.loop(ctx, d.Loop)
	}
	for _, below := range slaves(d) {
		x, err := block.Inspect(ctx, below)
		if err != nil {
			continue
		}
		if err := s.device(ctx, x.Dev()); err != nil {
			return err
		}
	}
	return nil
}

// loop walks the filesystem of a backing file, or the device if that is what
// backs the loop device. The path of a file is believed only if it leads to the
// very file that the driver has open.
func (s *stack) loop(ctx context.Context, l *block.Loop) error {
	if l.Backing != 0 {
		return s.device(ctx, l.Backing)
	}
	if at, err := locate(l.BackingFile); err == nil && at.dev == l.Dev && at.ino == l.Ino {
		return s.path(ctx, at)
	}
	return s.filesystem(ctx, l.Dev)
}

// slaves are the kernel's names of the devices a stacked device is made of.
func slaves(d block.Device) []string {
	entries, _ := os.ReadDir(filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", d.Major, d.Minor), "slaves"))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
