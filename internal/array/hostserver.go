package array

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
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

// serverTLS asks every caller for a certificate of the array's own authority.
func (a *Array) serverTLS(cert tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.ca.cert)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, NextProtos: []string{"h2"}}
}

type callerKey struct{}

// hostHandler serves HostService to whom the connection's certificate names.
func (a *Array) hostHandler() http.Handler {
	path, h := arrayv1connect.NewHostServiceHandler(hostServer{a},
		connect.WithInterceptors(rpc.Interceptor(), connect.UnaryInterceptorFunc(a.authenticate)), connect.WithReadMaxBytes(maxMessage))
	mux := http.NewServeMux()
	mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var leaf *x509.Certificate
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			leaf = r.TLS.PeerCertificates[0]
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, leaf)))
	}))
	return mux
}

// authenticate looks the caller up at every request, so that a host that is
// removed or enrolled again is refused on connections it has open.
func (a *Array) authenticate(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		leaf, _ := ctx.Value(callerKey{}).(*x509.Certificate)
		if leaf == nil {
			return nil, unknownHost("HOST")
		}
		h := a.state.host(leaf.Subject.CommonName)
		if h == nil || leaf.SerialNumber.Text(16) != h.Serial {
			return nil, unknownHost(leaf.Subject.CommonName)
		}
		return next(context.WithValue(ctx, callerKey{}, h), req)
	}
}

func caller(ctx context.Context) *hostRecord { return ctx.Value(callerKey{}).(*hostRecord) }

// hostServer translates HostService.
type hostServer struct{ a *Array }

var _ arrayv1connect.HostServiceHandler = hostServer{}

func none(err error) (*connect.Response[arrayv1.Empty], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.Empty{}), nil
}

func (s hostServer) Describe(ctx context.Context, r *connect.Request[arrayv1.DescribeRequest]) (*connect.Response[arrayv1.DescribeResponse], error) {
	id := s.a.state.identity()
	out := &arrayv1.DescribeResponse{ArrayId: id.ID.String(), Name: id.Name, Prefix: id.Prefix, BootId: s.a.bootID, Host: caller(ctx).Name}
	if r.Msg.BootId == s.a.bootID {
		for dev, path := range s.a.backingStores(ctx) {
			out.Stores = append(out.Stores, &arrayv1.Store{Device: dev, Path: path})
		}
	}
	return connect.NewResponse(out), nil
}

func (s hostServer) ReportLUNs(ctx context.Context, r *connect.Request[arrayv1.ReportLUNsRequest]) (*connect.Response[arrayv1.ReportLUNsResponse], error) {
	wanted, err := parseNAAs(r.Msg.Luns)
	if err != nil {
		return nil, err
	}
	host := caller(ctx).Name
	out := &arrayv1.ReportLUNsResponse{}
	add := func(l *lunRecord) error {
		if l == nil || !l.masked(host) {
			return nil
		}
		m := s.a.lunMessage(l)
		m.Masks = []string{host} // who else sees it is not the host's business
		by, err := s.a.attachedBy(ctx, l.NAA, 0)
		if err != nil {
			return err
		}
		for _, h := range by {
			if h == host {
				m.AttachedBy = []string{host}
			}
		}
		out.Luns = append(out.Luns, m)
		return nil
	}
	if len(wanted) == 0 {
		for _, l := range sortedLUNs(s.a.state.allLUNs()) {
			if err := add(l); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range wanted {
		if err := add(s.a.state.lun(n)); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(out), nil
}

func (s hostServer) AreLUNsSupported(ctx context.Context, r *connect.Request[arrayv1.AreLUNsSupportedRequest]) (*connect.Response[arrayv1.AreLUNsSupportedResponse], error) {
	luns, err := parseNAAs(r.Msg.Luns)
	if err != nil {
		return nil, err
	}
	ok, why, err := s.a.supported(caller(ctx).Name, luns)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.AreLUNsSupportedResponse{Supported: ok, Reason: why}), nil
}

func (s hostServer) DescribeLUNs(ctx context.Context, r *connect.Request[arrayv1.LUNsRequest]) (*connect.Response[arrayv1.DescribeLUNsResponse], error) {
	luns, err := parseNAAs(r.Msg.Luns)
	if err != nil {
		return nil, err
	}
	recs, err := s.a.describe(caller(ctx).Name, luns)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(descriptions(recs)), nil
}

func descriptions(recs []*lunRecord) *arrayv1.DescribeLUNsResponse {
	out := &arrayv1.DescribeLUNsResponse{}
	for _, l := range recs {
		out.Luns = append(out.Luns, &arrayv1.Description{Naa: l.NAA.String(), Size: l.Size, Generation: l.Generation, ReadOnly: l.ReadOnly})
	}
	return out
}

func (s hostServer) PrepareSet(ctx context.Context, r *connect.Request[arrayv1.PrepareSetRequest]) (*connect.Response[arrayv1.PrepareSetResponse], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	var sources []sourceLUN
	for _, l := range r.Msg.Luns {
		n, err := lun.ParseNAA(l.Naa)
		if err != nil {
			return nil, err
		}
		src := sourceLUN{NAA: n}
		for _, id := range l.SnapshotIds {
			snap, err := vss.ParseID(id)
			if err != nil {
				return nil, err
			}
			src.Snapshots = append(src.Snapshots, snap)
		}
		sources = append(sources, src)
	}
	p, err := s.a.prepareSet(ctx, caller(ctx).Name, set, vss.Context(r.Msg.Context), sources)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.PrepareSetResponse{Targets: targetMessages(p.Targets), Extents: p.Extents, PredictedNs: int64(p.Predicted)}), nil
}

func (s hostServer) PreCommitSet(ctx context.Context, r *connect.Request[arrayv1.SetRequest]) (*connect.Response[arrayv1.Empty], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	return none(s.a.preCommitSet(ctx, caller(ctx).Name, set))
}

func (s hostServer) CommitSet(ctx context.Context, r *connect.Request[arrayv1.SetRequest]) (*connect.Response[arrayv1.CommitSetResponse], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	took, err := s.a.commitSet(ctx, caller(ctx).Name, set)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.CommitSetResponse{TookNs: int64(took)}), nil
}

