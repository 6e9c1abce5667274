package registry

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/provider/remote"
	"github.com/umbra-vss/umbra/vss"
)

// Open takes the registered providers from the catalogue. Programs that an
// earlier life of the service left are ended: nobody can say what they were
// told, and the next call starts them anew. A registration that cannot be read
// does not keep the others from working.
func (r *Registry) Open(c *catalog.Catalog, o remote.Options, bootID string) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Remember = func(ctx context.Context, id vss.ID, stores []provider.BackingStore) {
		if err := r.remember(ctx, id, stores); err != nil {
			o.Log.Error("record the filesystems below a provider's LUNs", "id", id, "err", err)
		}
	}
	r.catalog, r.options, r.bootID = c, o, bootID
	remote.Sweep(o.Dir)
	return c.View(func(t *catalog.Tx) error {
		all, err := t.Providers()
		for _, p := range all {
			m, err := remote.ParseManifest([]byte(p.Manifest))
			if err != nil {
				o.Log.Error("a registered provider cannot be used", "id", p.ID, "err", err)
				continue
			}
			x := remote.New(m, o)
			x.Recall(storesOf(p, bootID))
			r.foreign = append(r.foreign, x)
		}
		return err
	})
}

// storesOf are the filesystems below a provider's LUNs as it named them in an
// earlier life of the service. After a boot they have other numbers, and those
// that are not there are below nothing.
func storesOf(p catalog.Provider, bootID string) (out []provider.BackingStore) {
	for _, s := range p.Stores {
		if p.BootID != bootID {
			var st unix.Stat_t
			if unix.Stat(s.Path, &st) != nil {
				continue
			}
			s.Device = st.Dev
		}
		out = append(out, provider.BackingStore{Device: s.Device, Path: s.Path})
	}
	return out
}

func recordOf(stores []provider.BackingStore) (out []catalog.ProviderStore) {
	for _, s := range stores {
		out = append(out, catalog.ProviderStore{Device: s.Device, Path: s.Path})
	}
	return out
}

// remember keeps them for when the provider cannot be asked: a set that would
// freeze what its LUNs lie on is refused then, too.
func (r *Registry) remember(ctx context.Context, id vss.ID, stores []provider.BackingStore) error {
	return r.catalog.Update(ctx, func(t *catalog.Tx) error {
		all, err := t.Providers()
		for _, p := range all {
			if p.ID == id { // one that is being validated is not registered
				p.Stores, p.BootID = recordOf(stores), r.bootID
				return t.PutProvider(p)
			}
		}
		return err
	})
}

// Load loads all providers that are programs of their own, all at once.
func (r *Registry) Load(ctx context.Context) error {
	ps := r.proxies()
	errs := make([]error, len(ps))
	var wg sync.WaitGroup
	for i, p := range ps {
		wg.Go(func() { errs[i] = Checked(ctx, p, "OnLoad", p.OnLoad(ctx)) })
	}
	wg.Wait()
	return vss.Join("", errs...)
}

// Close ends all providers' programs.
func (r *Registry) Close(ctx context.Context) {
	for _, p := range r.proxies() {
		p.Close(ctx)
	}
}

func (r *Registry) proxies() []*remote.Proxy {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.foreign)
}

// Foreign is a registered provider that is a program of its own, or nil.
func (r *Registry) Foreign(id vss.ID) *remote.Proxy {
	for _, p := range r.proxies() {
		if p.Properties().ProviderID == id {
			return p
		}
	}
	return nil
}

// Options are what stand-ins for providers are made with; false if none can be
// registered.
func (r *Registry) Options() (remote.Options, bool) { return r.options, r.catalog != nil }

func registered(op string, m remote.Manifest) error {
	return &vss.Error{Code: vss.VSS_E_PROVIDER_ALREADY_REGISTERED, Op: op, Object: m.ID.String(), Reason: "a provider with this ID is registered",
		Remedy: "Unregister it first (umbra provider unregister), or register with --replace; two providers never have one ID"}
}

// Register makes a provider known, durably (provider.md 1.1). It is loaded once
// to see that its program is who the manifest says. With replace it takes the
// place of a registered one of the same ID.
func (r *Registry) Register(ctx context.Context, raw []byte, replace bool) (vss.ProviderProp, error) {
	const op = "RegisterProvider"
	r.changing.Lock()
	defer r.changing.Unlock()
	m, err := remote.ParseManifest(raw)
	if err == nil {
		err = m.Check()
	}
	if err != nil {
		return vss.ProviderProp{}, err
	}
	if r.catalog == nil {
		return vss.ProviderProp{}, &vss.Error{Code: vss.E_NOTIMPL, Op: op, Reason: "this service takes no providers", Remedy: "Use the machine's own"}
	}
	old := r.Foreign(m.ID)
	if _, err := r.Get(m.ID); err == nil && (old == nil || !replace) {
		return vss.ProviderProp{}, registered(op, m)
	}
	if old != nil {
		if gone, err := old.Unload(ctx, false); err != nil || !gone {
			return vss.ProviderProp{}, busy(op, m.ID, err)
		}
	}
	p := remote.New(m, r.options)
	stores, err := firstWords(ctx, p)
	if err != nil {
		p.Close(ctx)
		return vss.ProviderProp{}, err
	}
	if err := r.catalog.Update(ctx, func(t *catalog.Tx) error {
		if err := t.PutProvider(catalog.Provider{ID: m.ID, Manifest: string(raw), Stores: recordOf(stores), BootID: r.bootID}); err != nil {
			return err
		}
		_, err := t.AddEvent(catalog.Event{Level: "info", Name: "provider.registered", Object: m.ID.String(), Message: "provider " + m.Name + ", version " + m.Version})
		return err
	}); err != nil {
		p.Close(ctx)
		return vss.ProviderProp{}, err
	}
	r.mu.Lock()
	r.foreign = append(slices.DeleteFunc(r.foreign, func(f *remote.Proxy) bool { return f == old }), p)
	r.mu.Unlock()
	if old != nil {
		old.Retire()
	}
	return m.Properties(), nil
}

