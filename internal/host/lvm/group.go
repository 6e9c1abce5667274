package lvm

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Group is a volume group, as its text has it.
type Group struct {
	Name     string
	UUID     string
	Sequence uint64 // goes up with every change of the group
	Disks    []PhysicalVolume
	Volumes  []LogicalVolume

	extent uint64 // bytes
}

// PhysicalVolume is a disk of a group.
type PhysicalVolume struct {
	UUID    string
	Missing bool // the group has been used without it

	name        string // within the text
	data, count uint64 // where its extents begin, in bytes, and how many there are
}

// LogicalVolume is a volume of a group, or inner machinery of one.
type LogicalVolume struct {
	Name     string
	UUID     string
	Size     uint64 // bytes
	Segments []Segment
}

// Segment is a run of a logical volume.
type Segment struct {
	Kind   string // LVM's: "striped" (also for one stripe), "thin", "raid1", …
	Length uint64 // bytes
	Chunk  uint64 // bytes on one stripe before the next follows; 0 with one stripe
	Areas  []Area // its stripes; none of another kind than striped
}

// Area is where a stripe begins.
type Area struct {
	Disk   string // UUID of the physical volume
	Offset uint64 // bytes from the start of the physical volume
}

// Volume finds a logical volume by its UUID.
func (g Group) Volume(uuid string) (LogicalVolume, bool) {
	i := slices.IndexFunc(g.Volumes, func(v LogicalVolume) bool { return v.UUID == uuid })
	if i < 0 {
		return LogicalVolume{}, false
	}
	return g.Volumes[i], true
}

func (g Group) disk(uuid string) *PhysicalVolume {
	for i := range g.Disks {
		if g.Disks[i].UUID == uuid {
			return &g.Disks[i]
		}
	}
	return nil
}

// Limits of a group.
const (
	maxDisks   = 4096
	maxVolumes = 65536
	maxStripes = 4096
	maxSize    = 1 << 62 // bytes of a volume, so that sums of two fit
)

// ParseGroup reads a group's text.
func ParseGroup(text string) (Group, error) {
	all, err := parseText(text)
	if err != nil {
		return Group{}, err
	}
	if len(all.order) != 1 {
		return Group{}, fmt.Errorf("%d groups in one text", len(all.order))
	}
	g := Group{Name: all.order[0]}
	s := all.sections[g.Name]
	in := func(what string, err error) (Group, error) {
		return Group{}, fmt.Errorf("group %s: %s: %w", g.Name, what, err)
	}
	if g.UUID, err = s.uuid(); err != nil {
		return in("id", err)
	}
	if g.Sequence, err = s.num("seqno"); err != nil {
		return in("seqno", err)
	}
	extent, err := s.num("extent_size")
	if err == nil && (extent == 0 || extent > math.MaxUint32) {
		err = fmt.Errorf("%d sectors", extent)
	}
	if err != nil {
		return in("extent_size", err)
	}
	extent *= sector
	g.extent = extent
	disks := s.sections["physical_volumes"]
	if disks == nil || len(disks.order) == 0 || len(disks.order) > maxDisks {
		return in("physical_volumes", errors.New("none, or too many"))
	}
	for _, name := range disks.order {
		d, err := parseDisk(name, disks.sections[name])
		if err == nil && g.disk(d.UUID) != nil {
			err = errors.New("its UUID comes twice")
		}
		if err != nil {
			return in("physical volume "+name, err)
		}
		g.Disks = append(g.Disks, d)
	}
	volumes := s.sections["logical_volumes"]
	if volumes == nil {
		return g, nil
	}
	if len(volumes.order) > maxVolumes {
		return in("logical_volumes", errors.New("too many"))
	}
	for _, name := range volumes.order {
		v, err := g.parseVolume(name, volumes.sections[name], extent)
		if err != nil {
			return in("logical volume "+name, err)
		}
		g.Volumes = append(g.Volumes, v)
	}
	return g, nil
}

func (s *section) uuid() (string, error) {
	id, err := s.str("id")
	if err != nil {
		return "", err
	}
	return parseUUID(id)
}

