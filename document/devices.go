package document

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"

	"github.com/umbra-vss/umbra/lun"
)

// Roles of a volume's block devices.
const (
	RoleData     = "data"
	RoleLog      = "log"      // of XFS
	RoleRealtime = "realtime" // of XFS
	RoleJournal  = "journal"  // of ext4
)

// BlockDevice is one block device of a volume: the disk, partition or logical
// volume that its filesystem, or a part of it, lies on.
type BlockDevice struct {
	Role     string        // one of those above
	Segments []lun.Segment // in order; their LUN fields are indices into Snapshot.LUNs
	// Logical is what it was called as a logical volume, nil if it is none. The
	// importer verifies with it that the LUNs are the volume group's; it never
	// gives anything these names.
	Logical *LogicalVolume
}

// LogicalVolume is the original's identity in LVM. UUIDs are as LVM prints them.
type LogicalVolume struct {
	Group, GroupUUID string
	Name, UUID       string
	// Disks are the physical volumes it lies on, where they are LUNs or runs of
	// bytes of one.
	Disks []PhysicalVolume
}

// PhysicalVolume is a physical volume, and where on its LUN it begins.
type PhysicalVolume struct {
	UUID   string
	LUN    int // index into Snapshot.LUNs
	Offset uint64
}

// BlockDevices are the volume's block devices, its superblock's first. Where
// the document does not say, every extent is one, in the order of the LUNs; what
// those after the first are for is known of btrfs only, else their role is "".
func (s *Snapshot) BlockDevices() []BlockDevice {
	if len(s.Devices) > 0 {
		return s.Devices
	}
	var all []BlockDevice
	for _, m := range s.LUNs {
		for _, x := range m.Extents {
			d := BlockDevice{Segments: []lun.Segment{{Extents: []lun.Extent{x}}}}
			if len(all) == 0 || s.Filesystem.Type == "btrfs" {
				d.Role = RoleData
			}
			all = append(all, d)
		}
	}
	return all
}

// assembled reports whether the set says how devices are put together, which
// the first versions of schema and digest have no room for.
func (s *SnapshotSet) assembled() bool {
	return s != nil && slices.ContainsFunc(s.Snapshots, func(sn Snapshot) bool { return len(sn.Devices) > 0 })
}

// checkDevices holds the devices to the extents: each belongs to exactly one.
func (s *Snapshot) checkDevices(at string) *fault {
	if len(s.Devices) == 0 {
		return nil
	}
	if len(s.Devices) > maxDevices {
		return faultAt(at, "%d block devices, %d is the limit", len(s.Devices), maxDevices)
	}
	var used []lun.Extent
	for i, d := range s.Devices {
		at := fmt.Sprintf("%s/blockDevice[%d]", at, i+1)
		switch d.Role {
		case RoleData, RoleLog, RoleRealtime, RoleJournal:
		default:
			return faultAt(at, "the role %q is not known", d.Role)
		}
		if i == 0 && d.Role != RoleData {
			return faultAt(at, "the first block device is the one with the data")
		}
		if len(d.Segments) == 0 {
			return faultAt(at, "the block device lies nowhere")
		}
		if f := s.checkLogical(at+"/logicalVolume", d.Logical); f != nil {
			return f
		}
		for j, g := range d.Segments {
			if f := checkSegment(fmt.Sprintf("%s/segment[%d]", at, j+1), g); f != nil {
				return f
			}
			used = append(used, g.Extents...)
		}
	}
	var extents []lun.Extent
	for _, m := range s.LUNs {
		extents = append(extents, m.Extents...)
	}
	order := func(a, b lun.Extent) int { return cmp.Or(cmp.Compare(a.LUN, b.LUN), cmp.Compare(a.Offset, b.Offset)) }
	slices.SortFunc(used, order)
	slices.SortFunc(extents, order)
	if !slices.Equal(used, extents) {
		return faultAt(at, "the block devices are not made of the extents of the LUNs, each used once")
	}
	return nil
}

// LVM's own rules for what it calls things.
var (
	lvmName = regexp.MustCompile(`^[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}$`)
	lvmUUID = regexp.MustCompile(`^[0-9A-Za-z#!]{6}(-[0-9A-Za-z#!]{4}){5}-[0-9A-Za-z#!]{6}$`)
)

func (s *Snapshot) checkLogical(at string, l *LogicalVolume) *fault {
	if l == nil {
		return nil
	}
	for _, name := range []string{l.Group, l.Name} {
		if !lvmName.MatchString(name) {
			return faultAt(at, "%q is no name of LVM's", name)
		}
	}
	for _, uuid := range []string{l.GroupUUID, l.UUID} {
		if !lvmUUID.MatchString(uuid) {
			return faultAt(at, "%q is no UUID of LVM's", uuid)
		}
	}
	if len(l.Disks) > maxDevices {
		return faultAt(at, "%d physical volumes, %d is the limit", len(l.Disks), maxDevices)
	}
	for i, p := range l.Disks {
		at := fmt.Sprintf("%s/physicalVolume[%d]", at, i+1)
		if !lvmUUID.MatchString(p.UUID) {
			return faultAt(at, "%q is no UUID of LVM's", p.UUID)
		}
		if p.LUN < 0 || p.LUN >= len(s.LUNs) || p.Offset >= s.LUNs[p.LUN].Size {
			return faultAt(at, "byte %d of LUN %d is not there", p.Offset, p.LUN)
		}
		if slices.ContainsFunc(l.Disks[:i], func(o PhysicalVolume) bool { return o.UUID == p.UUID }) {
			return faultAt(at, "the UUID %s is used twice", p.UUID)
		}
	}
	return nil
}

func checkSegment(at string, g lun.Segment) *fault {
	switch {
	case g.Chunk == 0 && len(g.Extents) != 1:
		return faultAt(at, "a segment that is not striped has one part, this one %d", len(g.Extents))
	case g.Chunk == 0:
		return nil
	case len(g.Extents) < 2:
		return faultAt(at, "a striped segment has several parts, this one %d", len(g.Extents))
	case g.Chunk%512 != 0:
		return faultAt(at, "chunks of %d bytes are no whole sectors", g.Chunk)
	}
	for _, x := range g.Extents {
		if x.Length != g.Extents[0].Length || x.Length%g.Chunk != 0 {
			return faultAt(at, "the parts of a striped segment are of one length, in whole chunks")
		}
	}
	return nil
}
