package lvm

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// byteOf finds a byte of a volume: on which disk, and where.
func byteOf(v LogicalVolume, at uint64) (disk string, offset uint64) {
	for _, s := range v.Segments {
		if at >= s.Length {
			at -= s.Length
			continue
		}
		if len(s.Areas) == 1 {
			return s.Areas[0].Disk, s.Areas[0].Offset + at
		}
		chunk, n := at/s.Chunk, uint64(len(s.Areas))
		a := s.Areas[chunk%n]
		return a.Disk, a.Offset + chunk/n*s.Chunk + at%s.Chunk
	}
	return "", 0
}

// sameBytes checks that a volume of the renewed group has the bytes that it has
// in the group, through the disks' sources.
func sameBytes(t interface{ Fatalf(string, ...any) }, g Group, r Renewed, old, now LogicalVolume, at uint64) {
	disk, offset := byteOf(old, at)
	newDisk, newOffset := byteOf(now, at)
	i := slices.IndexFunc(r.Group.Disks, func(d PhysicalVolume) bool { return d.UUID == newDisk })
	if i < 0 || newOffset < r.Head || newOffset >= r.Size(i) {
		t.Fatalf("byte %d of %s is at %d of %s", at, now.Name, newOffset, newDisk)
	}
	if r.Sources[i].Disk != disk || r.Sources[i].Offset+newOffset-r.Head != offset {
		t.Fatalf("byte %d of %s is at %d of %s, was at %d of %s", at, now.Name, r.Sources[i].Offset+newOffset-r.Head, r.Sources[i].Disk, offset, disk)
	}
}

func TestRenew(t *testing.T) {
	g := read(t, fixture(t, "disk0")).Group
	stripes, plain := g.Volumes[0], g.Volumes[1]
	id := g.NewIdentity("data_12345678", []string{stripes.UUID, plain.UUID})
	if !strings.HasPrefix(id.UUID, Mark) || len(id.Disks) != 2 || len(id.Volumes) != 2 || id.UUID == g.NewIdentity("x", []string{plain.UUID}).UUID {
		t.Errorf("identity %+v", id)
	}
	r, err := g.Renew(id)
	if err != nil {
		t.Fatal(err)
	}
	for i, head := range r.Heads {
		d := read(t, head)
		if d.UUID != r.Group.Disks[i].UUID || d.Size != r.Size(i) || !reflect.DeepEqual(d.Group, r.Group) {
			t.Errorf("disk %d says %+v, not %+v", i, d, r.Group)
		}
		if bytes.Contains(head, []byte(strings.ReplaceAll(g.UUID, "-", ""))) || bytes.Contains(head, []byte(g.UUID)) || bytes.Contains(head, []byte("both")) {
			t.Error("the head names what is not its own")
		}
	}
	if r.Group.Name != "data_12345678" || r.Group.UUID != id.UUID || len(r.Group.Volumes) != 2 || r.Head != mib || r.Size(0) != mib+15*4*mib {
		t.Errorf("renewed %+v", r.Group)
	}
	for i, old := range []LogicalVolume{stripes, plain} {
		now := r.Group.Volumes[i]
		if now.Name != old.Name || now.UUID != id.Volumes[old.UUID] || now.Size != old.Size {
			t.Errorf("%+v is now %+v", old, now)
		}
		for at := uint64(0); at < old.Size; at += 4096 {
			sameBytes(t, g, r, old, now, at)
		}
	}
	again, err := g.Renew(id)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Error("the same identity gives other bytes")
	}

	// A volume on one disk wants that disk only.
	one := g.NewIdentity("one", []string{plain.UUID})
	if r, err := g.Renew(one); err != nil || len(r.Sources) != 1 || r.Sources[0].Disk != pv1 {
		t.Errorf("one disk: %+v, %v", r.Sources, err)
	}
}

