package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// churn reads, or writes and reads, one file without end, past the page cache,
// and looks at every byte.
type churn struct {
	what  string
	turns atomic.Int64
	err   atomic.Pointer[error]
	stop  func()
}

const churnBlock = 64 << 10

// churning starts one. It ends with the test, before the filesystem does.
func (f *fixture) churning(what, path string, flags int, turn func(fd int, buf []byte) error) *churn {
	f.Helper()
	fd, err := unix.Open(path, flags|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
	f.must(err)
	buf, err := unix.Mmap(-1, 0, churnBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	f.must(err)
	c := &churn{what: what}
	quit, done := make(chan struct{}), make(chan struct{})
	c.stop = sync.OnceFunc(func() { close(quit); <-done })
	go func() {
		defer func() { unix.Close(fd); _ = unix.Munmap(buf); close(done) }()
		for {
			select {
			case <-quit:
				return
			case <-time.After(2 * time.Millisecond): // others want the disk as well
			}
			if err := turn(fd, buf); err != nil {
				c.err.CompareAndSwap(nil, &err)
				return
			}
			c.turns.Add(1)
		}
	}()
	f.Cleanup(c.stop)
	return c
}

// writes overwrites blocks of a new file at random, and reads others again that
// it has written.
func (f *fixture) writes(path string) *churn {
	f.Helper()
	const blocks = 64
	f.must(os.WriteFile(path, make([]byte, blocks*churnBlock), 0o600))
	var shadow [blocks]byte
	n := 0
	return f.churning("writing "+path, path, unix.O_RDWR, func(fd int, buf []byte) error {
		n++
		at := rand.IntN(blocks)
		shadow[at] = byte(n)
		copy(buf, bytes.Repeat([]byte{byte(n)}, len(buf)))
		if _, err := unix.Pwrite(fd, buf, int64(at)*churnBlock); err != nil {
			return fmt.Errorf("write %d: %w", n, err)
		}
		if n%8 == 0 {
			if err := unix.Fsync(fd); err != nil {
				return fmt.Errorf("sync after write %d: %w", n, err)
			}
		}
		at = rand.IntN(blocks)
		if _, err := unix.Pread(fd, buf, int64(at)*churnBlock); err != nil {
			return fmt.Errorf("read after write %d: %w", n, err)
		}
		if !bytes.Equal(buf, bytes.Repeat([]byte{shadow[at]}, len(buf))) {
			return fmt.Errorf("block %d is not what was written", at)
		}
		return nil
	})
}

// rereads reads a file that must have this content whole, again and again.
func (f *fixture) rereads(path string, content []byte) *churn {
	f.Helper()
	want := sha256.Sum256(content)
	return f.churning("reading "+path, path, unix.O_RDONLY, func(fd int, buf []byte) error {
		h := sha256.New()
		for at := int64(0); ; {
			n, err := unix.Pread(fd, buf, at)
			if err != nil {
				return fmt.Errorf("read at %d: %w", at, err)
			}
			if n == 0 {
				break
			}
			h.Write(buf[:n])
			at += int64(n)
		}
		if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
			return fmt.Errorf("it reads %x, not %x", got, want)
		}
		return nil
	})
}

// goOn asserts that all of them do, from now on.
func (f *fixture) goOn(when string, all ...*churn) {
	f.Helper()
	for _, c := range all {
		since := c.turns.Load()
		eventually(f, when+": "+c.what+" goes on", 30*time.Second, func() bool { return c.err.Load() != nil || c.turns.Load() >= since+3 })
		if err := c.err.Load(); err != nil {
			f.Fatalf("%s: %s: %v", when, c.what, *err)
		}
	}
}
