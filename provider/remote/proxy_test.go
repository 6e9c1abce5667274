package remote

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// wire is a program's end of the wire, in this process.
type wire struct {
	providerv1connect.UnimplementedProviderServiceHandler
	m        Manifest
	busy     atomic.Bool // OnUnload says "do not"
	loads    *atomic.Int32
	unloads  *atomic.Int32
	optional []providerv1.Optional
	hang     bool
	targets  []*providerv1.LUNInfo
	fill     *providerv1.LUNInfo
	describe []*providerv1.Description
	fail     error
}

func (w *wire) Load(context.Context, *connect.Request[providerv1.LoadRequest]) (*connect.Response[providerv1.LoadResponse], error) {
	w.loads.Add(1)
	return connect.NewResponse(&providerv1.LoadResponse{Contract: contract, Properties: toProp(w.m.Properties()), Optional: w.optional}), nil
}

func (w *wire) Unload(_ context.Context, r *connect.Request[providerv1.UnloadRequest]) (*connect.Response[providerv1.UnloadResponse], error) {
	w.unloads.Add(1)
	return connect.NewResponse(&providerv1.UnloadResponse{Idle: !w.busy.Load()}), nil
}

func (w *wire) nothing(ctx context.Context) (*connect.Response[vssv1.Empty], error) {
	if w.hang {
		<-ctx.Done()
		return nil, rpcGone(ctx)
	}
	if w.fail != nil {
		return nil, w.fail
	}
	return none, nil
}

// rpcGone is what the interceptor makes of a call whose context has ended.
func rpcGone(ctx context.Context) error {
	return rpc.StreamError(ctx, "x", connect.NewError(connect.CodeDeadlineExceeded, ctx.Err()))
}

func (w *wire) BeginPrepareSnapshot(ctx context.Context, _ *connect.Request[providerv1.LUNsRequest]) (*connect.Response[vssv1.Empty], error) {
	return none, nil
}
func (w *wire) CommitSnapshots(ctx context.Context, _ *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return w.nothing(ctx)
}
func (w *wire) AbortSnapshots(context.Context, *connect.Request[providerv1.SetRequest]) (*connect.Response[vssv1.Empty], error) {
	return none, nil
}
func (w *wire) BackingStores(ctx context.Context, _ *connect.Request[vssv1.Empty]) (*connect.Response[providerv1.BackingStoresResponse], error) {
	if _, err := w.nothing(ctx); err != nil {
		return nil, err
	}
	return connect.NewResponse(&providerv1.BackingStoresResponse{Stores: []*providerv1.BackingStore{{Device: 7, Path: "/srv"}}}), nil
}
func (w *wire) GetTargetLUNs(context.Context, *connect.Request[providerv1.LUNsRequest]) (*connect.Response[providerv1.LUNsResponse], error) {
	return connect.NewResponse(&providerv1.LUNsResponse{Luns: w.targets}), nil
}
func (w *wire) FillInLUNInfo(context.Context, *connect.Request[providerv1.LUNsRequest]) (*connect.Response[providerv1.FillInLUNInfoResponse], error) {
	return connect.NewResponse(&providerv1.FillInLUNInfoResponse{Mine: true, Lun: w.fill}), nil
}
func (w *wire) DescribeLUNs(context.Context, *connect.Request[providerv1.LUNsRequest]) (*connect.Response[providerv1.DescribeLUNsResponse], error) {
	return connect.NewResponse(&providerv1.DescribeLUNsResponse{Luns: w.describe}), nil
}

// bench is a Proxy over wires.
type bench struct {
	*Proxy
	w                      *wire
	loads, unloads, starts atomic.Int32
	mu                     sync.Mutex
	troubles               []*vss.Error
	ended                  []chan struct{}
}

