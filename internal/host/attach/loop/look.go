package loop

import (
	"context"
	"time"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
)

// lookLife is how long what Look saw may be believed.
const lookLife = 2 * time.Second

// look is a view of this host's LUNs among the machine's loop devices.
type look struct {
	at   time.Time
	done chan struct{} // closed when the rest is there
	here map[lun.NAA]block.Device
	err  error
}

// Look begins to look what is attached here already, for the Rescan that will
// follow: while the array unmasks LUNs there is time for it, and of a machine
// with a hundred loop devices it takes a millisecond. It does not wait.
func (i *Initiator) Look(ctx context.Context) {
	l := &look{at: time.Now(), done: make(chan struct{})}
	i.lookMu.Lock()
	i.seen = l
	i.lookMu.Unlock()
	go func() {
		defer close(l.done)
		l.here, l.err = i.enumerate(ctx)
	}()
}

// looked gives away what Look saw, if nothing that this initiator did since can
// have changed it; nil otherwise.
func (i *Initiator) looked(ctx context.Context) map[lun.NAA]block.Device {
	i.lookMu.Lock()
	l := i.seen
	i.seen = nil
	i.lookMu.Unlock()
	if l == nil || time.Since(l.at) > lookLife {
		return nil
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		return nil
	}
	if l.err != nil {
		return nil
	}
	return l.here
}

// changed forgets what Look saw: devices come or go.
func (i *Initiator) changed() {
	i.lookMu.Lock()
	defer i.lookMu.Unlock()
	i.seen = nil
}
