package document

import (
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// CurrentSchema is the newest version of the schema that this package writes
// and reads. What has no need of it is written in an older one, which older
// importers read.
const CurrentSchema = "1.2"

const (
	firstSchema      = "1.0" // no components and no restore state
	componentsSchema = "1.1" // no block devices
)

// Namespace is the XML namespace of the schema's first major version.
const Namespace = "urn:umbra-vss:backup-components:1"

// Document is a Backup Components Document.
//
// Documents are plain values: nothing here locks, and concurrent readers are
// safe while nobody writes.
type Document struct {
	// SchemaVersion is what a document that was read said. Marshal writes the
	// lowest version that has room for the content, and never one below this.
	SchemaVersion string
	State         BackupState
	// RestoreState is what SetRestoreState was given.
	RestoreState vss.RestoreType
	// Components are what requester and writers tell each other. They are not
	// signed, and import does not rely on them: they change until
	// BackupComplete, after the set and its ticket were made.
	Components []WriterComponents
	// Context is what the requester set. Import relies on Set.Attributes.
	Context vss.Context
	Set     *SnapshotSet // nil before DoSnapshotSet
}

// BackupState is what SetBackupState was given.
type BackupState struct {
	SelectComponents bool
	Bootable         bool
	Type             vss.BackupType
	PartialFiles     bool
}

// schema is the version that Marshal writes.
func (d *Document) schema() string {
	switch {
	case d.SchemaVersion == CurrentSchema || d.Set.assembled():
		return CurrentSchema
	case d.SchemaVersion == componentsSchema || len(d.Components) > 0 || d.RestoreState != vss.RTYPE_UNDEFINED:
		return componentsSchema
	}
	return firstSchema
}

// SnapshotSet describes one shadow copy set.
type SnapshotSet struct {
	ID vss.ID
	// Attributes are those common to the copies: the context the set was
	// created in and TRANSPORTABLE.
	Attributes         vss.Attributes
	Count              int // volumes in the set when it was created
	CreationTimestamp  vss.Timestamp
	OriginatingMachine string // holds the original volumes
	ServiceMachine     string // its service created the copies
	Snapshots          []Snapshot
	// Tickets holds at most one ticket per provider. They are not part of the
	// digest, which they sign.
	Tickets []Ticket
}

// Ticket is a storage system's permission to import the set.
type Ticket struct {
	ProviderID vss.ID
	Data       []byte // the provider's own format
}

// Snapshot describes the copy of one volume.
type Snapshot struct {
	ID                 vss.ID
	ProviderID         vss.ID
	OriginalVolumeName string // a path; any bytes, see Marshal
	Attributes         vss.Attributes
	CreationTimestamp  vss.Timestamp
	// Quiesced says that the filesystem was frozen at the point in time, so
	// that the copy may be mounted without log replay.
	Quiesced   bool
	Filesystem Filesystem
	// LUNs the volume lies on, in the order in which the volume's stack names
	// them; empty for a copy that is not on LUNs of its own (software
	// providers).
	LUNs []LUNMapping
	// Devices say how the volume's block devices are put together from the
	// extents of its LUNs. Empty where every extent is a device by itself, see
	// BlockDevices.
	Devices []BlockDevice
}

// Filesystem is what the importer verifies the copy to be. The zero value is
// a volume without a filesystem that we know.
type Filesystem struct {
	Type        string // as blkid and mount name it: ext4, xfs, btrfs
	UUID        string // as the filesystem's own tools print it
	Label       string
	Size        uint64   // bytes
	DeviceUUIDs []string // of the members, for filesystems that name them (btrfs)
	DeviceCount int      // members
}

// LUNMapping pairs a LUN with its copy.
type LUNMapping struct {
	Source lun.Info // the original LUN
	Target lun.Info // the copy, exactly as GetTargetLUNs returned it
	Size   uint64   // bytes, of both
	// Generation is the storage system's mark of the copy's content at commit
	// (provider.Description); 0 when the storage system keeps none.
	Generation uint64
	// Extents are where the volume lies on this LUN. Their LUN field is the
	// index of this mapping in Snapshot.LUNs; the XML does not repeat it.
	// Snapshot.Devices says how they are put together.
	Extents []lun.Extent
}

// Transportable reports whether the set can be imported by another machine:
// it was created to be, and every copy is on LUNs of its own. For any other
// set ImportSnapshots ends with VSS_E_NONTRANSPORTABLE_BCD.
func (s *SnapshotSet) Transportable() bool {
	if !s.Attributes.Has(vss.ATTR_TRANSPORTABLE) {
		return false
	}
	for _, sn := range s.Snapshots {
		if len(sn.LUNs) == 0 {
			return false
		}
	}
	return len(s.Snapshots) > 0
}

// Snapshot returns the copy with this ID, nil if the set has none.
func (s *SnapshotSet) Snapshot(id vss.ID) *Snapshot {
	for i := range s.Snapshots {
		if s.Snapshots[i].ID == id {
			return &s.Snapshots[i]
		}
	}
	return nil
}

// Ticket returns the provider's ticket, nil if the set carries none.
func (s *SnapshotSet) Ticket(provider vss.ID) []byte {
	for _, t := range s.Tickets {
		if t.ProviderID == provider {
			return t.Data
		}
	}
	return nil
}

// TargetLUNs returns the copies' LUNs that belong to a provider, each once
// though several volumes of the set may lie on it.
func (s *SnapshotSet) TargetLUNs(provider vss.ID) []lun.Info {
	var out []lun.Info
	for _, sn := range s.Snapshots {
		if sn.ProviderID != provider {
			continue
		}
	next:
		for _, m := range sn.LUNs {
			for _, have := range out {
				if lun.Match(have, m.Target) == nil {
					continue next
				}
			}
			out = append(out, m.Target)
		}
	}
	return out
}
