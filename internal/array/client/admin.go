package client

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/array/export"
	arrayv1 "github.com/umbra-vss/umbra/internal/gen/umbra/array/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/array/v1/arrayv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// AdminClient administers an array over its admin socket, as root.
type AdminClient struct {
	rpc  arrayv1connect.AdminServiceClient
	http *http.Client
}

// Admin makes a client of the array that serves this socket. It does not
// connect yet.
func Admin(socket string) *AdminClient {
	h := rpc.UnixClient(socket)
	return &AdminClient{http: h, rpc: arrayv1connect.NewAdminServiceClient(h, "http://array", connect.WithInterceptors(rpc.Interceptor()), rpc.Plain())}
}

// Close drops the connection.
func (c *AdminClient) Close() { c.http.CloseIdleConnections() }

// Info is how an array is.
type Info struct {
	ArrayID        vss.ID        `json:"array_id"`
	Name           string        `json:"name"`
	Prefix         string        `json:"lun_prefix"`
	Store          string        `json:"store"`
	Image          string        `json:"image,omitempty"`
	TotalBytes     uint64        `json:"total_bytes"`
	FreeBytes      uint64        `json:"free_bytes"`
	WatermarkBytes uint64        `json:"watermark_bytes"` // no copy or LUN is made when less is free
	CloneLimit     time.Duration `json:"clone_limit_ns"`
	ClonePerFile   time.Duration `json:"clone_per_file_ns"`
	ClonePerExtent time.Duration `json:"clone_per_extent_ns"`
	ClonesAtOnce   int           `json:"clones_at_once"`
	LastCommit     time.Duration `json:"last_commit_ns"`
	Endpoints      []string      `json:"endpoints"`
	DataSocket     string        `json:"data_socket"`
	LUNs           int           `json:"luns"`
	Copies         int           `json:"copies"`
	Sets           int           `json:"sets"`
	Hosts          int           `json:"hosts"`
	Strays         []string      `json:"strays"`            // files in the store that are not in the database
	Portals        []string      `json:"portals,omitempty"` // iSCSI
	Served         []Served      `json:"served,omitempty"`  // all transports to other machines
	Backend        string        `json:"backend"`           // file, lvmthin
	MetadataTotal  uint64        `json:"metadata_total_bytes,omitempty"`
	MetadataFree   uint64        `json:"metadata_free_bytes,omitempty"`
	Warnings       []string      `json:"warnings,omitempty"`    // about the store
	Differences    []string      `json:"differences,omitempty"` // what was exported otherwise than the database says, when the array started
	Lost           []string      `json:"lost"`                  // LUNs whose file is missing
}

// Served is a transport by which hosts of other machines get their LUNs.
type Served struct {
	Transport export.Kind `json:"transport"`
	Portals   []string    `json:"portals"` // as the array was given them
}

// Info asks the array how it is.
func (c *AdminClient) Info(ctx context.Context) (Info, error) {
	res, err := c.rpc.Info(ctx, connect.NewRequest(&arrayv1.InfoRequest{}))
	if err != nil {
		return Info{}, err
	}
	m := res.Msg
	id, err := vss.ParseID(m.ArrayId)
	if err != nil {
		return Info{}, err
	}
	var served []Served
	for _, s := range m.Served {
		served = append(served, Served{export.Kind(s.Transport), s.Portals})
	}
	return Info{ArrayID: id, Name: m.Name, Prefix: m.Prefix, Store: m.Store, Image: m.Image, TotalBytes: m.TotalBytes, FreeBytes: m.FreeBytes,
		WatermarkBytes: m.WatermarkBytes, CloneLimit: time.Duration(m.CloneLimitNs), ClonePerFile: time.Duration(m.ClonePerFileNs),
		ClonePerExtent: time.Duration(m.ClonePerExtentNs), ClonesAtOnce: int(m.ClonesAtOnce), LastCommit: time.Duration(m.LastCommitNs),
		Endpoints: m.Endpoints, DataSocket: m.DataSocket, LUNs: int(m.Luns), Copies: int(m.Copies), Sets: int(m.Sets), Hosts: int(m.Hosts),
		Strays: m.Strays, Portals: m.Portals, Served: served, Differences: m.Differences, Lost: m.Lost,
		Backend: m.Backend, MetadataTotal: m.MetadataTotalBytes, MetadataFree: m.MetadataFreeBytes, Warnings: m.Warnings}, nil
}

// CreateLUN makes an empty thin LUN of size bytes; name may be empty.
func (c *AdminClient) CreateLUN(ctx context.Context, name string, size uint64) (LUN, error) {
	return one(c.rpc.CreateLUN(ctx, connect.NewRequest(&arrayv1.CreateLUNRequest{Name: name, Size: size})))
}

// ListLUNs lists all LUNs, oldest first.
func (c *AdminClient) ListLUNs(ctx context.Context) ([]LUN, error) {
	res, err := c.rpc.ListLUNs(ctx, connect.NewRequest(&arrayv1.ListLUNsRequest{}))
	if err != nil {
		return nil, err
	}
	return lunsOf(res.Msg.Luns)
}

// DeleteLUN deletes a LUN by identifier or name.
func (c *AdminClient) DeleteLUN(ctx context.Context, lun string, force bool) error {
	_, err := c.rpc.DeleteLUN(ctx, connect.NewRequest(&arrayv1.DeleteLUNRequest{Lun: lun, Force: force}))
	return err
}

// Unmask lets a host see a LUN.
func (c *AdminClient) Unmask(ctx context.Context, lun, host string) (LUN, error) {
	return one(c.rpc.Unmask(ctx, connect.NewRequest(&arrayv1.MaskRequest{Lun: lun, Host: host})))
}

