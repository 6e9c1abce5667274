package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/underway"
)

// A logical volume is known to the kernel by its table alone. What LVM has
// written on its disks says the rest: what it is called, and by which name each
// disk knows itself, so that the importer can tell that it was given the right
// ones. It also shows what the kernel's table does not: that the table is not
// (or no longer) what LVM means the volume to be, because pvmove or lvconvert is
// at work, or somebody else's metadata is on a disk. Then there is no copy.

// logicalVolume identifies a member in LVM: nil if it is no logical volume.
// place tells where a device below lies among the volume's LUNs, if that is one
// run of bytes.
func logicalVolume(ctx context.Context, d block.Device, place func(block.Device) (disk int, offset uint64, ok bool)) (*document.LogicalVolume, error) {
	uuid, mapped := mappedUUID(d)
	if !mapped {
		return nil, nil
	}
	groupUUID, volumeUUID, ok := lvm.SplitUUID(uuid)
	if !ok {
		return nil, nil
	}
	table, err := mappedTable(ctx, d)
	if err != nil {
		return nil, err
	}
	// The disks below, each once, and what they say.
	type physical struct {
		number string
		device block.Device
		lvm.Disk
	}
	var disks []physical
	for _, p := range table {
		for _, x := range p.on {
			if slices.ContainsFunc(disks, func(o physical) bool { return o.number == x.device }) {
				continue
			}
			below, err := block.Inspect(ctx, x.device)
			if err != nil {
				return nil, err
			}
			said, err := ReadPhysicalVolume(ctx, below, 0)
			if err != nil {
				return nil, unsupported(d.Path, fmt.Sprintf("what LVM has written on %s, a disk of %s, cannot be understood: %v", below.Path, mappedName(d), err),
					"Check the volume group (vgck, pvck); if LVM is changing it, try again when it has finished")
			}
			disks = append(disks, physical{x.device, below, said})
		}
	}
	// Every disk has the group's text, or some; the newest counts.
	var group lvm.Group
	for _, p := range disks {
		if p.Group.Name != "" && (group.Name == "" || p.Group.Sequence > group.Sequence) {
			group = p.Group
		}
	}
	var named lvm.LogicalVolume
	found := false
	if group.Name != "" {
		named, found = group.Volume(volumeUUID)
	}
	if !found || group.UUID != groupUUID {
		return nil, unsupported(d.Path, fmt.Sprintf("none of its disks says that it has the logical volume %s", mappedName(d)),
			"Give its disks copies of the group's metadata again (pvchange --metadataignore n), or activate the volume group anew")
	}
	missing := func(uuid string) error {
		return unsupported(d.Path, fmt.Sprintf("the physical volume %s of volume group %s is missing, and %s/%s lies on it", uuid, group.Name, group.Name, named.Name),
			"Attach the LUN of that physical volume, then vgextend --restoremissing and vgchange --refresh; or take it out of the group")
	}
	for _, p := range group.Disks {
		if p.Missing && slices.ContainsFunc(named.Segments, func(g lvm.Segment) bool {
			return slices.ContainsFunc(g.Areas, func(a lvm.Area) bool { return a.Disk == p.UUID })
		}) {
			return nil, missing(p.UUID)
		}
	}
	// Hold LVM's word against the kernel's.
	var meant []piece
	for _, g := range named.Segments {
		p := piece{length: g.Length, chunk: g.Chunk}
		for _, a := range g.Areas {
			i := slices.IndexFunc(disks, func(o physical) bool { return o.UUID == a.Disk })
			if i < 0 {
				return nil, missing(a.Disk)
			}
			p.on = append(p.on, spot{disks[i].number, a.Offset})
		}
		meant = append(meant, p)
	}
	if !samePieces(meant, table) {
		return nil, unsupported(d.Path, fmt.Sprintf("the kernel has %s/%s elsewhere than LVM's metadata says: it is being moved or changed", group.Name, named.Name),
			"Wait until pvmove, lvextend or lvconvert has finished, or run vgchange --refresh "+group.Name)
	}
	l := &document.LogicalVolume{Group: group.Name, GroupUUID: group.UUID, Name: named.Name, UUID: named.UUID}
	for _, p := range disks {
		if n, offset, ok := place(p.device); ok {
			l.Disks = append(l.Disks, document.PhysicalVolume{UUID: p.UUID, LUN: n, Offset: offset})
		}
	}
	return l, nil
}

// samePieces compares two tables, however they are cut.
func samePieces(a, b []piece) bool {
	return slices.EqualFunc(joinPieces(a), joinPieces(b), func(x, y piece) bool {
		return x.length == y.length && x.chunk == y.chunk && slices.Equal(x.on, y.on)
	})
}

// joinPieces puts pieces together that follow each other below as well.
func joinPieces(ps []piece) []piece {
	var out []piece
	for _, p := range ps {
		if n := len(out); n > 0 && len(out[n-1].on) == len(p.on) && out[n-1].chunk == p.chunk && len(p.on) > 0 {
			last := &out[n-1]
			each := last.length / uint64(len(last.on))
			follows := true
			for i := range p.on {
				follows = follows && last.on[i].device == p.on[i].device && last.on[i].offset+each == p.on[i].offset
			}
			if follows {
				last.length += p.length
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

// ErrNoPhysicalVolume says that there is no physical volume of LVM at a place.
var ErrNoPhysicalVolume = lvm.ErrNone

// labelTime bounds the reading of a label and of the text behind it.
const labelTime = 30 * time.Second

// ReadPhysicalVolume reads what LVM has written on a device, from an offset of it
// on. [ErrNoPhysicalVolume] if there is none.
func ReadPhysicalVolume(ctx context.Context, d block.Device, offset uint64) (lvm.Disk, error) {
	f, err := block.Open(ctx, d, unix.O_RDONLY)
	if err != nil {
		return lvm.Disk{}, err
	}
	disk, err := underway.Do(ctx, labelTime, underway.Wait{Kind: underway.Device, What: "reading LVM's label", Object: d.Path}, func() (lvm.Disk, error) {
		defer f.Close()
		return lvm.Read(from{readAt{f}, int64(offset)})
	}, nil)
	if ctx.Err() != nil && errors.As(err, new(underway.Late)) {
		return disk, ctx.Err()
	}
	if err != nil && !errors.Is(err, lvm.ErrNone) {
		err = fmt.Errorf("%s: %w", d.Path, err)
	}
	return disk, err
}

// from is a device that begins at an offset of another.
type from struct {
	r      readAt
	offset int64
}

func (s from) ReadAt(b []byte, offset int64) (int, error) { return s.r.ReadAt(b, s.offset+offset) }
