package block

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
)

// TestMap: a multipath map is what all its paths are; other maps, and maps of
// different LUNs, are no LUN.
func TestMap(t *testing.T) {
	other := strings.Replace(page83, "\x60\x01\x40\x51", "\x60\x01\x40\x52", 1)
	for what, c := range map[string]struct {
		uuid   string
		second string
		mapped bool
		lun    bool
	}{
		"two paths":        {"mpath-36001405", page83, true, true},
		"different LUNs":   {"mpath-36001405", other, true, false},
		"nothing to tell":  {"mpath-36001405", "", true, false},
		"a logical volume": {"LVM-abc", page83, false, false},
	} {
		dir := tree(t, map[string]string{
			"dm/uuid":                      c.uuid + "\n",
			"slaves/sda/device/scsi_level": "6\n", "slaves/sda/device/vpd_pg83": page83,
			"slaves/sdb/device/scsi_level": "6\n", "slaves/sdb/device/vpd_pg83": c.second,
		})
		info, ok := mapInfo(dir)
		if ok != c.mapped || (len(info.StorageIDs) > 0) != c.lun {
			t.Errorf("%s: %+v, %v", what, info, ok)
		}
	}
}

// TestOnePerLUN: of several devices with one identifier one is listed; what has
// none, and loop devices, are not paths to anything.
func TestOnePerLUN(t *testing.T) {
	id := func(tail byte) lun.Info {
		return lun.Info{Version: 1, StorageIDs: []lun.StorageID{lun.NAA{0x60, 1, 15: tail}.StorageID()}}
	}
	dev := func(name string, seq uint64, l lun.Info, change ...func(*Device)) Device {
		d := Device{Name: "no-such-" + name, DiskSeq: seq, LUN: l}
		for _, c := range change {
			c(&d)
		}
		return d
	}
	mapped, loop := func(d *Device) { d.Multipath = true }, func(d *Device) { d.Loop = &Loop{} }
	got := onePerLUN([]Device{
		dev("sdb", 5, id(1)), dev("sda", 9, id(1)),
		dev("sdc", 6, id(2)), dev("dm-0", 8, id(2), mapped), dev("sdd", 7, id(2)),
		dev("sde", 10, id(3)),
		dev("loop1", 1, id(4), loop), dev("loop2", 2, id(4), loop),
		dev("sdf", 11, lun.Info{}), dev("sdg", 12, lun.Info{}),
	})
	var names []string
	for _, d := range got {
		names = append(names, strings.TrimPrefix(d.Name, "no-such-"))
	}
	if s := strings.Join(names, " "); s != "sdb dm-0 sde loop1 loop2 sdf sdg" {
		t.Errorf("listed are %s", s)
	}
}
