package importing

import (
	"context"
	"fmt"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/vss"
)

// surface makes the block devices of a copy from its LUNs. What it made is
// returned beside the error.
func (im *Importer) surface(ctx context.Context, copyID vss.ID, luns []block.Device, wanted []document.BlockDevice) ([]catalog.Surface, error) {
	var ss []catalog.Surface
	for i, w := range wanted {
		d, err := im.Host.Surface(ctx, surface.Request{Name: fmt.Sprintf("%s-%d", copyID.Bare(), i), LUNs: luns, Segments: w.Segments})
		if err != nil {
			return ss, err
		}
		ss = append(ss, catalog.Surface{Role: w.Role, Segments: w.Segments, Kind: string(d.Kind),
			Device: d.Path, Major: d.Major, Minor: d.Minor, DiskSeq: d.DiskSeq, Size: d.Size})
	}
	return ss, nil
}

// Resurface makes the block devices of a copy again, or finds them, where its
// attachments are now.
func (im *Importer) Resurface(ctx context.Context, c *catalog.Copy) error {
	luns := make([]block.Device, len(c.Attachments))
	for i, a := range c.Attachments {
		luns[i] = DeviceOf(a)
	}
	var wanted []document.BlockDevice
	for _, s := range c.BlockDevices() {
		wanted = append(wanted, document.BlockDevice{Role: s.Role, Segments: s.Segments})
	}
	ss, err := im.surface(ctx, c.Prop.SnapshotID, luns, wanted)
	if err != nil || len(ss) == 0 {
		return err
	}
	c.Surfaces, c.Prop.BlockDevice = ss, ss[0].Device
	return nil
}

// takeDown ends devices that are on no record.
func (im *Importer) takeDown(ctx context.Context, ss []catalog.Surface) error {
	var err error
	for _, s := range ss {
		err = vss.Join("", err, im.Host.TakeDown(ctx, surfaceDevice(nil, s), false))
	}
	return err
}

// SurfacesOf are the copy's block devices as the host layer knows them.
func SurfacesOf(c catalog.Copy) []surface.Device {
	var all []surface.Device
	for _, s := range c.BlockDevices() {
		all = append(all, surfaceDevice(c.Attachments, s))
	}
	return all
}

func surfaceDevice(on []catalog.Attachment, s catalog.Surface) surface.Device {
	d := block.Device{Path: s.Device, Name: block.BaseName(s.Device), Major: s.Major, Minor: s.Minor, DiskSeq: s.DiskSeq, Size: s.Size, ReadOnly: true}
	if len(s.Segments) > 0 && len(s.Segments[0].Extents) > 0 {
		if n := s.Segments[0].Extents[0].LUN; n >= 0 && n < len(on) {
			d.LUN = on[n].LUN // the one it begins on
		}
	}
	return surface.Device{Device: d, Kind: surface.Kind(s.Kind)}
}

// VolumeOf is the copy's block device that has the superblock: what is mounted.
func VolumeOf(c catalog.Copy) block.Device {
	return surfaceDevice(c.Attachments, c.BlockDevices()[0]).Device
}
