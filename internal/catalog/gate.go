package catalog

import (
	"context"
	"sync"
)

// gate lets transactions pass, and holds them back while a set holds writes.
type gate struct {
	mu     sync.Mutex
	inside int           // transactions under way
	shut   chan struct{} // of the hold that is there or beginning, closed when it ends; nil when none
	idle   chan struct{} // closed when the last transaction has left; nil when no hold waits for that
}

// hold closes the gate. It waits for transactions under way, at most until ctx
// ends; the gate is open again then. While it waits nobody new gets in.
func (g *gate) hold(ctx context.Context) (open func(), err error) {
	g.mu.Lock()
	for g.shut != nil {
		other := g.shut
		g.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		g.mu.Lock()
	}
	mine := make(chan struct{})
	g.shut = mine
	var idle chan struct{}
	if g.inside > 0 {
		idle = make(chan struct{})
		g.idle = idle
	}
	g.mu.Unlock()
	open = func() {
		g.mu.Lock()
		g.shut, g.idle = nil, nil
		g.mu.Unlock()
		close(mine)
	}
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			open()
			return nil, ctx.Err()
		}
	}
	return open, nil
}

// enter waits until nothing is held, or ctx ends, and keeps holds out until
// leave is called.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	for {
		if leave, ok := g.tryEnter(); ok {
			return leave, nil
		}
		g.mu.Lock()
		shut := g.shut
		g.mu.Unlock()
		if shut == nil {
			continue // it has just opened
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// tryEnter is enter that does not wait; false while the gate is shut.
func (g *gate) tryEnter() (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		return nil, false
	}
	g.inside++
	return g.leave, true
}
