// Command guard is the freeze guard: the process that freezes filesystems for
// the shadow copy service, and that thaws them when it is told to, when ten
// seconds are over or when the service dies, whichever comes first.
//
// A frozen filesystem stays frozen when whoever froze it dies, and a process
// that touches one can no longer be killed. So the guard needs nothing while
// it holds: it has every descriptor it will use, its memory is locked, its
// threads exist, and all it does has been rehearsed once before. It is a
// program of its own because Go runs the initialisation of every package
// before main, and the service imports many.
//
// It is started by package freeze from a memfd, never by hand; see there.
package main

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

func init() { runtime.LockOSThread() } // main stays on the thread the daemon watches in /proc

func main() {
	ignoreSignals()
	spareFromOOM()
	_ = unix.Close(wire.Program)
	c, ok := receive(wire.Socket)
	if !ok {
		fail("not started by the shadow copy service, or by one of another version")
	}
	threads := c.start()
	c.practise(threads)
	spareThreads()
	c.populate()
	// ONFAULT: lock what was touched, not the whole address space.
	if unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT) != nil {
		fail("mlockall failed (CAP_IPC_LOCK is needed)")
	}
	c.dieAt(wire.DieReady)
	c.page.Phase.Store(wire.PhaseReady)
	c.notify()
	if limit, ok := c.awaitFreeze(); ok {
		c.hold(threads, limit)
		c.awaitHangup()
	}
	c.unexpedite()
	os.Exit(0)
}

// ignoreSignals makes the guard outlive a polite end of its unit or terminal:
// it ends when the daemon closes the socket, with everything thawed.
func ignoreSignals() {
	for s := syscall.Signal(1); s <= 64; s++ {
		switch s {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE,
			syscall.SIGILL, syscall.SIGABRT, syscall.SIGTRAP, syscall.SIGSYS, syscall.SIGURG,
			syscall.SIGCHLD, syscall.SIGPROF, 32, 33, 34: // the runtime's and libc's own
		default:
			signal.Ignore(s)
		}
	}
}

// spareFromOOM is best effort: a container may forbid it.
func spareFromOOM() {
	if fd, err := unix.Open("/proc/self/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		_, _ = unix.Write(fd, []byte("-1000"))
		_ = unix.Close(fd)
	}
}

// dieAt is where a test has the guard die.
func (c *control) dieAt(place uint32) { dieAt(c.page, place) }

func dieAt(p *wire.Page, place uint32) {
	if p.DieAt.Load() == place {
		_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
		select {} // the signal may take a moment
	}
}

// fail leaves the reason on standard error, a memfd the daemon reads.
func fail(reason string) {
	_, _ = os.Stderr.WriteString("freeze guard: " + reason + "\n")
	os.Exit(1)
}

func now() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