// firstWords loads a provider, and asks what below its LUNs must not be frozen:
// from here on that is known whether it starts or not.
func firstWords(ctx context.Context, p *remote.Proxy) ([]provider.BackingStore, error) {
	if err := p.OnLoad(ctx); err != nil {
		return nil, err
	}
	if _, ok := provider.As[provider.BackingStores](p); !ok {
		return nil, nil
	}
	stores, err := p.AskStores(ctx)
	if err = Checked(ctx, p, "BackingStores", err); err != nil {
		return nil, err
	}
	p.Recall(stores)
	return stores, nil
}

func busy(op string, id vss.ID, err error) error {
	return &vss.Error{Code: vss.VSS_E_PROVIDER_IN_USE, Op: op, Object: id.String(), Reason: "the provider is making a set or answering a call, or does not want to be unloaded",
		Remedy: "Wait until that is done and try again", Err: err}
}

// Unregister forgets a provider: VSS_E_PROVIDER_IN_USE while it makes a set, or,
// without force, while copies of it are on this machine.
func (r *Registry) Unregister(ctx context.Context, id vss.ID, force bool) error {
	const op = "UnregisterProvider"
	r.changing.Lock()
	defer r.changing.Unlock()
	if slices.ContainsFunc(r.builtIn, func(p provider.Hardware) bool { return p.Properties().ProviderID == id }) {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: id.String(), Reason: "the provider is part of Umbra", Remedy: "Remove its arrays instead"}
	}
	p := r.Foreign(id)
	if p == nil {
		_, err := r.Get(id)
		return err
	}
	if _, _, working := p.Status(); working {
		return busy(op, id, nil)
	}
	errUsed := errors.New("used")
	err := r.catalog.Update(ctx, func(t *catalog.Tx) error {
		copies, err := t.Copies()
		if err != nil {
			return err
		}
		luns, err := t.LUNs()
		if err != nil {
			return err
		}
		intents, err := t.Intents()
		if err != nil {
			return err
		}
		if !force && (slices.ContainsFunc(copies, func(c catalog.Copy) bool { return c.Prop.ProviderID == id }) ||
			slices.ContainsFunc(luns, func(l catalog.LUN) bool { return l.ProviderID == id }) ||
			slices.ContainsFunc(intents, func(in catalog.Intent) bool {
				return slices.ContainsFunc(in.Parts, func(p catalog.IntentPart) bool { return p.ProviderID == id })
			})) {
			return errUsed
		}
		if err := t.DeleteProvider(id); err != nil {
			return err
		}
		_, err = t.AddEvent(catalog.Event{Level: "info", Name: "provider.unregistered", Object: id.String(), Message: "provider " + p.Properties().Name})
		return err
	})
	if errors.Is(err, errUsed) {
		return &vss.Error{Code: vss.VSS_E_PROVIDER_IN_USE, Op: op, Object: id.String(), Reason: "copies that the provider made are on this machine, or of a failed set that is still to be dropped",
			Remedy: "Delete them (umbra list copies, umbra list luns --orphaned), or wait until the event recovery.create-dropped, or give --force and delete them with the provider's own tools"}
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.foreign = slices.DeleteFunc(r.foreign, func(f *remote.Proxy) bool { return f == p })
	r.mu.Unlock()
	p.Close(ctx)
	return nil
}

// Status is a registered provider and its program.
type Status struct {
	Properties vss.ProviderProp
	BuiltIn    bool
	Loaded     bool
	PID        int
	Program    string
}

// Statuses lists all providers.
func (r *Registry) Statuses() []Status {
	var out []Status
	for _, p := range r.builtIn {
		out = append(out, Status{Properties: p.Properties(), BuiltIn: true, Loaded: true})
	}
	for _, p := range r.proxies() {
		s := Status{Properties: p.Properties(), Program: p.Manifest().Program + p.Manifest().Socket}
		s.Loaded, s.PID, _ = p.Status()
		out = append(out, s)
	}
	return out
}

// Failed is a registered provider whose program did not start when it was tried
// last.
type Failed struct {
	Status
	Err   error
	Since time.Time
}

// Failing lists those.
func (r *Registry) Failing() (out []Failed) {
	for _, p := range r.proxies() {
		if since, err := p.Failing(); err != nil {
			out = append(out, Failed{Status{Properties: p.Properties(), Program: p.Manifest().Program + p.Manifest().Socket}, err, since})
		}
	}
	return out
}
