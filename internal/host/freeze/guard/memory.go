package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// While anything is frozen a page of memory may be had only by writing another
// one to a disk that is frozen, and a thread only with memory. So the guard has
// all it will use before: what the rehearsal does not reach is fetched here.

// spares are threads that the runtime may want for work of its own. It has few
// goroutines that run by themselves, each now and then.
const spares = 6

// spareThreads makes the runtime have idle threads. All the others are locked, so
// it would start a new one when its own housekeeping comes to run, in the middle
// of a hold.
func spareThreads() {
	var here atomic.Int32
	done := make(chan struct{})
	for range spares {
		go func() {
			here.Add(1)
			for here.Load() < spares { // all at once, so each on a thread of its own
				ts := unix.NsecToTimespec(1e5)
				_ = unix.Nanosleep(&ts, nil)
			}
			done <- struct{}{}
		}()
	}
	for range spares {
		<-done
	}
	runtime.Gosched()
}

// populate fetches the program whole, with its variables and the first thread's
// stack: code that is run only when things go wrong, too. And of the heap, which
// the control is in, what is beside what is in use: the other threads' stacks are
// there, which may be used deeper than they were in the rehearsal. Best effort:
// kernels before 5.14 cannot, and what the rehearsal touched is there anyway.
func (c *control) populate() {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	heap := uintptr(unsafe.Pointer(c))
	var last uintptr // end of the program so far: variables without a value follow its file
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		begin, end, ok := extent(f[0])
		if !ok || len(f) < 5 {
			continue
		}
		path := strings.Join(f[5:], " ")
		switch {
		case path == exe || path == "" && begin == last:
			last = end
		case path == "[stack]":
		case begin <= heap && heap < end:
			populateStacks(begin, end)
			continue
		default:
			continue
		}
		if strings.HasPrefix(f[1], "rw") {
			madvise(begin, end, unix.MADV_POPULATE_WRITE)
		} else if strings.HasPrefix(f[1], "r") {
			madvise(begin, end, unix.MADV_POPULATE_READ)
		}
	}
}

// extent reads "begin-end".
func extent(s string) (begin, end uintptr, ok bool) {
	from, to, ok := strings.Cut(s, "-")
	b, berr := strconv.ParseUint(from, 16, 64)
	e, eerr := strconv.ParseUint(to, 16, 64)
	return uintptr(b), uintptr(e), ok && berr == nil && eerr == nil
}

// stack is what a thread of the runtime's has for the runtime's own work, in
// pages. (That for signals is larger; none comes to be handled.)
const stack = 4

// populateStacks fetches what is a stack's size or less below a page that is
// there: stacks grow down.
func populateStacks(begin, end uintptr) {
	const page = 4096
	there := make([]byte, (end-begin)/page)
	_, _, errno := syscall.Syscall(unix.SYS_MINCORE, begin, end-begin, uintptr(unsafe.Pointer(unsafe.SliceData(there))))
	if errno != 0 {
		return
	}
	done := 0 // up to here
	for i, state := range there {
		if state&1 == 0 {
			continue
		}
		to := i + 1
		if from := max(i-stack, done); from < to {
			madvise(begin+uintptr(from)*page, begin+uintptr(to)*page, unix.MADV_POPULATE_WRITE)
		}
		done = max(done, to)
	}
}

func madvise(begin, end uintptr, advice int) {
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, begin, end-begin, uintptr(advice))
}
