package lvm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A copy's volume group has its original's name and UUIDs. To be seen by LVM
// beside the original it is described anew: the same volumes at the same places,
// called something else. The description is written by us, as it is read by us.
// LVM's own vgimportclone wants every disk of the group, of which a copy may have
// some; it writes into what it renames, scans and locks; and it calls the group
// something else each time, also after a reboot.

// Mark begins the UUID of every group that has been renewed, so that one rule of
// udev knows them all: no filesystem on them is found by what it says of itself.
const Mark = "Umbra1"

// Identity is what a group, its disks and some of its volumes are called anew.
// Disks and Volumes are UUIDs: the new by the old.
type Identity struct {
	Name    string            `json:"name"`
	UUID    string            `json:"uuid"`
	Disks   map[string]string `json:"disks"`
	Volumes map[string]string `json:"volumes"`
}

// Renewed is a group under another identity.
type Renewed struct {
	Group Group
	// Sources say, for each disk of the group, where its extents are.
	Sources []Source
	// Head is how many bytes of each disk come before its extents; Heads are
	// these bytes, without the zeros at their end.
	Head  uint64
	Heads [][]byte
}

// Source is a run of bytes of a disk of the original group.
type Source struct {
	Disk           string // UUID
	Offset, Length uint64
}

// Size is how many bytes a disk of the renewed group has.
func (r Renewed) Size(disk int) uint64 { return r.Head + r.Sources[disk].Length }

// name is LVM's rule for what groups and volumes are called.
var name = regexp.MustCompile(`^[A-Za-z0-9_+.][A-Za-z0-9_+.-]*$`)

// CheckName reports why a group cannot be called so: LVM's own rules, and
// device-mapper's room for the names of group and volume together.
func CheckName(group string, volumes ...string) error {
	const room = 127
	for _, s := range append([]string{group}, volumes...) {
		if !name.MatchString(s) || s == "." || s == ".." {
			return fmt.Errorf("%q is no name for LVM: letters, digits, _ + . and -, not - at the beginning", s)
		}
		long := len(group) + strings.Count(group, "-") + 1 + len(s) + strings.Count(s, "-")
		if s == group {
			long = len(group)
		}
		if long > room {
			return fmt.Errorf("%s/%s is too long for device-mapper by %d characters", group, s, long-room)
		}
	}
	return nil
}

// NewIdentity makes an identity for some of the group's volumes, which are named
// by their UUIDs.
func (g Group) NewIdentity(name string, volumes []string) Identity {
	id := Identity{Name: name, UUID: Mark + newUUID()[6:], Disks: map[string]string{}, Volumes: map[string]string{}}
	for _, v := range g.Volumes {
		if !slices.Contains(volumes, v.UUID) {
			continue
		}
		id.Volumes[v.UUID] = newUUID()
		for _, s := range v.Segments {
			for _, a := range s.Areas {
				if id.Disks[a.Disk] == "" {
					id.Disks[a.Disk] = newUUID()
				}
			}
		}
	}
	return id
}

func newUUID() string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	b := make([]byte, 0, 32)
	for raw := make([]byte, 64); len(b) < 32; {
		_, _ = rand.Read(raw) // never fails
		for _, c := range raw {
			if n := int(c & 63); n < len(letters) && len(b) < 32 {
				b = append(b, letters[n])
			}
		}
	}
	s, _ := parseUUID(string(b))
	return s
}

