package document

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
)

// sampleDevices is the sample with an XFS on a logical volume that is striped
// over two LUNs and goes on behind, and with its log elsewhere.
func sampleDevices() *Document {
	d := sample()
	d.SchemaVersion = CurrentSchema
	s := &d.Set.Snapshots[1]
	const mib = 1 << 20
	s.LUNs[0].Extents = []lun.Extent{{Offset: mib, Length: 64 * mib}, {Offset: 100 * mib, Length: 8 * mib}}
	s.LUNs[1].Extents = []lun.Extent{{LUN: 1, Offset: mib, Length: 64 * mib}, {LUN: 1, Offset: 200 * mib, Length: 16 * mib}}
	s.Devices = []BlockDevice{
		{Role: RoleData, Logical: &LogicalVolume{Group: "data", GroupUUID: "aUt5mI-C6Ul-ejVp-w5FO-gTFk-a1y3-Zw45ZB", Name: "db", UUID: "dFavU5-ZI2i-jK7m-z2gO-hMHm-5CYa-3pQuHH",
			Disks: []PhysicalVolume{{"r8grWr-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k", 0, 0}, {"gu1eGk-w1S7-ACtV-SreD-OmQe-SVVT-TG54H5", 1, mib / 2}}}, Segments: []lun.Segment{
			{Chunk: 64 << 10, Extents: []lun.Extent{s.LUNs[0].Extents[0], s.LUNs[1].Extents[0]}},
			{Extents: []lun.Extent{s.LUNs[1].Extents[1]}},
		}},
		{Role: RoleLog, Segments: []lun.Segment{{Extents: []lun.Extent{s.LUNs[0].Extents[1]}}}},
	}
	return d
}

func brokenDevices() []brokenDocument {
	const first = `<part lun="0" offset="1048576" length="67108864"/>`
	return broke(sampleDevices, []brokenRow{
		{"devices in 1.1", `schemaVersion="1.2"`, `schemaVersion="1.1"`, "blockDevice does not belong", false},
		{"unknown role", `role="log"`, `role="swap"`, `the role "swap" is not known`, true},
		{"no data first", `role="data"`, `role="log"`, "the first block device", false},
		{"lone stripe", first, ``, "several parts", false},
		{"two parts, not striped", `chunk="65536"`, `chunk="0"`, "has one part", false},
		{"chunk of no sectors", `chunk="65536"`, `chunk="65535"`, "no whole sectors", false},
		{"uneven stripes", first, `<part lun="0" offset="1048576" length="33554432"/>`, "of one length", false},
		{"no whole chunks", `chunk="65536"`, `chunk="786432"`, "whole chunks", false},
		{"another extent", first, `<part lun="0" offset="2097152" length="67108864"/>`, "each used once", false},
		{"extent twice", `lun="0" offset="104857600" length="8388608"`, `lun="1" offset="209715200" length="16777216"`, "each used once", false},
		{"LUN that is not there", `lun="0" offset="104857600"`, `lun="7" offset="104857600"`, "each used once", false},
		{"LUN of too high a number", `lun="0" offset="104857600"`, `lun="256" offset="104857600"`, "from 0 to 255", true},
		{"group without a name", `group="data"`, `group=""`, `"" is no name`, true},
		{"a name LVM would not give", `name="db"`, `name="-db"`, `"-db" is no name`, true},
		{"UUID of another kind", `uuid="dFavU5-ZI2i`, `uuid="dFavU5ZI2i`, "no UUID of LVM's", true},
		{"physical volume on no LUN", `lun="1" offset="524288"`, `lun="2" offset="524288"`, "byte 524288 of LUN 2", false},
		{"physical volume behind its LUN", `lun="1" offset="524288"`, `lun="1" offset="1073741824"`, "byte 1073741824 of LUN 1", false},
		{"physical volume twice", `gu1eGk-w1S7-ACtV-SreD-OmQe-SVVT-TG54H5`, `r8grWr-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k`, "used twice", false},
		{"empty part", `lun="0" offset="104857600" length="8388608"`, `lun="0" offset="104857600" length="0"`, "each used once", true},
	})
}

func TestDevices(t *testing.T) {
	d := sampleDevices()
	text, err := Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Unmarshal(text)
	if err != nil || diff(d, back) != "" {
		t.Fatalf("%v %s", err, diff(d, back))
	}
	again, err := Marshal(back)
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("another text, %v", err)
	}
	kept, err := json.Marshal(d.Set)
	var set SnapshotSet
	if err == nil {
		err = json.Unmarshal(kept, &set)
	}
	if err != nil || set.Digest() != d.Set.Digest() {
		t.Errorf("JSON loses something: %v", err)
	}
	d.SchemaVersion = ""
	if d.schema() != CurrentSchema {
		t.Error("written in a version that has no room for it")
	}
	for _, c := range brokenDevices() {
		if _, err := Unmarshal([]byte(c.xml(t))); err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %q", c.name, err, c.reason)
		}
	}
}

// TestDigestOfDevices pins the second encoding, and that every field is in it.
func TestDigestOfDevices(t *testing.T) {
	d := sampleDevices()
	original := d.Set.Digest()
	if got, want := hex.EncodeToString(original[:]), "60161e0a4fa0c8467d2e91490d3f21578538f4cc93987956c27e3747f37a0c7f"; got != want {
		t.Errorf("%s, want %s: change the domain with the encoding", got, want)
	}
	n := 0
	leaves(reflect.ValueOf(&d.Set.Snapshots[1].Devices).Elem(), "", func(path string, v reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.Set(changed(old))
		if d.Set.Digest() == original {
			t.Errorf("the digest does not cover %s", path)
		}
		v.Set(old)
		n++
	})
	if n < 20 || d.Set.Digest() != original {
		t.Errorf("%d fields changed", n)
	}
}

// TestDevicesThatNobodyNamed: documents of earlier versions.
func TestDevicesThatNobodyNamed(t *testing.T) {
	s := sample().Set
	if ds := s.Snapshots[0].BlockDevices(); len(ds) != 1 || ds[0].Role != RoleData || ds[0].Segments[0].Length() != 1<<30-1<<20 {
		t.Errorf("%+v", ds)
	}
	if ds := s.Snapshots[1].BlockDevices(); len(ds) != 3 || ds[2].Role != RoleData || ds[2].Segments[0].Extents[0].LUN != 1 {
		t.Errorf("%+v", ds)
	}
	s.Snapshots[1].Filesystem.Type = "xfs"
	if ds := s.Snapshots[1].BlockDevices(); ds[0].Role != RoleData || ds[1].Role != "" {
		t.Errorf("%+v", ds)
	}
}
