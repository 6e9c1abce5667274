package surface

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints of making and taking down devices.
var (
	fpBeforeMake = failpoint.New("surface.before-make")
	fpAfterMake  = failpoint.New("surface.after-make")
	fpAfterTake  = failpoint.New("surface.after-take-down")
)

// Kind is what a surfaced device is made of.
type Kind string

// Kinds.
const (
	Disk      Kind = "disk"      // the LUN itself
	Partition Kind = "partition" // the kernel's, or added by us: it goes with its disk
	Loop      Kind = "loop"
	Mapped    Kind = "mapped"
)

// Request says which block device is wanted.
type Request struct {
	// Name tells a device-mapper device from all others of this host, for as
	// long as the copy lives: the copy's ID and the device's number in it.
	Name string
	// LUNs are the attached disks, read-only. Segments' LUN fields count them.
	LUNs     []block.Device
	Segments []lun.Segment
}

// Device is a block device that has the bytes that were asked for.
type Device struct {
	block.Device
	Kind Kind
}

// Surfacer makes devices for one host. It is safe for concurrent use.
type Surfacer struct {
	HostTag string // see block.HostTag
	// HideMapped, if not nil, makes sure that udev's rules leave device-mapper
	// devices of ours alone; it is called before one is made.
	HideMapped func(context.Context) error
}

const surfaceOp = "surface volume"

func refuse(code vss.HResult, object, reason, remedy string, err error) error {
	return &vss.Error{Code: code, Op: surfaceOp, Object: object, Reason: reason, Remedy: remedy, Err: err}
}

// Surface returns the block device with the bytes of the segments, in their
// order; it makes it unless it is there. It is read-only and hidden.
//
// Errors: VSS_E_MISSING_HIDDEN_VOLUME for segments that are not on the LUNs,
// VSS_E_VOLUME_NOT_SUPPORTED for what this kernel cannot put together,
// VSS_E_OBJECT_NOT_FOUND if a LUN is not the disk it was.
func (s *Surfacer) Surface(ctx context.Context, r Request) (Device, error) {
	if err := ctx.Err(); err != nil {
		return Device{}, err
	}
	for _, l := range r.LUNs {
		if err := block.Verify(l); err != nil {
			return Device{}, err
		}
	}
	if disk, ok := whole(r); ok { // as most are; nothing more need be asked
		return Device{disk, Disk}, nil
	}
	if err := check(r); err != nil {
		return Device{}, err
	}
	segments := joined(r.Segments)
	if len(segments) != 1 || segments[0].Chunk != 0 {
		return s.mapped(ctx, r, segments)
	}
	x := segments[0].Extents[0]
	disk := r.LUNs[x.LUN]
	if x.Offset == 0 && x.Length == disk.Size {
		return Device{disk, Disk}, nil
	}
	return s.part(ctx, disk, x.Offset, x.Length)
}

// whole is the LUN that is all of what is wanted, if one is.
func whole(r Request) (block.Device, bool) {
	if len(r.Segments) != 1 || r.Segments[0].Chunk != 0 || len(r.Segments[0].Extents) != 1 {
		return block.Device{}, false
	}
	x := r.Segments[0].Extents[0]
	if x.LUN < 0 || x.LUN >= len(r.LUNs) || x.Offset != 0 || x.Length != r.LUNs[x.LUN].Size || x.Length == 0 {
		return block.Device{}, false
	}
	return r.LUNs[x.LUN], true
}

// part surfaces a run of bytes of a LUN.
func (s *Surfacer) part(ctx context.Context, disk block.Device, offset, length uint64) (Device, error) {
	// A loop device made earlier is mounted perhaps; a partition that came since
	// would be a second device of the volume.
	d, found, err := s.findLoop(ctx, disk, offset, length)
	if found || err != nil {
		return Device{d, Loop}, err
	}
	claimed := claimed(disk) // then a partition of it could not be mounted
	if !claimed {
		if d, found, err = findPartition(ctx, disk, offset, length); found || err != nil {
			return s.sealed(ctx, d, err)
		}
	}
	if err := fpBeforeMake.Hit(ctx); err != nil {
		return Device{}, err
	}
	if !claimed {
		if d, found, err = addPartition(ctx, disk, offset, length); found || err != nil {
			return s.made(ctx, d, Partition, err)
		}
	}
	d, err = s.makeLoop(ctx, disk, offset, length)
	return s.made(ctx, d, Loop, err)
}