func (s hostServer) PostCommitSet(ctx context.Context, r *connect.Request[arrayv1.SetRequest]) (*connect.Response[arrayv1.PostCommitSetResponse], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	g, err := s.a.postCommitSet(ctx, caller(ctx).Name, set)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.PostCommitSetResponse{Generation: g}), nil
}

func (s hostServer) AbortSet(ctx context.Context, r *connect.Request[arrayv1.AbortSetRequest]) (*connect.Response[arrayv1.Empty], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	return none(s.a.abortSet(ctx, caller(ctx).Name, set, r.Msg.Committed))
}

func (s hostServer) TargetLUNs(ctx context.Context, r *connect.Request[arrayv1.TargetLUNsRequest]) (*connect.Response[arrayv1.TargetLUNsResponse], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	sources, err := parseNAAs(r.Msg.Sources)
	if err != nil {
		return nil, err
	}
	targets, err := s.a.targetLUNs(caller(ctx).Name, set, sources)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.TargetLUNsResponse{Targets: naaStrings(targets)}), nil
}

func (s hostServer) IssueTicket(ctx context.Context, r *connect.Request[arrayv1.IssueTicketRequest]) (*connect.Response[arrayv1.IssueTicketResponse], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	digest, err := parseDigest(r.Msg.Digest)
	if err != nil {
		return nil, err
	}
	t, err := s.a.issueTicket(ctx, caller(ctx).Name, set, digest, r.Msg.Host, time.Duration(r.Msg.LifetimeNs))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&arrayv1.IssueTicketResponse{Ticket: t}), nil
}

func (s hostServer) LocateLUNs(ctx context.Context, r *connect.Request[arrayv1.LocateLUNsRequest]) (*connect.Response[arrayv1.DescribeLUNsResponse], error) {
	res, err := admitted(ctx, r.Msg, s.a.locate)
	if err != nil {
		return nil, err
	}
	if luns, perr := parseNAAs(r.Msg.Luns); perr == nil {
		// Best effort: a host that gets none asks for itself.
		if opened, oerr := s.open(ctx, luns); oerr == nil {
			res.Msg.Opened = opened
		}
	}
	return res, nil
}

func (s hostServer) CheckImport(ctx context.Context, r *connect.Request[arrayv1.LocateLUNsRequest]) (*connect.Response[arrayv1.DescribeLUNsResponse], error) {
	return admitted(ctx, r.Msg, s.a.checkImport)
}

func admitted(ctx context.Context, m *arrayv1.LocateLUNsRequest, ask func(context.Context, string, location) ([]*lunRecord, error)) (*connect.Response[arrayv1.DescribeLUNsResponse], error) {
	var im location
	var err error
	if m.SetId != "" {
		if im.Set, err = vss.ParseID(m.SetId); err != nil {
			return nil, err
		}
	}
	if m.ImportId != "" {
		if im.ImportID, err = vss.ParseID(m.ImportId); err != nil {
			return nil, err
		}
	}
	if im.Ticket = m.Ticket; len(im.Ticket) > 0 {
		if im.Digest, err = parseDigest(m.Digest); err != nil {
			return nil, err
		}
	}
	if im.LUNs, err = parseNAAs(m.Luns); err != nil {
		return nil, err
	}
	recs, err := ask(ctx, caller(ctx).Name, im)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(descriptions(recs)), nil
}