func parseDisk(name string, s *section) (PhysicalVolume, error) {
	d := PhysicalVolume{name: name}
	var err error
	if d.UUID, err = s.uuid(); err != nil {
		return d, err
	}
	if d.data, err = s.num("pe_start"); err == nil && d.data > math.MaxUint64/sector {
		err = errors.New("pe_start is too large")
	}
	if err != nil {
		return d, err
	}
	d.data *= sector
	if d.count, err = s.num("pe_count"); err == nil && d.count > math.MaxUint32 {
		err = errors.New("pe_count is too large")
	}
	d.Missing = slices.ContainsFunc(s.settings["flags"], func(v value) bool { return v.text == "MISSING" }) ||
		slices.ContainsFunc(s.settings["status"], func(v value) bool { return v.text == "MISSING" })
	return d, err
}

func (g Group) parseVolume(name string, s *section, extent uint64) (LogicalVolume, error) {
	v := LogicalVolume{Name: name}
	var err error
	if v.UUID, err = s.uuid(); err != nil {
		return v, err
	}
	// Segments are numbered from 1 and follow upon each other.
	count, err := s.num("segment_count")
	if err != nil || count > uint64(len(s.order)) {
		return v, fmt.Errorf("its segments are not all there: %d of %d (%v)", len(s.order), count, err)
	}
	var next uint64
	for n := range count {
		x := s.sections[fmt.Sprintf("segment%d", n+1)]
		if x == nil {
			return v, fmt.Errorf("segment %d is missing", n+1)
		}
		seg, start, extents, err := g.parseSegment(x, extent)
		if err == nil && start != next {
			err = fmt.Errorf("it begins at extent %d, not %d", start, next)
		}
		if err != nil {
			return v, fmt.Errorf("segment %d: %w", n+1, err)
		}
		next += extents
		if v.Size += seg.Length; v.Size > maxSize {
			return v, fmt.Errorf("it has more than %d bytes", uint64(maxSize))
		}
		v.Segments = append(v.Segments, seg)
	}
	return v, nil
}

func (g Group) parseSegment(s *section, extent uint64) (seg Segment, start, extents uint64, err error) {
	if seg.Kind, err = s.str("type"); err != nil {
		return seg, 0, 0, err
	}
	if start, err = s.num("start_extent"); err != nil {
		return seg, 0, 0, err
	}
	if extents, err = s.num("extent_count"); err == nil && (extents == 0 || extents > maxSize/extent) {
		err = fmt.Errorf("%d extents", extents)
	}
	if err != nil {
		return seg, 0, 0, err
	}
	seg.Length = extents * extent
	if seg.Kind != "striped" {
		return seg, start, extents, nil
	}
	count, err := s.num("stripe_count")
	stripes := s.settings["stripes"]
	if err == nil && (count == 0 || count > maxStripes || uint64(len(stripes)) != 2*count || extents%count != 0) {
		err = fmt.Errorf("%d extents on %d stripes of which %d are told", extents, count, len(stripes)/2)
	}
	if err != nil {
		return seg, 0, 0, err
	}
	if count > 1 {
		chunk, err := s.num("stripe_size")
		if err == nil && (chunk == 0 || chunk > math.MaxUint32) {
			err = fmt.Errorf("stripe_size of %d sectors", chunk)
		}
		if err != nil {
			return seg, 0, 0, err
		}
		seg.Chunk = chunk * sector
	}
	for i := 0; i < len(stripes); i += 2 {
		d := slices.IndexFunc(g.Disks, func(d PhysicalVolume) bool { return stripes[i].isText && d.name == stripes[i].text })
		first := stripes[i+1]
		if d < 0 || first.isText || first.number < 0 {
			return seg, 0, 0, fmt.Errorf("a stripe at %s of %s, which is none of the group's disks", first.text, stripes[i].text)
		}
		disk := g.Disks[d]
		if n := uint64(first.number); n > disk.count || extents/count > disk.count-n {
			return seg, 0, 0, fmt.Errorf("a stripe at extent %d of %s ends behind it", n, disk.name)
		}
		at := uint64(first.number) * extent
		if at > math.MaxUint64-disk.data {
			return seg, 0, 0, fmt.Errorf("a stripe at extent %d of %s", first.number, disk.name)
		}
		seg.Areas = append(seg.Areas, Area{Disk: disk.UUID, Offset: disk.data + at})
	}
	return seg, start, extents, nil
}
