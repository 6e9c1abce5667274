package document

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/umbra-vss/umbra/lun"
)

// digestDomain keeps a digest of this encoding from being taken for anything
// else. A change of the encoding changes it: the second has block devices, and
// is used for sets that have them, so that older importers read all others.
const (
	digestDomain  = "umbra-vss snapshot set digest 1"
	digestDomain2 = "umbra-vss snapshot set digest 2"
)

// Digest is the SHA-256 of the whole set except its tickets, which sign it.
//
// It is made over a canonical encoding of the values, not over XML, so that
// white space, attribute order and prefixes do not matter: every number is
// eight bytes big-endian, every string, ID and byte field is preceded by its
// length, every list by its count, in the order of the fields in this package.
// Two sets have the same digest exactly when all their values are equal; an
// empty list and none are the same value.
func (s *SnapshotSet) Digest() [32]byte {
	e := encoder{sha256.New()}
	devices := s.assembled()
	if devices {
		e.text(digestDomain2)
	} else {
		e.text(digestDomain)
	}
	e.bytes(s.ID[:])
	e.num(uint64(s.Attributes))
	e.num(uint64(s.Count))
	e.num(uint64(s.CreationTimestamp))
	e.text(s.OriginatingMachine)
	e.text(s.ServiceMachine)
	e.num(uint64(len(s.Snapshots)))
	for i := range s.Snapshots {
		e.snapshot(&s.Snapshots[i])
		if devices {
			e.devices(s.Snapshots[i].Devices)
		}
	}
	return [32]byte(e.h.Sum(nil))
}

type encoder struct{ h hash.Hash }

func (e encoder) num(n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	e.h.Write(b[:]) // a hash.Hash never fails
}

func (e encoder) bytes(b []byte) {
	e.num(uint64(len(b)))
	e.h.Write(b)
}

func (e encoder) text(s string) { e.bytes([]byte(s)) }

func (e encoder) flag(b bool) {
	if b {
		e.num(1)
	} else {
		e.num(0)
	}
}

func (e encoder) snapshot(s *Snapshot) {
	e.bytes(s.ID[:])
	e.bytes(s.ProviderID[:])
	e.text(s.OriginalVolumeName)
	e.num(uint64(s.Attributes))
	e.num(uint64(s.CreationTimestamp))
	e.flag(s.Quiesced)
	e.text(s.Filesystem.Type)
	e.text(s.Filesystem.UUID)
	e.text(s.Filesystem.Label)
	e.num(s.Filesystem.Size)
	e.num(uint64(len(s.Filesystem.DeviceUUIDs)))
	for _, u := range s.Filesystem.DeviceUUIDs {
		e.text(u)
	}
	e.num(uint64(s.Filesystem.DeviceCount))
	e.num(uint64(len(s.LUNs)))
	for _, m := range s.LUNs {
		e.info(m.Source)
		e.info(m.Target)
		e.num(m.Size)
		e.num(m.Generation)
		e.extents(m.Extents)
	}
}

func (e encoder) extents(xs []lun.Extent) {
	e.num(uint64(len(xs)))
	for _, x := range xs {
		e.num(uint64(x.LUN))
		e.num(x.Offset)
		e.num(x.Length)
	}
}

func (e encoder) devices(ds []BlockDevice) {
	e.num(uint64(len(ds)))
	for _, d := range ds {
		e.text(d.Role)
		e.flag(d.Logical != nil)
		if l := d.Logical; l != nil {
			e.text(l.Group)
			e.text(l.GroupUUID)
			e.text(l.Name)
			e.text(l.UUID)
			e.num(uint64(len(l.Disks)))
			for _, p := range l.Disks {
				e.text(p.UUID)
				e.num(uint64(p.LUN))
				e.num(p.Offset)
			}
		}
		e.num(uint64(len(d.Segments)))
		for _, g := range d.Segments {
			e.num(g.Chunk)
			e.extents(g.Extents)
		}
	}
}

func (e encoder) info(i lun.Info) {
	e.num(uint64(i.Version))
	e.num(uint64(i.DeviceType))
	e.num(uint64(i.DeviceTypeModifier))
	e.flag(i.CommandQueueing)
	e.num(uint64(i.BusType))
	e.text(i.VendorID)
	e.text(i.ProductID)
	e.text(i.ProductRevision)
	e.text(i.SerialNumber)
	e.bytes(i.DiskSignature[:])
	e.num(uint64(len(i.StorageIDs)))
	for _, s := range i.StorageIDs {
		e.num(uint64(s.CodeSet))
		e.num(uint64(s.Type))
		e.bytes(s.Identifier)
	}
	e.num(uint64(len(i.Interconnects)))
	for _, c := range i.Interconnects {
		e.num(uint64(c.AddressType))
		e.bytes(c.Port)
		e.bytes(c.Address)
	}
}