func TestRenewRefuses(t *testing.T) {
	g := read(t, fixture(t, "disk0")).Group
	all := []string{g.Volumes[0].UUID}
	for what, change := range map[string]func(*Identity, *Group){
		"a name of two parts":       func(id *Identity, _ *Group) { id.Name = "a/b" },
		"no name":                   func(id *Identity, _ *Group) { id.Name = "" },
		"a name that is too long":   func(id *Identity, _ *Group) { id.Name = strings.Repeat("a", 121) },
		"without the mark":          func(id *Identity, _ *Group) { id.UUID = g.UUID },
		"a disk that is not its":    func(id *Identity, _ *Group) { id.Disks["x"] = newUUID() },
		"a volume that is not its":  func(id *Identity, _ *Group) { id.Volumes["x"] = newUUID() },
		"without one of its disks":  func(id *Identity, _ *Group) { delete(id.Disks, pv0) },
		"nothing":                   func(id *Identity, _ *Group) { clear(id.Volumes) },
		"of a group without a text": func(_ *Identity, g *Group) { *g = Group{} },
		"a thin volume":             func(_ *Identity, g *Group) { g.Volumes[0].Segments[0].Kind = "thin" },
		"a volume with a path":      func(_ *Identity, g *Group) { g.Volumes[0].Name = "../db" },
	} {
		g := read(t, fixture(t, "disk0")).Group
		id := g.NewIdentity("new", all)
		change(&id, &g)
		if _, err := g.Renew(id); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// TestRenewAny: whatever a group is like, LVM would read the renewed one as what
// it is meant to be, and every byte is where it was.
func TestRenewAny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := Group{Name: "vg", UUID: newUUID(), Sequence: 7, extent: uint64(rapid.SampledFrom([]int{4 << 10, 128 << 10, 4 << 20}).Draw(t, "extent"))}
		for i := range rapid.IntRange(1, 4).Draw(t, "disks") {
			g.Disks = append(g.Disks, PhysicalVolume{UUID: newUUID(), name: fmt.Sprintf("pv%d", i*3), count: 1000, data: uint64(rapid.IntRange(1, 9000).Draw(t, "pe_start")) * sector})
		}
		free := make([]uint64, len(g.Disks))
		area := func(disk int, length uint64) (Area, bool) {
			at := free[disk] + uint64(rapid.IntRange(0, 3).Draw(t, "hole"))
			free[disk] = at + length/g.extent
			return Area{g.Disks[disk].UUID, g.Disks[disk].data + at*g.extent}, free[disk] <= 1000
		}
		var chosen []string
		for i := range rapid.IntRange(1, 5).Draw(t, "volumes") {
			v := LogicalVolume{Name: fmt.Sprintf("lv%d", i), UUID: newUUID()}
			for range rapid.IntRange(1, 4).Draw(t, "segments") {
				n := rapid.IntRange(1, len(g.Disks)).Draw(t, "stripes")
				each := uint64(rapid.IntRange(1, 20).Draw(t, "extents")) * g.extent
				s := Segment{Kind: "striped", Length: each * uint64(n)}
				if n > 1 {
					s.Chunk = 4096
				}
				for d := range n {
					a, ok := area(d, each)
					if !ok {
						t.Skip("full")
					}
					s.Areas = append(s.Areas, a)
				}
				v.Size += s.Length
				v.Segments = append(v.Segments, s)
			}
			g.Volumes = append(g.Volumes, v)
			if i == 0 || rapid.Bool().Draw(t, "chosen") {
				chosen = append(chosen, v.UUID)
			}
		}
		id := g.NewIdentity("new-"+strings.Repeat("x", rapid.IntRange(0, 20).Draw(t, "long")), chosen)
		r, err := g.Renew(id)
		if err != nil {
			t.Fatal(err)
		}
		for i, head := range r.Heads {
			d, err := Read(bytes.NewReader(head))
			if err != nil || !reflect.DeepEqual(d.Group, r.Group) || d.Size != r.Size(i) {
				t.Fatalf("%+v is read as %+v, %v", r.Group, d, err)
			}
		}
		if got := slices.Sorted(maps.Values(id.Volumes)); len(got) != len(r.Group.Volumes) {
			t.Fatalf("%d volumes of %d", len(r.Group.Volumes), len(got))
		}
		for _, now := range r.Group.Volumes {
			i := slices.IndexFunc(g.Volumes, func(v LogicalVolume) bool { return id.Volumes[v.UUID] == now.UUID })
			for range 20 {
				sameBytes(t, g, r, g.Volumes[i], now, rapid.Uint64Range(0, now.Size-1).Draw(t, "byte"))
			}
		}
	})
}

// renewsOrNot: a group that anybody may have written is refused, or what LVM will
// read is what was meant, with disks that are where the group's are.
func renewsOrNot(t *testing.T, g Group) {
	for _, v := range g.Volumes {
		r, err := g.Renew(g.NewIdentity("new", []string{v.UUID}))
		if err != nil {
			continue
		}
		for i, head := range r.Heads {
			d, err := Read(bytes.NewReader(head))
			if err != nil || !reflect.DeepEqual(d.Group, r.Group) || uint64(len(head)) > r.Head {
				t.Fatalf("%+v is read as %+v, %v", r.Group, d, err)
			}
			old := g.disk(r.Sources[i].Disk)
			if old == nil || r.Sources[i].Offset != old.data || r.Sources[i].Length/g.extent != old.count {
				t.Fatalf("disk %d is %+v, was %+v", i, r.Sources[i], old)
			}
		}
		if v.Size > 0 {
			for _, at := range []uint64{0, v.Size / 2, v.Size - 1} {
				sameBytes(t, g, r, v, r.Group.Volumes[0], at)
			}
		}
	}
}
