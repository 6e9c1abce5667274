package surface

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/vss"
)

// A volume group under another identity (lvm.Renew) has disks of its own: each
// begins with what LVM reads of a disk, from memory of ours, and goes on with the
// extents of a copy's LUN. The LUN is not asked to take a byte, and what LVM reads
// of the disk is not the LUN's.
//
// What comes before the extents lies in a memfd below one loop device for the
// group, which goes with the last of the group's disks (autoclear). So there is no
// file to lose or to leave, and taking the disks away is all there is to do.

// Failpoints of a group's disks.
var (
	fpGroupLoop = failpoint.New("surface.group.after-loop")
	fpGroupDisk = failpoint.New("surface.group.after-disk")
	fpGroupDrop = failpoint.New("surface.group.after-drop")
)

// GroupDisk is a disk of a group: what precedes its extents, and where these are.
type GroupDisk struct {
	Head           []byte
	HeadSize       uint64 // which zeros fill up
	LUN            block.Device
	Offset, Length uint64 // on the LUN
}

// groupPrefix begins the device-mapper UUIDs of a group's disks.
func (s *Surfacer) groupPrefix(uuid string) string {
	return hide.GroupPrefix + s.HostTag + "-" + strings.ReplaceAll(uuid, "-", "") + "-"
}

func (s *Surfacer) groupDiskName(uuid string, n int) string {
	return fmt.Sprintf("umbra-%s-%s-pv%d", s.HostTag, strings.ReplaceAll(uuid, "-", "")[len(lvm.Mark):len(lvm.Mark)+8], n)
}

// GroupDisks makes the disks of a group, or finds them, and returns their paths.
// They are read-only. If it fails nothing is left, unless what is left cannot be
// removed. Errors are those of Surface.
func (s *Surfacer) GroupDisks(ctx context.Context, uuid string, disks []GroupDisk) (paths []string, err error) {
	for _, d := range disks {
		if err := block.Verify(d.LUN); err != nil {
			return nil, err
		}
		if uint64(len(d.Head)) > d.HeadSize || d.HeadSize%devicemapper.SectorSize != 0 {
			return nil, refuse(vss.E_INVALIDARG, d.LUN.LUN.Name(), fmt.Sprintf("%d bytes do not fit %d", len(d.Head), d.HeadSize), "Report it", nil)
		}
		if d.Offset > d.LUN.Size || d.Length > d.LUN.Size-d.Offset || d.Length == 0 || d.Offset%devicemapper.SectorSize != 0 || d.Length%devicemapper.SectorSize != 0 {
			return nil, refuse(vss.VSS_E_MISSING_HIDDEN_VOLUME, d.LUN.LUN.Name(), fmt.Sprintf("the physical volume's %d bytes at %d are not on the LUN, which has %d", d.Length, d.Offset, d.LUN.Size),
				"Create a new set; this LUN is smaller than LVM's description says", nil)
		}
	}
	c, err := devicemapper.Open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := s.hideMapped(ctx); err != nil {
		return nil, err
	}
	for i := range disks {
		paths = append(paths, "/dev/mapper/"+s.groupDiskName(uuid, i))
	}
	whole, err := s.groupIsThere(ctx, c, uuid, disks)
	if err != nil || whole {
		return paths, err
	}
	if err := s.dropGroup(ctx, c, uuid, false); err != nil {
		return nil, err
	}
	if err := s.makeGroup(ctx, c, uuid, disks); err != nil {
		return nil, errors.Join(err, s.dropGroup(context.WithoutCancel(ctx), c, uuid, false))
	}
	return paths, awaitLinks(ctx, paths)
}

