package surface

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/vss"
)

// loopName marks the loop devices that this package makes: in the driver's
// field for free text, as block.LoopName marks those that are LUNs.
func (s *Surfacer) loopName() string { return "umbra-volume/" + s.HostTag }

// loopsOver are this host's loop devices over a device that are not being
// detached.
func (s *Surfacer) loopsOver(ctx context.Context, below block.Device) ([]block.Device, error) {
	all, err := block.Loops(ctx, "")
	var mine []block.Device
	for _, d := range all {
		if d.Loop.Name == s.loopName() && d.Loop.Backing == below.Dev() && !d.Loop.Autoclear {
			mine = append(mine, d)
		}
	}
	return mine, err
}

func (s *Surfacer) findLoop(ctx context.Context, below block.Device, offset, length uint64) (block.Device, bool, error) {
	all, err := s.loopsOver(ctx, below)
	for _, d := range all {
		if d.Loop.Offset == offset && d.Size == length && d.Loop.ReadOnly {
			return d, true, nil
		}
	}
	return block.Device{}, false, err
}

// patience is how long a free loop device, or the end of one, is waited for.
const patience = 5 * time.Second

// makeLoop makes a read-only loop device over a part of a LUN.
func (s *Surfacer) makeLoop(ctx context.Context, below block.Device, offset, length uint64) (block.Device, error) {
	backing, err := openNamed(ctx, below)
	if err != nil {
		return block.Device{}, err
	}
	defer backing.Close()
	sector, err := sectorSize(below)
	if err != nil {
		return block.Device{}, err
	}
	// Read-only twice: by the flag, and by a descriptor that cannot write.
	config := unix.LoopConfig{Fd: uint32(backing.Fd()), Size: uint32(sector)}
	config.Info.Offset, config.Info.Sizelimit = offset, length
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], s.loopName())
	taken, err := takeLoop(ctx, &config)
	if err != nil {
		return block.Device{}, err
	}
	path := taken.Name()
	taken.Close()
	d, err := block.Inspect(ctx, path)
	if err != nil {
		return block.Device{}, err
	}
	if d.Loop == nil || d.Loop.Name != s.loopName() || d.Loop.Backing != below.Dev() || d.Loop.Offset != offset || d.Size != length || !d.ReadOnly {
		// Whoever it is now: if it is ours, Clear finds it.
		return block.Device{}, refuse(vss.VSS_E_UNEXPECTED, path, "the loop device is not what it was made to be", "Try again; see the kernel log", nil)
	}
	return d, nil
}

// takeLoop gives the configuration to a free loop device, and returns it open.
func takeLoop(ctx context.Context, config *unix.LoopConfig) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, refuse(vss.VSS_E_VOLUME_NOT_SUPPORTED, "/dev/loop-control", "the volume is a part of a LUN, and this kernel has neither that partition nor loop devices",
			"Load the loop driver (modprobe loop) and import again", err)
	}
	defer control.Close()
	for deadline := time.Now().Add(patience); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path, f, err := tryLoop(control, config)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENXIO) || time.Now().After(deadline) {
			return nil, refuse(vss.VSS_E_UNEXPECTED, path, "no loop device could be made over the LUN", "Try again; if it stays, look at the kernel log", err)
		}
		select { // somebody else was faster
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func tryLoop(control *os.File, config *unix.LoopConfig) (string, *os.File, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.LOOP_CTL_GET_FREE, 0)
	if errno != 0 {
		return "", nil, errno
	}
	path := fmt.Sprintf("/dev/loop%d", n)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) { // a container's /dev
		if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return path, nil, err
		}
	}
	// For writing: closing it is then seen by those who watch /dev for want of
	// device events.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return path, nil, err
	}
	if err := unix.IoctlLoopConfigure(fd, config); err != nil {
		unix.Close(fd)
		return path, nil, err
	}
	return path, os.NewFile(uintptr(fd), path), nil
}

// openNamed opens a device by a node that has the LUN's name, since that is what
// udev's rules see of a loop device: its backing file. The node is gone when it
// returns; the kernel goes on saying its name.
func openNamed(ctx context.Context, d block.Device) (*os.File, error) {
	failed := func(err error) error {
		return refuse(vss.VSS_E_UNEXPECTED, d.Path, "a node that names the LUN, by which its volumes are hidden, cannot be made in /dev",
			"Give the service a /dev it may make nodes in", err)
	}
	dir, err := os.MkdirTemp("/dev", ".umbra-")
	if err != nil {
		return nil, failed(err)
	}
	defer os.Remove(dir)
	named := d
	named.Path = filepath.Join(dir, hide.Mark(d.LUN))
	if err := unix.Mknod(named.Path, unix.S_IFBLK|0o400, int(d.Dev())); err != nil {
		return nil, failed(err)
	}
	defer os.Remove(named.Path)
	return block.Open(ctx, named, unix.O_RDONLY)
}