func newBench(idle string) *bench {
	m, err := ParseManifest([]byte(goodManifest + "idle = \"" + idle + "\"\n"))
	if err != nil {
		panic(err)
	}
	b := &bench{}
	b.w = &wire{m: m, loads: &b.loads, unloads: &b.unloads}
	b.Proxy = New(m, Options{start: func(context.Context, Manifest, Options) (*life, error) {
		b.starts.Add(1)
		done := make(chan struct{})
		b.mu.Lock()
		b.ended = append(b.ended, done)
		b.mu.Unlock()
		return &life{client: b.w, done: done, pid: 1, end: sync.OnceFunc(func() { closed(done) })}, nil
	}, Trouble: func(_ context.Context, e *vss.Error) { b.mu.Lock(); b.troubles = append(b.troubles, e); b.mu.Unlock() }})
	return b
}

func closed(c chan struct{}) {
	defer func() { _ = recover() }()
	close(c)
}

var aLUN = lun.Info{Version: 1, VendorID: "V", StorageIDs: []lun.StorageID{lun.NAA{0: 0x60, 15: 1}.StorageID()}}

func copyLUN(n byte) *providerv1.LUNInfo {
	return toLUN(lun.Info{Version: 1, VendorID: "V", StorageIDs: []lun.StorageID{lun.NAA{0: 0x60, 14: 1, 15: n}.StorageID()}})
}

func (b *bench) begin(t *testing.T) vss.ID {
	t.Helper()
	id := vss.NewID()
	if err := b.BeginPrepareSnapshot(context.Background(), id, vss.NewID(), 0, nil, []lun.Info{aLUN}); err != nil {
		t.Fatal(err)
	}
	return id
}

// wantBroken holds an error to what the service and its administrator need.
func (b *bench) wantBroken(t *testing.T, err error, method, words string) {
	t.Helper()
	e := vss.AsError("", err)
	if e == nil || e.Code != vss.VSS_E_UNEXPECTED_PROVIDER_ERROR || !errors.Is(err, provider.ErrBroken) || e.Op != method || !strings.Contains(e.Reason, words) ||
		!strings.Contains(e.Reason, "after ") || e.Remedy == "" {
		t.Fatalf("got %+v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.troubles) == 0 || b.troubles[len(b.troubles)-1].Reason != e.Reason {
		t.Fatalf("no event: %v", b.troubles)
	}
}

func TestLoadedOnDemandAndUnloadedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench("5m")
		if b.starts.Load() != 0 {
			t.Error("started before it was needed")
		}
		set := b.begin(t)
		if l, pid, busy := b.Status(); !l || pid != 1 || !busy {
			t.Error("not loaded, or not busy with a set")
		}
		time.Sleep(time.Hour)
		if l, _, _ := b.Status(); !l {
			t.Error("unloaded with a set in the making")
		}
		if err := b.AbortSnapshots(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		if l, _, _ := b.Status(); !l {
			t.Error("unloaded too early")
		}
		b.w.busy.Store(true)
		time.Sleep(2 * time.Minute)
		if l, _, _ := b.Status(); !l || b.unloads.Load() != 1 {
			t.Error("unloaded although it did not want to be")
		}
		b.w.busy.Store(false)
		time.Sleep(10 * time.Minute)
		if l, _, _ := b.Status(); l || b.unloads.Load() != 2 {
			t.Error("not unloaded when idle")
		}
		set = b.begin(t)
		if b.starts.Load() != 2 || b.loads.Load() != 2 {
			t.Errorf("started %d times, loaded %d", b.starts.Load(), b.loads.Load())
		}
		if ok, err := b.Unload(t.Context(), false); ok || err != nil {
			t.Error("a busy provider was unloaded", err)
		}
		b.Close(t.Context())
		if l, _, _ := b.Status(); l {
			t.Error("loaded after Close")
		}
		if err := b.AbortSnapshots(t.Context(), set); vss.CodeOf(err) != vss.VSS_E_PROVIDER_NOT_REGISTERED {
			t.Error(err)
		}
	})
}