// Renew describes the group anew, with the volumes and disks of the identity. All
// of it is read-only. The same identity gives the same bytes.
func (g Group) Renew(id Identity) (Renewed, error) {
	r := Renewed{Group: Group{Name: id.Name, UUID: id.UUID, Sequence: 1, extent: g.extent}}
	if !strings.HasPrefix(id.UUID, Mark) {
		return r, fmt.Errorf("the UUID %s does not begin with %s", id.UUID, Mark)
	}
	if g.extent == 0 {
		return r, errors.New("none of its disks has the group's text")
	}
	number := map[string]int{} // of a disk, by its old UUID
	for _, d := range g.Disks {
		uuid := id.Disks[d.UUID]
		if uuid == "" {
			continue
		}
		if d.count > maxSize/g.extent || d.data > maxSize {
			return r, fmt.Errorf("%d extents at %d of the physical volume %s", d.count, d.data, d.UUID)
		}
		number[d.UUID] = len(r.Sources)
		r.Sources = append(r.Sources, Source{d.UUID, d.data, d.count * g.extent})
		r.Group.Disks = append(r.Group.Disks, PhysicalVolume{UUID: uuid, name: fmt.Sprintf("pv%d", len(r.Group.Disks)), count: d.count})
	}
	if len(r.Sources) != len(id.Disks) || len(r.Sources) == 0 {
		return r, fmt.Errorf("the group %s has %d of %d physical volumes", g.Name, len(r.Sources), len(id.Disks))
	}
	var names []string
	for _, v := range g.Volumes {
		uuid := id.Volumes[v.UUID]
		if uuid == "" {
			continue
		}
		names = append(names, v.Name)
		n := LogicalVolume{Name: v.Name, UUID: uuid, Size: v.Size}
		for _, s := range v.Segments {
			if s.Kind != "striped" || len(s.Areas) == 0 {
				return r, fmt.Errorf("%s/%s has a part of the kind %s", g.Name, v.Name, s.Kind)
			}
			areas := s.Areas
			s.Areas = nil
			for _, a := range areas {
				i, found := number[a.Disk]
				if !found {
					return r, fmt.Errorf("%s/%s lies on the physical volume %s, which is not among those that are here", g.Name, v.Name, a.Disk)
				}
				s.Areas = append(s.Areas, Area{r.Group.Disks[i].UUID, a.Offset - r.Sources[i].Offset})
			}
			n.Segments = append(n.Segments, s)
		}
		r.Group.Volumes = append(r.Group.Volumes, n)
	}
	if len(names) != len(id.Volumes) || len(names) == 0 {
		return r, fmt.Errorf("the group %s has %d of %d logical volumes", g.Name, len(names), len(id.Volumes))
	}
	if err := CheckName(id.Name, names...); err != nil {
		return r, err
	}
	// Room for the text twice, as LVM wants it, in whole MiB: what is on a disk
	// stays as aligned as it was made.
	const step = 1 << 20
	text := r.Group.text()
	for r.Head = step; r.Head < headArea+areaHeader+2*uint64(len(text)+step/16); {
		r.Head += step
	}
	for i := range r.Group.Disks {
		r.Group.Disks[i].data = r.Head
	}
	for _, v := range r.Group.Volumes {
		for _, s := range v.Segments {
			for i := range s.Areas {
				s.Areas[i].Offset += r.Head
			}
		}
	}
	text = r.Group.text()
	const room = 64 << 20 // of which a group of a hundred disks needs one
	if len(r.Group.Disks)*len(text) > room {
		return r, fmt.Errorf("the group's text has %d bytes, on %d disks", len(text), len(r.Group.Disks))
	}
	for i := range r.Group.Disks {
		r.Heads = append(r.Heads, r.head(i, text))
	}
	return r, nil
}

