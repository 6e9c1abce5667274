package document

import (
	"bytes"
	"fmt"
	"time"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func mustID(s string) vss.ID {
	id, err := vss.ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// testLUN is LUN n of an array, as that array describes it.
func testLUN(n byte) lun.Info {
	naa := lun.NAA{0x60, 0x01, 0x40, 0x5a, 15: n}
	return lun.Info{
		Version: lun.InfoVersion, BusType: lun.BusISCSI, VendorID: "UMBRA", ProductID: "LUN", ProductRevision: "1.0",
		CommandQueueing: true, SerialNumber: fmt.Sprintf("%08d", n),
		StorageIDs: []lun.StorageID{
			{CodeSet: lun.CodeSetASCII, Type: lun.IDVendorID, Identifier: fmt.Appendf(nil, "UMBRA   %08d", n)},
			naa.StorageID(),
		},
	}
}

// sample is a set of two volumes: PostgreSQL's files on a LUN of their own,
// and a btrfs on two LUNs, mounted at a place whose name is not text.
func sample() *Document {
	at := vss.TimestampOf(time.Date(2026, 3, 1, 12, 30, 0, 123456700, time.UTC))
	provider := mustID("{5f3c3b1e-2f5a-4c5d-9a43-6a7b11d0c001}")
	attrs := vss.CTX_APP_ROLLBACK.Attributes() | vss.ATTR_TRANSPORTABLE
	copyAttrs := attrs | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_NOT_SURFACED | vss.ATTR_DIFFERENTIAL
	const gib = 1 << 30
	withPath := testLUN(1)
	withPath.Interconnects = []lun.Interconnect{{AddressType: lun.AddressSCSI, Port: []byte{1}, Address: []byte{0, 0, 0, 1}}}
	return &Document{
		SchemaVersion: firstSchema,
		State:         BackupState{SelectComponents: true, Bootable: true, Type: vss.BT_FULL},
		Context:       vss.CTX_APP_ROLLBACK | vss.Context(vss.ATTR_TRANSPORTABLE),
		Set: &SnapshotSet{
			ID: mustID("{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f}"), Attributes: attrs, Count: 2, CreationTimestamp: at,
			OriginatingMachine: "db1.example", ServiceMachine: "db1.example",
			Snapshots: []Snapshot{
				{
					ID: mustID("{11111111-2222-4333-8444-555555555555}"), ProviderID: provider,
					OriginalVolumeName: "/srv/postgresql", Attributes: copyAttrs, CreationTimestamp: at, Quiesced: true,
					Filesystem: Filesystem{Type: "ext4", UUID: "3d1f8f0c-5d2e-4b93-8c0b-8f9a7a6b5c4d", Label: "pg & <data>", Size: gib - 1<<20, DeviceCount: 1},
					LUNs: []LUNMapping{{Source: withPath, Target: testLUN(101), Size: gib, Generation: 7,
						Extents: []lun.Extent{{LUN: 0, Offset: 1 << 20, Length: gib - 1<<20}}}},
				},
				{
					ID: mustID("{66666666-7777-4888-9999-aaaaaaaaaaaa}"), ProviderID: provider,
					OriginalVolumeName: "/mnt/ab\\c\xff\n\u00fc", Attributes: copyAttrs, CreationTimestamp: at + 1, Quiesced: true,
					Filesystem: Filesystem{Type: "btrfs", UUID: "9a8b7c6d-0000-4111-8222-333344445555", Size: 2 * gib, DeviceCount: 2,
						DeviceUUIDs: []string{"01010101-0000-4111-8222-333344445555", "02020202-0000-4111-8222-333344445555"}},
					LUNs: []LUNMapping{
						{Source: testLUN(2), Target: testLUN(102), Size: gib, Generation: 9, Extents: []lun.Extent{{LUN: 0, Length: gib}}},
						{Source: testLUN(3), Target: testLUN(103), Size: gib, Generation: 1<<64 - 1,
							Extents: []lun.Extent{{LUN: 1, Offset: gib / 2, Length: gib / 2}, {LUN: 1, Length: gib / 4}}},
					},
				},
			},
			Tickets: []Ticket{{ProviderID: provider, Data: bytes.Repeat([]byte{0xa5, 0x00, 0xff}, 20)}},
		},
	}
}
