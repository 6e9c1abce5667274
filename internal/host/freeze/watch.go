package freeze

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// tick is how often the daemon looks at the guard while it holds.
const tick = 20 * time.Millisecond

// watch follows the guard from its start to its end. It is the only one to
// read the socket and to close descriptors.
func (g *Guard) watch() {
	buf := make([]byte, 512)
	deaf := false
	for {
		fds := []unix.PollFd{
			{Fd: int32(g.proc.pidfd), Events: unix.POLLIN},
			{Fd: int32(g.proc.sock), Events: unix.POLLIN},
			{Fd: int32(g.wake), Events: unix.POLLIN},
		}
		if deaf {
			fds[1].Fd = -1
		}
		_, _ = unix.Poll(fds, g.pollTimeout())
		if fds[2].Revents != 0 {
			_, _ = unix.Read(g.wake, buf[:8])
		}
		if fds[1].Revents != 0 && hungUp(g.proc.sock, buf) {
			deaf = true
		}
		if fds[0].Revents != 0 {
			break
		}
		g.evaluate()
		switch active, overdue := g.active(); {
		case !active:
		case deaf || g.proc.dying(buf):
			g.takeOver(g.whyGone())
		case overdue:
			g.takeOver(exceeded(g.limit))
		}
	}
	g.proc.reap()
	g.lastRites()
}

// whyGone tells a guard that was told to end, and has a thread in the kernel, from
// one that died.
func (g *Guard) whyGone() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return stillInKernel
	}
	return "the guard died"
}

const stillInKernel = "a freeze or thaw had not come back from the kernel when the guard was told to end"

// hungUp empties the socket. What the messages say is in the page.
func hungUp(sock int, buf []byte) bool {
	for {
		n, _, err := unix.Recvfrom(sock, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil || n == 0:
			return true
		}
	}
}

func (g *Guard) pollTimeout() int {
	if active, _ := g.active(); active {
		return int(tick / time.Millisecond)
	}
	return -1
}

// active reports whether anything of ours may be frozen, and whether the
// guard has let its limit pass.
func (g *Guard) active() (active, overdue bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.began == 0 || isClosed(g.done) {
		return false, false
	}
	if Now()-g.began <= g.limit+unansweredAfter {
		return true, false
	}
	return true, g.page.Phase.Load() <= wire.PhaseHolding || g.unresponsive()
}

// evaluate turns the state of the page into closed channels.
func (g *Guard) evaluate() {
	g.mu.Lock()
	defer g.mu.Unlock()
	phase := g.page.Phase.Load()
	if phase >= wire.PhaseReady {
		shut(g.ready)
	}
	if phase >= wire.PhaseHolding || g.taken {
		shut(g.frozen)
	}
	if phase >= wire.PhaseThawing && !g.released {
		shut(g.lost)
	}
	if g.began == 0 {
		return
	}
	for i := range g.units {
		if !g.settled(i) {
			return
		}
	}
	shut(g.done)
	if !g.taken || g.exited {
		g.unquarantine()
	}
}

// settled: this superblock is certainly not frozen by us (any more). g.mu is
// held.
func (g *Guard) settled(i int) bool {
	u := g.units[i]
	switch g.page.Slots[i].State.Load() {
	case wire.StateIdle:
		return g.taken || g.page.Phase.Load() == wire.PhaseDone
	case wire.StateFailed, wire.StateThawed:
		return true
	case wire.StateFreezing:
		// A thread in FIFREEZE may freeze until it is gone.
		return g.taken && g.exited && u.rescued && u.running == 0
	default:
		return u.rescued && u.running == 0
	}
}

// poke makes watch look at once.
func (g *Guard) poke() {
	g.fdmu.RLock()
	defer g.fdmu.RUnlock()
	if !g.closed {
		_, _ = unix.Write(g.wake, []byte{7: 1})
	}
}

// kill ends the guard at once; harmless when it has ended.
func (g *Guard) kill() {
	g.fdmu.RLock()
	defer g.fdmu.RUnlock()
	if !g.closed {
		g.proc.kill()
	}
}

// hangUp tells the guard to end when nothing is frozen.
func (g *Guard) hangUp() {
	g.fdmu.RLock()
	defer g.fdmu.RUnlock()
	if !g.closed {
		_ = unix.Shutdown(g.proc.sock, unix.SHUT_RDWR)
	}
}

func (g *Guard) closeFDs() {
	g.fdmu.Lock()
	defer g.fdmu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	for _, u := range g.units {
		closeAll(append(u.counters, u.fd))
	}
	closeAll([]int{g.wake, g.pageFD})
	if g.proc != nil {
		g.proc.close()
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// shut closes a channel once. The caller holds Guard.mu.
func shut(c chan struct{}) {
	if !isClosed(c) {
		close(c)
	}
}
