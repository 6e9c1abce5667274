package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/failpoint"
	providerv1 "github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1/providerv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// Deadlines of calls. EndPrepareSnapshots may be long; the others must not be,
// and those within the hold least of all. The service may give up earlier.
const (
	prepareTime = 30 * time.Minute
	slowTime    = 2 * time.Minute
	callTime    = 30 * time.Second
	quickTime   = 10 * time.Second
	storesTime  = 5 * time.Second
	// A provider that did not say where its stores are is not asked again for
	// so long: the question is put for every volume of everybody's sets.
	storesPause = 30 * time.Second
)

// Options are what the service gives its stand-ins for providers.
type Options struct {
	Dir      string // for sockets and marks; one folder for each provider is made in it
	StateDir string // for the providers' own folders
	HostName string
	HostTag  string
	Log      *slog.Logger
	// Trouble, if not nil, is told of every provider that died, did not answer
	// or answered nonsense. It may be called while writes are held, and must not
	// wait.
	Trouble func(ctx context.Context, err *vss.Error)
	// Remember, if not nil, is told of the filesystems below a provider's LUNs
	// when it names others than before; Recall gives them to its next stand-in.
	Remember func(ctx context.Context, id vss.ID, stores []provider.BackingStore)

	start func(ctx context.Context, m Manifest, o Options) (*life, error) // by tests
}

// life is one life of a provider: a program that runs, or a connection to one.
type life struct {
	client   providerv1connect.ProviderServiceClient
	done     <-chan struct{} // closed when the program ended; nil if it is not ours
	end      func()          // ends it, and returns when nothing of it is left; may be called again
	pid      int
	optional []providerv1.Optional
}

// Proxy stands for a provider that is a program of its own. It is safe for
// concurrent use.
type Proxy struct {
	m    Manifest
	o    Options
	idle time.Duration

	mu      sync.Mutex
	life    *life
	loading chan struct{} // closed when the loading under way ends
	calls   int           // under way
	set     vss.ID        // being made; GUID_NULL if none
	timer   *time.Timer
	gone    bool // Close was called
	known   []providerv1.Optional
	stores  storesMemory
	failed  error     // why it was not loaded when it was tried last
	since   time.Time // when that began
}

// New makes the stand-in. Nothing is started before the first call.
func New(m Manifest, o Options) *Proxy {
	if o.start == nil {
		o.start = start
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	idle, _ := m.idle() // ParseManifest has checked it
	return &Proxy{m: m, o: o, idle: idle}
}

// Properties implements provider.Provider: they are the manifest's, and a
// program that says otherwise is not used.
func (p *Proxy) Properties() vss.ProviderProp { return p.m.Properties() }

// Manifest is the provider's.
func (p *Proxy) Manifest() Manifest { return p.m }

// Status tells whether the provider is loaded, as which process (0 if it is not
// ours), and whether calls are under way or a set is being made with it.
func (p *Proxy) Status() (loaded bool, pid int, busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		loaded, pid = true, p.life.pid
	}
	return loaded, pid, p.calls > 0 || !p.set.IsNull()
}

// broken is the error of a provider that did not answer in kind.
func (p *Proxy) broken(ctx context.Context, method string, took time.Duration, reason string, cause error) error {
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, Op: method, Object: p.m.Name,
		Reason: fmt.Sprintf("provider %s: %s (%s, after %s)", p.m.Name, reason, method, took.Round(time.Millisecond)),
		Remedy: "See the provider's own log and umbra list providers, then try again; umbra provider validate says what it does wrong", Err: brokenBy{cause}}
	if p.o.Trouble != nil {
		p.o.Trouble(ctx, e)
	}
	return e
}

