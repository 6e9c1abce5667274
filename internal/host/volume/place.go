package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// run is a run of bytes of a disk.
type run struct {
	disk           block.Device
	offset, length uint64
}

// stretch is a piece of a device: one run, or in turns of chunk bytes several
// runs of one length.
type stretch struct {
	chunk uint64
	runs  []run
}

func (s stretch) length() uint64 {
	var n uint64
	for _, r := range s.runs {
		n += r.length
	}
	return n
}

// placeMembers puts the members on their disks.
func placeMembers(ctx context.Context, members []Member) error {
	var disks []uint64
	for i := range members {
		m := &members[i]
		laid, err := lay(ctx, m.Device)
		if errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) {
			// It is a volume all the same, which can be named and asked about.
			m.refused, err = err, nil
			laid = whole(m.Device)
		}
		if err != nil {
			return err
		}
		for _, s := range laid {
			g := lun.Segment{Chunk: s.chunk}
			for _, r := range s.runs {
				n := slices.Index(disks, r.disk.Dev())
				if n < 0 {
					n = len(disks)
					disks = append(disks, r.disk.Dev())
				}
				if !slices.ContainsFunc(m.Disks, func(d block.Device) bool { return d.Dev() == r.disk.Dev() }) {
					m.Disks = append(m.Disks, r.disk)
				}
				g.Extents = append(g.Extents, lun.Extent{LUN: n, Offset: r.offset, Length: r.length})
			}
			m.Segments = append(m.Segments, g)
		}
		if m.refused != nil {
			continue
		}
		m.Logical, err = logicalVolume(ctx, m.Device, func(d block.Device) (disk int, offset uint64, ok bool) {
			laid, err := lay(ctx, d)
			if err != nil || len(laid) != 1 || len(laid[0].runs) != 1 {
				return 0, 0, false
			}
			r := laid[0].runs[0]
			n := slices.Index(disks, r.disk.Dev())
			return n, r.offset, n >= 0
		})
		if errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) {
			m.refused, err = err, nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whole is a device that lies on itself.
func whole(d block.Device) []stretch { return []stretch{{runs: []run{{disk: d, length: d.Size}}}} }

// lay walks down from a device to the disks it lies on.
func lay(ctx context.Context, d block.Device) ([]stretch, error) {
	if p := d.Partition; p != nil {
		return layPart(ctx, d, p.Disk, p.Start)
	}
	// A loop device that makes a partition of a disk, where the kernel makes
	// none; those that are LUNs themselves are files of an array.
	if l := d.Loop; l != nil && l.Backing != 0 && l.HostTag == "" {
		return layPart(ctx, d, deviceNumber(l.Backing), l.Offset)
	}
	// A multipath map is device-mapper's, too, and is the LUN.
	if _, mapped := mappedUUID(d); mapped && !d.Qualified() {
		return layMapped(ctx, d)
	}
	return whole(d), nil
}

// layPart lays a device that is a run of bytes of another.
func layPart(ctx context.Context, d block.Device, whole string, start uint64) ([]stretch, error) {
	disk, err := block.Inspect(ctx, whole)
	if err != nil {
		return nil, err
	}
	below, err := lay(ctx, disk)
	if err != nil {
		return nil, err
	}
	part, ok := cut(below, start, d.Size)
	if !ok {
		return nil, unsupported(d.Path, fmt.Sprintf("its %d bytes from %d of %s are not whole stripes of it, or more than it has", d.Size, start, disk.Path),
			"Put the filesystem on the whole of "+disk.Path)
	}
	return part, nil
}

// cut takes length bytes from an offset out of a device's pieces.
func cut(laid []stretch, offset, length uint64) (part []stretch, ok bool) {
	for _, s := range laid {
		have := s.length()
		if offset >= have {
			offset -= have
			continue
		}
		n := min(have-offset, length)
		if n == 0 {
			break
		}
		width := uint64(len(s.runs))
		if s.chunk > 0 && (offset%(s.chunk*width) != 0 || n%(s.chunk*width) != 0) {
			return nil, false
		}
		piece := stretch{chunk: s.chunk}
		for _, r := range s.runs {
			piece.runs = append(piece.runs, run{r.disk, r.offset + offset/width, n / width})
		}
		part = append(part, piece)
		offset, length = 0, length-n
	}
	return part, length == 0
}
