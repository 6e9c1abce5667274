package block

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// Watcher delivers events of block devices until it is closed.
type Watcher struct {
	events chan Event
	fd     int // netlink socket or inotify descriptor, non-blocking
	read   func(buf []byte) ([]Event, error)
	done   chan struct{}
	stop   func() bool

	mu   sync.Mutex
	wake int // eventfd that ends the loop; -1 once it has
}

// queue is how many events may wait for a slow receiver. What does not fit is
// replaced by one Again event: the receiver enumerates, and is right.
const queue = 256

// Watch starts to listen to the kernel's events of block devices: over netlink,
// or where that is not to be had (a rootless network namespace) by watching
// /dev, which can only say Again. Events that happen after Watch has returned
// are not lost without an Again.
//
// The arrival of a loop device is the action "change" with a new DiskSeq, not
// "add": its node existed before. The watcher ends with ctx or with Close.
func Watch(ctx context.Context) (*Watcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, err := watchNetlink()
	if err != nil {
		if w, err = watchFolder("/dev"); err != nil {
			return nil, err
		}
	}
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

// start takes over the descriptor and runs the loop.
func (w *Watcher) start(ctx context.Context) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(w.fd)
		return watchError("eventfd", err)
	}
	w.wake = wake
	w.events = make(chan Event, queue)
	w.done = make(chan struct{})
	go w.run(wake)
	w.stop = context.AfterFunc(ctx, w.signal)
	return nil
}

// Events is the channel of events. It is closed when the watcher ends.
func (w *Watcher) Events() <-chan Event { return w.events }

// Close ends the watcher and waits until it has let go of the kernel. It is
// safe to call more than once and beside a receiver.
func (w *Watcher) Close() error {
	w.stop()
	w.signal()
	<-w.done
	return nil
}

// signal ends the loop. It may come after that: the number of the eventfd may
// then belong to another file.
func (w *Watcher) signal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wake >= 0 {
		_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// release gives the kernel its descriptors back.
func (w *Watcher) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	unix.Close(w.fd)
	unix.Close(w.wake)
	w.wake = -1
}

func (w *Watcher) run(wake int) {
	defer close(w.done)
	defer close(w.events)
	defer w.release()
	buf := make([]byte, 64<<10)
	lost := false // an Again is owed
	for {
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		timeout := -1
		if lost {
			timeout = 10 // ms: the receiver was behind; see whether there is room now
		}
		if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		if fds[0].Revents != 0 {
			events, err := w.read(buf)
			switch {
			case err == nil:
			case errors.Is(err, unix.ENOBUFS): // the socket overflowed
				lost = true
			case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			default:
				return
			}
			for _, e := range events {
				if lost || !w.offer(e) {
					lost = true
				}
			}
		}
		// Again takes the place of everything after the first event lost, so
		// that the receiver never acts on a sequence with a hole in it.
		if lost && w.offer(Event{Again: true}) {
			lost = false
		}
	}
}

func (w *Watcher) offer(e Event) bool {
	select {
	case w.events <- e:
		return true
	default:
		return false
	}
}

func watchError(what string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "watch devices", Object: what,
		Reason: "the kernel gives no device events",
		Remedy: "Run the service as root in a network namespace of the initial user namespace", Err: err}
}
