package document

import (
	"fmt"
	"regexp"

	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// anyBytes is a string of any bytes, of which Linux makes names.
func anyBytes(least int) *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringN(least, 20, 200),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), least, 30), func(b []byte) string { return string(b) }),
		rapid.StringMatching(`/[a-z]{1,8}(/[a-z ü\\"<>&']{1,8}){0,2}`),
	)
}

func anyID() *rapid.Generator[vss.ID] {
	return rapid.Custom(func(t *rapid.T) vss.ID {
		id := vss.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		id[0] |= 1 // never GUID_NULL
		return id
	})
}

func anyTime() *rapid.Generator[vss.Timestamp] {
	return rapid.Map(rapid.Int64Range(int64(earliest), int64(latest)), func(n int64) vss.Timestamp { return vss.Timestamp(n) })
}

// anyLUN is LUN n of the set, with anything else about it arbitrary.
func anyLUN(n int) *rapid.Generator[lun.Info] {
	return rapid.Custom(func(t *rapid.T) lun.Info {
		i := lun.Info{
			Version:            lun.InfoVersion,
			DeviceType:         rapid.Byte().Draw(t, "device type"),
			DeviceTypeModifier: rapid.Byte().Draw(t, "modifier"),
			CommandQueueing:    rapid.Bool().Draw(t, "queueing"),
			BusType:            lun.BusType(rapid.Byte().Draw(t, "bus")),
			VendorID:           anyBytes(0).Draw(t, "vendor"),
			ProductID:          anyBytes(0).Draw(t, "product"),
			ProductRevision:    anyBytes(0).Draw(t, "revision"),
			SerialNumber:       anyBytes(0).Draw(t, "serial"),
		}
		if rapid.Bool().Draw(t, "signed") {
			i.DiskSignature = anyID().Draw(t, "signature")
		}
		own := lun.NAA{0x6f, 14: byte(n >> 8), 15: byte(n)}
		i.StorageIDs = append(i.StorageIDs, own.StorageID())
		for range rapid.IntRange(0, 3).Draw(t, "more identifiers") {
			i.StorageIDs = append(i.StorageIDs, lun.StorageID{
				CodeSet: lun.CodeSet(rapid.Byte().Draw(t, "code set")), Type: lun.IDType(rapid.Byte().Draw(t, "type")),
				Identifier: rapid.SliceOfN(rapid.Byte(), 1, 30).Draw(t, "identifier"),
			})
		}
		for range rapid.IntRange(0, 2).Draw(t, "interconnects") {
			i.Interconnects = append(i.Interconnects, lun.Interconnect{
				AddressType: lun.InterconnectAddressType(rapid.Byte().Draw(t, "address type")),
				Port:        rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "port"),
				Address:     rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "address"),
			})
		}
		return i
	})
}

// anyExtents do not overlap and fit a LUN of size bytes.
func anyExtents(index int, size uint64) *rapid.Generator[[]lun.Extent] {
	return rapid.Custom(func(t *rapid.T) []lun.Extent {
		first := rapid.Uint64Range(1, size).Draw(t, "length")
		out := []lun.Extent{{LUN: index, Offset: 0, Length: first}}
		if left := size - first; left > 0 {
			l := rapid.Uint64Range(1, left).Draw(t, "second length")
			out = append([]lun.Extent{{LUN: index, Offset: rapid.Uint64Range(first, size-l).Draw(t, "offset"), Length: l}}, out...)
		}
		return out
	})
}

func lvmText(of *regexp.Regexp) *rapid.Generator[string] { return rapid.StringMatching(of.String()) }

