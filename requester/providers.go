package requester

import (
	"context"
	"time"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// RegisteredProvider is a provider of this machine, and the program it is.
type RegisteredProvider struct {
	vss.ProviderProp
	BuiltIn bool   `json:"built_in"`
	Loaded  bool   `json:"loaded"`
	PID     int    `json:"pid,omitempty"` // of its program, while the service runs it
	Program string `json:"program,omitempty"`
}

// RegisterProvider is IVssAdmin::RegisterProvider: it makes the provider of a
// manifest (TOML) known to the service. VSS_E_PROVIDER_ALREADY_REGISTERED if one
// of its ID is, unless it is to be replaced.
func (h *Host) RegisterProvider(ctx context.Context, manifest string, replace bool) (vss.ProviderProp, error) {
	r, err := askHost(ctx, h, "RegisterProvider", hostRPCs.RegisterProvider, &vssv1.RegisterProviderRequest{Manifest: manifest, Replace: replace})
	if err != nil {
		return vss.ProviderProp{}, err
	}
	return providerOf(r), nil
}

// UnregisterProvider is IVssAdmin::UnregisterProvider. VSS_E_PROVIDER_IN_USE
// while the provider makes a set, or, without force, while copies of it are on
// this machine; VSS_E_PROVIDER_NOT_REGISTERED if there is none.
func (h *Host) UnregisterProvider(ctx context.Context, id vss.ID, force bool) error {
	_, err := askHost(ctx, h, "UnregisterProvider", hostRPCs.UnregisterProvider, &vssv1.ProviderRequest{ProviderId: id[:], Force: force})
	return err
}

// Providers is IVssAdmin::QueryProviders.
func (h *Host) Providers(ctx context.Context) ([]RegisteredProvider, error) {
	r, err := askHost(ctx, h, "QueryProviders", hostRPCs.ListProviders, &vssv1.Empty{})
	if err != nil {
		return nil, err
	}
	var out []RegisteredProvider
	for _, p := range r.Providers {
		out = append(out, RegisteredProvider{providerOf(p.Properties), p.BuiltIn, p.Loaded, int(p.Pid), p.Program})
	}
	return out, nil
}

// Validation is what ValidateProvider is asked.
type Validation struct {
	ID       vss.ID   // of a registered provider, or
	Manifest string   // the manifest of one that is not registered
	LUNs     []string // that the suite copies; two that the provider supports if none are named
	Scratch  bool     // the content of the LUNs may be overwritten
	Cases    []string // all if none
}

// CaseResult is what became of one case of the conformance suite.
type CaseResult struct {
	Name    string        `json:"name"`
	Rule    string        `json:"rule"`
	Outcome string        `json:"outcome"` // passed, failed, skipped
	Words   string        `json:"words,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// ValidateProvider runs the conformance suite on a provider and reports each
// case as it ends. No set can be made on this machine meanwhile.
func (h *Host) ValidateProvider(ctx context.Context, v Validation, report func(CaseResult)) error {
	const op = "ValidateProvider"
	if h == nil || h.client == nil {
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Reason: "there is no host", Remedy: "Make one with NewHost"}
	}
	if err := needContext(ctx, op); err != nil {
		return err
	}
	req := &vssv1.ValidateProviderRequest{ProviderId: v.ID[:], Manifest: v.Manifest, Luns: v.LUNs, Scratch: v.Scratch, Cases: v.Cases}
	if err := checkText(op, req); err != nil {
		return err
	}
	stream, err := h.client.ValidateProvider(ctx, connect.NewRequest(req))
	if err != nil {
		return h.fix(op, rpc.StreamError(ctx, op, err))
	}
	defer stream.Close()
	for stream.Receive() {
		m := stream.Msg()
		report(CaseResult{m.Name, m.Rule, m.Outcome, m.Words, time.Duration(m.TookNs)})
	}
	if err := stream.Err(); err != nil {
		return h.fix(op, rpc.StreamError(ctx, op, err))
	}
	return nil
}
