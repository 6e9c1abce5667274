package main

import (
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// tick is how often the control thread looks after the daemon while it holds.
const tick = 20e6 // nanoseconds

type target struct {
	fd       int
	counters []int // sysfs `stat` of each watched device
}

// control is the main thread: it decides, the other threads freeze and thaw.
type control struct {
	sock, parent, parentStat, wake int
	page, practice                 *wire.Page
	practiceFD                     int
	targets                        []target
	buf                            [512]byte
	msg                            [wire.MessageSize]byte
	deaf                           bool // the socket has hung up
}

// practise runs a whole hold on the rehearsal page, so that every instruction,
// stack and thread of the real one has been used once.
func (c *control) practise(threads []*thread) {
	c.run(c.practice, threads, 1e9, true)
	c.practice = nil
}

func (c *control) hold(threads []*thread, limit int64) { c.run(c.page, threads, limit, false) }

// run freezes, holds and releases. It returns when every thread is through,
// which a FIFREEZE that does not return can delay for ever; until then the
// process stays, because that thread has a freeze to undo.
func (c *control) run(p *wire.Page, threads []*thread, limit int64, rehearsal bool) {
	deadline := now() + limit
	p.Beat.Store(now())
	p.Phase.Store(wire.PhaseFreezing)
	for _, t := range threads {
		post(t.tell)
	}
	for {
		cause := c.wait(deadline)
		t := now()
		p.Beat.Store(t)
		frozen, failed, settled := c.count(p)
		switch phase := p.Phase.Load(); {
		case phase == wire.PhaseThawing:
		case cause != wire.CauseNone:
			c.release(p, threads, cause)
		case failed > 0:
			c.release(p, threads, wire.CauseFreeze)
		case t >= deadline:
			c.release(p, threads, wire.CauseLimit)
		case phase == wire.PhaseFreezing && frozen == len(threads):
			c.readCounters(p, false)
			p.Phase.Store(wire.PhaseHolding)
			dieAt(p, wire.DieHolding)
			c.notify()
			if rehearsal {
				c.release(p, threads, wire.CauseCommand)
			}
		}
		if p.Phase.Load() == wire.PhaseThawing && settled == len(threads) {
			dieAt(p, wire.DieDone)
			p.Phase.Store(wire.PhaseDone)
			c.notify()
			return
		}
	}
}

// release lets every thread go on to its thaw. The counters are read before
// the first can.
func (c *control) release(p *wire.Page, threads []*thread, cause uint32) {
	if p.Phase.Load() == wire.PhaseHolding {
		c.readCounters(p, true)
		p.CountersRead.Store(1)
	}
	p.Cause.Store(cause)
	p.Phase.Store(wire.PhaseThawing)
	for _, t := range threads {
		post(t.tell)
	}
	if cause == wire.CauseParent {
		c.unexpedite()
	}
}

// unexpedite switches off what a daemon that died while freezing left on.
func (c *control) unexpedite() {
	if c.page.Expedited.Load() != 1 {
		return
	}
	fd, err := unix.Open(wire.ExpeditedPath, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	if _, err := unix.Pwrite(fd, []byte("0"), 0); err == nil {
		c.page.Expedited.Store(0)
	}
	_ = unix.Close(fd)
}

func (c *control) count(p *wire.Page) (frozen, failed, settled int) {
	for i := range c.targets {
		switch p.Slots[i].State.Load() {
		case wire.StateFrozen:
			frozen++
		case wire.StateFailed:
			failed++
			settled++
		case wire.StateThawed, wire.StateClaimed:
			settled++
		}
	}
	return frozen, failed, settled
}

// readCounters sums the counters of each filesystem's devices into its slot.
func (c *control) readCounters(p *wire.Page, after bool) {
	for i := range c.targets {
		var sum wire.Counters
		s := &p.Slots[i]
		for _, fd := range c.targets[i].counters {
			n, err := unix.Pread(fd, c.buf[:], 0)
			one, ok := wire.ParseCounters(c.buf[:max(n, 0)])
			if err != nil || !ok {
				s.CounterErr.Store(1)
			}
			sum.Written += one.Written
			sum.Discarded += one.Discarded
		}
		if after {
			s.SectorsAfter.Store(sum.Written)
			s.DiscardsAfter.Store(sum.Discarded)
		} else {
			s.SectorsBefore.Store(sum.Written)
			s.DiscardsBefore.Store(sum.Discarded)
		}
	}
}

// wait sleeps until a thread reports, the daemon speaks, a tick is over or
// the deadline has come, and says whether there is a reason to release.
func (c *control) wait(deadline int64) uint32 {
	timeout := unix.NsecToTimespec(max(0, min(tick, deadline-now())))
	fds := [3]unix.PollFd{
		{Fd: int32(c.wake), Events: unix.POLLIN},
		{Fd: int32(c.parent), Events: unix.POLLIN},
		{Fd: int32(c.sock), Events: unix.POLLIN},
	}
	if c.deaf {
		fds[2].Fd, fds[1].Fd = -1, -1 // known already; do not spin on it
	}
	if now() >= deadline {
		// Past the limit there is nothing to hurry for but a thread's report.
		timeout = unix.NsecToTimespec(tick)
	}
	n, _ := unix.Ppoll(fds[:], &timeout, nil)
	if n > 0 && fds[0].Revents != 0 {
		_, _ = unix.Read(c.wake, c.buf[:8])
	}
	if n > 0 && fds[2].Revents != 0 {
		if m, ok := c.read(); !ok {
			c.deaf = true
			return wire.CauseParent
		} else if m.Kind == wire.Thaw {
			return wire.CauseCommand
		}
	}
	// A killed daemon with a thread stuck in the kernel gives neither a
	// hang-up nor a readable pidfd, but its first thread is a zombie.
	if !c.deaf && (fds[1].Revents != 0 || c.parentDead()) {
		c.deaf = true
		return wire.CauseParent
	}
	return wire.CauseNone
}

// parentDead looks at the state letter behind the parenthesised name.
func (c *control) parentDead() bool {
	n, err := unix.Pread(c.parentStat, c.buf[:], 0)
	if err != nil {
		return err == unix.ESRCH
	}
	for i := n - 3; i >= 0; i-- {
		if c.buf[i] == ')' {
			return c.buf[i+2] == 'Z' || c.buf[i+2] == 'X'
		}
	}
	return false
}

// read takes one message; false means the daemon has hung up.
func (c *control) read() (wire.Message, bool) {
	n, err := unix.Read(c.sock, c.buf[:wire.MessageSize]) // poll said it will not block
	if err == unix.EAGAIN || err == unix.EINTR {
		return wire.Message{}, true
	}
	if err != nil || n == 0 {
		return wire.Message{}, false
	}
	m, _ := wire.Parse(c.buf[:n])
	return m, true
}

// notify never blocks: a daemon that does not read also looks at the page.
func (c *control) notify() {
	wire.Message{Kind: wire.Wake}.Put(&c.msg)
	_ = unix.Send(c.sock, c.msg[:], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// awaitFreeze sleeps until the daemon says freeze; false when it hung up, or
// thought better of it.
func (c *control) awaitFreeze() (limit int64, ok bool) {
	for {
		fds := [2]unix.PollFd{{Fd: int32(c.parent), Events: unix.POLLIN}, {Fd: int32(c.sock), Events: unix.POLLIN}}
		_, _ = unix.Ppoll(fds[:], nil, nil)
		if fds[1].Revents != 0 {
			m, ok := c.read()
			if !ok {
				return 0, false
			}
			if m.Kind == wire.Freeze {
				return int64(m.A), true
			}
		} else if fds[0].Revents != 0 {
			return 0, false
		}
	}
}

// awaitHangup keeps the page alive until the daemon has read it.
func (c *control) awaitHangup() {
	for !c.deaf {
		fds := [2]unix.PollFd{{Fd: int32(c.parent), Events: unix.POLLIN}, {Fd: int32(c.sock), Events: unix.POLLIN}}
		_, _ = unix.Ppoll(fds[:], nil, nil)
		if fds[0].Revents != 0 {
			return
		}
		if fds[1].Revents != 0 {
			if _, ok := c.read(); !ok {
				return
			}
		}
	}
}
