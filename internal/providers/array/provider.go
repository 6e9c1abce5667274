package array

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// ProviderID names this provider for ever; VersionID this version of it.
var (
	ProviderID = mustID("{8d0f3c56-7a2e-4c1b-9f64-2b5de1a70c39}")
	VersionID  = mustID("{b3a4c9de-52f1-4f0e-8a67-0c1d92e4f815}")
)

func mustID(s string) vss.ID {
	id, err := vss.ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// Provider is the provider. It is safe for concurrent use.
type Provider struct {
	arrays func() []*client.Client
	bootID string

	mu      sync.Mutex
	cur     *set
	imports []*provider.Import // begun, latest last
	stores  map[vss.ID][]provider.BackingStore

	verified verified
}

var (
	_ provider.Hardware        = (*Provider)(nil)
	_ provider.LUNStateChanger = (*Provider)(nil)
	_ provider.Describer       = (*Provider)(nil)
	_ provider.ImportBinder    = (*Provider)(nil)
	_ provider.ImportChecker   = (*Provider)(nil)
	_ provider.TicketIssuer    = (*Provider)(nil)
	_ provider.TicketVerifier  = (*Provider)(nil)
	_ provider.BackingStores   = (*Provider)(nil)
	_ provider.SetDropper      = (*Provider)(nil)
)

// New makes the provider of the arrays that the function lists: those this host
// has joined, now. It is called for every operation.
func New(arrays func() []*client.Client) *Provider {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it no array counts as local
	return &Provider{arrays: arrays, bootID: strings.TrimSpace(string(boot)), stores: map[vss.ID][]provider.BackingStore{}}
}

// Properties says who the provider is.
func (p *Provider) Properties() vss.ProviderProp {
	return vss.ProviderProp{ProviderID: ProviderID, Name: "Umbra array provider", Type: vss.PROV_HARDWARE, Version: "1.0", VersionID: VersionID}
}

// owner finds the joined array a LUN belongs to.
func (p *Provider) owner(info lun.Info) (*client.Client, lun.NAA, bool) {
	n, ok := info.NAA()
	if !ok {
		return nil, n, false
	}
	for _, c := range p.arrays() {
		if c.Owns(n) {
			return c, n, true
		}
	}
	return nil, n, false
}

// share is an array's part of a list of LUNs, without repeats.
type share struct {
	array *client.Client
	luns  []lun.NAA
}

// partition deals LUNs out to their arrays; VSS_E_PROVIDER_VETO for one of none.
func (p *Provider) partition(op string, infos []lun.Info) ([]*share, error) {
	var out []*share
	for _, info := range infos {
		c, n, ok := p.owner(info)
		if !ok {
			return nil, &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: info.Name(), Reason: "the LUN is not of an array this host has joined",
				Remedy: "Join its array with `umbra join`"}
		}
		i := slices.IndexFunc(out, func(s *share) bool { return s.array == c })
		if i < 0 {
			i, out = len(out), append(out, &share{array: c})
		}
		if !slices.Contains(out[i].luns, n) {
			out[i].luns = append(out[i].luns, n)
		}
	}
	return out, nil
}

// each runs f for all in parallel. The first error ends the others.
func each[T any](ctx context.Context, all []T, f func(context.Context, T) error) error {
	if len(all) == 1 {
		return f(ctx, all[0])
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, x := range all {
		g.Go(func() error { return f(ctx, x) })
	}
	return g.Wait()
}

// permitted turns an error into one a provider may return: what the contract
// has no code for is a veto that says the same.
func permitted(op string, err error) error {
	if err == nil {
		return nil
	}
	e := vss.AsError(op, err)
	if provider.Allowed(e.Code) {
		return e
	}
	remedy := e.Remedy
	if remedy == "" {
		remedy = "Check the array with `umbra array info`"
	}
	reason := e.Reason
	if reason == "" {
		reason = e.Code.String()
	}
	return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: e.Op, Object: e.Object, Reason: reason, Remedy: remedy, EventID: e.EventID, Err: e.Err}
}

// AreLUNsSupported implements provider.Hardware.
func (p *Provider) AreLUNsSupported(ctx context.Context, c vss.Context, _ []string, luns []lun.Info) (bool, error) {
	// A copy shares its blocks with its original and goes down with it: no plex.
	if len(luns) == 0 || c.Has(vss.ATTR_CLIENT_ACCESSIBLE) || c.Has(vss.ATTR_PLEX) {
		return false, nil
	}
	for _, info := range luns {
		if _, _, ok := p.owner(info); !ok {
			return false, nil
		}
	}
	shares, err := p.partition("AreLUNsSupported", luns)
	if err != nil {
		return false, nil // its array was left in this moment
	}
	for _, s := range shares {
		if ok, _, err := s.array.AreLUNsSupported(ctx, c, s.luns); err != nil || !ok {
			return false, permitted("AreLUNsSupported", err)
		}
	}
	return true, nil
}

// GetTargetLUNs implements provider.Hardware. The names of the current set are
// known since it was prepared.
func (p *Provider) GetTargetLUNs(ctx context.Context, set vss.ID, _ []string, source []lun.Info) ([]lun.Info, error) {
	const op = "GetTargetLUNs"
	shares, err := p.partition(op, source)
	if err != nil {
		return nil, err
	}
	targets := p.knownTargets(set)
	for _, s := range shares {
		missing := slices.DeleteFunc(slices.Clone(s.luns), func(n lun.NAA) bool { _, ok := targets[n]; return ok })
		if len(missing) == 0 {
			continue
		}
		got, err := s.array.TargetLUNs(ctx, set, missing)
		if err != nil {
			return nil, permitted(op, err)
		}
		for i, n := range missing {
			targets[n] = got[i]
		}
	}
	out := make([]lun.Info, len(source))
	for i, info := range source {
		n, _ := info.NAA()
		out[i] = identity.Info(targets[n])
	}
	return out, nil
}

