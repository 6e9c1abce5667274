package freeze

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// How long the daemon waits for its guard. None of these delays a release by
// a guard that works: that takes a few milliseconds.
const (
	unansweredAfter = 200 * time.Millisecond // then the daemon thaws by itself
	staleAfter      = 100 * time.Millisecond // heartbeats come every 20 ms
	giveUpAfter     = 2 * time.Second        // then Thaw returns, whatever is stuck
	abortedAfter    = 500 * time.Millisecond // then a failed Freeze returns
	exitsAfter      = 300 * time.Millisecond // a guard told to go, or killed
)

// Holder is what a creation needs of a guard. *Guard is one; tests of what
// happens around a hold have one that freezes nothing.
type Holder interface {
	Freeze(ctx context.Context) error
	Lost() <-chan struct{}
	Thaw() Report
	Close() error
}

// Guard is a running freeze guard and the daemon's half of it: one hold, then
// it is used up. Methods may be called concurrently; Freeze succeeds once.
type Guard struct {
	limit time.Duration
	log   *slog.Logger
	units []*unit
	proc  *process
	page  *wire.Page // unmapped when the Guard is unreachable

	fdmu   sync.RWMutex // held to use descriptors, and exclusively to close them
	closed bool
	pageFD int
	wake   int // eventfd: makes watch look

	ready  chan struct{} // closed: locked in memory
	frozen chan struct{} // closed: all frozen, or given up
	done   chan struct{} // closed: nothing of ours is frozen any more
	lost   chan struct{} // closed: the hold ended without Thaw
	gone   chan struct{} // closed: the process has ended and all is cleaned up

	mu        sync.Mutex
	began     time.Duration // when Freeze was sent; 0 before
	released  bool          // Thaw, Close or a failed Freeze asked for the release
	taken     bool          // the daemon thaws, the guard is killed
	exited    bool          // the process has ended
	closing   bool          // Close told it to end
	broken    string        // why the daemon took over, if that spoils the hold
	held      bool          // every filesystem was frozen at one time
	freezeErr error
	report    *Report
	words     string // the guard's last
	rescues   sync.WaitGroup
}

// unit is one superblock.
type unit struct {
	members  []*Filesystem
	fd       int
	counters []int
	// The daemon's own thaw, under Guard.mu.
	running    int
	rescued    bool
	errno      unix.Errno
	begin, end time.Duration
	// Counters the daemon read before its own first thaw.
	after   wire.Counters
	afterOK bool
}

func (u *unit) name() string { return u.members[0].Name() }

// PID is the guard's process ID.
func (g *Guard) PID() int { return g.proc.pid }

// Lost is closed when the hold ended otherwise than by Thaw: the limit passed,
// or the guard died. What is being committed then is torn. Thaw still has to
// be called, and says why.
func (g *Guard) Lost() <-chan struct{} { return g.lost }

// Freeze freezes all filesystems in parallel and returns nil when all are
// frozen. Otherwise everything it froze is thawed again when it returns, save
// a filesystem whose FIFREEZE has not come back yet: that is thawed when it
// does, and [Quarantined] until then. A filesystem that somebody else froze
// stays frozen.
//
// Errors: VSS_E_VOLUME_IN_USE for one that is frozen by somebody else;
// VSS_E_VOLUME_NOT_SUPPORTED for one that cannot be; VSS_E_FLUSH_WRITES_TIMEOUT
// when ctx or the limit ends first; VSS_E_BAD_STATE for a second call;
// E_ACCESSDENIED; VSS_E_UNEXPECTED, also when the guard dies.
func (g *Guard) Freeze(ctx context.Context) error {
	if ctx.Err() != nil {
		return flushTimeout("all volumes of the set", "no time was left to freeze", context.Cause(ctx))
	}
	g.mu.Lock()
	switch {
	case g.began != 0 || g.released:
		g.mu.Unlock()
		return badState("it has been used already", "Start a new guard")
	case g.exited:
		defer g.mu.Unlock()
		return guardTrouble("it died before anything was frozen", g.words)
	}
	g.began = Now()
	g.mu.Unlock()
	defer expedite(&g.page.Expedited)() // until all are frozen
	if err := g.send(wire.Message{Kind: wire.Freeze, A: uint64(g.limit)}); err != nil {
		g.takeOver("the guard died")
	}
	g.poke()
	select {
	case <-g.frozen:
	case <-g.lost:
	case <-ctx.Done():
	}
	g.mu.Lock()
	err := g.freezeOutcome(ctx)
	if err == nil {
		g.held = true
		g.mu.Unlock()
		return nil
	}
	g.freezeErr, g.released = err, true
	g.mu.Unlock()
	g.release(abortedAfter)
	return err
}

