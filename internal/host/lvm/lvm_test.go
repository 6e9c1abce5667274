package lvm

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The first MiB of two disks that LVM 2.03.16 made a group of: pvcreate on 64
// and 96 MiB, vgcreate data, then three volumes, striped, on the second disk,
// and over both.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	pv0 = "r8grWr-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k"
	pv1 = "gu1eGk-w1S7-ACtV-SreD-OmQe-SVVT-TG54H5"
	mib = 1 << 20
)

func read(t *testing.T, b []byte) Disk {
	t.Helper()
	d, err := Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRead(t *testing.T) {
	d0, d1 := read(t, fixture(t, "disk0")), read(t, fixture(t, "disk1"))
	if d0.UUID != pv0 || d0.Size != 64*mib || d1.UUID != pv1 || d1.Size != 96*mib {
		t.Errorf("disks %s of %d and %s of %d", d0.UUID, d0.Size, d1.UUID, d1.Size)
	}
	if !reflect.DeepEqual(d0.Group, d1.Group) {
		t.Error("the disks do not tell the same group")
	}
	g := d0.Group
	if g.Name != "data" || g.UUID != "aUt5mI-C6Ul-ejVp-w5FO-gTFk-a1y3-Zw45ZB" || g.Sequence != 4 || len(g.Disks) != 2 || g.Disks[0].UUID != pv0 || g.Disks[1].UUID != pv1 {
		t.Errorf("group %+v", g)
	}
	want := []LogicalVolume{
		{Name: "stripes", UUID: "dFavU5-ZI2i-jK7m-z2gO-hMHm-5CYa-3pQuHH", Size: 32 * mib,
			Segments: []Segment{{Kind: "striped", Length: 32 * mib, Chunk: 64 << 10, Areas: []Area{{pv0, mib}, {pv1, mib}}}}},
		{Name: "plain", UUID: "CIpmtz-VEAs-g3DV-52GX-mYw6-ahHt-0Dww5d", Size: 40 * mib,
			Segments: []Segment{{Kind: "striped", Length: 40 * mib, Areas: []Area{{pv1, 17 * mib}}}}},
		{Name: "both", UUID: "R9CtHb-Bycp-3wQb-iyia-jApn-7o68-uLddEY", Size: 64 * mib,
			Segments: []Segment{{Kind: "striped", Length: 44 * mib, Areas: []Area{{pv0, 17 * mib}}}, {Kind: "striped", Length: 20 * mib, Areas: []Area{{pv1, 57 * mib}}}}},
	}
	if !reflect.DeepEqual(g.Volumes, want) {
		t.Errorf("volumes %+v", g.Volumes)
	}
	if v, ok := g.Volume(want[1].UUID); !ok || v.Name != "plain" {
		t.Errorf("Volume = %+v, %v", v, ok)
	}
}

// Where the parts are on a disk that LVM made.
const label, area0 = 512, 4096

func text(b []byte) (offset, size uint64) {
	return binary.LittleEndian.Uint64(b[area0+40:]), binary.LittleEndian.Uint64(b[area0+48:])
}

func sign(b []byte) {
	binary.LittleEndian.PutUint32(b[area0:], checksum(b[area0+4:area0+areaHeader]))
}

// retext puts another text where the group's is, round the end of the ring if
// so wished.
func retext(t *testing.T, b []byte, wrapped bool, change func(string) string) []byte {
	t.Helper()
	b = slices.Clone(b)
	offset, size := text(b)
	now := change(string(b[area0+offset : area0+offset+size]))
	ring := binary.LittleEndian.Uint64(b[area0+32:])
	if wrapped {
		offset = ring - 512
	}
	for i := range len(now) {
		at := offset + uint64(i)
		if at >= ring {
			at = at - ring + areaHeader
		}
		b[area0+at] = now[i]
	}
	binary.LittleEndian.PutUint64(b[area0+40:], offset)
	binary.LittleEndian.PutUint64(b[area0+48:], uint64(len(now)))
	binary.LittleEndian.PutUint32(b[area0+56:], checksum([]byte(now)))
	sign(b)
	return b
}

func same(s string) string { return s }

func TestTheRingGoesRound(t *testing.T) {
	b := fixture(t, "disk0")
	if got := read(t, retext(t, b, true, same)); !reflect.DeepEqual(got, read(t, b)) {
		t.Errorf("round the end: %+v", got)
	}
}

func TestNoPhysicalVolume(t *testing.T) {
	moved := fixture(t, "disk0")
	copy(moved[1024:], moved[label:label+sector])
	clear(moved[label : label+sector])
	for name, b := range map[string][]byte{"empty": nil, "short": make([]byte, 100), "blank": make([]byte, mib), "a label in another sector than it says": moved} {
		if _, err := Read(bytes.NewReader(b)); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDiskWithoutAGroup(t *testing.T) {
	for name, change := range map[string]func([]byte){
		"no text yet":  func(b []byte) { clear(b[area0+40 : area0+64]) },
		"not used":     func(b []byte) { b[area0+60] = areaIgnored },
		"no area here": func(b []byte) { clear(b[label+32+40+32 : label+sector]) },
	} {
		b := fixture(t, "disk0")
		change(b)
		sign(b)
		binary.LittleEndian.PutUint32(b[label+16:], checksum(b[label+20:label+sector]))
		if d, err := Read(bytes.NewReader(b)); err != nil || d.UUID != pv0 || d.Group.Name != "" {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func TestDamaged(t *testing.T) {
	whole := fixture(t, "disk0")
	replace := func(old, new string) func(*testing.T) []byte {
		return func(t *testing.T) []byte {
			return retext(t, whole, false, func(s string) string {
				if !strings.Contains(s, old) {
					t.Fatalf("no %q in the text", old)
				}
				return strings.Replace(s, old, new, 1)
			})
		}
	}
	flip := func(at int) func(*testing.T) []byte {
		return func(*testing.T) []byte { b := slices.Clone(whole); b[at] ^= 1; return b }
	}
	put := func(at int, n uint64) func(*testing.T) []byte {
		return func(*testing.T) []byte {
			b := slices.Clone(whole)
			binary.LittleEndian.PutUint64(b[at:], n)
			sign(b)
			return b
		}
	}
	offset, _ := text(whole)
	for _, c := range []struct {
		name string
		make func(*testing.T) []byte
		says string
	}{
		{"label", flip(label + 40), "label's checksum"},
		{"header", flip(area0 + 30), "header's checksum"},
		{"text", flip(area0 + int(offset) + 10), "text's checksum"},
		{"cut off", func(*testing.T) []byte { return whole[:area0+1000] }, "EOF"},
		{"of another place", put(area0+24, 8192), "it says it is at"},
		{"outside the ring", put(area0+40, 1<<40), "do not fit"},
		{"before the ring", put(area0+40, 100), "do not fit"},
		{"larger than the ring", put(area0+48, 1<<20), "do not fit"},
		{"larger than any", put(area0+48, 1<<60), "do not fit"},
		{"not its own group", replace(pv0, "AAAAAA-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k"), "does not name its own disk"},
		{"a disk twice", replace(pv1, pv0), "comes twice"},
		{"no UUID", replace("aUt5mI-C6Ul", "aUt5mI-C6U/"), "no LVM UUID"},
		{"no sequence", replace("seqno = 4", "seqno = \"4\""), "no number"},
		{"negative", replace("start_extent = 0", "start_extent = -1"), "no number"},
		{"no extents", replace("extent_size = 8192", "extent_size = 0"), "extent_size"},
		{"a segment short", replace("segment_count = 1", "segment_count = 2"), "not all there"},
		{"a hole", replace("start_extent = 11", "start_extent = 12"), "begins at extent 12"},
		{"behind its disk", replace("\"pv1\", 4", "\"pv1\", 14"), "ends behind it"},
		{"on a disk that is none", replace("\"pv1\", 4", "\"pv9\", 4"), "none of the group's disks"},
		{"stripes that are not told", replace("stripe_count = 2", "stripe_count = 4"), "of which 2 are told"},
		{"without end", replace("logical_volumes {", "logical_volumes {{"), "no name"},
	} {
		d, err := Read(bytes.NewReader(c.make(t)))
		if err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v; want an error with %q", c.name, d, err, c.says)
		}
	}
}

// What cannot be copied LUN by LUN is told by its kind.
func TestKinds(t *testing.T) {
	b := retext(t, fixture(t, "disk0"), false, func(s string) string {
		s = strings.Replace(s, "type = \"striped\"\nstripe_count = 2", "type = \"raid1\"\nstripe_count = 2", 1)
		return strings.Replace(s, "flags = []", "flags = [\"MISSING\"]", 2)
	})
	g := read(t, b).Group
	if k := g.Volumes[0].Segments[0].Kind; k != "raid1" || len(g.Volumes[0].Segments[0].Areas) != 0 {
		t.Errorf("kind %q", k)
	}
	if !g.Disks[0].Missing {
		t.Error("a missing disk is not told")
	}
}

func TestSplitUUID(t *testing.T) {
	const id = "LVM-aUt5mIC6UlejVpw5FOgTFka1y3Zw45ZBdFavU5ZI2ijK7mz2gOhMHm5CYa3pQuHH"
	group, volume, ok := SplitUUID(id)
	if !ok || group != "aUt5mI-C6Ul-ejVp-w5FO-gTFk-a1y3-Zw45ZB" || volume != "dFavU5-ZI2i-jK7m-z2gO-hMHm-5CYa-3pQuHH" {
		t.Errorf("%s %s %v", group, volume, ok)
	}
	for _, bad := range []string{"", "LVM-", id[4:], id + "-tpool", id[:len(id)-1], "CRYPT-LUKS2-x", id[:10] + " " + id[11:]} {
		if _, _, ok := SplitUUID(bad); ok {
			t.Errorf("%q is taken for a logical volume", bad)
		}
	}
}

func TestText(t *testing.T) {
	s, err := parseText("# c\na/b=1 x { y = [ \"q\\\"u\", 'v', -3, 1.5, ] # d\n z {} }\nx { w = [] y = \"later\" z { n = 1 } }")
	if err != nil {
		t.Fatal(err)
	}
	if y := s.sections["x"].settings["y"]; len(y) != 1 || y[0].text != "later" || s.settings["a/b"][0].number != 1 || len(s.sections["x"].sections["z"].settings) != 1 {
		t.Errorf("%+v", s)
	}
	for _, bad := range []string{"a", "a {", "a = ", "a = [", "a = [1 2]", "}", "a = \"", "a = \"\n\"", "= 1", "a b = 1", strings.Repeat("a {", 20), "a = \"" + strings.Repeat("x", maxString+1) + "\""} {
		if _, err := parseText(bad); err == nil {
			t.Errorf("%.40q is read", bad)
		}
	}
}

// FuzzGroup reads arbitrary texts as if their checksums were right.
func FuzzGroup(f *testing.F) {
	b := fixture(f, "disk0")
	offset, size := text(b)
	f.Add(string(b[area0+offset : area0+offset+size]))
	f.Fuzz(func(t *testing.T, s string) {
		g, err := ParseGroup(s)
		if err != nil {
			return
		}
		for _, v := range g.Volumes {
			var sum uint64
			for _, seg := range v.Segments {
				sum += seg.Length
				for _, a := range seg.Areas {
					if g.disk(a.Disk) == nil || seg.Length == 0 || a.Offset+seg.Length/uint64(len(seg.Areas)) < a.Offset {
						t.Fatalf("segment %+v", seg)
					}
				}
			}
			if sum != v.Size {
				t.Fatalf("%s: %d bytes of segments, %d of volume", v.Name, sum, v.Size)
			}
		}
		renewsOrNot(t, g)
	})
}

// FuzzRead reads disks whose checksums are made right.
func FuzzRead(f *testing.F) {
	b := fixture(f, "disk0")
	f.Add(b[label:label+sector], b[area0:area0+areaHeader])
	f.Fuzz(func(t *testing.T, head, area []byte) {
		b := slices.Clone(b)
		copy(b[label:label+sector], head)
		copy(b[area0:area0+areaHeader], area)
		binary.LittleEndian.PutUint32(b[label+16:], checksum(b[label+20:label+sector]))
		sign(b)
		d, err := Read(bytes.NewReader(b))
		if err == nil && len(d.UUID) != 38 {
			t.Fatalf("%+v", d)
		}
	})
}
