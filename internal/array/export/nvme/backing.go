package nvme

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// backings are the block devices by which LUNs are exported. It is an interface
// so that a test can be the kernel.
type backings interface {
	// Hide keeps udev on this machine from looking into the LUNs of the array
	// with this prefix: they are hosts' disks, and copies have the UUIDs of
	// their originals.
	Hide(prefix string) error
	// Make makes the LUN's device, or finds it, and returns its node.
	Make(l export.LUN, readOnly bool) (device string, err error)
	// Is reports whether a node is the LUN's device, of this kind.
	Is(device string, l export.LUN, readOnly bool) bool
	// Drop lets go of what there is of a LUN.
	Drop(n lun.NAA) error
	// All are the LUNs of which there is something.
	All() ([]lun.NAA, error)
}

// The names of our devices: they are found by them after a restart, and nobody
// takes them for a disk that a host has attached.
const (
	loopName   = "umbra-nvmet/"
	mapperName = "umbra-nvmet-"
)

// fsSync is FS_SYNC_FL of linux/fs.h.
const fsSync = 0x8

// patience is how long the kernel may take to let go of a device.
const patience = 30 * time.Second

// devices are the kernel's.
type devices struct {
	dev, sys string // "/dev" and "/sys"
	direct   bool   // a loop device with direct I/O honours what syncWrites asks for
}

func newDevices() *devices {
	var u unix.Utsname
	_ = unix.Uname(&u)
	major, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	n, _ := strconv.Atoi(major)
	return &devices{dev: "/dev", sys: "/sys", direct: n >= 6}
}

func (d *devices) Hide(prefix string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return hide.Rules{}.HideFamily(ctx, hide.Family(identity.OUI+prefix))
}

// loop is a loop device of ours.
type loop struct {
	number   int
	lun      lun.NAA
	readOnly bool
	dev, ino uint64 // of its file
	size     uint64
}

func (d *devices) node(number int) string {
	return filepath.Join(d.dev, fmt.Sprintf("loop%d", number))
}

// loops are ours, of all LUNs.
func (d *devices) loops() ([]loop, error) {
	attached, err := filepath.Glob(filepath.Join(d.sys, "block/loop*/loop"))
	if err != nil {
		return nil, err
	}
	var out []loop
	for _, dir := range attached {
		disk := filepath.Dir(dir)
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(disk), "loop"))
		if err != nil {
			continue
		}
		st, err := loopStatus(d.node(number))
		if err != nil {
			continue // gone meanwhile, or another's whose file cannot be asked any more
		}
		id, ok := strings.CutPrefix(unix.ByteSliceToString(st.File_name[:]), loopName)
		n, err := lun.ParseNAA(id)
		if !ok || err != nil || st.Flags&unix.LO_FLAGS_AUTOCLEAR != 0 {
			continue
		}
		b, _ := os.ReadFile(filepath.Join(disk, "size"))
		sectors, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		out = append(out, loop{number: number, lun: n, readOnly: st.Flags&unix.LO_FLAGS_READ_ONLY != 0, dev: st.Device, ino: st.Inode, size: sectors * 512})
	}
	return out, nil
}

func loopStatus(node string) (*unix.LoopInfo64, error) {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return unix.IoctlLoopGetStatus64(fd)
}

// find is the loop device of a LUN as it is to be exported.
func (d *devices) find(l export.LUN, readOnly bool) (loop, bool) {
	var st unix.Stat_t
	all, err := d.loops()
	if err != nil || unix.Stat(l.File, &st) != nil {
		return loop{}, false
	}
	for _, o := range all {
		if o.lun == l.NAA && o.readOnly == readOnly && o.dev == st.Dev && o.ino == st.Ino && o.size == l.Size {
			return o, true
		}
	}
	return loop{}, false
}

func (d *devices) Is(device string, l export.LUN, readOnly bool) bool {
	o, ok := d.find(l, readOnly)
	if !ok || !readOnly {
		return ok && device == d.node(o.number)
	}
	node, ok := d.cover(o)
	return ok && device == node
}

// cover is the device-mapper device over a read-only loop device.
func (d *devices) cover(o loop) (node string, ok bool) {
	err := d.mapper(func(ctx context.Context, c *devicemapper.Control) error {
		v, err := c.Info(ctx, devicemapper.Name(mapperName+o.lun.String()))
		if err != nil {
			return err
		}
		table, err := c.Table(ctx, v.Ref())
		if err != nil {
			return err
		}
		ok = len(table) == 1 && table[0] == linear(o) && !v.Suspended
		node, err = v.Node()
		return err
	})
	return node, ok && err == nil
}

func linear(o loop) devicemapper.Target {
	return devicemapper.Target{Length: o.size / devicemapper.SectorSize, Type: "linear", Params: fmt.Sprintf("7:%d 0", o.number)}
}

func (d *devices) mapper(do func(context.Context, *devicemapper.Control) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := devicemapper.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, c)
}

func (d *devices) Make(l export.LUN, readOnly bool) (device string, err error) {
	o, ok := d.find(l, readOnly)
	if !ok {
		if err := d.Drop(l.NAA); err != nil { // one of another kind, or of another file
			return "", err
		}
		if o, err = d.attach(l, readOnly); err != nil {
			return "", backingFailed("export LUN", l.NAA, "its file "+l.File+" cannot be made a block device", err)
		}
	}
	if !readOnly {
		return d.node(o.number), nil
	}
	if node, ok := d.cover(o); ok {
		return node, nil
	}
	err = d.mapper(func(ctx context.Context, c *devicemapper.Control) error {
		name := mapperName + l.NAA.String()
		if old, err := c.Info(ctx, devicemapper.Name(name)); err == nil {
			if _, err := c.Remove(ctx, old.Ref(), false, devicemapper.Alone); err != nil {
				return err
			}
		}
		// Not read-only itself: nvmet opens for writing or not at all. What it
		// writes, the loop device beneath refuses.
		v, err := c.Make(ctx, devicemapper.Spec{Name: name, UUID: "UMBRA-NVMET-" + l.NAA.String(), Udev: devicemapper.Alone, Targets: []devicemapper.Target{linear(o)}})
		if err != nil {
			return err
		}
		device, err = v.Node()
		return err
	})
	if err != nil {
		return "", errors.Join(err, d.Drop(l.NAA))
	}
	return device, nil
}

