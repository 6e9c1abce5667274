package importing

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/vss"
)

// DeviceOf is an attachment as the host layer knows it: identity and diskseq,
// so that every use checks that the node is still the same disk.
func DeviceOf(a catalog.Attachment) block.Device {
	return block.Device{Path: a.Device, Name: block.BaseName(a.Device), Major: a.Major, Minor: a.Minor, DiskSeq: a.DiskSeq, Size: a.Size, ReadOnly: true, LUN: a.LUN}
}

// CloneMountOf is the mount of a copy at target.
func CloneMountOf(c catalog.Copy, target string) filesystem.CloneMount {
	f := c.Filesystem
	m := filesystem.CloneMount{Device: VolumeOf(c), Target: target, Quiesced: c.Quiesced,
		Identity: filesystem.Identity{Type: f.Type, UUID: f.UUID, Label: f.Label, Size: f.Size, Devices: f.DeviceCount}}
	if len(f.DeviceUUIDs) > 0 {
		m.Identity.DeviceUUID = f.DeviceUUIDs[0]
	}
	for _, s := range c.Surfaces {
		d := surfaceDevice(c.Attachments, s).Device
		switch s.Role {
		case document.RoleLog:
			m.Log = &d
		case document.RoleRealtime:
			m.Realtime = &d
		}
	}
	return m
}

// MountCopies makes the device objects of a set's copies that have none. A
// copy that cannot be mounted safely keeps its block node, has an empty device
// object, and an event that says what helps (requester.md 8, row 29).
func (im *Importer) MountCopies(ctx context.Context, set vss.ID) error {
	var cs []catalog.Copy
	if err := im.Catalog.View(func(t *catalog.Tx) (err error) { cs, err = t.CopiesOf(set); return err }); err != nil {
		return err
	}
	return im.mount(ctx, set, cs)
}

// MountCopy does the same for one copy and leaves the set's others alone.
func (im *Importer) MountCopy(ctx context.Context, c catalog.Copy) error {
	return im.mount(ctx, c.Prop.SnapshotSetID, []catalog.Copy{c})
}

func (im *Importer) mount(ctx context.Context, set vss.ID, cs []catalog.Copy) error {
	// What was attached before the machine booted is not: its device number may
	// be another disk's now, and even that disk's sequence number the same.
	cs = slices.DeleteFunc(cs, func(c catalog.Copy) bool { return c.BootID != im.BootID })
	paths := make([]string, len(cs))
	errs := make([]error, len(cs))
	var g errgroup.Group
	g.SetLimit(16)
	for i, c := range cs {
		g.Go(func() error {
			errs[i] = registry.Guard("mount device object", func() (err error) {
				paths[i], err = im.mountCopy(ctx, c)
				return err
			})
			return nil
		})
	}
	_ = g.Wait()
	return im.Catalog.Update(ctx, func(t *catalog.Tx) error {
		for i, c := range cs {
			c, found, err := t.Copy(c.Prop.SnapshotID)
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			c.Prop.DeviceObject = paths[i]
			if err := t.PutCopy(c); err != nil {
				return err
			}
			if errs[i] != nil {
				if _, err := t.AddEvent(catalog.Event{Level: "warning", Name: "copy.not-mounted", SetID: set, Object: c.Prop.SnapshotID.String(),
					Message: "the copy is here and its block node " + c.Prop.BlockDevice + " is there, but it has no device object", Failure: catalog.FailureOf(errs[i])}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (im *Importer) mountCopy(ctx context.Context, c catalog.Copy) (string, error) {
	target := im.DeviceObject(c.Prop.SnapshotID)
	if c.Filesystem.Type == filesystem.TypeBtrfs && len(c.BlockDevices()) > 1 {
		return "", &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "mount device object", Object: c.Prop.SnapshotID.String(),
			Reason: "the btrfs spans several devices, and a copy of it cannot be mounted safely beside what this host may have", Remedy: "Use the block nodes, see umbra list luns"}
	}
	if err := os.MkdirAll(target, 0o700); err != nil {
		return "", &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "mount device object", Object: target, Reason: "its folder cannot be made", Remedy: "Check the daemon's --run-dir", Err: err}
	}
	if MountedAt(target, VolumeOf(c)) {
		return target, nil // the service was restarted
	}
	if err := im.Host.MountClone(ctx, CloneMountOf(c, target)); err != nil {
		if rerr := os.Remove(target); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			return "", errors.Join(err, rerr)
		}
		return "", err
	}
	return target, nil
}

// MountedAt reports whether the copy's device is mounted at target already, so
// that it is not mounted there again on top.
func MountedAt(target string, d block.Device) bool {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(target))
	if err != nil {
		return false
	}
	for _, m := range mounts {
		// btrfs has device numbers of its own making; its source says which
		// device it is.
		if (m.Major == int(d.Major) && m.Minor == int(d.Minor)) || (m.FSType == "btrfs" && m.Source == d.Path) {
			return true
		}
	}
	return false
}