// text writes the group as LVM does. Offsets of areas are from the start of the
// disk.
func (g Group) text() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("%s {\nid = %q\nseqno = %d\nformat = \"lvm2\"\nstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\nflags = []\ntags = [\"umbra\"]", g.Name, g.UUID, g.Sequence)
	p("extent_size = %d\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n\nphysical_volumes {", g.extent/sector)
	byUUID := map[string]PhysicalVolume{}
	for _, d := range g.Disks {
		byUUID[d.UUID] = d
		p("\n%s {\nid = %q\ndevice = \"unknown\"\nstatus = [\"ALLOCATABLE\"]\nflags = []\ndev_size = %d\npe_start = %d\npe_count = %d\n}",
			d.name, d.UUID, (d.data+d.count*g.extent)/sector, d.data/sector, d.count)
	}
	p("}\n\nlogical_volumes {")
	for _, v := range g.Volumes {
		p("\n%s {\nid = %q\nstatus = [\"READ\", \"VISIBLE\"]\nflags = []\nsegment_count = %d", v.Name, v.UUID, len(v.Segments))
		var start uint64
		for n, s := range v.Segments {
			p("\nsegment%d {\nstart_extent = %d\nextent_count = %d\ntype = \"striped\"\nstripe_count = %d", n+1, start, s.Length/g.extent, len(s.Areas))
			if len(s.Areas) > 1 {
				p("stripe_size = %d", s.Chunk/sector)
			}
			var on []string
			for _, a := range s.Areas {
				d := byUUID[a.Disk]
				on = append(on, fmt.Sprintf("%q, %d", d.name, (a.Offset-d.data)/g.extent))
			}
			p("stripes = [ %s ]\n}", strings.Join(on, ", "))
			start += s.Length / g.extent
		}
		p("}")
	}
	p("}\n}\ncontents = \"Text Format Volume Group\"\nversion = 1\ndescription = \"a shadow copy under another name\"\ncreation_host = \"umbra\"\ncreation_time = 0")
	return b.String()
}

// headArea is where a disk's metadata area begins, as LVM has it.
const headArea = 4096

// head writes what comes before a disk's extents: label, header, metadata area.
func (r Renewed) head(disk int, text string) []byte {
	size := len(text) + 1 // the text ends with a zero
	b := make([]byte, headArea+areaHeader+size)
	le := binary.LittleEndian
	label := b[sector : 2*sector]
	copy(label, "LABELONE")
	le.PutUint64(label[8:], 1)
	le.PutUint32(label[20:], 32)
	copy(label[24:], "LVM2 001")
	h := label[32:]
	copy(h, strings.ReplaceAll(r.Group.Disks[disk].UUID, "-", ""))
	le.PutUint64(h[32:], r.Size(disk))
	le.PutUint64(h[40:], r.Head) // the extents, up to the disk's end; an empty entry ends each list
	le.PutUint64(h[72:], headArea)
	le.PutUint64(h[80:], r.Head-headArea)
	le.PutUint32(h[104:], 2) // an extension of the header: the disk is of a group
	le.PutUint32(h[108:], 1)
	le.PutUint32(label[16:], checksum(label[20:]))

	area := b[headArea:]
	copy(area[4:], areaMagic)
	le.PutUint32(area[20:], 1)
	le.PutUint64(area[24:], headArea)
	le.PutUint64(area[32:], r.Head-headArea)
	copy(area[areaHeader:], text)
	le.PutUint64(area[40:], areaHeader)
	le.PutUint64(area[48:], uint64(size))
	le.PutUint32(area[56:], checksum(area[areaHeader:areaHeader+size]))
	le.PutUint32(area, checksum(area[4:areaHeader]))
	return b
}

// Same reports whether two lists of segments say the same of every byte, however
// they are cut.
func Same(a, b []Segment) bool {
	return slices.EqualFunc(joined(a), joined(b), func(x, y Segment) bool {
		return x.Kind == y.Kind && x.Length == y.Length && x.Chunk == y.Chunk && slices.Equal(x.Areas, y.Areas)
	})
}

// joined puts segments together that follow each other on their disks as well.
func joined(all []Segment) []Segment {
	var out []Segment
	for _, s := range all {
		if n := len(out); n > 0 && len(out[n-1].Areas) == len(s.Areas) && out[n-1].Chunk == s.Chunk && len(s.Areas) > 0 {
			last := &out[n-1]
			each := last.Length / uint64(len(last.Areas))
			follows := true
			for i, a := range s.Areas {
				follows = follows && last.Areas[i].Disk == a.Disk && last.Areas[i].Offset+each == a.Offset
			}
			if follows {
				last.Length += s.Length
				continue
			}
		}
		out = append(out, s)
	}
	return out
}
