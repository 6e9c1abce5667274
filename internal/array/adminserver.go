package array

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/array/export"
	arrayv1 "github.com/umbra-vss/umbra/internal/gen/umbra/array/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/array/v1/arrayv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func (a *Array) adminHandler() http.Handler {
	path, h := arrayv1connect.NewAdminServiceHandler(adminServer{a},
		connect.WithInterceptors(rpc.Interceptor(), connect.UnaryInterceptorFunc(rootOnly)), connect.WithReadMaxBytes(maxMessage))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return mux
}

// rootOnly believes the kernel, not the mode of the socket.
func rootOnly(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if c, ok := rpc.Peer(ctx); !ok || c.UID != 0 {
			return nil, &vss.Error{Code: vss.E_ACCESSDENIED, Op: "array", Reason: "only root administers an array", Remedy: "Run the command as root on the array's machine"}
		}
		return next(ctx, req)
	}
}

// adminServer translates AdminService.
type adminServer struct{ a *Array }

var _ arrayv1connect.AdminServiceHandler = adminServer{}

func (s adminServer) Info(ctx context.Context, _ *connect.Request[arrayv1.InfoRequest]) (*connect.Response[arrayv1.InfoResponse], error) {
	a := s.a
	id := a.state.identity()
	sp, err := a.store.Space(ctx)
	if err != nil {
		return nil, err
	}
	strays, err := a.strays(ctx)
	if err != nil {
		return nil, err
	}
	d := a.store.Describe(ctx)
	out := &arrayv1.InfoResponse{ArrayId: id.ID.String(), Name: id.Name, Prefix: id.Prefix, Backend: d.Kind, Store: d.Place, Image: d.Image,
		TotalBytes: sp.Total, FreeBytes: sp.Free, WatermarkBytes: a.watermark(sp), CloneLimitNs: int64(a.cfg.CloneLimit),
		ClonePerFileNs: int64(d.PerLUN), ClonePerExtentNs: int64(d.PerPiece), ClonesAtOnce: int32(d.AtOnce), LastCommitNs: int64(d.Last),
		MetadataTotalBytes: sp.MetadataTotal, MetadataFreeBytes: sp.MetadataFree, Warnings: a.warnings(d, sp),
		Endpoints: a.Endpoints(), DataSocket: a.cfg.DataSocket, Strays: strays, Differences: a.differencesNow()}
	for _, o := range a.outlets {
		out.Served = append(out.Served, &arrayv1.Served{Transport: string(o.kind), Portals: o.Portals()})
		if o.kind == export.ISCSI {
			out.Portals = o.Portals()
		}
	}
	for _, l := range sortedLUNs(a.state.allLUNs()) {
		if l.Copy {
			out.Copies++
		} else {
			out.Luns++
		}
		if a.lost[l.NAA] {
			out.Lost = append(out.Lost, l.NAA.String())
		}
	}
	out.Sets, out.Hosts = uint32(len(a.state.allSets())), uint32(len(a.state.allHosts()))
	return connect.NewResponse(out), nil
}

// warnings are what an administrator should look at before something is refused.
func (a *Array) warnings(d backend.Description, sp backend.Space) []string {
	out := slices.Clone(d.Warnings)
	low := func(what string, free, total uint64) {
		if keep := a.part(total); total > 0 && free < keep {
			out = append(out, fmt.Sprintf("%s below the watermark: %d of %d MiB are free and %d are kept; no copy and no LUN is made", what, free>>20, total>>20, keep>>20))
		}
	}
	low("room is", sp.Free, sp.Total)
	low("room for metadata is", sp.MetadataFree, sp.MetadataTotal)
	return append(out, heldByReaders("/sys", filepath.Dir(a.store.Path(lun.NAA{})))...)
}

// full is a LUN with who has it attached.
func (s adminServer) full(ctx context.Context, l *lunRecord) (*arrayv1.LUN, error) {
	m := s.a.lunMessage(l)
	by, err := s.a.attachedBy(ctx, l.NAA, 0)
	m.AttachedBy = by
	return m, err
}

func (s adminServer) lun(ctx context.Context, l *lunRecord, err error) (*connect.Response[arrayv1.LUNResponse], error) {
	if err != nil {
		return nil, err
	}
	m, err := s.full(ctx, l)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.LUNResponse{Lun: m}), nil
}

func (s adminServer) CreateLUN(ctx context.Context, r *connect.Request[arrayv1.CreateLUNRequest]) (*connect.Response[arrayv1.LUNResponse], error) {
	l, err := s.a.createLUN(ctx, r.Msg.Name, r.Msg.Size)
	return s.lun(ctx, l, err)
}

