package freeze

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// expedite makes grace periods short until the returned function is called,
// and says in mark that it did. FIFREEZE waits for three of them, with writers
// already stopped: about 25 ms on an idle machine, and 1 ms when they are
// expedited, at the price of an interrupt to every processor. A real-time
// kernel, or rcupdate.rcu_normal, overrides the switch; then it is as if it
// were not there.
//
// It is best effort: without the switch (an old kernel, a container) a hold is
// longer, not wrong. Who finds it on leaves it on. Two holds at once may end it
// early for the one that freezes later. A daemon that dies meanwhile leaves it
// on: its guard sees mark and switches it off, and if both die the hold intent
// tells recovery.
func expedite(mark *atomic.Uint32) (end func()) {
	fd, err := unix.Open(wire.ExpeditedPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	if !expeditable(fd) {
		_ = unix.Close(fd)
		return func() {}
	}
	mark.Store(1) // before the effect
	_, _ = unix.Pwrite(fd, []byte("1"), 0)
	return func() {
		_, _ = unix.Pwrite(fd, []byte("0"), 0)
		mark.Store(0)
		_ = unix.Close(fd)
	}
}

// expeditable: the switch is off.
func expeditable(fd int) bool {
	var b [2]byte
	n, err := unix.Pread(fd, b[:], 0)
	return err == nil && n > 0 && b[0] == '0'
}

// expects reports whether a hold would use the switch.
func expects() bool {
	fd, err := unix.Open(wire.ExpeditedPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return expeditable(fd)
}

// unexpedite undoes what a daemon that died left on.
func unexpedite() {
	fd, err := unix.Open(wire.ExpeditedPath, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_, _ = unix.Pwrite(fd, []byte("0"), 0)
	_ = unix.Close(fd)
}
