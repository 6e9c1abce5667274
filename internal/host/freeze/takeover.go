package freeze

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// takeOver makes the daemon thaw everything that is, or may be, frozen by the
// guard, at once and without waiting for it, and kills the guard: one that was
// stopped and comes back must find nothing to do. broken says why the hold is
// spoilt by this; "" means it need not be.
func (g *Guard) takeOver(broken string) {
	defer g.evaluate()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.taken || isClosed(g.done) {
		return
	}
	g.taken, g.broken = true, broken
	g.kill()
	if g.page.CountersRead.Load() == 0 {
		for _, u := range g.units {
			u.after, u.afterOK = readCounters(u.counters)
		}
	}
	for i, u := range g.units {
		if g.claim(i) {
			g.rescue(u)
		}
	}
	if !g.exited {
		g.quarantineUnsettled()
	}
	if !g.released {
		shut(g.lost)
	}
	shut(g.frozen)
}

// claim decides whether a superblock needs the daemon's thaw. g.mu is held.
func (g *Guard) claim(i int) bool {
	s := &g.page.Slots[i]
	if s.State.CompareAndSwap(wire.StateFrozen, wire.StateClaimed) {
		return true
	}
	switch s.State.Load() {
	case wire.StateFreezing, wire.StateThawing: // unknown: it may be frozen, by us
		return true
	case wire.StateThawed:
		errno := unix.Errno(s.ThawErrno.Load())
		return errno != 0 && errno != unix.EINVAL
	}
	return false
}

// rescue thaws one superblock in a thread of its own, which can block. g.mu is
// held.
func (g *Guard) rescue(u *unit) {
	u.running++
	g.rescues.Go(func() {
		begin := Now()
		errno := thawFD(u.fd)
		for try := 0; errno != 0 && errno != unix.EINVAL && try < 20; try++ {
			time.Sleep(10 * time.Millisecond)
			errno = thawFD(u.fd)
		}
		end := Now()
		g.mu.Lock()
		u.running--
		if !u.rescued || errno == 0 {
			u.errno, u.begin, u.end = errno, begin, end
		}
		u.rescued = true
		g.mu.Unlock()
		g.poke()
		g.evaluate()
	})
}

// lastRites runs when every thread of the guard is gone. A FIFREEZE that came
// through after all has left a freeze without an owner: it is thawed now, and
// only then the filesystem leaves quarantine.
func (g *Guard) lastRites() {
	g.evaluate()
	g.mu.Lock()
	unfinished := g.began != 0 && !isClosed(g.done)
	g.words = g.proc.lastWords()
	g.mu.Unlock()
	if unfinished {
		g.takeOver(g.whyGone())
	}
	g.mu.Lock()
	g.exited = true
	if g.taken {
		for i, u := range g.units {
			switch g.page.Slots[i].State.Load() {
			case wire.StateFreezing:
				g.rescue(u)
			case wire.StateFrozen: // between the take-over and its death
				g.page.Slots[i].State.Store(wire.StateClaimed)
				g.rescue(u)
			}
		}
	}
	g.mu.Unlock()
	g.rescues.Wait()
	g.evaluate()
	g.mu.Lock()
	g.unquarantine()
	taken, broken := g.taken, g.broken
	g.mu.Unlock()
	g.closeFDs()
	if taken {
		g.log.Warn("the daemon thawed in place of its freeze guard", "pid", g.PID(), "reason", broken, "stderr", g.words)
	}
	g.delist()
	close(g.gone)
}

// quarantineUnsettled bars what may yet be frozen from new sets. g.mu is held.
func (g *Guard) quarantineUnsettled() {
	for i, u := range g.units {
		if !g.settled(i) {
			for _, f := range u.members {
				quarantineAdd(g, f)
			}
		}
	}
}

func (g *Guard) unquarantine() {
	for _, u := range g.units {
		for _, f := range u.members {
			quarantineRemove(g, f)
		}
	}
}

// readCounters sums the watched counters of a superblock.
func readCounters(fds []int) (sum wire.Counters, ok bool) {
	var buf [512]byte
	for _, fd := range fds {
		n, err := unix.Pread(fd, buf[:], 0)
		one, parsed := wire.ParseCounters(buf[:max(n, 0)])
		if err != nil || !parsed {
			return sum, false
		}
		sum.Written += one.Written
		sum.Discarded += one.Discarded
	}
	return sum, true
}