func (s adminServer) ListLUNs(ctx context.Context, _ *connect.Request[arrayv1.ListLUNsRequest]) (*connect.Response[arrayv1.ListLUNsResponse], error) {
	out := &arrayv1.ListLUNsResponse{}
	for _, l := range sortedLUNs(s.a.state.allLUNs()) {
		m, err := s.full(ctx, l)
		if err != nil {
			return nil, err
		}
		out.Luns = append(out.Luns, m)
	}
	return connect.NewResponse(out), nil
}

func (s adminServer) DeleteLUN(ctx context.Context, r *connect.Request[arrayv1.DeleteLUNRequest]) (*connect.Response[arrayv1.Empty], error) {
	return none(s.a.deleteLUN(ctx, r.Msg.Lun, r.Msg.Force))
}

func (s adminServer) Unmask(ctx context.Context, r *connect.Request[arrayv1.MaskRequest]) (*connect.Response[arrayv1.LUNResponse], error) {
	l, err := s.a.unmask(ctx, r.Msg.Lun, r.Msg.Host)
	return s.lun(ctx, l, err)
}

func (s adminServer) Mask(ctx context.Context, r *connect.Request[arrayv1.MaskRequest]) (*connect.Response[arrayv1.LUNResponse], error) {
	l, err := s.a.mask(ctx, r.Msg.Lun, r.Msg.Host, r.Msg.Force)
	return s.lun(ctx, l, err)
}

func (s adminServer) EnrollHost(ctx context.Context, r *connect.Request[arrayv1.EnrollHostRequest]) (*connect.Response[arrayv1.EnrollHostResponse], error) {
	b, err := s.a.enroll(ctx, r.Msg.Host, r.Msg.Cluster)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.EnrollHostResponse{Bundle: b}), nil
}

func (s adminServer) RemoveHost(ctx context.Context, r *connect.Request[arrayv1.RemoveHostRequest]) (*connect.Response[arrayv1.Empty], error) {
	return none(s.a.removeHost(ctx, r.Msg.Host, r.Msg.Force))
}

func (s adminServer) SetCluster(ctx context.Context, r *connect.Request[arrayv1.SetClusterRequest]) (*connect.Response[arrayv1.Empty], error) {
	return none(s.a.setCluster(ctx, r.Msg.Host, r.Msg.Cluster))
}

func (s adminServer) ListHosts(context.Context, *connect.Request[arrayv1.ListHostsRequest]) (*connect.Response[arrayv1.ListHostsResponse], error) {
	out := &arrayv1.ListHostsResponse{}
	hosts := s.a.state.allHosts()
	slices.SortFunc(hosts, func(x, y *hostRecord) int { return cmp.Compare(x.Name, y.Name) })
	for _, h := range hosts {
		out.Hosts = append(out.Hosts, &arrayv1.Host{Name: h.Name, Cluster: h.Cluster, Serial: h.Serial, Enrolled: h.Enrolled.UnixNano(), Expires: h.Expires.UnixNano()})
	}
	return connect.NewResponse(out), nil
}

func (s adminServer) ListSets(context.Context, *connect.Request[arrayv1.ListSetsRequest]) (*connect.Response[arrayv1.ListSetsResponse], error) {
	out := &arrayv1.ListSetsResponse{}
	sets := s.a.state.allSets()
	slices.SortFunc(sets, func(x, y *setRecord) int { return x.Created.Compare(y.Created) })
	for _, r := range sets {
		m := &arrayv1.Set{SetId: r.ID.String(), Host: r.Host, Context: uint32(r.Context), State: r.State, Created: r.Created.UnixNano(),
			Generation: r.Generation, Targets: targetMessages(r.Targets), TicketIssued: r.Digest != nil}
		if !r.Committed.IsZero() {
			m.Committed = r.Committed.UnixNano()
		}
		if r.Bound != nil {
			m.BoundHost, m.ImportId = r.Bound.Host, r.Bound.ImportID.String()
		}
		out.Sets = append(out.Sets, m)
	}
	return connect.NewResponse(out), nil
}

func (s adminServer) IssueTicket(ctx context.Context, r *connect.Request[arrayv1.AdminIssueTicketRequest]) (*connect.Response[arrayv1.IssueTicketResponse], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	t, err := s.a.reissueTicket(set, r.Msg.Host, time.Duration(r.Msg.LifetimeNs))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.IssueTicketResponse{Ticket: t}), nil
}
