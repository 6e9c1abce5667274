// Package underway is this process's list of what it waits for: providers and
// arrays that were called, programs that run, mounts and devices the kernel was
// asked about. Whoever calls somebody outside writes it down before and strikes
// it out after, so that `umbra doctor` can say who is stuck and since when, also
// when nobody will ever answer.
//
// The list is in memory and takes a microsecond: it is kept while writes are held.
package underway

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// Kind is what sort of thing is waited for.
type Kind string

// Kinds.
const (
	Request  Kind = "request"  // a requester's call to this service
	Provider Kind = "provider" // a method of a provider's program
	Array    Kind = "array"    // a call to an array
	Program  Kind = "program"  // a helper program
	Mount    Kind = "mount"    // mount, unmount
	Device   Kind = "device"   // open, probe, configure
)

// Wait is one thing that is waited for.
type Wait struct {
	Kind     Kind
	What     string // the method, or the program with its arguments
	Who      string // the provider, the array; "" where What says it
	Object   string // the set, the mount point, the device; "" if that is not known here
	PID      int    // of who is waited for, 0 if it is no process of this machine
	Session  vss.ID // in which it is done, or GUID_NULL
	Since    time.Time
	Deadline time.Time // when it is given up; zero: never
}

var list = struct {
	sync.Mutex
	next uint64
	by   map[uint64]Wait
}{by: map[uint64]Wait{}}

// Begin writes down a wait and returns the function that strikes it out, which
// may be called from any goroutine. Since is now; session and deadline are the
// context's where w has none.
func Begin(ctx context.Context, w Wait) (end func()) {
	w.Since = time.Now()
	if w.Session.IsNull() {
		w.Session = SessionOf(ctx)
	}
	if d, ok := ctx.Deadline(); ok && w.Deadline.IsZero() {
		w.Deadline = d
	}
	list.Lock()
	list.next++
	id := list.next
	list.by[id] = w
	list.Unlock()
	return func() {
		list.Lock()
		delete(list.by, id)
		list.Unlock()
	}
}

// Waits are all there are now, the oldest first.
func Waits() []Wait {
	list.Lock()
	out := make([]Wait, 0, len(list.by))
	for _, w := range list.by {
		out = append(out, w)
	}
	list.Unlock()
	slices.SortFunc(out, func(a, b Wait) int { return a.Since.Compare(b.Since) })
	return out
}

type sessionKey struct{}

// WithSession says in which session all that is done with the context is done.
func WithSession(ctx context.Context, session vss.ID) context.Context {
	return context.WithValue(ctx, sessionKey{}, session)
}

// SessionOf is that session, or GUID_NULL.
func SessionOf(ctx context.Context) vss.ID {
	session, _ := ctx.Value(sessionKey{}).(vss.ID)
	return session
}
