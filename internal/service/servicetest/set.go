package servicetest

import (
	"fmt"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Size is how big a LUN of NewSet is, in bytes.
const Size = 64 << 20

// NewSet makes a copy LUN on each array, and the document that says how to
// import them; c is the context without TRANSPORTABLE.
func NewSet(c vss.Context, arrays ...*Array) *document.Document {
	attrs := c.Attributes() | vss.ATTR_TRANSPORTABLE | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_NOT_SURFACED
	at := vss.TimestampOf(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	s := &document.SnapshotSet{ID: vss.NewID(), Attributes: attrs, Count: len(arrays), CreationTimestamp: at, OriginatingMachine: "a", ServiceMachine: "a"}
	for i, a := range arrays {
		id := vss.NewID()
		fs := filesystem.Identity{Type: "ext4", UUID: id.Bare(), Size: Size, DeviceSize: Size, Devices: 1}
		l := a.Add(Size, fs)
		source := l.Info
		n := lun.NAA{0x60, 0x01, 0x40, 0x5b, 14: byte(i), 15: byte(len(a.Names()))}
		source.StorageIDs = []lun.StorageID{n.StorageID()}
		s.Snapshots = append(s.Snapshots, document.Snapshot{ID: id, ProviderID: a.ID, OriginalVolumeName: fmt.Sprintf("/srv/%d", i), Attributes: attrs, CreationTimestamp: at, Quiesced: true,
			Filesystem: document.Filesystem{Type: fs.Type, UUID: fs.UUID, Size: fs.Size, DeviceCount: 1},
			LUNs:       []document.LUNMapping{{Source: source, Target: l.Info, Size: l.Size, Generation: l.Generation, Extents: []lun.Extent{{Length: l.Size}}}}})
	}
	d := &document.Document{Context: c | vss.Context(vss.ATTR_TRANSPORTABLE), Set: s}
	Sign(d)
	return d
}

// Share puts the set's last copy on the LUN of its first: two volumes of one
// disk. The LUN made for the last one stays behind unused.
func Share(d *document.Document) {
	ss := d.Set.Snapshots
	first, last := &ss[0], &ss[len(ss)-1]
	last.LUNs = append([]document.LUNMapping(nil), first.LUNs...)
	last.Filesystem = first.Filesystem
	first.LUNs[0].Extents = []lun.Extent{{Length: Size / 2}}
	last.LUNs[0].Extents = []lun.Extent{{Offset: Size / 2, Length: Size / 2}}
	Sign(d)
}

// Sign gives the set a ticket of each of its providers.
func Sign(d *document.Document) {
	d.Set.Tickets = nil
	seen := map[vss.ID]bool{}
	for _, s := range d.Set.Snapshots {
		if !seen[s.ProviderID] {
			seen[s.ProviderID] = true
			d.Set.Tickets = append(d.Set.Tickets, document.Ticket{ProviderID: s.ProviderID, Data: Ticket(d.Set.Digest())})
		}
	}
}
