package block

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-vss/umbra/lun"
)

// tree writes a folder of attributes as sysfs has them.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	page80 = "\x00\x80\x00\x08  S-01  "
	// One NAA designator of the logical unit, and one of the target port.
	page83 = "\x00\x83\x00\x20" +
		"\x01\x03\x00\x10\x60\x01\x40\x51\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89" +
		"\x01\x13\x00\x08\x50\x01\x02\x03\x04\x05\x06\x07"
)

func TestSCSI(t *testing.T) {
	dir := tree(t, map[string]string{
		"device/scsi_level": "6\n", "device/type": "0\n", "device/queue_depth": "32\n",
		"device/vendor": "LIO-ORG \n", "device/model": "disk            \n", "device/rev": "4.0 \n",
		"device/vpd_pg80": page80, "device/vpd_pg83": page83,
	})
	got, ok := scsiInfo(dir)
	want := lun.Info{Version: 1, CommandQueueing: true, BusType: lun.BusSCSI, VendorID: "LIO-ORG", ProductID: "disk",
		ProductRevision: "4.0", SerialNumber: "S-01",
		StorageIDs: []lun.StorageID{{CodeSet: lun.CodeSetBinary, Type: lun.IDFCPHName, Identifier: []byte(page83)[8:24]}}}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("%v %s", ok, diff)
	}
	if !(Device{LUN: got}).Qualified() {
		t.Error("not qualified")
	}
}

func TestSCSIWithoutOrWithBadPages(t *testing.T) {
	for _, pages := range []map[string]string{
		{}, {"device/vpd_pg80": "\x00", "device/vpd_pg83": "\x00\x83\xff\xff"}, {"device/vpd_pg83": page80},
	} {
		pages["device/scsi_level"] = "6"
		got, ok := scsiInfo(tree(t, pages))
		if !ok || len(got.StorageIDs) != 0 || got.SerialNumber != "" || (Device{LUN: got}).Qualified() {
			t.Errorf("%q: %+v", pages, got)
		}
	}
	if _, ok := scsiInfo(tree(t, map[string]string{"device/vendor": "0x1af4"})); ok {
		t.Error("took a virtio disk for SCSI")
	}
}

func TestNVMe(t *testing.T) {
	dir := tree(t, map[string]string{
		"wwid": "uuid.11111111-2222-3333-4444-555555555555\n", "nsid": "1\n",
		"eui": "00 25 38 5a 01 02 03 04\n", "nguid": "00000000-0000-0000-0000-000000000000\n",
		"uuid":         "11111111-2222-3333-4444-555555555555\n",
		"device/model": "Samsung 990\n", "device/serial": "S6Z\n", "device/firmware_rev": "4B2\n",
	})
	got, ok := nvmeInfo(dir)
	want := lun.Info{Version: 1, CommandQueueing: true, BusType: lun.BusNVMe, VendorID: "NVMe", ProductID: "Samsung 990",
		ProductRevision: "4B2", SerialNumber: "S6Z", StorageIDs: []lun.StorageID{
			{CodeSet: lun.CodeSetBinary, Type: lun.IDEUI64, Identifier: []byte{0, 0x25, 0x38, 0x5a, 1, 2, 3, 4}},
			{CodeSet: lun.CodeSetUTF8, Type: lun.IDSCSINameString, Identifier: []byte("uuid.11111111-2222-3333-4444-555555555555")},
		}}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("%v %s", ok, diff)
	}
}

func TestZeroIdentifierDoesNotQualify(t *testing.T) {
	d := Device{LUN: lun.Info{StorageIDs: []lun.StorageID{{Type: lun.IDFCPHName, Identifier: make([]byte, 16)}}}}
	if d.Qualified() {
		t.Error("sixteen zeros tell no LUN from another")
	}
}

func FuzzSCSIPages(f *testing.F) {
	f.Add([]byte(page80), []byte(page83))
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "device"), 0o755); err != nil {
		f.Fatal(err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "device", name), b, 0o600); err != nil {
			f.Fatal(err)
		}
	}
	write("scsi_level", []byte("6"))
	f.Fuzz(func(t *testing.T, p80, p83 []byte) {
		write("vpd_pg80", p80)
		write("vpd_pg83", p83)
		if _, ok := scsiInfo(dir); !ok {
			t.Error("no longer SCSI")
		}
	})
}
