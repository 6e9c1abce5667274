package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	providerv1 "github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1/providerv1connect"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// What the service tells a provider's program in its environment.
const (
	EnvHost     = "UMBRA_HOST_NAME"         // the machine's name to storage systems
	EnvHostTag  = "UMBRA_HOST_TAG"          // goes into the names of loop devices, see docs/provider-guide.md
	EnvState    = "UMBRA_PROVIDER_STATE"    // a folder of its own that outlives it
	EnvInstance = "UMBRA_PROVIDER_INSTANCE" // marks the program and all it starts
)

// The descriptors a program is started with.
const (
	listenFD = 3 // the socket, listening; LISTEN_FDS is 1
	lifeFD   = 4 // ends when the service does
)

// Host is the machine on which a provider is asked.
type Host struct {
	Name string // to storage systems
	Tag  string // goes into the names of loop devices
}

type hostKey struct{}

// HostOf says in OnLoad on which machine the provider is, as EnvHost and EnvHostTag
// do: one that runs by itself has no environment of the service's.
func HostOf(ctx context.Context) Host {
	h, _ := ctx.Value(hostKey{}).(Host)
	return h
}

// contract is the version of the wire contract.
const contract = 1

// Serve answers the service until ctx ends, the service does, or SIGTERM comes.
// It is what a provider's main calls. A program that runs by itself gives the
// path of its socket; one that the service starts gives none. Everybody may connect
// there, and only root, and whoever the program runs as, is answered.
func Serve(ctx context.Context, p provider.Hardware, socket ...string) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, os.Interrupt)
	defer stop()
	var l net.Listener
	var err error
	if len(socket) > 0 {
		// The service is root, but its unit does not let it write to what is another
		// user's: the mode must. Who calls is asked of the kernel at each call.
		if l, err = rpc.ListenUnix(socket[0], 0o666); err != nil {
			return err
		}
	} else {
		if os.Getenv(EnvInstance) == "" {
			return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "serve", Object: filepath.Base(os.Args[0]), Reason: "a provider's program is started by the service",
				Remedy: "Register it with `umbra provider register MANIFEST`"}
		}
		f := os.NewFile(listenFD, "socket")
		l, err = net.FileListener(f)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("descriptor %d is no socket: %w", listenFD, err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		life := os.NewFile(lifeFD, "life")
		go func() { // the service never writes: it ends, and so do we
			_, _ = life.Read(make([]byte, 1))
			cancel()
		}()
	}
	if rpc.PanicHook == nil { // the caller is told the panic, the service's log where it was
		rpc.PanicHook = func(op string, value any, stack []byte) string {
			fmt.Fprintf(os.Stderr, "panic in %s: %v\n%s", op, value, stack)
			return ""
		}
	}
	server := rpc.NewUnixServer(Handler(p))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	sctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(sctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
		_ = server.Close()
	}
	return nil
}

// Handler answers for a provider. Only root, and whoever the program itself
// runs as, is answered.
func Handler(p provider.Hardware) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(providerv1connect.NewProviderServiceHandler(&server{p: p}, connect.WithInterceptors(rpc.Interceptor(), peers{}), connect.WithReadMaxBytes(maxMessage)))
	return mux
}

// peers refuses strangers.
type peers struct{}

func (peers) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if c, ok := rpc.Peer(ctx); !ok || c.UID != 0 && int(c.UID) != os.Geteuid() {
			return nil, &vss.Error{Code: vss.E_ACCESSDENIED, Op: req.Spec().Procedure, Object: fmt.Sprintf("user %d", c.UID), Reason: "only the service may call a provider", Remedy: "Call the service"}
		}
		return next(ctx, req)
	}
}
func (peers) WrapStreamingClient(n connect.StreamingClientFunc) connect.StreamingClientFunc {
	return n
}
func (peers) WrapStreamingHandler(n connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return n
}

// server turns calls on the wire into calls of a provider.
type server struct {
	p provider.Hardware

	mu     sync.Mutex
	loaded bool
}

var none = connect.NewResponse(&vssv1.Empty{})

func done(err error) (*connect.Response[vssv1.Empty], error) {
	if err != nil {
		return nil, err
	}
	return none, nil
}

func reply[T any](m *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(m), nil
}

func missing(method string) error {
	return &vss.Error{Code: vss.E_NOTIMPL, Op: method, Reason: "the provider does not have this method", Remedy: "Do not call it"}
}

// optional calls a method of an optional interface.
func optional[I any](s *server, method string, f func(I) error) error {
	o, ok := provider.As[I](s.p)
	if !ok {
		return missing(method)
	}
	return f(o)
}

