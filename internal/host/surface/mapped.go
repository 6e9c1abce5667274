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
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// uuidOf marks the device-mapper devices of this host; hide.MappedPrefix is what
// udev's rules know them by.
func (s *Surfacer) uuidOf(name string) string { return hide.MappedPrefix + s.HostTag + "-" + name }

// mapped surfaces a volume of several extents or LUNs.
func (s *Surfacer) mapped(ctx context.Context, r Request, segments []lun.Segment) (Device, error) {
	c, err := devicemapper.Open()
	if err != nil {
		return Device{}, refuse(vss.VSS_E_VOLUME_NOT_SUPPORTED, r.Name, "the volume is put together from several parts of LUNs, and this kernel has no device-mapper",
			"Load it (modprobe dm_mod) and import again, or import on a machine that has it", err)
	}
	defer c.Close()
	if err := s.hideMapped(ctx); err != nil {
		return Device{}, err
	}
	spec := devicemapper.Spec{Name: "umbra-" + s.HostTag + "-" + r.Name, UUID: s.uuidOf(r.Name), ReadOnly: true, Udev: devicemapper.Alone}
	here, err := c.Info(ctx, devicemapper.Ref{UUID: spec.UUID})
	switch {
	case err == nil:
		d, err := s.adopt(ctx, c, here, r.LUNs, segments)
		if err != nil || d.Path != "" {
			return Device{d, Mapped}, err
		}
	case !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND):
		return Device{}, err
	}
	if err := fpBeforeMake.Hit(ctx); err != nil {
		return Device{}, err
	}
	spec.Targets = targets(r.LUNs, segments)
	made, err := devicemapper.Device{}, error(unix.EBUSY)
	if !parted(ctx, r.LUNs...) {
		made, err = c.Make(ctx, spec)
	}
	if errors.Is(err, unix.EBUSY) {
		// A partition of a LUN is mounted, so the whole of it cannot be claimed, or it
		// will be and could not. A loop device claims nothing of what it lies on.
		loops, lerr := s.wholeLoops(ctx, r.LUNs, true)
		if lerr != nil {
			return Device{}, errors.Join(err, lerr)
		}
		spec.Targets = targets(loops, segments)
		made, err = c.Make(ctx, spec)
	}
	if err != nil {
		return Device{}, err
	}
	d, err := inspectMapped(ctx, made, segments)
	return s.made(ctx, d, Mapped, err)
}

func (s *Surfacer) hideMapped(ctx context.Context) error {
	if s.HideMapped == nil {
		return nil
	}
	return s.HideMapped(ctx)
}

// adopt takes a device that is there, if it is what is wanted; an empty one if it
// was not and is gone.
func (s *Surfacer) adopt(ctx context.Context, c *devicemapper.Control, here devicemapper.Device, luns []block.Device, segments []lun.Segment) (block.Device, error) {
	if here.Live && here.ReadOnly && !here.Suspended && !here.Deferred {
		table, err := c.Table(ctx, here.Ref())
		if err != nil {
			return block.Device{}, err
		}
		same := slices.Equal(table, targets(luns, segments))
		if !same {
			if loops, err := s.wholeLoops(ctx, luns, false); err == nil {
				same = slices.Equal(table, targets(loops, segments))
			}
		}
		if same {
			return inspectMapped(ctx, here, segments)
		}
	}
	// Half made, or of LUNs that were here before.
	if _, err := c.Remove(ctx, here.Ref(), false, devicemapper.Alone); err != nil && !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		return block.Device{}, refuse(vss.VSS_E_VOLUME_IN_USE, here.String(), "a device of this volume is there, is not what the volume is now, and is in use",
			"Find who uses it (lsblk, fuser), end that, and try again", err)
	}
	return block.Device{}, nil
}

// wholeLoops are loop devices over the whole of each LUN, made where they are
// missing if that is wanted.
func (s *Surfacer) wholeLoops(ctx context.Context, luns []block.Device, missing bool) ([]block.Device, error) {
	var all []block.Device
	for _, l := range luns {
		d, found, err := s.findLoop(ctx, l, 0, l.Size)
		if err == nil && !found {
			if !missing {
				return nil, unix.ENOENT
			}
			d, err = s.makeLoop(ctx, l, 0, l.Size)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// targets is the table of a device of these segments.
func targets(disks []block.Device, segments []lun.Segment) []devicemapper.Target {
	const sector = devicemapper.SectorSize
	var all []devicemapper.Target
	var start uint64
	for _, g := range segments {
		var on []string
		for _, x := range g.Extents {
			on = append(on, fmt.Sprintf("%d:%d %d", disks[x.LUN].Major, disks[x.LUN].Minor, x.Offset/sector))
		}
		t := devicemapper.Target{Start: start, Length: g.Length() / sector, Type: "linear", Params: on[0]}
		if g.Chunk > 0 {
			t.Type, t.Params = "striped", fmt.Sprintf("%d %d %s", len(on), g.Chunk/sector, strings.Join(on, " "))
		}
		all = append(all, t)
		start += t.Length
	}
	return all
}

// inspectMapped looks at a device that was made, or was there.
func inspectMapped(ctx context.Context, made devicemapper.Device, segments []lun.Segment) (block.Device, error) {
	path, err := made.Node()
	if err != nil {
		return block.Device{}, err
	}
	d, err := block.Inspect(ctx, path)
	if err != nil {
		return d, err
	}
	var want uint64
	for _, g := range segments {
		want += g.Length()
	}
	if d.Size != want || !d.ReadOnly {
		return d, refuse(vss.VSS_E_UNEXPECTED, path, fmt.Sprintf("the device has %d bytes (read-only: %v), the volume %d", d.Size, d.ReadOnly, want), "Try again; see the kernel log", nil)
	}
	return d, nil
}

// dropMapped removes a device, if it still is the one that was recorded and one
// of this host's.
func (s *Surfacer) dropMapped(ctx context.Context, d block.Device, lazily bool) error {
	hold := unix.O_RDONLY
	if !lazily {
		hold |= unix.O_EXCL // else a user would be found out by waiting
	}
	f, err := block.Open(ctx, d, hold)
	if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		return nil
	}
	if err != nil {
		return err
	}
	f.Close()
	return s.removeMapped(ctx, d.Dev(), lazily)
}

func (s *Surfacer) removeMapped(ctx context.Context, dev uint64, lazily bool) error {
	c, err := devicemapper.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	for deadline := time.Now().Add(patience); ; {
		here, err := c.Info(ctx, devicemapper.Number(dev))
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || err == nil && !strings.HasPrefix(here.UUID, s.uuidOf("")) {
			return nil
		}
		if err == nil {
			_, err = c.Remove(ctx, here.Ref(), lazily, devicemapper.Alone)
		}
		if err == nil || !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) || time.Now().After(deadline) {
			return err
		}
		select { // udev looks at it for some milliseconds
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// clearMapped removes this host's devices that are built on one.
func (s *Surfacer) clearMapped(ctx context.Context, below block.Device, lazily bool) error {
	holders, err := os.ReadDir(filepath.Join(sysfs(below), "holders"))
	if err != nil {
		return nil // gone
	}
	for _, h := range holders {
		d, err := block.Inspect(ctx, h.Name())
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			continue
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(attribute(d, "dm/uuid"), s.uuidOf("")) {
			continue // whoever built it: the LUN is in use, as its detaching will say
		}
		if err := s.TakeDown(ctx, Device{d, Mapped}, lazily); err != nil {
			return err
		}
	}
	return nil
}