// Many callers at once load it once.
func TestLoadedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench("0s")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { b.begin(t) })
		}
		wg.Wait()
		if b.starts.Load() != 1 {
			t.Errorf("started %d times", b.starts.Load())
		}
		b.Close(t.Context())
	})
}

func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench("0s")
		set := b.begin(t)
		b.w.hang = true
		begin := time.Now()
		b.wantBroken(t, b.CommitSnapshots(t.Context(), set), "CommitSnapshots", "did not answer in time")
		if took := time.Since(begin); took != quickTime {
			t.Errorf("given up after %s", took)
		}
		synctest.Wait()
		if !ended(&life{done: b.ended[0]}) {
			t.Error("the program that hangs was left")
		}
		// The set is lost with it; its storage is told by the next life.
		b.wantBroken(t, b.CommitSnapshots(t.Context(), set), "CommitSnapshots", "its program has ended")
		if b.starts.Load() != 1 {
			t.Error("started in the middle of a set")
		}
		if err := b.AbortSnapshots(t.Context(), set); err != nil || b.starts.Load() != 2 {
			t.Error(err, b.starts.Load())
		}
		// Given up by the service is no fault of the provider's.
		b.w.hang = true
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := b.CommitSnapshots(ctx, set); !errors.Is(err, context.Canceled) || errors.Is(err, provider.ErrBroken) {
			t.Error(err)
		}
		b.Close(t.Context())
	})
}

func TestDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench("0s")
		set := b.begin(t)
		b.w.hang = true
		time.AfterFunc(time.Second, func() { closed(b.ended[0]) })
		begin := time.Now()
		b.wantBroken(t, b.CommitSnapshots(t.Context(), set), "CommitSnapshots", "its program ended")
		if time.Since(begin) != time.Second {
			t.Error("waited for a dead program for", time.Since(begin))
		}
		b.Close(t.Context())
	})
}

// A store that is not told of costs everybody else a moment, once.
func TestStoresOfASilentProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench("0s")
		if s, err := b.BackingStores(t.Context()); err != nil || len(s) != 1 {
			t.Fatal(s, err)
		}
		b.w.hang = true
		begin := time.Now()
		for range 64 {
			if s, err := b.BackingStores(t.Context()); err != nil || len(s) != 1 || s[0].Device != 7 {
				t.Fatal(s, err)
			}
		}
		if took := time.Since(begin); took > storesTime {
			t.Errorf("64 volumes waited %s", took)
		}
		b.Close(t.Context())
	})
}