func (s *server) Load(ctx context.Context, req *connect.Request[providerv1.LoadRequest]) (*connect.Response[providerv1.LoadResponse], error) {
	if req.Msg.Contract != contract {
		return nil, &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "OnLoad", Object: s.p.Properties().Name, Reason: fmt.Sprintf("the service speaks version %d of the contract, the provider version %d", req.Msg.Contract, contract),
			Remedy: "Build the provider for this version of the service"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := provider.As[provider.Notifications](s.p); ok && !s.loaded {
		if err := n.OnLoad(context.WithValue(ctx, hostKey{}, Host{req.Msg.HostName, req.Msg.HostTag})); err != nil {
			return nil, err
		}
	}
	s.loaded = true
	out := &providerv1.LoadResponse{Contract: contract, Properties: toProp(s.p.Properties())}
	for _, o := range optionals {
		if o.has(s.p) {
			out.Optional = append(out.Optional, o.wire)
		}
	}
	return connect.NewResponse(out), nil
}

func (s *server) Unload(ctx context.Context, req *connect.Request[providerv1.UnloadRequest]) (*connect.Response[providerv1.UnloadResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &providerv1.UnloadResponse{Idle: true}
	n, ok := provider.As[provider.Notifications](s.p)
	if !ok {
		return connect.NewResponse(out), nil
	}
	idle, err := n.OnUnload(ctx, req.Msg.Force)
	if out.Idle = idle; idle {
		s.loaded = false
	}
	return reply(out, err)
}

func (s *server) AreLUNsSupported(ctx context.Context, req *connect.Request[providerv1.LUNsRequest]) (*connect.Response[providerv1.AreLUNsSupportedResponse], error) {
	luns := fromLUNs(req.Msg.Luns)
	ok, err := s.p.AreLUNsSupported(ctx, vss.Context(req.Msg.Context), req.Msg.Devices, luns)
	return reply(&providerv1.AreLUNsSupportedResponse{Supported: ok, Luns: toLUNs(luns)}, err)
}

func (s *server) BeginPrepareSnapshot(ctx context.Context, req *connect.Request[providerv1.LUNsRequest]) (*connect.Response[vssv1.Empty], error) {
	m := req.Msg
	return done(s.p.BeginPrepareSnapshot(ctx, idOf(m.SetId), idOf(m.SnapshotId), vss.Context(m.Context), m.Devices, fromLUNs(m.Luns)))
}

func (s *server) EndPrepareSnapshots(ctx context.Context, req *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(s.p.EndPrepareSnapshots(ctx, idOf(req.Msg.SetId)))
}

func (s *server) PreCommitSnapshots(ctx context.Context, req *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(s.p.PreCommitSnapshots(ctx, idOf(req.Msg.SetId)))
}

func (s *server) CommitSnapshots(ctx context.Context, req *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(s.p.CommitSnapshots(ctx, idOf(req.Msg.SetId)))
}

func (s *server) PostCommitSnapshots(ctx context.Context, req *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(s.p.PostCommitSnapshots(ctx, idOf(req.Msg.SetId), int(req.Msg.Count)))
}

func (s *server) PreFinalCommitSnapshots(ctx context.Context, req *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(s.p.PreFinalCommitSnapshots(ctx, idOf(req.Msg.SetId)))
}

func (s *server) PostFinalCommitSnapshots(ctx context.Context, req *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(s.p.PostFinalCommitSnapshots(ctx, idOf(req.Msg.SetId)))
}

func (s *server) AbortSnapshots(ctx context.Context, req *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(s.p.AbortSnapshots(ctx, idOf(req.Msg.SetId)))
}

func (s *server) DropSet(ctx context.Context, req *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(optional(s, "DropSet", func(d provider.SetDropper) error { return d.DropSet(ctx, idOf(req.Msg.SetId)) }))
}

func (s *server) GetTargetLUNs(ctx context.Context, req *connect.Request[providerv1.LUNsRequest]) (*connect.Response[providerv1.LUNsResponse], error) {
	out, err := s.p.GetTargetLUNs(ctx, idOf(req.Msg.SetId), req.Msg.Devices, fromLUNs(req.Msg.Luns))
	return reply(&providerv1.LUNsResponse{Luns: toLUNs(out)}, err)
}

func (s *server) LocateLUNs(ctx context.Context, req *connect.Request[providerv1.LUNsRequest]) (*connect.Response[providerv1.LocateLUNsResponse], error) {
	err := s.p.LocateLUNs(ctx, fromLUNs(req.Msg.Luns))
	if err != nil && errors.Is(err, provider.ErrNothingUnmasked) { // which the wire's errors do not say
		return connect.NewResponse(&providerv1.LocateLUNsResponse{Error: rpc.ErrorToProto(err), NothingUnmasked: true}), nil
	}
	return reply(&providerv1.LocateLUNsResponse{}, err)
}

func (s *server) FillInLUNInfo(ctx context.Context, req *connect.Request[providerv1.LUNsRequest]) (*connect.Response[providerv1.FillInLUNInfoResponse], error) {
	device, info := one(req.Msg)
	mine, err := s.p.FillInLUNInfo(ctx, device, &info)
	return reply(&providerv1.FillInLUNInfoResponse{Mine: mine, Lun: toLUN(info)}, err)
}

func one(m *providerv1.LUNsRequest) (device string, info lun.Info) {
	if len(m.Devices) > 0 {
		device = m.Devices[0]
	}
	if len(m.Luns) > 0 {
		info = fromLUN(m.Luns[0])
	}
	return device, info
}

func (s *server) OnLUNEmpty(ctx context.Context, req *connect.Request[providerv1.LUNsRequest]) (*connect.Response[vssv1.Empty], error) {
	device, info := one(req.Msg)
	return done(s.p.OnLUNEmpty(ctx, device, info))
}

func (s *server) OnLUNEmptyForced(ctx context.Context, req *connect.Request[providerv1.LUNsRequest]) (*connect.Response[vssv1.Empty], error) {
	device, info := one(req.Msg)
	return done(optional(s, "OnLUNEmptyForced", func(f provider.ForcedReclaimer) error { return f.OnLUNEmptyForced(ctx, device, info) }))
}

func (s *server) OnLUNStateChange(ctx context.Context, req *connect.Request[providerv1.OnLUNStateChangeRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(optional(s, "OnLUNStateChange", func(c provider.LUNStateChanger) error {
		return c.OnLUNStateChange(ctx, fromLUNs(req.Msg.Snapshots), fromLUNs(req.Msg.Originals), vss.HardwareOptions(req.Msg.Flags))
	}))
}

func described(ds []provider.Description) *providerv1.DescribeLUNsResponse {
	out := &providerv1.DescribeLUNsResponse{}
	for _, d := range ds {
		out.Luns = append(out.Luns, &providerv1.Description{Size: d.Size, Generation: d.Generation, ReadOnly: d.ReadOnly})
	}
	return out
}

func (s *server) DescribeLUNs(ctx context.Context, req *connect.Request[providerv1.LUNsRequest]) (*connect.Response[providerv1.DescribeLUNsResponse], error) {
	var out []provider.Description
	err := optional(s, "DescribeLUNs", func(d provider.Describer) (err error) {
		out, err = d.DescribeLUNs(ctx, fromLUNs(req.Msg.Luns))
		return err
	})
	return reply(described(out), err)
}

func (s *server) BackingStores(ctx context.Context, _ *connect.Request[vssv1.Empty]) (*connect.Response[providerv1.BackingStoresResponse], error) {
	out := &providerv1.BackingStoresResponse{}
	err := optional(s, "BackingStores", func(b provider.BackingStores) error {
		stores, err := b.BackingStores(ctx)
		for _, st := range stores {
			out.Stores = append(out.Stores, &providerv1.BackingStore{Device: st.Device, Path: st.Path})
		}
		return err
	})
	return reply(out, err)
}

func (s *server) BeginImport(ctx context.Context, req *connect.Request[providerv1.ImportRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(optional(s, "BeginImport", func(b provider.ImportBinder) error { return b.BeginImport(ctx, fromImport(req.Msg)) }))
}

func (s *server) ReleaseImport(ctx context.Context, req *connect.Request[providerv1.ImportRequest]) (*connect.Response[vssv1.Empty], error) {
	return done(optional(s, "ReleaseImport", func(b provider.ImportBinder) error {
		return b.ReleaseImport(ctx, idOf(req.Msg.SetId), idOf(req.Msg.ImportId))
	}))
}

func (s *server) CheckImport(ctx context.Context, req *connect.Request[providerv1.ImportRequest]) (*connect.Response[providerv1.DescribeLUNsResponse], error) {
	var out []provider.Description
	err := optional(s, "CheckImport", func(c provider.ImportChecker) (err error) {
		out, err = c.CheckImport(ctx, fromImport(req.Msg))
		return err
	})
	return reply(described(out), err)
}

func (s *server) IssueTicket(ctx context.Context, req *connect.Request[providerv1.TicketRequest]) (*connect.Response[providerv1.TicketResponse], error) {
	var out []byte
	var digest [32]byte
	copy(digest[:], req.Msg.Digest)
	err := optional(s, "IssueTicket", func(i provider.TicketIssuer) (err error) {
		out, err = i.IssueTicket(ctx, idOf(req.Msg.SetId), digest)
		return err
	})
	return reply(&providerv1.TicketResponse{Ticket: out}, err)
}

func (s *server) VerifyTicket(_ context.Context, req *connect.Request[providerv1.TicketRequest]) (*connect.Response[vssv1.Empty], error) {
	var digest [32]byte
	copy(digest[:], req.Msg.Digest)
	return done(optional(s, "VerifyTicket", func(v provider.TicketVerifier) error {
		return v.VerifyTicket(req.Msg.Ticket, idOf(req.Msg.SetId), digest)
	}))
}
