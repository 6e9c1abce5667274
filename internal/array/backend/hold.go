package backend

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/volume"
)

// holdBase is where the locks that say who holds a LUN begin: beyond any
// offset of data.
const holdBase = 1 << 62

// Open opens a LUN's file or device for a holder, with an open file description
// lock at an offset that says who he is. The kernel keeps it as long as anybody
// (a process, a loop device) has that description.
func Open(path string, readOnly bool, holder uint32) (*os.File, error) {
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	lk := unix.Flock_t{Type: unix.F_RDLCK, Start: holdBase + int64(holder), Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Holders lists who holds a LUN's file or device now, in ascending order. One
// that is gone has none.
func Holders(path string) ([]uint32, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out, err := holdersBetween(f, holdBase, holdBase+1<<32)
	slices.Sort(out)
	return slices.Compact(out), err
}

// holdersBetween asks for conflicts until none is left. Which of several the
// kernel reports first is not defined, so both sides of each are asked again.
func holdersBetween(f *os.File, from, to int64) ([]uint32, error) {
	var out []uint32
	for from < to {
		lk := unix.Flock_t{Type: unix.F_WRLCK, Start: from, Len: to - from}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
			return nil, err
		}
		if lk.Type == unix.F_UNLCK {
			break
		}
		out = append(out, uint32(lk.Start-holdBase))
		more, err := holdersBetween(f, from, lk.Start)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
		from = lk.Start + 1
	}
	return out, nil
}

// waitPoll is how often a condition on descriptors of other processes is asked
// again: nothing announces the end of a lock.
const waitPoll = 5 * time.Millisecond

// WaitUnheld waits until nobody holds the file or device, at most for d, and
// returns who still does. A detached loop device lets go of its file some
// milliseconds after the call that detached it.
func WaitUnheld(ctx context.Context, path string, d time.Duration) ([]uint32, error) {
	deadline := time.Now().Add(d)
	for {
		h, err := Holders(path)
		if err != nil || len(h) == 0 || time.Now().After(deadline) {
			return h, err
		}
		select {
		case <-ctx.Done():
			return h, context.Cause(ctx)
		case <-time.After(waitPoll):
		}
	}
}

// Beneath adds the device numbers of the filesystem of path, and of those
// beneath it, to out with path as value. A btrfs has several: st_dev is its
// subvolume's, and a mount of another subvolume freezes it as well.
func Beneath(ctx context.Context, path string, out map[uint64]string) {
	add := func(dev uint64) {
		if out[dev] == "" {
			out[dev] = path
		}
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		add(st.Dev)
	}
	devs, err := volume.Stack(ctx, path)
	if err != nil {
		return // the filesystem of path itself is the least that is known
	}
	for _, dev := range devs {
		add(dev)
	}
}