func TestNonsense(t *testing.T) {
	same := copyLUN(1)
	for name, tt := range map[string]struct {
		set    func(*wire)
		call   func(*bench) error
		method string
	}{
		"too few copies":  {func(w *wire) { w.targets = nil }, targetsOf(1), "GetTargetLUNs"},
		"too many copies": {func(w *wire) { w.targets = []*providerv1.LUNInfo{copyLUN(1), copyLUN(2)} }, targetsOf(1), "GetTargetLUNs"},
		"the original":    {func(w *wire) { w.targets = []*providerv1.LUNInfo{toLUN(aLUN)} }, targetsOf(1), "GetTargetLUNs"},
		"no information":  {func(w *wire) { w.targets = []*providerv1.LUNInfo{nil} }, targetsOf(1), "GetTargetLUNs"},
		"no identifier":   {func(w *wire) { w.targets = []*providerv1.LUNInfo{{Version: 1}} }, targetsOf(1), "GetTargetLUNs"},
		"another version": {func(w *wire) { c := copyLUN(1); c.Version = 2; w.targets = []*providerv1.LUNInfo{c} }, targetsOf(1), "GetTargetLUNs"},
		"a signature": {func(w *wire) {
			c := copyLUN(1)
			c.DiskSignature = make([]byte, 16)
			c.DiskSignature[0] = 1
			w.targets = []*providerv1.LUNInfo{c}
		}, targetsOf(1), "GetTargetLUNs"},
		"half a signature": {func(w *wire) { c := copyLUN(1); c.DiskSignature = []byte{1}; w.targets = []*providerv1.LUNInfo{c} }, targetsOf(1), "GetTargetLUNs"},
		"one copy of two":  {func(w *wire) { w.targets = []*providerv1.LUNInfo{same, same} }, targetsOf(2), "GetTargetLUNs"},
		"a long vendor": {func(w *wire) {
			c := copyLUN(1)
			c.VendorId = strings.Repeat("x", 256)
			w.targets = []*providerv1.LUNInfo{c}
		}, targetsOf(1), "GetTargetLUNs"},
		"a long identifier": {func(w *wire) {
			c := copyLUN(1)
			c.StorageIds[0].Identifier = make([]byte, 256)
			w.targets = []*providerv1.LUNInfo{c}
		}, targetsOf(1), "GetTargetLUNs"},
		"a device type": {func(w *wire) { c := copyLUN(1); c.DeviceType = 256; w.targets = []*providerv1.LUNInfo{c} }, targetsOf(1), "GetTargetLUNs"},
		"another disk": {func(w *wire) { w.fill = copyLUN(9) }, func(b *bench) error {
			l := aLUN
			_, err := b.FillInLUNInfo(context.Background(), "/dev/x", &l)
			return err
		}, "FillInLUNInfo"},
		"a size":             {func(w *wire) { w.describe = []*providerv1.Description{{Size: 513}} }, describeOne, "DescribeLUNs"},
		"no size":            {func(w *wire) { w.describe = []*providerv1.Description{{}} }, describeOne, "DescribeLUNs"},
		"no description":     {func(w *wire) {}, describeOne, "DescribeLUNs"},
		"an endless size":    {func(w *wire) { w.describe = []*providerv1.Description{{Size: 1 << 63}} }, describeOne, "DescribeLUNs"},
		"a success as error": {func(w *wire) { w.fail = &vss.Error{Code: vss.S_FALSE} }, func(b *bench) error { return b.CommitSnapshots(context.Background(), vss.NewID()) }, "CommitSnapshots"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench("0s")
			b.begin(t)
			tt.set(b.w)
			b.wantBroken(t, tt.call(b), tt.method, "it answered")
			b.Close(t.Context())
		})
	}
}

func targetsOf(n int) func(*bench) error {
	return func(b *bench) error {
		ls := []lun.Info{aLUN}
		for i := 1; i < n; i++ {
			ls = append(ls, fromLUN(copyLUN(byte(100+i))))
		}
		_, err := b.GetTargetLUNs(context.Background(), vss.NewID(), nil, ls)
		return err
	}
}

func describeOne(b *bench) error {
	_, err := b.DescribeLUNs(context.Background(), []lun.Info{aLUN})
	return err
}

// Who loads must be who the manifest says, and what it offers is what it says.
func TestGreeting(t *testing.T) {
	b := newBench("0s")
	b.w.m.Name = "Somebody else"
	b.wantBroken(t, b.OnLoad(t.Context()), "OnLoad", "another provider")
	b.w.m.Name = "Test provider"
	b.w.optional = []providerv1.Optional{providerv1.Optional_OPTIONAL_DESCRIBER}
	if _, ok := provider.As[provider.Describer](b); !ok {
		t.Error("what is offered is not found")
	}
	if _, ok := provider.As[provider.TicketIssuer](b); ok {
		t.Error("what is not offered is found")
	}
	b.Close(t.Context())
}

// An error's words are limited, and its event is not one of ours.
func TestLongWords(t *testing.T) {
	b := newBench("0s")
	set := b.begin(t)
	b.w.fail = &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Reason: strings.Repeat("ä", 9000), EventID: "1"}
	e := vss.AsError("", b.CommitSnapshots(t.Context(), set))
	if e.Code != vss.VSS_E_PROVIDER_VETO || len(e.Reason) > maxReason+3 || e.EventID != "" || e.Op != "CommitSnapshots" {
		t.Errorf("%v", e)
	}
	b.Close(t.Context())
}
