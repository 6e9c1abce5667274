// Package registry knows the providers of this machine and keeps their
// answers within the contract: a code a provider may not return becomes
// VSS_E_UNEXPECTED_PROVIDER_ERROR that names provider and method
// (provider.md 4).
package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/provider/remote"
	"github.com/umbra-vss/umbra/vss"
)

// Registry is the list of providers: those built in, and those that were
// registered, which are programs of their own. It is safe for concurrent use.
type Registry struct {
	builtIn []provider.Hardware

	changing sync.Mutex // registrations, one at a time
	catalog  *catalog.Catalog
	options  remote.Options
	bootID   string

	mu      sync.Mutex
	foreign []*remote.Proxy
}

// New returns a registry of these built-in providers, asked in this order.
func New(hardware ...provider.Hardware) *Registry { return &Registry{builtIn: hardware} }

// List returns the properties of every provider.
func (r *Registry) List() []vss.ProviderProp {
	var out []vss.ProviderProp
	for _, p := range r.Hardware() {
		out = append(out, p.Properties())
	}
	return out
}

// Hardware returns all hardware providers, those built in first.
func (r *Registry) Hardware() []provider.Hardware {
	out := slices.Clone(r.builtIn)
	for _, p := range r.proxies() {
		out = append(out, p)
	}
	return out
}

// Get returns the provider with this ID, or VSS_E_PROVIDER_NOT_REGISTERED.
func (r *Registry) Get(id vss.ID) (provider.Hardware, error) {
	for _, p := range r.Hardware() {
		if p.Properties().ProviderID == id {
			return p, nil
		}
	}
	return nil, &vss.Error{Code: vss.VSS_E_PROVIDER_NOT_REGISTERED, Op: "find provider", Object: id.String(),
		Reason: "no provider with this ID is registered on this machine", Remedy: "Install and register the provider, see umbra list providers"}
}

// Guard calls a provider's method and turns its panic into VSS_E_UNEXPECTED.
// Whoever calls providers in goroutines of their own needs it: nothing else
// stands between such a panic and the end of the service.
func Guard(method string, call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = rpc.Panicked(method, r)
		}
	}()
	return call()
}

// Checked translates what a provider's method returned. nil stays nil, and a
// context that ended stays what it is.
func Checked(ctx context.Context, p provider.Provider, method string, err error) error {
	if err == nil {
		return nil
	}
	if vss.CodeOf(err) == vss.E_OUTOFMEMORY { // of this machine, not of the provider
		return vss.AsError(method, err)
	}
	if errors.Is(err, provider.ErrBroken) {
		return err // it names provider, method and time, and has its event
	}
	var ve *vss.Error
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Cause(ctx)) || (errors.As(err, &ve) && ve.Code == vss.E_ABORT)) {
		return err
	}
	if errors.As(err, &ve) && (ve.Code.Failed() && provider.Allowed(ve.Code) || ve.Code == vss.VSS_E_PROVIDER_NOT_REGISTERED ||
		ve.Code == vss.VSS_E_VOLUME_IN_USE || ve.Code == vss.VSS_E_INVALID_XML_DOCUMENT) {
		return err
	}
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, Op: method, Object: p.Properties().Name,
		Reason: fmt.Sprintf("provider %s answered %s with a code the contract does not allow: %v", p.Properties().Name, method, vss.CodeOf(err)),
		Remedy: "Check the provider's own log and the storage system, then try again", Err: err}
	if tell := unlisted.Load(); tell != nil {
		(*tell)(SessionOf(ctx), e)
	}
	return e
}

var unlisted atomic.Pointer[func(vss.ID, *vss.Error)]

// OnUnlisted has f told of every answer the contract does not allow
// (requester.md 3.9), and in which session. It may be called while writes are
// held, and must not wait.
func OnUnlisted(f func(session vss.ID, err *vss.Error)) { unlisted.Store(&f) }

// SessionOf is the session in which a provider is called, or GUID_NULL.
func SessionOf(ctx context.Context) vss.ID { return underway.SessionOf(ctx) }

// WithSession says in which session the providers are called.
func WithSession(ctx context.Context, session vss.ID) context.Context {
	return underway.WithSession(ctx, session)
}
