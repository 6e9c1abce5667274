package remote

import (
	"cmp"
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"

	providerv1 "github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1/providerv1connect"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

var (
	_ provider.Hardware        = (*Proxy)(nil)
	_ provider.Partly          = (*Proxy)(nil)
	_ provider.LUNStateChanger = (*Proxy)(nil)
	_ provider.ForcedReclaimer = (*Proxy)(nil)
	_ provider.Describer       = (*Proxy)(nil)
	_ provider.ImportBinder    = (*Proxy)(nil)
	_ provider.ImportChecker   = (*Proxy)(nil)
	_ provider.TicketIssuer    = (*Proxy)(nil)
	_ provider.TicketVerifier  = (*Proxy)(nil)
	_ provider.BackingStores   = (*Proxy)(nil)
	_ provider.SetDropper      = (*Proxy)(nil)
	_ provider.Notifications   = (*Proxy)(nil)
)

type client = providerv1connect.ProviderServiceClient

// A set is lost with the program that made it: its phases do not load another.
const (
	mayStart = true
	loaded   = false
)

// OnLoad implements provider.Notifications: it loads the provider.
func (p *Proxy) OnLoad(ctx context.Context) error {
	_, release, err := p.acquire(ctx, "OnLoad", mayStart)
	if err == nil {
		release()
	}
	return err
}

// OnUnload implements provider.Notifications.
func (p *Proxy) OnUnload(ctx context.Context, force bool) (bool, error) { return p.Unload(ctx, force) }

// AreLUNsSupported implements provider.Hardware.
func (p *Proxy) AreLUNsSupported(ctx context.Context, c vss.Context, devices []string, luns []lun.Info) (ok bool, err error) {
	err = p.invoke(ctx, "AreLUNsSupported", callTime, mayStart, func(ctx context.Context, cl client) error {
		r, err := cl.AreLUNsSupported(ctx, connect.NewRequest(&providerv1.LUNsRequest{Context: uint32(c), Devices: devices, Luns: toLUNs(luns)}))
		if err != nil {
			return err
		}
		got, err := soundLUNs(r.Msg.Luns, len(luns))
		if err != nil {
			return err
		}
		for i := range got { // it may correct what the host read, but not the paths
			if !sameLUN(got[i], luns[i]) {
				got[i].Interconnects = luns[i].Interconnects
				luns[i] = got[i]
			}
		}
		ok = r.Msg.Supported
		return nil
	})
	return ok && err == nil, err
}

// BeginPrepareSnapshot implements provider.Hardware.
func (p *Proxy) BeginPrepareSnapshot(ctx context.Context, set, snapshot vss.ID, c vss.Context, devices []string, luns []lun.Info) error {
	err := p.invoke(ctx, "BeginPrepareSnapshot", callTime, mayStart, func(ctx context.Context, cl client) error {
		_, err := cl.BeginPrepareSnapshot(ctx, connect.NewRequest(&providerv1.LUNsRequest{SetId: set[:], SnapshotId: snapshot[:], Context: uint32(c), Devices: devices, Luns: toLUNs(luns)}))
		return err
	})
	if err == nil {
		p.making(set)
	}
	return err
}

// making remembers the set that is being made: the provider is not unloaded
// meanwhile.
func (p *Proxy) making(set vss.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = set
	p.rest()
}

// made is the end of making.
func (p *Proxy) made(set vss.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == set {
		p.set = vss.GUIDNull
		p.rest()
	}
}

type setCall func(client, context.Context, *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error)

func (p *Proxy) phase(ctx context.Context, method string, limit time.Duration, start bool, set vss.ID, count int, f setCall) error {
	return p.invoke(ctx, method, limit, start, func(ctx context.Context, cl client) error {
		_, err := f(cl, ctx, connect.NewRequest(&providerv1.SetRequest{SetId: set[:], Count: int32(count)}))
		return err
	})
}

// EndPrepareSnapshots implements provider.SnapshotSetCreator.
func (p *Proxy) EndPrepareSnapshots(ctx context.Context, set vss.ID) error {
	return p.phase(ctx, "EndPrepareSnapshots", prepareTime, loaded, set, 0, client.EndPrepareSnapshots)
}

// PreCommitSnapshots implements provider.SnapshotSetCreator.
func (p *Proxy) PreCommitSnapshots(ctx context.Context, set vss.ID) error {
	return p.phase(ctx, "PreCommitSnapshots", quickTime, loaded, set, 0, client.PreCommitSnapshots)
}

// CommitSnapshots implements provider.SnapshotSetCreator.
func (p *Proxy) CommitSnapshots(ctx context.Context, set vss.ID) error {
	return p.phase(ctx, "CommitSnapshots", quickTime, loaded, set, 0, client.CommitSnapshots)
}

// PostCommitSnapshots implements provider.SnapshotSetCreator. Making copies
// durable may take as long as the storage does.
func (p *Proxy) PostCommitSnapshots(ctx context.Context, set vss.ID, count int) error {
	return p.phase(ctx, "PostCommitSnapshots", callTime, loaded, set, count, client.PostCommitSnapshots)
}

// PreFinalCommitSnapshots implements provider.SnapshotSetCreator.
func (p *Proxy) PreFinalCommitSnapshots(ctx context.Context, set vss.ID) error {
	return p.phase(ctx, "PreFinalCommitSnapshots", callTime, loaded, set, 0, client.PreFinalCommitSnapshots)
}

// PostFinalCommitSnapshots implements provider.SnapshotSetCreator.
func (p *Proxy) PostFinalCommitSnapshots(ctx context.Context, set vss.ID) error {
	err := p.phase(ctx, "PostFinalCommitSnapshots", callTime, loaded, set, 0, client.PostFinalCommitSnapshots)
	if err == nil {
		p.made(set)
	}
	return err
}

// AbortSnapshots implements provider.SnapshotSetCreator. A provider that died
// is loaded again for it: its storage system may have something of the set.
func (p *Proxy) AbortSnapshots(ctx context.Context, set vss.ID) error {
	defer p.made(set)
	return p.phase(ctx, "AbortSnapshots", callTime, mayStart, set, 0, client.AbortSnapshots)
}

// DropSet implements provider.SetDropper.
func (p *Proxy) DropSet(ctx context.Context, set vss.ID) error {
	defer p.made(set)
	return p.phase(ctx, "DropSet", callTime, mayStart, set, 0, client.DropSet)
}

// GetTargetLUNs implements provider.Hardware.
func (p *Proxy) GetTargetLUNs(ctx context.Context, set vss.ID, devices []string, source []lun.Info) (out []lun.Info, err error) {
	err = p.invoke(ctx, "GetTargetLUNs", callTime, mayStart, func(ctx context.Context, cl client) error {
		r, err := cl.GetTargetLUNs(ctx, connect.NewRequest(&providerv1.LUNsRequest{SetId: set[:], Devices: devices, Luns: toLUNs(source)}))
		if err != nil {
			return err
		}
		if out, err = soundLUNs(r.Msg.Luns, len(source)); err != nil {
			return err
		}
		return soundTargets(source, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// LocateLUNs implements provider.Hardware.
func (p *Proxy) LocateLUNs(ctx context.Context, luns []lun.Info) error {
	return p.invoke(ctx, "LocateLUNs", slowTime, mayStart, func(ctx context.Context, cl client) error {
		r, err := cl.LocateLUNs(ctx, connect.NewRequest(&providerv1.LUNsRequest{Luns: toLUNs(luns)}))
		if err != nil || r.Msg.Error == nil {
			return err
		}
		e := rpc.ErrorFromProto(r.Msg.Error)
		if r.Msg.NothingUnmasked {
			e.Err = provider.ErrNothingUnmasked
		}
		return e
	})
}

// FillInLUNInfo implements provider.Hardware.
func (p *Proxy) FillInLUNInfo(ctx context.Context, device string, info *lun.Info) (mine bool, err error) {
	if info == nil {
		return false, &vss.Error{Code: vss.E_INVALIDARG, Op: "FillInLUNInfo", Object: device, Reason: "no LUN is given", Remedy: "Give what was read from the device"}
	}
	err = p.invoke(ctx, "FillInLUNInfo", quickTime, mayStart, func(ctx context.Context, cl client) error {
		r, err := cl.FillInLUNInfo(ctx, connect.NewRequest(&providerv1.LUNsRequest{Devices: []string{device}, Luns: toLUNs([]lun.Info{*info})}))
		if err != nil || !r.Msg.Mine {
			return err
		}
		got, err := soundLUNs([]*providerv1.LUNInfo{r.Msg.Lun}, 1)
		if err != nil {
			return err
		}
		if !shareName(*info, got[0]) {
			return nonsense("it made the disk " + info.Name() + " another, " + got[0].Name())
		}
		mine = true
		got[0].Interconnects = info.Interconnects
		*info = got[0]
		return nil
	})
	return mine && err == nil, err
}

// OnLUNEmpty implements provider.Hardware.
func (p *Proxy) OnLUNEmpty(ctx context.Context, device string, info lun.Info) error {
	return p.invoke(ctx, "OnLUNEmpty", slowTime, mayStart, func(ctx context.Context, cl client) error {
		_, err := cl.OnLUNEmpty(ctx, connect.NewRequest(&providerv1.LUNsRequest{Devices: []string{device}, Luns: toLUNs([]lun.Info{info})}))
		return err
	})
}

// OnLUNEmptyForced implements provider.ForcedReclaimer.
func (p *Proxy) OnLUNEmptyForced(ctx context.Context, device string, info lun.Info) error {
	return p.invoke(ctx, "OnLUNEmptyForced", slowTime, mayStart, func(ctx context.Context, cl client) error {
		_, err := cl.OnLUNEmptyForced(ctx, connect.NewRequest(&providerv1.LUNsRequest{Devices: []string{device}, Luns: toLUNs([]lun.Info{info})}))
		return err
	})
}

// OnLUNStateChange implements provider.LUNStateChanger.
func (p *Proxy) OnLUNStateChange(ctx context.Context, snapshots, originals []lun.Info, flags vss.HardwareOptions) error {
	return p.invoke(ctx, "OnLUNStateChange", slowTime, mayStart, func(ctx context.Context, cl client) error {
		_, err := cl.OnLUNStateChange(ctx, connect.NewRequest(&providerv1.OnLUNStateChangeRequest{Snapshots: toLUNs(snapshots), Originals: toLUNs(originals), Flags: uint32(flags)}))
		return err
	})
}

func descriptions(r *connect.Response[providerv1.DescribeLUNsResponse], err error, n int) ([]provider.Description, error) {
	if err != nil {
		return nil, err
	}
	if len(r.Msg.Luns) != n {
		return nil, wrongCount(n, len(r.Msg.Luns))
	}
	var out []provider.Description
	for _, d := range r.Msg.Luns {
		if d.GetSize() == 0 || d.GetSize()%512 != 0 || d.GetSize() > 1<<60 {
			return nil, nonsense("a LUN of a size no disk has")
		}
		out = append(out, provider.Description{Size: d.Size, Generation: d.Generation, ReadOnly: d.ReadOnly})
	}
	return out, nil
}

// DescribeLUNs implements provider.Describer.
func (p *Proxy) DescribeLUNs(ctx context.Context, luns []lun.Info) (out []provider.Description, err error) {
	err = p.invoke(ctx, "DescribeLUNs", callTime, mayStart, func(ctx context.Context, cl client) error {
		r, err := cl.DescribeLUNs(ctx, connect.NewRequest(&providerv1.LUNsRequest{Luns: toLUNs(luns)}))
		out, err = descriptions(r, err, len(luns))
		return err
	})
	return out, err
}

// CheckImport implements provider.ImportChecker.
func (p *Proxy) CheckImport(ctx context.Context, im provider.Import) (out []provider.Description, err error) {
	err = p.invoke(ctx, "CheckImport", callTime, mayStart, func(ctx context.Context, cl client) error {
		r, err := cl.CheckImport(ctx, connect.NewRequest(toImport(im)))
		out, err = descriptions(r, err, len(im.LUNs))
		return err
	})
	return out, err
}

// BeginImport implements provider.ImportBinder.
func (p *Proxy) BeginImport(ctx context.Context, im provider.Import) error {
	return p.invoke(ctx, "BeginImport", callTime, mayStart, func(ctx context.Context, cl client) error {
		_, err := cl.BeginImport(ctx, connect.NewRequest(toImport(im)))
		return err
	})
}

// ReleaseImport implements provider.ImportBinder.
func (p *Proxy) ReleaseImport(ctx context.Context, set, importID vss.ID) error {
	return p.invoke(ctx, "ReleaseImport", callTime, mayStart, func(ctx context.Context, cl client) error {
		_, err := cl.ReleaseImport(ctx, connect.NewRequest(&providerv1.ImportRequest{SetId: set[:], ImportId: importID[:]}))
		return err
	})
}

// IssueTicket implements provider.TicketIssuer.
func (p *Proxy) IssueTicket(ctx context.Context, set vss.ID, digest [32]byte) (ticket []byte, err error) {
	err = p.invoke(ctx, "IssueTicket", callTime, mayStart, func(ctx context.Context, cl client) error {
		r, err := cl.IssueTicket(ctx, connect.NewRequest(&providerv1.TicketRequest{SetId: set[:], Digest: digest[:]}))
		if err != nil {
			return err
		}
		if n := len(r.Msg.Ticket); n == 0 || n > maxTicket {
			return nonsense("a ticket of no length, or of more than a document takes")
		}
		ticket = r.Msg.Ticket
		return nil
	})
	return ticket, err
}

// VerifyTicket implements provider.TicketVerifier.
func (p *Proxy) VerifyTicket(ticket []byte, set vss.ID, digest [32]byte) error {
	return p.invoke(context.Background(), "VerifyTicket", quickTime, mayStart, func(ctx context.Context, cl client) error {
		_, err := cl.VerifyTicket(ctx, connect.NewRequest(&providerv1.TicketRequest{SetId: set[:], Digest: digest[:], Ticket: ticket}))
		return err
	})
}

// storesMemory is what a provider last said of its stores.
type storesMemory struct {
	last  []provider.BackingStore
	quiet time.Time // it is not asked again before
}

// BackingStores implements provider.BackingStores. The question is put for
// every volume of every set, whosever: a provider that does not answer counts
// with what it last said, and costs others no more than a moment.
func (p *Proxy) BackingStores(ctx context.Context) ([]provider.BackingStore, error) {
	p.mu.Lock()
	mem := p.stores
	p.mu.Unlock()
	if time.Now().Before(mem.quiet) {
		return mem.last, nil
	}
	out, err := p.AskStores(ctx)
	if ctx.Err() != nil {
		return nil, err
	}
	p.mu.Lock()
	if err != nil {
		p.stores.quiet = time.Now().Add(storesPause)
		defer p.mu.Unlock()
		return p.stores.last, nil
	}
	other := !slices.Equal(out, p.stores.last)
	p.stores.last = out
	p.mu.Unlock()
	if other && p.o.Remember != nil {
		p.o.Remember(ctx, p.m.ID, slices.Clone(out))
	}
	return slices.Clone(out), nil
}

// Recall says what the provider named as its stores in an earlier life, which
// counts until it is asked and answers.
func (p *Proxy) Recall(stores []provider.BackingStore) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stores.last = stores
}

// AskStores is BackingStores of a provider that must answer.
func (p *Proxy) AskStores(ctx context.Context) (out []provider.BackingStore, err error) {
	err = p.invoke(ctx, "BackingStores", storesTime, mayStart, func(ctx context.Context, cl client) error {
		r, err := cl.BackingStores(ctx, connect.NewRequest(&vssv1.Empty{}))
		if err != nil {
			return err
		}
		if len(r.Msg.Stores) > maxStores {
			return nonsense("more filesystems below it than a machine has")
		}
		for _, s := range r.Msg.Stores {
			out = append(out, provider.BackingStore{Device: s.GetDevice(), Path: shortened(s.GetPath())})
		}
		return nil
	})
	slices.SortFunc(out, func(a, b provider.BackingStore) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Path, b.Path))
	})
	return out, err
}