// FillInLUNInfo implements provider.Hardware. It asks nobody.
func (p *Provider) FillInLUNInfo(_ context.Context, _ string, info *lun.Info) (bool, error) {
	if info == nil {
		return false, &vss.Error{Code: vss.E_INVALIDARG, Op: "FillInLUNInfo", Reason: "no LUN is given", Remedy: "Give what was read from the device"}
	}
	_, n, ok := p.owner(*info)
	if !ok {
		return false, nil
	}
	paths := info.Interconnects
	*info = identity.Info(n)
	info.Interconnects = paths
	return true, nil
}

// OnLUNEmpty implements provider.Hardware.
func (p *Provider) OnLUNEmpty(ctx context.Context, _ string, info lun.Info) error {
	const op = "OnLUNEmpty"
	shares, err := p.partition(op, []lun.Info{info})
	if err != nil {
		return err
	}
	return permitted(op, shares[0].array.DeleteLUNs(ctx, shares[0].luns))
}

// OnLUNEmptyForced implements provider.ForcedReclaimer.
func (p *Provider) OnLUNEmptyForced(ctx context.Context, _ string, info lun.Info) error {
	const op = "OnLUNEmptyForced"
	shares, err := p.partition(op, []lun.Info{info})
	if err != nil {
		return err
	}
	return permitted(op, shares[0].array.DestroyLUNs(ctx, shares[0].luns))
}

// OnLUNStateChange implements provider.LUNStateChanger. A copy that becomes
// writable for good is an original of the array from then on. Recovery makes
// copies writable for LUNs opened after the call: the service opens them again.
func (p *Provider) OnLUNStateChange(ctx context.Context, snapshots, originals []lun.Info, flags vss.HardwareOptions) error {
	const op = "OnLUNStateChange"
	const known = vss.ONLUNSTATECHANGE_NOTIFY_READ_WRITE | vss.ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY |
		vss.ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY | vss.ONLUNSTATECHANGE_DO_MASK_LUNS
	if len(snapshots) != len(originals) && len(originals) != 0 || flags&^known != 0 {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: fmt.Sprintf("flags 0x%x", uint32(flags)), Reason: "lists of different length, or unknown flags", Remedy: "Give one original for each copy, and the flags of the contract"}
	}
	shares, err := p.partition(op, snapshots)
	if err != nil {
		return err
	}
	return permitted(op, each(ctx, shares, func(ctx context.Context, s *share) error {
		for _, step := range []struct {
			flag vss.HardwareOptions
			do   func() error
		}{
			{vss.ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY, func() error { return s.array.SetLUNAccess(ctx, s.luns, client.Recovery) }},
			{vss.ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY, func() error { return s.array.SetLUNAccess(ctx, s.luns, client.ReadOnly) }},
			{vss.ONLUNSTATECHANGE_NOTIFY_READ_WRITE, func() error { return s.array.SetLUNAccess(ctx, s.luns, client.ReadWrite) }},
			{vss.ONLUNSTATECHANGE_DO_MASK_LUNS, func() error { return s.array.MaskLUNs(ctx, s.luns) }},
		} {
			if flags&step.flag == 0 {
				continue
			}
			if err := step.do(); err != nil {
				return err
			}
		}
		return nil
	}))
}

// DescribeLUNs implements provider.Describer.
func (p *Provider) DescribeLUNs(ctx context.Context, luns []lun.Info) ([]provider.Description, error) {
	return p.describe("DescribeLUNs", luns, func(s *share) ([]client.State, error) { return s.array.DescribeLUNs(ctx, s.luns) })
}

// describe asks each array about its share and puts the answers in the order of
// luns.
func (p *Provider) describe(op string, luns []lun.Info, ask func(*share) ([]client.State, error)) ([]provider.Description, error) {
	shares, err := p.partition(op, luns)
	if err != nil {
		return nil, err
	}
	states := map[lun.NAA]client.State{}
	for _, s := range shares {
		got, err := ask(s)
		if err != nil {
			return nil, permitted(op, err)
		}
		for _, st := range got {
			states[st.NAA] = st
		}
	}
	out := make([]provider.Description, len(luns))
	for i, info := range luns {
		n, _ := info.NAA()
		out[i] = provider.Description{Size: states[n].Size, Generation: states[n].Generation, ReadOnly: states[n].ReadOnly}
	}
	return out, nil
}

// BackingStores implements provider.BackingStores. An array that does not
// answer counts with what it last said: its store may still be mounted.
func (p *Provider) BackingStores(ctx context.Context) ([]provider.BackingStore, error) {
	var out []provider.BackingStore
	for _, c := range p.arrays() {
		d, err := c.Describe(ctx, p.bootID)
		if ctx.Err() != nil {
			return nil, permitted("BackingStores", err)
		}
		p.mu.Lock()
		if err == nil {
			var stores []provider.BackingStore
			for dev, path := range d.Stores {
				stores = append(stores, provider.BackingStore{Device: dev, Path: path})
			}
			p.stores[c.ArrayID()] = stores
		}
		out = append(out, p.stores[c.ArrayID()]...)
		p.mu.Unlock()
	}
	return out, nil
}