// made is the end of having made a device.
func (s *Surfacer) made(ctx context.Context, d block.Device, k Kind, err error) (Device, error) {
	if err == nil {
		err = fpAfterMake.Hit(ctx)
	}
	if err != nil {
		return Device{}, err
	}
	if k == Partition {
		return s.sealed(ctx, d, nil)
	}
	return Device{d, k}, nil
}

// sealed sets a partition's own flag: it is read-only as its disk is, and stays
// so if the disk's flag is lost.
func (s *Surfacer) sealed(ctx context.Context, d block.Device, err error) (Device, error) {
	if err == nil {
		err = block.SetReadOnly(ctx, d, true)
	}
	if err != nil {
		return Device{}, err
	}
	d.ReadOnly = true
	return Device{d, Partition}, nil
}

// check refuses segments that are not on the LUNs: they come from a document.
func check(r Request) error {
	bad := func(format string, args ...any) error {
		return refuse(vss.VSS_E_MISSING_HIDDEN_VOLUME, r.Name, fmt.Sprintf(format, args...), "Create a new set; this document does not fit its LUNs", nil)
	}
	if len(r.Segments) == 0 {
		return bad("the volume lies nowhere")
	}
	for _, g := range r.Segments {
		if len(g.Extents) == 0 || g.Chunk == 0 && len(g.Extents) != 1 {
			return bad("a segment of %d extents is not striped", len(g.Extents))
		}
		for _, x := range g.Extents {
			if x.LUN < 0 || x.LUN >= len(r.LUNs) {
				return bad("an extent is on LUN %d of %d", x.LUN, len(r.LUNs))
			}
			disk := r.LUNs[x.LUN]
			sector, err := sectorSize(disk)
			switch {
			case err != nil:
				return err
			case x.Length == 0 || x.Offset > disk.Size || x.Length > disk.Size-x.Offset:
				return bad("%d bytes at %d are not on %s, which has %d", x.Length, x.Offset, disk.LUN.Name(), disk.Size)
			case x.Offset%sector != 0 || x.Length%sector != 0 || g.Chunk%sector != 0:
				return bad("%d bytes at %d are no whole blocks of %s, which have %d bytes", x.Length, x.Offset, disk.LUN.Name(), sector)
			case g.Chunk > 0 && (x.Length != g.Extents[0].Length || x.Length%g.Chunk != 0):
				return bad("the parts of a striped segment are not of one length, in whole chunks")
			}
		}
	}
	return nil
}

// joined puts neighbours together: an LV of two segments side by side is one
// run.
func joined(segments []lun.Segment) []lun.Segment {
	var out []lun.Segment
	for _, g := range segments {
		if g.Chunk == 0 && len(out) > 0 {
			if last := &out[len(out)-1]; last.Chunk == 0 {
				a, b := last.Extents[0], g.Extents[0]
				if a.LUN == b.LUN && a.Offset+a.Length == b.Offset {
					last.Extents = []lun.Extent{{LUN: a.LUN, Offset: a.Offset, Length: a.Length + b.Length}}
					continue
				}
			}
		}
		out = append(out, lun.Segment{Chunk: g.Chunk, Extents: slices.Clone(g.Extents)})
	}
	return out
}

// sectorSize is the size of a disk's logical blocks.
func sectorSize(disk block.Device) (uint64, error) {
	f, err := block.Open(context.Background(), disk, unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil || n < 512 {
		return 0, refuse(vss.VSS_E_UNEXPECTED, disk.Path, "the kernel does not tell its block size", "See the kernel log", err)
	}
	return uint64(n), nil
}
