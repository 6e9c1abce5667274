package catalog

import (
	"strings"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Role says which half of a transport this machine played.
type Role string

// Roles. A machine may have both for one set (fast recovery imports on the
// creator), so a set is filed under role and ID.
const (
	Created  Role = "created"
	Imported Role = "imported"
)

// SetState is where a set stands on this machine.
type SetState string

// Set states.
const (
	SetCreating     SetState = "creating"
	SetCreated      SetState = "created"
	SetFailed       SetState = "failed"
	SetImporting    SetState = "importing"
	SetImported     SetState = "imported"
	SetPartial      SetState = "partially-imported"
	SetImportFailed SetState = "import-failed"
	SetDeleted      SetState = "deleted" // its copies are gone; a set is imported only once
)

// Phase is one timed step, relative to the operation's begin.
type Phase struct {
	Name     string        `json:"name"`
	Object   string        `json:"object,omitempty"`
	Start    time.Duration `json:"start_ns"`
	Duration time.Duration `json:"duration_ns"`
}

// Failure is a vss.Error as kept on disk.
type Failure struct {
	Code    vss.HResult `json:"code"`
	Op      string      `json:"op,omitempty"`
	Object  string      `json:"object,omitempty"`
	Reason  string      `json:"reason,omitempty"`
	Remedy  string      `json:"remedy,omitempty"`
	EventID string      `json:"event_id,omitempty"`
}

// FailureOf keeps err; nil stays nil.
func FailureOf(err error) *Failure {
	e := vss.AsError("", err)
	if e == nil {
		return nil
	}
	return &Failure{e.Code, e.Op, e.Object, e.Why(), e.Remedy, e.EventID}
}

// Err is the kept error again, nil for a nil Failure.
func (f *Failure) Err() error {
	if f == nil {
		return nil
	}
	return &vss.Error{Code: f.Code, Op: f.Op, Object: f.Object, Reason: f.Reason, Remedy: f.Remedy, EventID: f.EventID}
}

// CopyStatus is the outcome of an import for one copy.
type CopyStatus struct {
	SnapshotID vss.ID      `json:"snapshot_id"`
	LUN        string      `json:"lun"`
	Code       vss.HResult `json:"code"`
	Failure    *Failure    `json:"failure,omitempty"`
}

// Set is one shadow copy set in one role.
type Set struct {
	ID          vss.ID                `json:"id"`
	Role        Role                  `json:"role"`
	State       SetState              `json:"state"`
	ImportID    vss.ID                `json:"import_id,omitzero"`
	Session     vss.ID                `json:"session,omitzero"`
	AutoRelease bool                  `json:"auto_release"`
	Description *document.SnapshotSet `json:"description,omitempty"` // what creation wrote or import read
	Timeline    []Phase               `json:"timeline,omitempty"`
	Copies      []CopyStatus          `json:"copies,omitempty"`
	Failure     *Failure              `json:"failure,omitempty"`
	Begun       time.Time             `json:"begun"`
}

// Attachment is where a copy's LUN stands on this machine.
type Attachment struct {
	LUN     lun.Info `json:"lun"`
	Device  string   `json:"device"` // node, "/dev/loop3"
	Major   uint32   `json:"major"`
	Minor   uint32   `json:"minor"`
	DiskSeq uint64   `json:"disk_seq"` // checked before every mount and detach
	Size    uint64   `json:"size"`
}

// Surface is a block device of a copy: a LUN, or what was made of its LUNs
// (package surface).
type Surface struct {
	Role     string        `json:"role"`     // as in the document
	Segments []lun.Segment `json:"segments"` // their LUN fields are indices into Copy.Attachments
	Kind     string        `json:"kind"`
	Device   string        `json:"device"`
	Major    uint32        `json:"major"`
	Minor    uint32        `json:"minor"`
	DiskSeq  uint64        `json:"disk_seq"` // as of Attachment
	Size     uint64        `json:"size"`
}

// Copy is one shadow copy that exists on this machine.
type Copy struct {
	Prop        vss.SnapshotProp    `json:"prop"`
	Session     vss.ID              `json:"session,omitzero"`
	AutoRelease bool                `json:"auto_release"`
	Quiesced    bool                `json:"quiesced"`
	Filesystem  document.Filesystem `json:"filesystem"`
	Attachments []Attachment        `json:"attachments"`
	Surfaces    []Surface           `json:"surfaces,omitempty"` // the superblock's first; see BlockDevices
	Sources     []lun.Info          `json:"sources"`
	BootID      string              `json:"boot_id"`              // attachments are of this boot
	ShareType   string              `json:"share_type,omitempty"` // the file server it is shared by, if it is
	Groups      []Group             `json:"groups,omitempty"`     // that show it to LVM under another identity
}

// Group is a volume group that some copies of a set lie in, as LVM sees it here.
type Group struct {
	Original     string       `json:"original"`
	OriginalUUID string       `json:"original_uuid"`
	Identity     lvm.Identity `json:"identity"`
}

// BlockDevices are the copy's block devices, the superblock's first. Records of
// earlier versions have none: then each LUN is one.
func (c Copy) BlockDevices() []Surface {
	if len(c.Surfaces) > 0 {
		return c.Surfaces
	}
	all := make([]Surface, len(c.Attachments))
	for i, a := range c.Attachments {
		all[i] = Surface{Segments: []lun.Segment{{Extents: []lun.Extent{{LUN: i, Length: a.Size}}}}, Kind: "disk",
			Device: a.Device, Major: a.Major, Minor: a.Minor, DiskSeq: a.DiskSeq, Size: a.Size}
	}
	return all
}

// SetGroups replaces the copy's groups, and the property that names them.
func (c *Copy) SetGroups(gs []Group) {
	c.Groups = gs
	var names []string
	for _, g := range gs {
		names = append(names, g.Identity.Name)
	}
	c.Prop.VolumeGroup = strings.Join(names, ", ")
}

// LUNState is where a LUN that an import touched stands.
type LUNState string

// LUN states.
const (
	LUNUnmasking LUNState = "unmasking" // its import is running
	LUNImported  LUNState = "imported"
	LUNOrphaned  LUNState = "orphaned" // its import failed or was broken off: only the requester cleans it
	LUNDeleting  LUNState = "deleting" // a deletion was begun and not yet confirmed
)

// LUN is a copy LUN this machine unmasked or tried to.
type LUN struct {
	Name       string   `json:"name"` // naa.…
	Info       lun.Info `json:"info"`
	SetID      vss.ID   `json:"set_id"`
	SnapshotID vss.ID   `json:"snapshot_id"`
	ProviderID vss.ID   `json:"provider_id"`
	State      LUNState `json:"state"`
	Reason     string   `json:"reason,omitempty"`

	Contents *Contents `json:"contents,omitempty"` // of a LUN that is not one volume of its set
}

// Contents is what a LUN holds, whether or not it is in the set.
type Contents struct {
	Table   string   `json:"table,omitempty"` // gpt, mbr; "" if there is none
	Fault   string   `json:"fault,omitempty"` // why the LUN's volumes are not known
	Volumes []Volume `json:"volumes,omitempty"`
}

// Volume is a volume of a LUN.
type Volume struct {
	Number     int      `json:"number"` // of the partition; 0 for the whole LUN
	Offset     uint64   `json:"offset"`
	Length     uint64   `json:"length"`
	Name       string   `json:"name,omitempty"`       // of the partition
	Filesystem string   `json:"filesystem,omitempty"` // its type, or that of what else is known: crypto_LUKS, LVM2_member
	UUID       string   `json:"uuid,omitempty"`
	Label      string   `json:"label,omitempty"`
	Copies     []vss.ID `json:"copies,omitempty"` // of the set, that lie on it
	Fault      string   `json:"fault,omitempty"`  // why what it holds is not known
}

// Intent is something begun outside whose end is not recorded yet.
type Intent struct {
	ID      uint64    `json:"id"`
	Kind    string    `json:"kind"` // create, import, delete, expose, share, group, cleanup
	Role    Role      `json:"role,omitempty"`
	SetID   vss.ID    `json:"set_id"`
	Object  string    `json:"object,omitempty"` // copy ID or path
	Session vss.ID    `json:"session,omitzero"`
	Force   bool      `json:"force,omitempty"` // of a deletion
	Begun   time.Time `json:"begun"`
	BootID  string    `json:"boot_id"`

	Parts []IntentPart `json:"parts,omitempty"` // of a creation
}

// IntentPart is what one provider makes of a set: copies of these LUNs. With it
// they are found again, whoever died.
type IntentPart struct {
	ProviderID vss.ID     `json:"provider_id"`
	LUNs       []lun.Info `json:"luns"`
}

// Event is an entry of the event log.
type Event struct {
	ID      string    `json:"id"` // decimal, grows
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // info, warning, error
	Name    string    `json:"name"`  // stable: import.partial; see Kinds
	Number  int       `json:"number,omitempty"`
	Session vss.ID    `json:"session,omitzero"`
	SetID   vss.ID    `json:"set_id,omitzero"`
	Object  string    `json:"object,omitempty"`
	Message string    `json:"message"`
	Failure *Failure  `json:"failure,omitempty"`
}