// freezeOutcome judges a Freeze that is over. g.mu is held.
func (g *Guard) freezeOutcome(ctx context.Context) error {
	for i, u := range g.units {
		if s := &g.page.Slots[i]; s.State.Load() == wire.StateFailed {
			return freezeFailed(u.name(), u.members[0].target.Path, unix.Errno(s.FreezeErrno.Load()))
		}
	}
	phase, complete := g.page.Phase.Load(), g.page.CountersRead.Load() == 1
	switch {
	case g.taken && g.broken != "" && g.broken != exceeded(g.limit):
		return guardTrouble(g.broken, g.words)
	case ctx.Err() != nil:
		return flushTimeout(g.slowest(), "it was not frozen in time: the freeze had not come back after "+(Now()-g.began).Round(10*time.Millisecond).String(), context.Cause(ctx))
	case phase == wire.PhaseHolding && !g.taken, complete:
		return nil // a hold that has ended since is Thaw's to report
	case g.released:
		return badState("it was thawed while it was freezing", "Start a new guard")
	case g.page.Cause.Load() == wire.CauseLimit, g.taken:
		return flushTimeout(g.slowest(), "it was not frozen within "+g.limit.String(), nil)
	}
	return guardTrouble("it gave up freezing by itself", g.words)
}

// slowest names the filesystems whose FIFREEZE has not come back, or the one
// that took longest.
func (g *Guard) slowest() string {
	var names string
	longest, who := int64(-1), ""
	for i, u := range g.units {
		s := &g.page.Slots[i]
		switch took := s.FreezeEnd.Load() - s.FreezeBegin.Load(); {
		case s.State.Load() == wire.StateFreezing:
			if names != "" {
				names += ", "
			}
			names += u.name()
		case took > longest:
			longest, who = took, u.name()
		}
	}
	if names != "" {
		return names
	}
	return who
}

// Thaw releases everything and reports on the hold. It returns within a few
// milliseconds when the guard answers, and within a bounded time (about two
// seconds) in any case; what is stuck in the kernel then is thawed in the
// background. A second call returns the same report.
func (g *Guard) Thaw() Report {
	g.mu.Lock()
	if g.report != nil {
		defer g.mu.Unlock()
		return *g.report
	}
	if g.began == 0 {
		g.mu.Unlock()
		return Report{Err: badState("nothing is held", "Call Freeze first")}
	}
	g.released = true
	g.mu.Unlock()
	g.release(giveUpAfter)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.report == nil {
		g.report = g.makeReport()
	}
	return *g.report
}

// release tells the guard to thaw, does it itself when the guard does not,
// and puts in quarantine what is not through after the given time.
func (g *Guard) release(patience time.Duration) {
	_ = g.send(wire.Message{Kind: wire.Thaw})
	g.poke()
	if !within(g.done, unansweredAfter) {
		if g.unresponsive() {
			g.takeOver("")
		}
		if !within(g.done, patience-unansweredAfter) {
			g.mu.Lock()
			if !isClosed(g.gone) {
				g.quarantineUnsettled()
			}
			g.mu.Unlock()
		}
	}
}

// unresponsive: no heartbeat, or a filesystem nobody has begun to thaw.
func (g *Guard) unresponsive() bool {
	if Now()-time.Duration(g.page.Beat.Load()) > staleAfter {
		return true
	}
	for i := range g.units {
		if g.page.Slots[i].State.Load() == wire.StateFrozen {
			return true
		}
	}
	return false
}

// Close thaws what is still frozen and ends the guard. Beside the thaw it
// waits less than a second; a guard with a thread stuck in the kernel ends when
// that comes back. It always returns nil, and may be called again.
func (g *Guard) Close() error {
	g.mu.Lock()
	holding := g.began != 0 && !g.released
	g.released = true
	g.mu.Unlock()
	if holding {
		g.Thaw()
	}
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	g.hangUp()
	if within(g.gone, exitsAfter) {
		return nil
	}
	g.mu.Lock()
	harmless := g.began == 0 || isClosed(g.done)
	g.mu.Unlock()
	if harmless { // stopped, perhaps; it has nothing left to thaw
		g.kill()
	} else {
		g.log.Warn("the freeze guard is stuck in the kernel and left to itself until that comes back", "pid", g.PID())
	}
	within(g.gone, exitsAfter)
	return nil
}

func within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}
