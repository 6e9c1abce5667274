package requester

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// Host is this machine's service as an administrator sees it: joined arrays,
// LUNs, sets, events. It needs no session.
type Host struct {
	client vssv1connect.HostServiceClient
	http   *http.Client
	socket string
}

// NewHost returns a client; nothing is dialled before the first call.
func NewHost(opts ...Option) *Host {
	hc, o := dial(opts)
	return &Host{vssv1connect.NewHostServiceClient(hc, "http://umbra", connect.WithInterceptors(rpc.Interceptor()), rpc.Plain()), hc, o.socket}
}

// Close lets go of idle connections.
func (h *Host) Close() {
	if h != nil && h.http != nil {
		h.http.CloseIdleConnections()
	}
}

func (h *Host) fix(op string, err error) error { return unreachable(op, h.socket, err) }

// HostStatus is who the service is.
type HostStatus struct {
	HostName string    `json:"host_name"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	StateDir string    `json:"state_dir"`
	RunDir   string    `json:"run_dir"`
	Sessions int       `json:"sessions"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Status asks the service who it is.
func (h *Host) Status(ctx context.Context) (HostStatus, error) {
	r, err := askHost(ctx, h, "Status", hostRPCs.Status, &vssv1.Empty{})
	if err != nil {
		return HostStatus{}, err
	}
	m := r
	return HostStatus{m.HostName, m.Version, time.Unix(0, m.StartedUnixNs), m.StateDir, m.RunDir, int(m.Sessions), m.Warnings}, nil
}

// Array is a joined array.
type Array struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Endpoints []string   `json:"endpoints"`
	Reachable bool       `json:"reachable"`
	Err       *vss.Error `json:"error,omitempty"`
}

// Join joins the array whose `umbra array enroll` made the bundle.
func (h *Host) Join(ctx context.Context, bundle []byte) (Array, error) {
	r, err := askHost(ctx, h, "Join", hostRPCs.Join, &vssv1.JoinRequest{Bundle: bundle})
	if err != nil {
		return Array{}, err
	}
	return Array{ID: r.ArrayId, Name: r.ArrayName, Reachable: true}, nil
}

// Arrays lists the joined arrays and asks each whether it answers.
func (h *Host) Arrays(ctx context.Context) ([]Array, error) {
	r, err := askHost(ctx, h, "ListArrays", hostRPCs.ListArrays, &vssv1.Empty{})
	if err != nil {
		return nil, err
	}
	var out []Array
	for _, a := range r.Arrays {
		out = append(out, Array{a.Id, a.Name, a.Endpoints, a.Reachable, rpc.ErrorFromProto(a.Error)})
	}
	return out, nil
}

// LUN is a LUN as this machine knows it.
type LUN struct {
	Name       string `json:"name"`   // naa.…
	Device     string `json:"device"` // "" if not attached
	Size       uint64 `json:"size"`   // bytes
	ReadOnly   bool   `json:"read_only"`
	DiskSeq    uint64 `json:"disk_seq"`
	State      string `json:"state"` // original, unmasking, imported, orphaned, deleting, detaching
	SetID      vss.ID `json:"set_id,omitzero"`
	SnapshotID vss.ID `json:"snapshot_id,omitzero"`
	Reason     string `json:"reason,omitempty"`
	Action     string `json:"action,omitempty"`

	// What it holds, as far as that is known: of LUNs of an import with more on
	// them than one volume of the set, and of originals.
	Table   string      `json:"table,omitempty"` // gpt, mbr
	Fault   string      `json:"fault,omitempty"` // why its volumes are not known
	Volumes []LUNVolume `json:"volumes,omitempty"`
}

// LUNVolume is a volume of a LUN, whether or not it is in a set.
type LUNVolume struct {
	Number     int      `json:"number"` // of the partition; 0 for the whole LUN
	Offset     uint64   `json:"offset"` // bytes
	Length     uint64   `json:"length"` // bytes
	Name       string   `json:"name,omitempty"`
	Filesystem string   `json:"filesystem,omitempty"`
	UUID       string   `json:"uuid,omitempty"`
	Label      string   `json:"label,omitempty"`
	Copies     []vss.ID `json:"copies,omitempty"` // the set's copies that lie on it
	Fault      string   `json:"fault,omitempty"`
	Device     string   `json:"device,omitempty"` // its block node here, if it is an original's partition and has one
}

