package service

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/provider/providertest"
	"github.com/umbra-vss/umbra/provider/remote"
	"github.com/umbra-vss/umbra/vss"
)

// rootAlone refuses everybody else: a provider's program runs as whom its
// manifest says, so whoever may register one may be root.
func rootAlone(ctx context.Context, op string) error {
	if c, ok := rpc.Peer(ctx); ok && c.UID == 0 {
		return nil
	}
	return &vss.Error{Code: vss.E_ACCESSDENIED, Op: op, Reason: "only root may administer providers: their programs run as root if they want to", Remedy: "Run it as root"}
}

// RegisterProvider makes a provider known that is a program of its own.
func (v Server) RegisterProvider(ctx context.Context, req *connect.Request[vssv1.RegisterProviderRequest]) (*connect.Response[vssv1.ProviderProp], error) {
	if err := rootAlone(ctx, "RegisterProvider"); err != nil {
		return nil, err
	}
	p, err := v.S.Providers.Register(ctx, []byte(req.Msg.Manifest), req.Msg.Replace)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(providerProto(p)), nil
}

// UnregisterProvider forgets it.
func (v Server) UnregisterProvider(ctx context.Context, req *connect.Request[vssv1.ProviderRequest]) (*connect.Response[vssv1.Empty], error) {
	if err := rootAlone(ctx, "UnregisterProvider"); err != nil {
		return nil, err
	}
	if err := v.S.Providers.Unregister(ctx, idOf(req.Msg.ProviderId), req.Msg.Force); err != nil {
		return nil, err
	}
	return empty, nil
}

// ListProviders lists all providers, and which of them are loaded.
func (v Server) ListProviders(context.Context, *connect.Request[vssv1.Empty]) (*connect.Response[vssv1.ListProvidersResponse], error) {
	out := &vssv1.ListProvidersResponse{}
	for _, s := range v.S.Providers.Statuses() {
		out.Providers = append(out.Providers, &vssv1.RegisteredProvider{Properties: providerProto(s.Properties), BuiltIn: s.BuiltIn, Loaded: s.Loaded, Pid: int32(s.PID), Program: s.Program})
	}
	return connect.NewResponse(out), nil
}

// Devices attaches and detaches copies; ValidateProvider needs it.
type Devices interface {
	Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error)
	Detach(ctx context.Context, d block.Device) error
}

// ValidateProvider runs the conformance suite on a provider, registered or not.
// It has the machine's one place for creation meanwhile: a set of somebody
// else's would be replaced by the suite's.
func (v Server) ValidateProvider(ctx context.Context, req *connect.Request[vssv1.ValidateProviderRequest], stream *connect.ServerStream[vssv1.ValidateProviderResponse]) error {
	const op = "ValidateProvider"
	if err := rootAlone(ctx, op); err != nil {
		return err
	}
	if v.S.Devices == nil {
		return &vss.Error{Code: vss.E_NOTIMPL, Op: op, Reason: "this service cannot attach copies", Remedy: "Ask the machine's own"}
	}
	known := providertest.Cases()
	for _, name := range req.Msg.Cases {
		if !slices.ContainsFunc(known, func(k providertest.Case) bool { return k.Name == name }) {
			return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: name, Reason: "the suite has no such case", Remedy: "Take the names from umbra provider validate without --case"}
		}
	}
	release, err := v.S.Creator.Reserve()
	if err != nil {
		return err
	}
	defer release()
	p, done, err := v.validated(ctx, req.Msg)
	if err != nil {
		return err
	}
	defer done()
	subject := providertest.Subject{Provider: p, Scratch: req.Msg.Scratch, Attach: v.attach, Detach: v.detach}
	if f, ok := p.(*remote.Proxy); ok {
		if err := f.OnLoad(ctx); err != nil { // which may be what makes its LUNs appear
			return err
		}
		if f.Manifest().Program != "" { // another's service is not ours to kill
			subject.Restart = func(ctx context.Context) (provider.Hardware, error) { f.Kill(); return f, f.OnLoad(ctx) }
		}
	}
	if subject.LUNs, err = v.lunsFor(ctx, p, req.Msg.Luns); err != nil {
		return err
	}
	// A caller who is gone ends the suite, and what it made is still removed.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	providertest.Run(ctx, subject, func(r providertest.Result) {
		if stream.Send(&vssv1.ValidateProviderResponse{Name: r.Name, Rule: r.Rule, Outcome: string(r.Outcome), Words: r.Words, TookNs: int64(r.Took)}) != nil {
			stop()
		}
	}, req.Msg.Cases...)
	return ctx.Err()
}

