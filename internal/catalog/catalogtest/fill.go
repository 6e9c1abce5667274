// Package catalogtest fills catalogues for tests and benchmarks of large ones.
package catalogtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Volumes is how many copies Fill gives a set, one of each volume; a volume
// thus has as many copies as there are sets that have it.
const Volumes = 5

// SetID and CopyID are the IDs that Fill gives: of the n-th set, and of its
// v-th copy. They come in no order, as real ones do.
func SetID(n int) vss.ID     { return id('s', uint64(n)) }
func CopyID(n, v int) vss.ID { return id('c', uint64(n*Volumes+v)) }

// id is a bijection of n, so that no two meet.
func id(kind byte, n uint64) vss.ID {
	n = (n + 1) * 0x9e3779b97f4a7c15 // odd: one to one
	b := binary.BigEndian.AppendUint64(nil, n)
	return vss.ID(append(binary.LittleEndian.AppendUint64(b, n), kind)[1:])
}

// VolumeOf is the name of a set's v-th volume. perVolume sets after each other
// have volumes of the same name.
func VolumeOf(n, v, perVolume int) string {
	return fmt.Sprintf("/srv/host%d/volume%d", n/perVolume, v)
}

// Fill files sets with their copies and LUNs as an import leaves them: sets n
// from first to last, less one. perVolume is for VolumeOf. No storage system
// has their LUNs.
func Fill(ctx context.Context, c *catalog.Catalog, first, last, perVolume int) error {
	const chunk = 250 // sets in a transaction
	for begin := first; begin < last; begin += chunk {
		err := c.Update(ctx, func(t *catalog.Tx) error {
			for n := begin; n < min(begin+chunk, last); n++ {
				if err := fillSet(t, n, perVolume); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func fillSet(t *catalog.Tx, n, perVolume int) error {
	const size = 1 << 30
	made := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Minute)
	attrs := vss.CTX_APP_ROLLBACK.Attributes() | vss.ATTR_TRANSPORTABLE | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_NOT_SURFACED
	set := catalog.Set{ID: SetID(n), Role: catalog.Imported, State: catalog.SetImported, ImportID: id('i', uint64(n)), Session: id('o', uint64(n)), Begun: made,
		Description: &document.SnapshotSet{ID: SetID(n), Attributes: attrs, Count: Volumes, CreationTimestamp: vss.TimestampOf(made), OriginatingMachine: "production", ServiceMachine: "production",
			Tickets: []document.Ticket{{ProviderID: id('p', 1), Data: make([]byte, 400)}}}}
	for i, p := range []string{"queue", "validate", "intent", "hide", "locate", "arrive", "verify", "record", "mount", "finish"} {
		set.Timeline = append(set.Timeline, catalog.Phase{Name: p, Start: time.Duration(i) * time.Millisecond, Duration: time.Millisecond})
	}
	for v := range Volumes {
		number := uint32(n*Volumes + v)
		info := lunOf(0x10, number)
		source := lunOf(0x20, uint32(n/perVolume*Volumes+v))
		fs := document.Filesystem{Type: "ext4", UUID: CopyID(n, v).Bare(), Label: "data", Size: size, DeviceCount: 1}
		s := document.Snapshot{ID: CopyID(n, v), ProviderID: id('p', 1), OriginalVolumeName: VolumeOf(n, v, perVolume), Attributes: attrs, CreationTimestamp: vss.TimestampOf(made), Quiesced: true, Filesystem: fs,
			LUNs: []document.LUNMapping{{Source: source, Target: info, Size: size, Generation: uint64(number) + 1, Extents: []lun.Extent{{Length: size}}}}}
		set.Description.Snapshots = append(set.Description.Snapshots, s)
		set.Copies = append(set.Copies, catalog.CopyStatus{SnapshotID: s.ID, LUN: info.Name()})
		device := fmt.Sprintf("/dev/loop%d", number)
		c := catalog.Copy{Session: set.Session, Quiesced: true, Filesystem: fs, BootID: "an earlier boot", Sources: []lun.Info{source},
			Attachments: []catalog.Attachment{{LUN: info, Device: device, Major: 7, Minor: number, DiskSeq: uint64(number) + 1, Size: size}},
			Prop: vss.SnapshotProp{SnapshotID: s.ID, SnapshotSetID: set.ID, SnapshotsCount: Volumes, DeviceObject: "/run/umbra/copies/" + s.ID.String(), BlockDevice: device,
				OriginalVolumeName: s.OriginalVolumeName, OriginatingMachine: "production", ServiceMachine: "production", ProviderID: s.ProviderID,
				Attributes: attrs | vss.ATTR_IMPORTED, CreationTimestamp: s.CreationTimestamp, Status: vss.SS_CREATED}}
		if err := t.PutCopy(c); err != nil {
			return err
		}
		if err := t.PutLUN(catalog.LUN{Name: info.Name(), Info: info, SetID: set.ID, SnapshotID: s.ID, ProviderID: s.ProviderID, State: catalog.LUNImported}); err != nil {
			return err
		}
	}
	return t.PutSet(set)
}

func lunOf(kind byte, number uint32) lun.Info {
	n := lun.NAA{0x60, 0x01, 0x40, 0x5b, 4: kind}
	binary.BigEndian.PutUint32(n[12:], number)
	return lun.Info{Version: lun.InfoVersion, VendorID: "UMBRA", ProductID: "VOLUME", ProductRevision: "0001", SerialNumber: n.String(), StorageIDs: []lun.StorageID{n.StorageID()}}
}