func lunsOf(ps []*vssv1.LUN) []LUN {
	var out []LUN
	for _, p := range ps {
		l := LUN{Name: p.Name, Device: p.Device, Size: p.Size, ReadOnly: p.ReadOnly, DiskSeq: p.DiskSeq, State: p.State, SetID: idOf(p.SetId), SnapshotID: idOf(p.SnapshotId),
			Reason: p.Reason, Action: p.Action, Table: p.Table, Fault: p.Fault}
		for _, v := range p.Volumes {
			o := LUNVolume{Number: int(v.Number), Offset: v.Offset, Length: v.Length, Name: v.Name, Filesystem: v.Filesystem, UUID: v.Uuid, Label: v.Label, Fault: v.Fault, Device: v.Device}
			for _, id := range v.SnapshotIds {
				o.Copies = append(o.Copies, idOf(id))
			}
			l.Volumes = append(l.Volumes, o)
		}
		out = append(out, l)
	}
	return out
}

// Rescan attaches the named LUNs (all that are unmasked to this machine when
// none is named). What could be attached is returned beside the error.
func (h *Host) Rescan(ctx context.Context, luns ...string) ([]LUN, error) {
	return h.rescan(ctx, &vssv1.RescanRequest{Luns: luns})
}

func (h *Host) rescan(ctx context.Context, q *vssv1.RescanRequest) ([]LUN, error) {
	r, err := askHost(ctx, h, "Rescan", hostRPCs.Rescan, q)
	if err != nil {
		return nil, err
	}
	if e := rpc.ErrorFromProto(r.Error); e != nil {
		return lunsOf(r.Luns), e
	}
	return lunsOf(r.Luns), nil
}

// DetachLUN removes an original LUN's device from this machine.
func (h *Host) DetachLUN(ctx context.Context, lun string) error {
	_, err := askHost(ctx, h, "DetachLUN", hostRPCs.DetachLUN, &vssv1.DetachLUNRequest{Lun: lun})
	return err
}

// Reach is Rescan; and partitions of those LUNs for which the kernel has made no
// block device get one, until their LUN is detached or the machine boots.
func (h *Host) Reach(ctx context.Context, luns ...string) ([]LUN, error) {
	return h.rescan(ctx, &vssv1.RescanRequest{Luns: luns, Partitions: true})
}

// LUNs lists the LUNs here; with orphaned only those that imports left behind.
func (h *Host) LUNs(ctx context.Context, orphaned bool) ([]LUN, error) {
	r, err := askHost(ctx, h, "ListLUNs", hostRPCs.ListLUNs, &vssv1.ListLUNsRequest{Orphaned: orphaned})
	if err != nil {
		return nil, err
	}
	return lunsOf(r.Luns), nil
}

// Set is a shadow copy set created or imported here.
type Set struct {
	ID                 vss.ID             `json:"id"`
	Role               string             `json:"role"` // created or imported
	State              string             `json:"state"`
	Attributes         vss.Attributes     `json:"attributes"`
	CreationTimestamp  vss.Timestamp      `json:"creation_timestamp"`
	OriginatingMachine string             `json:"originating_machine"`
	Count              int                `json:"snapshots_count"`
	Snapshots          []vss.SnapshotProp `json:"snapshots,omitempty"`
	LUNs               []LUN              `json:"luns,omitempty"`
	LogicalVolumes     []LogicalVolume    `json:"logical_volumes,omitempty"` // that the copies were made of
	Copies             []CopyStatus       `json:"copies,omitempty"`
	Timeline           []Phase            `json:"timeline,omitempty"`
	Err                *vss.Error         `json:"error,omitempty"`
}

// LogicalVolume is a volume of LVM that a copy was made of: what it is called where
// it was copied, and what on this machine, if LVM sees it here under another
// identity. UUIDs are LVM's.
type LogicalVolume struct {
	SnapshotID   vss.ID           `json:"snapshot_id"`
	Group        string           `json:"group"`
	GroupUUID    string           `json:"group_uuid"`
	Name         string           `json:"name"`
	UUID         string           `json:"uuid"`
	Disks        []PhysicalVolume `json:"physical_volumes,omitempty"`
	NewGroup     string           `json:"new_group,omitempty"`
	NewGroupUUID string           `json:"new_group_uuid,omitempty"`
	NewUUID      string           `json:"new_uuid,omitempty"`
	Path         string           `json:"path,omitempty"` // /dev/GROUP/VOLUME
}

