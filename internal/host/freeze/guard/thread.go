package main

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// thread is the locked operating system thread of one filesystem. It waits
// for nobody but the control thread: thawing a filesystem whose backing file
// lies on another frozen one blocks until that one is thawed, and must not
// keep it from being thawed.
type thread struct {
	tell int // eventfd: control says "go on"
	wake int // eventfd: thread says "look"
}

// start makes a thread for every filesystem, each of which rehearses once and
// then does its one job.
func (c *control) start() []*thread {
	c.practice = new(wire.Page)
	c.practiceFD = mustMemfd()
	c.wake = mustEventfd()
	threads := make([]*thread, len(c.targets))
	for i := range threads {
		t := &thread{tell: mustEventfd(), wake: c.wake}
		threads[i] = t
		fd, rehearsal, real := c.targets[i].fd, &c.practice.Slots[i], &c.page.Slots[i]
		practice, page := c.practice, c.page
		go func() {
			runtime.LockOSThread()
			// Best effort: on a machine short of CPU the release should not queue.
			_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
			t.once(practice, c.practiceFD, rehearsal, true)
			t.once(page, fd, real, false)
			select {} // ending a locked goroutine would end the thread: work nobody needs now
		}()
	}
	return threads
}

// once freezes and thaws one filesystem. The thread that issued FIFREEZE
// thaws, also when FIFREEZE returned long after the set was given up: "go on"
// is then already waiting. In a rehearsal fd is a memfd, which cannot be
// frozen: both requests fail at once and the rest goes on as if they had not.
func (t *thread) once(p *wire.Page, fd int, s *wire.Slot, rehearsal bool) {
	await(t.tell)
	dieAt(p, wire.DieBeforeFreeze)
	s.FreezeBegin.Store(now())
	s.State.Store(wire.StateFreezing)
	errno := request(fd, wire.FIFREEZE)
	dieAt(p, wire.DieAfterFreeze)
	s.FreezeEnd.Store(now())
	if rehearsal {
		// All threads blocked at once makes the runtime create the threads it
		// will want during a hold.
		ts := unix.NsecToTimespec(2e6)
		_ = unix.Nanosleep(&ts, nil)
		errno = 0
	}
	if errno != 0 {
		s.FreezeErrno.Store(uint32(errno))
		s.State.Store(wire.StateFailed)
		post(t.wake)
		return
	}
	s.State.Store(wire.StateFrozen)
	post(t.wake)
	await(t.tell)
	if s.State.CompareAndSwap(wire.StateFrozen, wire.StateThawing) {
		dieAt(p, wire.DieBeforeThaw)
		s.ThawBegin.Store(now())
		errno = thaw(fd, rehearsal)
		dieAt(p, wire.DieAfterThaw)
		s.ThawEnd.Store(now())
		if rehearsal {
			errno = 0
		}
		s.ThawErrno.Store(uint32(errno))
		s.State.Store(wire.StateThawed)
	}
	post(t.wake)
}

// thaw repeats a FITHAW that failed for another reason than "not frozen": the
// filesystem is then still frozen, and nobody else will try.
func thaw(fd int, rehearsal bool) syscall.Errno {
	for try := 0; ; try++ {
		errno := request(fd, wire.FITHAW)
		if errno == 0 || errno == syscall.EINVAL || rehearsal || try == 20 {
			return errno
		}
		ts := unix.NsecToTimespec(10e6)
		_ = unix.Nanosleep(&ts, nil)
	}
}

func request(fd int, req uintptr) syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), req, 0)
	return errno
}

func mustEventfd() int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		fail("eventfd failed")
	}
	return fd
}

func mustMemfd() int {
	fd, err := unix.MemfdCreate("rehearsal", unix.MFD_CLOEXEC)
	if err != nil {
		fail("memfd_create failed")
	}
	return fd
}

var one uint64 = 1

func post(fd int) { _, _ = unix.Write(fd, (*[8]byte)(unsafe.Pointer(&one))[:]) }

func await(fd int) {
	var b [8]byte
	for {
		if _, err := unix.Read(fd, b[:]); err == nil {
			return
		}
	}
}