// makeGroup makes the disks over the LUNs, or, if a LUN has partitions that are
// mounted or may be, over loop devices.
func (s *Surfacer) makeGroup(ctx context.Context, c *devicemapper.Control, uuid string, disks []GroupDisk) error {
	heads, err := loopOf(ctx, disks)
	if err != nil {
		return err
	}
	defer heads.Close() // the disks keep it
	if err := fpGroupLoop.Hit(ctx); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(heads.Fd()), &st); err != nil {
		return refuse(vss.VSS_E_UNEXPECTED, heads.Name(), "the loop device cannot be looked at", "See the kernel log", err)
	}
	for i := range disks {
		luns := []block.Device{disks[i].LUN}
		spec := devicemapper.Spec{Name: s.groupDiskName(uuid, i), UUID: s.groupPrefix(uuid) + fmt.Sprint(i), ReadOnly: true, Udev: devicemapper.Unread}
		spec.Targets = groupTargets(st.Rdev, disks, i, luns[0])
		err := error(unix.EBUSY)
		if !parted(ctx, luns...) {
			_, err = c.Make(ctx, spec)
		}
		if errors.Is(err, unix.EBUSY) {
			if luns, err = s.wholeLoops(ctx, luns, true); err != nil {
				return err
			}
			spec.Targets = groupTargets(st.Rdev, disks, i, luns[0])
			_, err = c.Make(ctx, spec)
		}
		if err == nil {
			err = fpGroupDisk.Hit(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// headPad is what lies before the first disk's head on the loop device: on the
// device itself LVM finds no label.
const headPad = 1 << 20

// groupTargets is the table of a disk.
func groupTargets(heads uint64, disks []GroupDisk, n int, lun block.Device) []devicemapper.Target {
	at := uint64(headPad)
	for _, d := range disks[:n] {
		at += d.HeadSize
	}
	const sector = devicemapper.SectorSize
	d := disks[n]
	head := d.HeadSize / sector
	return []devicemapper.Target{
		{Start: 0, Length: head, Type: "linear", Params: fmt.Sprintf("%d:%d %d", unix.Major(heads), unix.Minor(heads), at/sector)},
		{Start: head, Length: d.Length / sector, Type: "linear", Params: fmt.Sprintf("%d:%d %d", lun.Major, lun.Minor, d.Offset/sector)},
	}
}

// groupIsThere reports whether all of the group's disks are there as they would
// be made.
func (s *Surfacer) groupIsThere(ctx context.Context, c *devicemapper.Control, uuid string, disks []GroupDisk) (bool, error) {
	for i, d := range disks {
		here, err := c.Info(ctx, devicemapper.Ref{UUID: s.groupPrefix(uuid) + fmt.Sprint(i)})
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !here.Live || !here.ReadOnly || here.Suspended || here.Deferred {
			return false, nil
		}
		table, err := c.Table(ctx, here.Ref())
		if err != nil {
			return false, err
		}
		under := []block.Device{d.LUN}
		if loops, err := s.wholeLoops(ctx, under, false); err == nil {
			under = append(under, loops...)
		}
		if len(table) != 2 || !slices.ContainsFunc(under, func(l block.Device) bool {
			return slices.Equal(table[1:], groupTargets(0, disks, i, l)[1:])
		}) {
			return false, nil
		}
	}
	return true, nil
}

// DropGroup takes the disks of a group away, whether or not all are there. One
// that is in use is VSS_E_VOLUME_IN_USE, or goes with its last user if lazily.
func (s *Surfacer) DropGroup(ctx context.Context, uuid string, lazily bool) error {
	c, err := devicemapper.Open()
	if errors.Is(err, vss.VSS_E_NOT_SUPPORTED) {
		return nil // then there are none
	}
	if err != nil {
		return err
	}
	defer c.Close()
	return s.dropGroup(ctx, c, uuid, lazily)
}

func (s *Surfacer) dropGroup(ctx context.Context, c *devicemapper.Control, uuid string, lazily bool) error {
	loops, err := s.loopsBelow(ctx, c, s.groupPrefix(uuid))
	if err != nil {
		return err
	}
	if err := removeAll(ctx, c, s.groupPrefix(uuid), lazily, devicemapper.Unread, func() error { return fpGroupDrop.Hit(ctx) }); err != nil {
		return err
	}
	for _, d := range loops {
		// One that a copy's own device is built on, too, stays for that.
		if err := s.TakeDown(ctx, Device{d, Loop}, false); err != nil && !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
			return err
		}
	}
	return nil
}

// loopsBelow are this host's loop devices over LUNs, which devices of some UUIDs
// are built on.
func (s *Surfacer) loopsBelow(ctx context.Context, c *devicemapper.Control, prefix string) ([]block.Device, error) {
	above, err := namedBy(ctx, c, prefix)
	if err != nil || len(above) == 0 {
		return nil, err
	}
	var below []uint64
	for _, d := range above {
		deps, err := c.Deps(ctx, d.Ref())
		if err != nil && !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			return nil, err
		}
		below = append(below, deps...)
	}
	all, err := block.Loops(ctx, "")
	return slices.DeleteFunc(all, func(d block.Device) bool {
		return d.Loop.Name != s.loopName() || d.Loop.Autoclear || !slices.Contains(below, d.Dev())
	}), err
}

// DropVolumes takes a group's volumes away as device-mapper has them, in use or
// not: those in use go with their last user.
func (s *Surfacer) DropVolumes(ctx context.Context, uuid string) error {
	c, err := devicemapper.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	return removeAll(ctx, c, "LVM-"+strings.ReplaceAll(uuid, "-", ""), true, 0, nil)
}

// removeAll removes the devices whose UUIDs begin so.
func removeAll(ctx context.Context, c *devicemapper.Control, prefix string, lazily bool, u devicemapper.Udev, after func() error) error {
	all, err := namedBy(ctx, c, prefix)
	if err != nil {
		return err
	}
	for _, d := range all {
		if err := removePatiently(ctx, c, d.Ref(), lazily, u); err != nil {
			return err
		}
		if after != nil {
			if err := after(); err != nil {
				return err
			}
		}
	}
	return nil
}

// removePatiently removes a device that udev may be looking at.
func removePatiently(ctx context.Context, c *devicemapper.Control, r devicemapper.Ref, lazily bool, u devicemapper.Udev) error {
	for deadline := time.Now().Add(patience); ; {
		_, err := c.Remove(ctx, r, lazily, u)
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			return nil
		}
		if err == nil || !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// loopOf makes a read-only loop device over what precedes the disks' extents. It
// goes when it is closed by the last who has it open.
func loopOf(ctx context.Context, disks []GroupDisk) (*os.File, error) {
	failed := func(err error) (*os.File, error) {
		return nil, refuse(vss.VSS_E_UNEXPECTED, "memfd", "what LVM is to read of the disks cannot be kept in memory", "Free memory, and try again", err)
	}
	fd, err := unix.MemfdCreate("umbra-volume-group", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return failed(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close() // the loop device keeps it
	at := int64(headPad)
	for _, d := range disks {
		// Most is zeros, which need no memory.
		for n := 0; n < len(d.Head); n += 4096 {
			page := d.Head[n:min(n+4096, len(d.Head))]
			if slices.ContainsFunc(page, func(b byte) bool { return b != 0 }) {
				if _, err := f.WriteAt(page, at+int64(n)); err != nil {
					return failed(err)
				}
			}
		}
		at += int64(d.HeadSize)
	}
	if err := f.Truncate(at); err != nil {
		return failed(err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return failed(err)
	}
	config := unix.LoopConfig{Fd: uint32(fd)}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], "umbra-volume-group")
	return takeLoop(ctx, &config)
}

// awaitLinks waits for udev to have made the disks' links, where it runs: LVM's
// programs ask udev which disks there are.
func awaitLinks(ctx context.Context, paths []string) error {
	if _, err := os.Stat("/run/udev/control"); err != nil {
		return nil
	}
	deadline := time.Now().Add(patience)
	for _, p := range paths {
		for {
			if _, err := os.Stat(p); err == nil {
				break
			}
			if time.Now().After(deadline) {
				return refuse(vss.VSS_E_UNEXPECTED, filepath.Base(p), "udev made no link for a disk of the volume group", "See whether systemd-udevd answers (udevadm settle), and try again", nil)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// Volumes are a group's volumes that are active.
func (s *Surfacer) Volumes(ctx context.Context, uuid string) ([]devicemapper.Device, error) {
	return named(ctx, "LVM-"+strings.ReplaceAll(uuid, "-", ""))
}

// GroupPaths are the paths of those of a group's disks that are there.
func (s *Surfacer) GroupPaths(ctx context.Context, uuid string) ([]string, error) {
	ds, err := named(ctx, s.groupPrefix(uuid))
	var paths []string
	for _, d := range ds {
		paths = append(paths, "/dev/mapper/"+d.Name)
	}
	return paths, err
}

// named are the device-mapper devices whose UUIDs begin so.
func named(ctx context.Context, prefix string) ([]devicemapper.Device, error) {
	c, err := devicemapper.Open()
	if errors.Is(err, vss.VSS_E_NOT_SUPPORTED) {
		return nil, nil // then there are none
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return namedBy(ctx, c, prefix)
}

func namedBy(ctx context.Context, c *devicemapper.Control, prefix string) ([]devicemapper.Device, error) {
	all, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []devicemapper.Device
	for _, n := range all {
		d, err := c.Info(ctx, devicemapper.Number(n.Dev))
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || err == nil && !strings.HasPrefix(d.UUID, prefix) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}