// Mask hides a LUN from a host.
func (c *AdminClient) Mask(ctx context.Context, lun, host string, force bool) (LUN, error) {
	return one(c.rpc.Mask(ctx, connect.NewRequest(&arrayv1.MaskRequest{Lun: lun, Host: host, Force: force})))
}

func one(res *connect.Response[arrayv1.LUNResponse], err error) (LUN, error) {
	if err != nil {
		return LUN{}, err
	}
	return lunOf(res.Msg.Lun)
}

// EnrollHost makes a host known, or replaces its certificate, and returns its
// join bundle. cluster may be empty.
func (c *AdminClient) EnrollHost(ctx context.Context, host, cluster string) ([]byte, error) {
	res, err := c.rpc.EnrollHost(ctx, connect.NewRequest(&arrayv1.EnrollHostRequest{Host: host, Cluster: cluster}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Bundle, nil
}

// RemoveHost revokes a host and masks every LUN from it.
func (c *AdminClient) RemoveHost(ctx context.Context, host string, force bool) error {
	_, err := c.rpc.RemoveHost(ctx, connect.NewRequest(&arrayv1.RemoveHostRequest{Host: host, Force: force}))
	return err
}

// SetCluster says which cluster a host is a member of, "" for none.
func (c *AdminClient) SetCluster(ctx context.Context, host, cluster string) error {
	_, err := c.rpc.SetCluster(ctx, connect.NewRequest(&arrayv1.SetClusterRequest{Host: host, Cluster: cluster}))
	return err
}

// Host is an enrolled host.
type Host struct {
	Name     string    `json:"name"`
	Cluster  string    `json:"cluster,omitempty"`
	Serial   string    `json:"serial"` // of its certificate
	Enrolled time.Time `json:"enrolled"`
	Expires  time.Time `json:"expires"`
}

// ListHosts lists the enrolled hosts by name.
func (c *AdminClient) ListHosts(ctx context.Context) ([]Host, error) {
	res, err := c.rpc.ListHosts(ctx, connect.NewRequest(&arrayv1.ListHostsRequest{}))
	if err != nil {
		return nil, err
	}
	out := make([]Host, 0, len(res.Msg.Hosts))
	for _, h := range res.Msg.Hosts {
		out = append(out, Host{Name: h.Name, Cluster: h.Cluster, Serial: h.Serial, Enrolled: time.Unix(0, h.Enrolled).UTC(), Expires: time.Unix(0, h.Expires).UTC()})
	}
	return out, nil
}

// Set is a set of copies on the array.
type Set struct {
	SetID        vss.ID      `json:"set_id"`
	Host         string      `json:"host"` // that made it
	Context      vss.Context `json:"context"`
	State        string      `json:"state"` // preparing, committed
	Created      time.Time   `json:"created"`
	Committed    time.Time   `json:"committed,omitzero"`
	Generation   uint64      `json:"generation"`
	Targets      []Target    `json:"targets"`
	BoundHost    string      `json:"bound_host,omitempty"` // that imported it
	ImportID     *vss.ID     `json:"import_id,omitempty"`
	TicketIssued bool        `json:"ticket_issued"`
}

// Target is one copy of a set.
type Target struct {
	Source    lun.NAA  `json:"source"`
	Target    lun.NAA  `json:"target"`
	Size      uint64   `json:"size"`
	Snapshots []vss.ID `json:"snapshots"`
}

// ListSets lists all sets, oldest first.
func (c *AdminClient) ListSets(ctx context.Context) ([]Set, error) {
	res, err := c.rpc.ListSets(ctx, connect.NewRequest(&arrayv1.ListSetsRequest{}))
	if err != nil {
		return nil, err
	}
	out := make([]Set, 0, len(res.Msg.Sets))
	for _, m := range res.Msg.Sets {
		s, err := setOf(m)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func setOf(m *arrayv1.Set) (Set, error) {
	id, err := vss.ParseID(m.SetId)
	if err != nil {
		return Set{}, err
	}
	s := Set{SetID: id, Host: m.Host, Context: vss.Context(m.Context), State: m.State, Created: time.Unix(0, m.Created).UTC(),
		Generation: m.Generation, BoundHost: m.BoundHost, TicketIssued: m.TicketIssued}
	if m.Committed != 0 {
		s.Committed = time.Unix(0, m.Committed).UTC()
	}
	if m.ImportId != "" {
		im, err := vss.ParseID(m.ImportId)
		if err != nil {
			return Set{}, err
		}
		s.ImportID = &im
	}
	for _, t := range m.Targets {
		src, err := lun.ParseNAA(t.Source)
		if err != nil {
			return Set{}, err
		}
		dst, err := lun.ParseNAA(t.Target)
		if err != nil {
			return Set{}, err
		}
		tg := Target{Source: src, Target: dst, Size: t.Size}
		for _, x := range t.SnapshotIds {
			snap, err := vss.ParseID(x)
			if err != nil {
				return Set{}, err
			}
			tg.Snapshots = append(tg.Snapshots, snap)
		}
		s.Targets = append(s.Targets, tg)
	}
	return s, nil
}

// IssueTicket signs a set's ticket again; host and life may be zero.
func (c *AdminClient) IssueTicket(ctx context.Context, set vss.ID, host string, life time.Duration) ([]byte, error) {
	res, err := c.rpc.IssueTicket(ctx, connect.NewRequest(&arrayv1.AdminIssueTicketRequest{SetId: set.String(), Host: host, LifetimeNs: int64(life)}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Ticket, nil
}
