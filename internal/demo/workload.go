package demo

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync/atomic"
)

// recordSize is the size of one record in bytes; it divides a page, so that a
// record is never half in one.
const recordSize = 128

// record makes record n: its number, padding, and a checksum over both.
func record(n int) []byte {
	body := fmt.Sprintf("%012d ", n) + strings.Repeat(string(rune('a'+n%26)), recordSize-12-1-10)
	return fmt.Appendf(nil, "%s %08x\n", body, crc32.ChecksumIEEE([]byte(body)))
}

// Workload appends numbered records alternately to two files; a record goes to
// the second only after the one before is durable on the first. So at every
// instant the records on both volumes together are 1..m without a gap.
type Workload struct {
	written atomic.Int64
	done    chan struct{}
	err     error
	stop    context.CancelFunc
}

// StartWorkload starts appending to the two files.
func StartWorkload(ctx context.Context, first, second string) (*Workload, error) {
	ctx, stop := context.WithCancel(ctx)
	w := &Workload{done: make(chan struct{}), stop: stop}
	var files [2]*os.File
	for i, name := range []string{first, second} {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			stop()
			return nil, err
		}
		files[i] = f
	}
	go func() {
		defer close(w.done)
		for n := 1; ctx.Err() == nil; n++ {
			f := files[(n+1)%2]
			if _, err := f.Write(record(n)); err != nil {
				w.err = err
				break
			}
			if err := f.Sync(); err != nil {
				w.err = err
				break
			}
			w.written.Store(int64(n))
		}
		w.err = errors.Join(w.err, files[0].Close(), files[1].Close())
	}()
	return w, nil
}

// Written is the number of records that are durable.
func (w *Workload) Written() int { return int(w.written.Load()) }

// Stop ends the workload and returns its error.
func (w *Workload) Stop() error {
	w.stop()
	<-w.done
	return w.err
}

// VerifyPrefix reads both files of a copy and returns m when their records are
// exactly 1..m, alternating, each with a right checksum. Any gap, repeat, torn
// or foreign byte is an error.
func VerifyPrefix(first, second string) (int, error) {
	var bufs [2][]byte
	for i, name := range []string{first, second} {
		b, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		if len(b)%recordSize != 0 {
			return 0, fmt.Errorf("%s: %d bytes are no whole number of records", name, len(b))
		}
		bufs[i] = b
	}
	n1, n2 := len(bufs[0])/recordSize, len(bufs[1])/recordSize
	if n1-n2 != 0 && n1-n2 != 1 {
		return 0, fmt.Errorf("not one instant: %d records on the first volume, %d on the second", n1, n2)
	}
	for n := 1; n <= n1+n2; n++ {
		at := (n - 1) / 2 * recordSize
		if got := bufs[(n+1)%2][at : at+recordSize]; string(got) != string(record(n)) {
			return 0, fmt.Errorf("record %d is wrong: %q", n, got)
		}
	}
	return n1 + n2, nil
}