// PhysicalVolume is a disk that a logical volume lies on: where it is on the copy's
// LUN, and what it is called.
type PhysicalVolume struct {
	UUID    string `json:"uuid"`
	LUN     string `json:"lun"`
	Offset  uint64 `json:"offset"`
	NewUUID string `json:"new_uuid,omitempty"`
}

func setOf(p *vssv1.Set) Set {
	s := Set{ID: idOf(p.SetId), Role: p.Role, State: p.State, Attributes: vss.Attributes(p.Attributes), CreationTimestamp: vss.Timestamp(p.CreationTimestamp),
		OriginatingMachine: p.OriginatingMachine, Count: int(p.SnapshotsCount), LUNs: lunsOf(p.Luns), LogicalVolumes: logicalVolumesOf(p.LogicalVolumes), Copies: copiesOf(p.Copies), Timeline: phasesOf(p.Timeline), Err: rpc.ErrorFromProto(p.Error)}
	for _, c := range p.Snapshots {
		s.Snapshots = append(s.Snapshots, propOf(c))
	}
	return s
}

// Sets lists the sets created or imported on this machine.
func (h *Host) Sets(ctx context.Context) ([]Set, error) {
	var out []Set
	for s, err := range h.EachSet(ctx) {
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Set returns one set with its timeline.
func (h *Host) Set(ctx context.Context, id vss.ID) (Set, error) {
	r, err := askHost(ctx, h, "ShowSet", hostRPCs.ShowSet, &vssv1.SetRequest{SetId: id[:]})
	if err != nil {
		return Set{}, err
	}
	return setOf(r), nil
}

// Document returns the document of a set that was created on this machine once
// more, ready to be imported elsewhere. VSS_E_OBJECT_NOT_FOUND if this machine
// did not create it, or it was deleted.
func (h *Host) Document(ctx context.Context, id vss.ID) ([]byte, error) {
	r, err := askHost(ctx, h, "GetDocument", hostRPCs.GetDocument, &vssv1.SetRequest{SetId: id[:]})
	if err != nil {
		return nil, err
	}
	return r.Document, nil
}

// Event is an entry of the service's event log. Number and Name mean the same
// in every version: docs/operations.md lists them.
type Event struct {
	ID      string     `json:"id"`
	Time    time.Time  `json:"time"`
	Level   string     `json:"level"` // info, warning or error
	Number  int        `json:"number"`
	Name    string     `json:"name"`
	Session vss.ID     `json:"session,omitzero"`
	SetID   vss.ID     `json:"set_id,omitzero"`
	Object  string     `json:"object,omitempty"`
	Message string     `json:"message"`
	Err     *vss.Error `json:"error,omitempty"`
}

// EventQuery chooses events; a zero field chooses all.
type EventQuery struct {
	ID      string
	SetID   vss.ID
	Session vss.ID
	Name    string    // "import.done", or all of an area: "import"
	Level   string    // that and worse: "warning" is warnings and errors
	Since   time.Time // at that time or later
	Until   time.Time // before that time
	Limit   int       // 0 is 100; the service keeps about 10,000
}

// Events lists the newest of the chosen events first. A level or name that
// does not exist is E_INVALIDARG.
func (h *Host) Events(ctx context.Context, q EventQuery) ([]Event, error) {
	m := &vssv1.ListEventsRequest{Id: q.ID, SetId: q.SetID[:], Session: q.Session[:], Name: q.Name, Level: q.Level, Limit: uint32(max(q.Limit, 0))}
	if !q.Since.IsZero() {
		m.SinceUnixNs = q.Since.UnixNano()
	}
	if !q.Until.IsZero() {
		m.UntilUnixNs = q.Until.UnixNano()
	}
	r, err := askHost(ctx, h, "ListEvents", hostRPCs.ListEvents, m)
	if err != nil {
		return nil, err
	}
	out := make([]Event, 0, len(r.Events))
	for _, e := range r.Events {
		session, _ := vss.ParseID(e.Session) // GUID_NULL for what belongs to none
		out = append(out, Event{e.Id, time.Unix(0, e.TimeUnixNs), e.Level, int(e.Number), e.Name, session, idOf(e.SetId), e.Object, e.Message, rpc.ErrorFromProto(e.Error)})
	}
	return out, nil
}