// attach puts the LUN's file under a loop device.
func (d *devices) attach(l export.LUN, readOnly bool) (loop, error) {
	flags := unix.O_RDWR | unix.O_DSYNC
	if readOnly {
		flags = unix.O_RDONLY
	}
	f, err := os.OpenFile(l.File, flags, 0)
	if err != nil {
		return loop{}, err
	}
	defer f.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 512}
	if readOnly {
		config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_DIRECT_IO
	} else if d.direct && syncWrites(f, true) == nil {
		// Without: through the page cache, where O_DSYNC holds, one block at a time.
		config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	}
	copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], loopName+l.NAA.String())
	control, err := unix.Open(filepath.Join(d.dev, "loop-control"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return loop{}, err
	}
	defer unix.Close(control)
	for range 100 {
		number, err := ioctl(control, unix.LOOP_CTL_GET_FREE, 0)
		if err != nil {
			return loop{}, err
		}
		err = d.configure(number, &config, readOnly)
		if errors.Is(err, unix.EBUSY) {
			time.Sleep(time.Millisecond) // somebody else was faster
			continue
		}
		if err != nil {
			return loop{}, err
		}
		o, ok := d.find(l, readOnly)
		if !ok {
			return loop{}, errors.Join(fmt.Errorf("loop%d is not as it was made, or the file does not have %d bytes", number, l.Size), d.clear(number, l.NAA))
		}
		return o, nil
	}
	return loop{}, errors.New("no free loop device was to be had")
}

func (d *devices) configure(number int, config *unix.LoopConfig, readOnly bool) error {
	node := d.node(number)
	err := unix.Mknod(node, unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(number)))) // where nobody else does
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.IoctlLoopConfigure(fd, config); err != nil || readOnly {
		return err
	}
	// The flag outlives what was here before.
	return unix.IoctlSetPointerInt(fd, unix.BLKROSET, 0)
}

func ioctl(fd int, request uintptr, arg int) (int, error) {
	n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

func (d *devices) Drop(n lun.NAA) error {
	all, err := d.loops()
	if err != nil {
		return backingFailed("end export", n, "its devices cannot be listed", err)
	}
	for _, o := range all {
		if o.lun != n {
			continue
		}
		if o.readOnly {
			if err := d.uncover(n); err != nil {
				return backingFailed("end export", n, "the kernel keeps its device", err)
			}
		}
		if err := d.clear(o.number, n); err != nil {
			return backingFailed("end export", n, fmt.Sprintf("the kernel does not let go of loop%d", o.number), err)
		}
	}
	return nil
}

func (d *devices) uncover(n lun.NAA) error {
	err := d.mapper(func(ctx context.Context, c *devicemapper.Control) error {
		// If something on this machine looks at it just now, it goes when that is done.
		_, err := c.Remove(ctx, devicemapper.Name(mapperName+n.String()), true, devicemapper.Alone)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		return err
	})
	if errors.Is(err, vss.VSS_E_NOT_SUPPORTED) {
		return nil // no device-mapper, so nothing of it
	}
	return err
}

// clear takes a loop device from its file, if it is still ours.
func (d *devices) clear(number int, n lun.NAA) error {
	fd, err := unix.Open(d.node(number), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := unix.IoctlLoopGetStatus64(fd)
	if errors.Is(err, unix.ENXIO) || err == nil && unix.ByteSliceToString(st.File_name[:]) != loopName+n.String() {
		return nil
	}
	if err != nil {
		return err
	}
	d.unsync(number, st)
	if _, err := ioctl(fd, unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return err
	}
	return nil
}

// unsync takes back what attach asked of the file. It is no harm if it stays:
// whoever writes the file waits longer.
func (d *devices) unsync(number int, st *unix.LoopInfo64) {
	if st.Flags&unix.LO_FLAGS_READ_ONLY != 0 {
		return
	}
	name, err := os.ReadFile(filepath.Join(d.sys, "block", fmt.Sprintf("loop%d", number), "loop/backing_file"))
	if err != nil {
		return
	}
	f, err := os.Open(strings.TrimSuffix(string(name), "\n"))
	if err != nil {
		return
	}
	defer f.Close()
	var is unix.Stat_t
	if unix.Fstat(int(f.Fd()), &is) == nil && is.Dev == st.Device && is.Ino == st.Inode {
		_ = syncWrites(f, false)
	}
}

// syncWrites makes every write to the file one that is on disk when it ends,
// whoever writes it and however: it is a property of the inode (chattr +S). A
// loop device with direct I/O does not look at how its file was opened, and from
// Linux 6.0 on at this.
func syncWrites(f *os.File, on bool) error {
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	now := flags &^ fsSync
	if on {
		now |= fsSync
	}
	if now == flags {
		return nil
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, now)
}

func (d *devices) All() ([]lun.NAA, error) {
	all, err := d.loops()
	var out []lun.NAA
	for _, o := range all {
		out = append(out, o.lun)
	}
	return out, err
}

func backingFailed(op string, n lun.NAA, reason string, err error) error {
	return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: n.String(), Reason: reason,
		Remedy: "Look at the kernel log of the array's machine, and whether its store is whole", Err: err}
}