// validated is the provider that is meant.
func (v Server) validated(ctx context.Context, m *vssv1.ValidateProviderRequest) (provider.Hardware, func(), error) {
	if m.Manifest == "" {
		p, err := v.S.Providers.Get(idOf(m.ProviderId))
		return p, func() {}, err
	}
	mf, err := remote.ParseManifest([]byte(m.Manifest))
	if err == nil {
		err = mf.Check()
	}
	if err != nil {
		return nil, nil, err
	}
	if _, err := v.S.Providers.Get(mf.ID); err == nil {
		return nil, nil, &vss.Error{Code: vss.VSS_E_PROVIDER_ALREADY_REGISTERED, Op: "ValidateProvider", Object: mf.ID.String(), Reason: "a provider with this ID is registered", Remedy: "Validate it by its ID, or unregister it first"}
	}
	o, ok := v.S.Providers.Options()
	if !ok {
		return nil, nil, &vss.Error{Code: vss.E_NOTIMPL, Op: "ValidateProvider", Reason: "this service takes no providers", Remedy: "Use the machine's own"}
	}
	p := remote.New(mf, o)
	return p, func() { p.Close(context.WithoutCancel(ctx)) }, nil
}

// lunsFor are the LUNs the suite copies: those that are named, or two that the
// provider says are its own.
func (v Server) lunsFor(ctx context.Context, p provider.Hardware, names []string) (out []providertest.Disk, err error) {
	const op = "ValidateProvider"
	ds, err := v.S.Host.Enumerate(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		i := slices.IndexFunc(ds, func(d block.Device) bool { return d.LUN.Name() == name || d.Path == name })
		if i < 0 {
			return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: name, Reason: "no such LUN is attached to this machine", Remedy: "See umbra list luns"}
		}
		out = append(out, providertest.Disk{Info: ds[i].LUN, Device: ds[i].Path, Size: ds[i].Size})
	}
	for _, d := range ds {
		if len(names) > 0 || len(out) == 2 {
			break
		}
		if len(d.LUN.StorageIDs) == 0 || d.Going() {
			continue
		}
		if ok, err := p.AreLUNsSupported(ctx, vss.CTX_APP_ROLLBACK, []string{d.Path}, []lun.Info{d.LUN}); err == nil && ok {
			out = append(out, providertest.Disk{Info: d.LUN, Device: d.Path, Size: d.Size})
		}
	}
	if len(out) == 0 {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: p.Properties().Name, Reason: "the provider says of no LUN of this machine that it can copy it now",
			Remedy: "Attach one of its LUNs, or name it with --lun to see why it is refused"}
	}
	return out, nil
}

func (v Server) attach(ctx context.Context, l lun.Info) (providertest.Disk, error) {
	ds, err := v.S.Devices.Rescan(ctx, []lun.Info{l})
	if err != nil {
		return providertest.Disk{}, err
	}
	if len(ds) == 0 {
		return providertest.Disk{}, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "attach LUN", Object: l.Name(), Reason: "no device of it appeared", Remedy: "LocateLUNs must make it appear"}
	}
	return providertest.Disk{Info: ds[0].LUN, Device: ds[0].Path, Size: ds[0].Size}, nil
}

func (v Server) detach(ctx context.Context, d providertest.Disk) error {
	ds, err := v.S.Host.Enumerate(ctx)
	if err != nil {
		return err
	}
	for _, dev := range ds {
		if dev.Path == d.Device && dev.LUN.Name() == d.Info.Name() {
			return v.S.Devices.Detach(ctx, dev)
		}
	}
	return nil
}