// acquire returns the provider's life, loaded, and keeps it from being unloaded
// until release is called. Without mayStart a provider that is not loaded is
// not loaded either.
func (p *Proxy) acquire(ctx context.Context, method string, mayStart bool) (l *life, release func(), err error) {
	begin := time.Now()
	p.mu.Lock()
	for {
		if p.gone {
			p.mu.Unlock()
			return nil, nil, &vss.Error{Code: vss.VSS_E_PROVIDER_NOT_REGISTERED, Op: method, Object: p.m.Name, Reason: "the provider has been unregistered", Remedy: "Register it again with `umbra provider register`"}
		}
		if p.life != nil {
			if !ended(p.life) {
				break
			}
			// It died while nobody called; whoever had a set with it loses it.
			old := p.life
			p.life = nil
			p.mu.Unlock()
			old.end()
			if !mayStart {
				return nil, nil, p.broken(ctx, method, time.Since(begin), "its program has ended", nil)
			}
			p.mu.Lock()
			continue
		}
		if !mayStart {
			p.mu.Unlock()
			return nil, nil, p.broken(ctx, method, time.Since(begin), "its program has ended, and the set with it", nil)
		}
		if p.loading == nil {
			p.loading = make(chan struct{})
			p.mu.Unlock()
			l, lerr := p.load(ctx)
			p.mu.Lock()
			p.tried(lerr)
			close(p.loading)
			p.loading = nil
			if lerr != nil {
				p.mu.Unlock()
				return nil, nil, lerr
			}
			p.life, p.known = l, append([]providerv1.Optional{}, l.optional...) // not nil: it was asked
			continue
		}
		wait := p.loading
		p.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, givenUp(ctx, method, p.m.Name)
		}
		p.mu.Lock()
	}
	p.calls++
	if p.timer != nil {
		p.timer.Stop()
	}
	l = p.life
	p.mu.Unlock()
	return l, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls--
		p.rest()
	}, nil
}

func ended(l *life) bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func givenUp(ctx context.Context, method, name string) error {
	return &vss.Error{Code: vss.E_ABORT, Op: method, Object: name, Reason: "the call was given up", Remedy: "Call again", Err: context.Cause(ctx)}
}

// rest has an idle provider unloaded after a while. p.mu is held.
func (p *Proxy) rest() {
	if p.calls > 0 || p.life == nil || p.idle == 0 || !p.set.IsNull() || p.gone {
		return
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(p.idle, p.unloadIdle)
		return
	}
	p.timer.Reset(p.idle)
}

func (p *Proxy) unloadIdle() {
	ctx, cancel := context.WithTimeout(context.Background(), quickTime)
	defer cancel()
	_, _ = p.Unload(ctx, false)
}

// Unload lets the provider go: OnUnload, then its program is ended. It returns
// false if it is busy, or said that it does not want to and force is false.
func (p *Proxy) Unload(ctx context.Context, force bool) (bool, error) {
	p.mu.Lock()
	l := p.life
	switch {
	case l == nil:
		p.mu.Unlock()
		return true, nil
	case !force && (p.calls > 0 || !p.set.IsNull()):
		p.mu.Unlock()
		return false, nil
	}
	// Nobody else may get it from here on; who comes waits for the next life.
	for p.loading != nil {
		wait := p.loading
		p.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return false, givenUp(ctx, "OnUnload", p.m.Name)
		}
		p.mu.Lock()
	}
	if p.life != l {
		p.mu.Unlock()
		return true, nil
	}
	p.loading = make(chan struct{})
	p.life = nil
	p.mu.Unlock()

	begin := time.Now()
	uctx, cancel := context.WithTimeout(ctx, quickTime)
	r, err := l.client.Unload(uctx, connect.NewRequest(&providerv1.UnloadRequest{Force: force}))
	cancel()
	stay := err == nil && !r.Msg.Idle && !force
	if !stay {
		l.end()
	}
	p.mu.Lock()
	if stay {
		p.life = l
	} else {
		p.set = vss.GUIDNull
	}
	close(p.loading)
	p.loading = nil
	p.rest()
	p.mu.Unlock()
	if err != nil && errors.Is(err, rpc.ErrNoAnswer) && !ended(l) {
		return true, p.broken(ctx, "OnUnload", time.Since(begin), "it did not answer", err)
	}
	return !stay, nil // OnUnload's result is nobody's error (provider.md 1.2)
}