func anyDocument() *rapid.Generator[*Document] {
	contexts := []vss.Context{vss.CTX_BACKUP, vss.CTX_FILE_SHARE_BACKUP, vss.CTX_NAS_ROLLBACK, vss.CTX_APP_ROLLBACK}
	return rapid.Custom(func(t *rapid.T) *Document {
		context := rapid.SampledFrom(contexts).Draw(t, "context")
		if rapid.Bool().Draw(t, "transportable") {
			context |= vss.Context(vss.ATTR_TRANSPORTABLE)
		}
		d := &Document{
			Context: context,
			State: BackupState{
				SelectComponents: rapid.Bool().Draw(t, "select"), Bootable: rapid.Bool().Draw(t, "bootable"),
				Type: vss.BackupType(rapid.Int32Range(0, 6).Draw(t, "type")), PartialFiles: rapid.Bool().Draw(t, "partial"),
			},
		}
		if rapid.Bool().Draw(t, "writers") {
			d.Components = anyComponents().Draw(t, "components")
			d.RestoreState = vss.RestoreType(rapid.Int32Range(0, 3).Draw(t, "restore"))
		}
		d.SchemaVersion = ""
		d.SchemaVersion = d.schema()
		if rapid.IntRange(0, 9).Draw(t, "set") == 0 {
			return d
		}
		extra := rapid.Uint32().Draw(t, "attributes")
		attrs := context.Attributes() | vss.Attributes(extra)&knownAttributes&^(contextBits|vss.ATTR_TRANSPORTABLE)
		n := rapid.IntRange(1, 3).Draw(t, "snapshots")
		set := &SnapshotSet{
			ID: anyID().Draw(t, "set"), Attributes: context.Attributes(), Count: rapid.IntRange(n, MaxSnapshots).Draw(t, "count"),
			CreationTimestamp: anyTime().Draw(t, "time"), OriginatingMachine: anyBytes(1).Draw(t, "origin"), ServiceMachine: anyBytes(1).Draw(t, "service"),
		}
		set.ID[15] = 0xff
		d.Set = set
		providers := rapid.SliceOfNDistinct(anyID(), 1, 2, rapid.ID).Draw(t, "providers")
		luns := 0
		for i := range n {
			sn := Snapshot{
				ID: anyID().Draw(t, "snapshot"), ProviderID: rapid.SampledFrom(providers).Draw(t, "provider"),
				OriginalVolumeName: anyBytes(1).Draw(t, "volume"), Attributes: attrs, CreationTimestamp: anyTime().Draw(t, "time"),
				Quiesced: rapid.Bool().Draw(t, "quiesced"),
				Filesystem: Filesystem{
					Type: anyBytes(0).Draw(t, "fs"), UUID: anyBytes(0).Draw(t, "uuid"), Label: anyBytes(0).Draw(t, "label"),
					Size: rapid.Uint64().Draw(t, "size"), DeviceUUIDs: rapid.SliceOfN(anyBytes(1), 0, 3).Draw(t, "devices"),
				},
			}
			sn.ID[15] = byte(i)
			sn.Filesystem.DeviceCount = rapid.IntRange(len(sn.Filesystem.DeviceUUIDs), maxDevices).Draw(t, "device count")
			for k := range rapid.IntRange(0, 2).Draw(t, "luns") {
				m := LUNMapping{
					Source: anyLUN(luns).Draw(t, "source"), Target: anyLUN(luns+1).Draw(t, "target"),
					Size: rapid.Uint64Min(1).Draw(t, "lun size"), Generation: rapid.Uint64().Draw(t, "generation"),
				}
				luns += 2
				m.Extents = anyExtents(k, m.Size).Draw(t, "extents")
				sn.LUNs = append(sn.LUNs, m)
			}
			if len(sn.LUNs) > 0 && rapid.Bool().Draw(t, "block devices") {
				var one []lun.Segment
				for _, m := range sn.LUNs {
					for _, x := range m.Extents {
						one = append(one, lun.Segment{Extents: []lun.Extent{x}})
					}
				}
				cut := rapid.IntRange(1, len(one)).Draw(t, "cut")
				sn.Devices = []BlockDevice{{Role: RoleData, Segments: one[:cut]}}
				if rapid.Bool().Draw(t, "logical") {
					sn.Devices[0].Logical = &LogicalVolume{lvmText(lvmName).Draw(t, "group"), lvmText(lvmUUID).Draw(t, "group UUID"), lvmText(lvmName).Draw(t, "name"), lvmText(lvmUUID).Draw(t, "uuid"), nil}
					if rapid.Bool().Draw(t, "physical") {
						sn.Devices[0].Logical.Disks = []PhysicalVolume{{lvmText(lvmUUID).Draw(t, "disk"), len(sn.LUNs) - 1, sn.LUNs[len(sn.LUNs)-1].Size - 1}}
					}
				}
				if cut < len(one) {
					sn.Devices = append(sn.Devices, BlockDevice{Role: rapid.SampledFrom([]string{RoleData, RoleLog, RoleJournal}).Draw(t, "role"), Segments: one[cut:]})
				}
			}
			set.Snapshots = append(set.Snapshots, sn)
		}
		if rapid.Bool().Draw(t, "ticket") {
			set.Tickets = []Ticket{{set.Snapshots[0].ProviderID, rapid.SliceOfN(rapid.Byte(), 1, 60).Draw(t, "ticket data")}}
		}
		d.SchemaVersion = d.schema()
		if err := d.Validate(); err != nil {
			panic(fmt.Sprintf("the generator made an invalid document: %v", err))
		}
		return d
	})
}
