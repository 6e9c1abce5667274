package provider

import (
	"context"
	"errors"

	"github.com/umbra-vss/umbra/vss"
)

// As finds an optional interface of a provider. Whoever needs one asks here and
// not with a type assertion of his own: the stand-in for a provider in another
// process has every method, and only knows which of them the provider does.
func As[T any](p Provider) (T, bool) {
	o, ok := p.(T)
	if s, partly := p.(Partly); ok && partly && !s.Offers((*T)(nil)) {
		ok = false
	}
	return o, ok
}

// Partly is a provider that does not do all that it has methods for.
type Partly interface {
	// Offers reports whether the provider does what an optional interface of
	// this package asks, given as a nil pointer to it: (*Describer)(nil).
	Offers(optional any) bool
}

// Notifications is IVssProviderNotifications (provider.md 1.2), for providers
// that want to know when they are loaded and unloaded. Both may be often:
// whatever must not be lost is not kept in memory alone.
type Notifications interface {
	// OnLoad is called before any other method.
	OnLoad(ctx context.Context) error
	// OnUnload is called before the provider is let go. It returns false for
	// "do not unload me", which counts only if force is false. A set that is
	// being made is aborted by it.
	OnUnload(ctx context.Context, force bool) (idle bool, err error)
}

// SetDropper is the optional interface of a storage system that can delete
// what it has of a set whose creation was broken off, durable or not. The
// service calls it after it died in a creation: no document was issued, so
// nobody waits for the set, and AbortSnapshots leaves a complete set alone.
type SetDropper interface {
	// DropSet is idempotent; a set nothing is known of is success.
	DropSet(ctx context.Context, set vss.ID) error
}

// ErrBroken matches, with errors.Is, an error that a provider's stand-in made
// because the provider died, did not answer in time, or answered nonsense. It
// has been told as an event already.
var ErrBroken = errors.New("the provider is broken")