// Kill ends the program without asking it, as a crash would.
func (p *Proxy) Kill() {
	p.mu.Lock()
	l := p.life
	p.life = nil
	p.mu.Unlock()
	if l != nil {
		l.end()
	}
}

// Close unloads the provider for good.
func (p *Proxy) Close(ctx context.Context) {
	_, _ = p.Unload(ctx, true)
	p.mu.Lock()
	p.gone = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.Kill()
}

// Retire is Close for a stand-in whose place another has taken: it was unloaded
// before, and what is loaded under its name now is the other's.
func (p *Proxy) Retire() {
	p.mu.Lock()
	l := p.life
	p.gone, p.life = true, nil
	p.mu.Unlock()
	if l != nil {
		l.end()
	}
}

// load starts the provider and greets it.
func (p *Proxy) load(ctx context.Context) (*life, error) {
	const op = "OnLoad"
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	l, err := p.o.start(ctx, p.m, p.o)
	if err != nil {
		e := vss.AsError(op, err)
		veto := &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: p.m.Name, Reason: "provider " + p.m.Name + " cannot be started: " + e.Why(),
			Remedy: e.Remedy, Err: brokenBy{err}}
		if p.o.Trouble != nil {
			p.o.Trouble(ctx, veto)
		}
		return nil, veto
	}
	var r *connect.Response[providerv1.LoadResponse]
	err = p.during(ctx, l, func(ctx context.Context) error {
		r, err = l.client.Load(ctx, connect.NewRequest(&providerv1.LoadRequest{Contract: contract, HostName: p.o.HostName, HostTag: p.o.HostTag}))
		return err
	})
	if err == nil {
		want, got := p.m.Properties(), r.Msg.Properties
		switch {
		case r.Msg.Contract != contract:
			err = p.broken(ctx, op, time.Since(begin), fmt.Sprintf("it speaks version %d of the contract", r.Msg.Contract), nil)
		case got == nil || idOf(got.ProviderId) != want.ProviderID || idOf(got.VersionId) != want.VersionID || got.Name != want.Name || got.Version != want.Version:
			err = p.broken(ctx, op, time.Since(begin), "the program says that it is another provider than its manifest does", nil)
		default:
			l.optional = r.Msg.Optional
			return l, nil
		}
	} else {
		err = p.answered(ctx, l, op, begin, err)
	}
	l.end()
	return nil, err
}

// during gives a call up when the program dies.
func (p *Proxy) during(ctx context.Context, l *life, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	if l.done != nil {
		go func() {
			select {
			case <-l.done:
				cancel(errDied)
			case <-stop:
			}
		}()
	}
	return f(ctx)
}

var errDied = errors.New("the program ended")

// died reports whether a program that did not answer has ended. Its socket is
// closed a moment before its parent is told.
func died(ctx context.Context, l *life, err error) bool {
	if l.done == nil || ended(l) {
		return l.done != nil
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false // it was waited for already
	}
	select {
	case <-l.done:
		return true
	case <-time.After(deathTime):
		return false
	}
}

// deathTime is how long a death may take to be known. It may be waited for in
// the hold.
const deathTime = 20 * time.Millisecond

// answered turns what became of a call into what the service is told. A
// provider that did not answer is ended: the next call gets a new one.
func (p *Proxy) answered(ctx context.Context, l *life, method string, begin time.Time, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, rpc.ErrNoAnswer) {
		return p.said(ctx, method, begin, err)
	}
	took := time.Since(begin)
	reason := "it did not answer in kind"
	switch {
	case errors.Is(err, errDied), died(ctx, l, err):
		reason, err = "its program ended", errDied // whatever of it was seen first
	case errors.Is(err, context.Canceled):
		return err // the service gave it up
	case errors.Is(err, context.DeadlineExceeded):
		reason = "it did not answer in time"
	}
	p.mu.Lock()
	if p.life == l {
		p.life = nil
	}
	p.mu.Unlock()
	go l.end() // which may take its time; the release waits for nobody
	return p.broken(ctx, method, took, reason, err)
}