func (s hostServer) ReleaseImport(ctx context.Context, r *connect.Request[arrayv1.ReleaseImportRequest]) (*connect.Response[arrayv1.Empty], error) {
	set, err := vss.ParseID(r.Msg.SetId)
	if err != nil {
		return nil, err
	}
	id, err := vss.ParseID(r.Msg.ImportId)
	if err != nil {
		return nil, err
	}
	return none(s.a.release(ctx, caller(ctx).Name, set, id))
}

func (s hostServer) OpenLUNs(ctx context.Context, r *connect.Request[arrayv1.LUNsRequest]) (*connect.Response[arrayv1.OpenLUNsResponse], error) {
	luns, err := parseNAAs(r.Msg.Luns)
	if err != nil {
		return nil, err
	}
	out, err := s.open(ctx, luns)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

func (s hostServer) open(ctx context.Context, luns []lun.NAA) (*arrayv1.OpenLUNsResponse, error) {
	k, open, err := s.a.openLUNs(ctx, caller(ctx), luns)
	if err != nil {
		return nil, err
	}
	out := &arrayv1.OpenLUNsResponse{Token: k[:], DataSocket: s.a.cfg.DataSocket}
	for _, l := range open {
		out.Luns = append(out.Luns, &arrayv1.Opened{Naa: l.NAA.String(), Size: l.Size, Generation: l.Generation, ReadOnly: l.ReadOnly, Dev: l.Dev, Ino: l.Ino})
	}
	return out, nil
}

func (s hostServer) ExportLUNs(ctx context.Context, r *connect.Request[arrayv1.ExportLUNsRequest]) (*connect.Response[arrayv1.ExportLUNsResponse], error) {
	luns, err := parseNAAs(r.Msg.Luns)
	if err != nil {
		return nil, err
	}
	h := caller(ctx)
	by := cmp.Or(export.Kind(r.Msg.Transport), export.ISCSI)
	recs, err := s.a.exportLUNs(ctx, h, by, luns)
	if err != nil {
		return nil, err
	}
	out := &arrayv1.ExportLUNsResponse{}
	if o, ok := s.a.outlet(by); ok {
		p, _ := h.peer(o.transport)
		out.Target, out.Portals = o.Reach(p)
	}
	for _, l := range recs {
		e, _ := l.exportTo(h.Name)
		out.Luns = append(out.Luns, &arrayv1.Exported{Naa: l.NAA.String(), Size: l.Size, Generation: l.Generation, ReadOnly: l.ReadOnly, Number: uint32(e.Number)})
	}
	return connect.NewResponse(out), nil
}

// CloseLUNs ends exports and forgets tokens no one has come for. A descriptor
// that was handed out needs no call: the kernel knows when it is gone.
func (s hostServer) CloseLUNs(ctx context.Context, r *connect.Request[arrayv1.LUNsRequest]) (*connect.Response[arrayv1.Empty], error) {
	luns, err := parseNAAs(r.Msg.Luns)
	if err == nil && len(luns) > 0 {
		s.a.tokens.revoke(caller(ctx).Name, luns...)
		err = s.a.unexport(ctx, caller(ctx).Name, luns)
	}
	return none(err)
}

func (s hostServer) MaskLUNs(ctx context.Context, r *connect.Request[arrayv1.LUNsRequest]) (*connect.Response[arrayv1.Empty], error) {
	luns, err := parseNAAs(r.Msg.Luns)
	if err != nil {
		return nil, err
	}
	return none(s.a.maskLUNs(ctx, caller(ctx).Name, luns))
}

func (s hostServer) DeleteLUNs(ctx context.Context, r *connect.Request[arrayv1.DeleteLUNsRequest]) (*connect.Response[arrayv1.Empty], error) {
	luns, err := parseNAAs(r.Msg.Luns)
	if err != nil {
		return nil, err
	}
	return none(s.a.deleteLUNs(ctx, caller(ctx).Name, luns, r.Msg.Force))
}

func (s hostServer) SetLUNAccess(ctx context.Context, r *connect.Request[arrayv1.SetLUNAccessRequest]) (*connect.Response[arrayv1.Empty], error) {
	luns, err := parseNAAs(r.Msg.Luns)
	if err != nil {
		return nil, err
	}
	return none(s.a.setAccess(ctx, caller(ctx).Name, luns, access(r.Msg.Access)))
}
