package catalog

import (
	"context"
	"sync"
	"time"
)

// gate lets transactions pass, and holds them back while a set holds writes.
type gate struct {
	rw sync.RWMutex // held for writing during a hold

	mu   sync.Mutex
	held chan struct{} // closed when the current hold ends; nil when none
}

// retry is how often a transaction asks again while a hold is beginning.
const retry = time.Millisecond

// hold closes the gate. It waits for transactions under way, at most until ctx
// ends; the gate is open again then.
func (g *gate) hold(ctx context.Context) (open func(), err error) {
	got := make(chan struct{})
	go func() { g.rw.Lock(); close(got) }()
	select {
	case <-got:
	case <-ctx.Done():
		go func() { <-got; g.rw.Unlock() }()
		return nil, ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make(chan struct{})
	g.held = held
	return func() {
		g.mu.Lock()
		g.held = nil
		g.mu.Unlock()
		g.rw.Unlock()
		close(held)
	}, nil
}

// holding returns the channel that closes when the current hold ends, nil if
// there is none.
func (g *gate) holding() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// enter waits until nothing is held, or ctx ends, and keeps holds out until
// leave is called.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	for {
		if held := g.holding(); held != nil {
			select {
			case <-held:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if leave := g.tryEnter(); leave != nil {
			return leave, nil
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryEnter is enter that does not wait; nil while the gate is closed or
// closing.
func (g *gate) tryEnter() (leave func()) {
	if !g.rw.TryRLock() {
		return nil
	}
	return g.rw.RUnlock
}