// said cleans an error that the provider itself answered.
func (p *Proxy) said(ctx context.Context, method string, begin time.Time, err error) error {
	e := *vss.AsError(method, err)
	if !e.Code.Failed() {
		return p.broken(ctx, method, time.Since(begin), "it answered an error whose code is the success "+e.Code.String(), err)
	}
	for _, s := range []*string{&e.Op, &e.Object, &e.Reason, &e.Remedy} {
		*s = shortened(*s)
	}
	e.Op = cmp.Or(e.Op, method)
	e.EventID = "" // theirs would be a number of ours
	return &e
}

// points are where tests kill a provider under a call.
var points = func() map[string]*failpoint.Point {
	out := map[string]*failpoint.Point{}
	for _, m := range []string{"AreLUNsSupported", "BeginPrepareSnapshot", "EndPrepareSnapshots", "PreCommitSnapshots", "CommitSnapshots", "PostCommitSnapshots",
		"GetTargetLUNs", "PreFinalCommitSnapshots", "PostFinalCommitSnapshots", "AbortSnapshots", "DropSet", "LocateLUNs", "FillInLUNInfo", "OnLUNStateChange", "OnLUNEmpty"} {
		out[m] = failpoint.New("provider." + m)
	}
	return out
}()

// invoke makes one call.
func (p *Proxy) invoke(ctx context.Context, method string, limit time.Duration, mayStart bool, f func(context.Context, providerv1connect.ProviderServiceClient) error) error {
	l, release, err := p.acquire(ctx, method, mayStart)
	if err != nil {
		return err
	}
	defer release()
	cctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begin := time.Now()
	defer underway.Begin(cctx, underway.Wait{Kind: underway.Provider, What: method, Who: p.m.Name, Object: p.subject(), PID: l.pid})()
	err = p.during(cctx, l, func(ctx context.Context) error {
		if pt := points[method]; pt != nil {
			_ = pt.Hit(ctx) // what happened meanwhile the call itself finds out
		}
		return f(ctx, l.client)
	})
	var bad nonsense
	if errors.As(err, &bad) {
		return p.broken(ctx, method, time.Since(begin), "it answered nonsense: "+string(bad), nil)
	}
	return p.answered(ctx, l, method, begin, err)
}

// tried remembers what became of the last loading. p.mu is held.
func (p *Proxy) tried(err error) {
	if p.failed == nil {
		p.since = time.Now()
	}
	p.failed = err
}

// Failing says why the provider was not loaded when it was tried last, and since
// when that is so; nil if it was.
func (p *Proxy) Failing() (since time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since, p.failed
}

// subject is the set that is being made, for whoever asks what is waited for.
func (p *Proxy) subject() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set.IsNull() {
		return ""
	}
	return "set " + p.set.String()
}

// Offers implements provider.Partly. What a provider offers is asked of itself,
// once: it is loaded for that.
func (p *Proxy) Offers(ask any) bool {
	i := slices.IndexFunc(optionals, func(o struct {
		wire providerv1.Optional
		ask  any
		has  func(provider.Provider) bool
	}) bool {
		return o.ask == ask
	})
	if i < 0 {
		return false
	}
	p.mu.Lock()
	known, quiet := p.known, p.stores.quiet
	if known == nil && optionals[i].wire == providerv1.Optional_OPTIONAL_BACKING_STORES && len(p.stores.last) > 0 {
		p.mu.Unlock()
		return true // in an earlier life it did, and what it said then is known
	}
	p.mu.Unlock()
	if known == nil {
		// Asked for every volume of everybody's sets: one that does not start
		// costs a moment, and not again soon.
		if time.Now().Before(quiet) {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), storesTime)
		defer cancel()
		l, release, err := p.acquire(ctx, "OnLoad", true)
		if err != nil {
			p.mu.Lock()
			p.stores.quiet = time.Now().Add(storesPause)
			p.mu.Unlock()
			return false
		}
		known = l.optional
		release()
	}
	return slices.Contains(known, optionals[i].wire)
}
