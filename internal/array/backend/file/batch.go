package file

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpBeforeTargets = failpoint.New("array.prepare.before-targets")
	fpBeforeClone   = failpoint.New("array.commit.before-clone")
	fpAfterClone    = failpoint.New("array.commit.after-clone")
	fpBeforeFsync   = failpoint.New("array.postcommit.before-fsync")
	fpAfterFsync    = failpoint.New("array.postcommit.after-fsync")
)

// Batch copies LUNs at one point in time. Its methods are called one at a
// time, in the order of the package documentation; Discard ends it at any
// point after the call before has returned.
type Batch struct {
	s        *Store
	sources  []backend.Source
	targets  []lun.NAA // those whose file was made
	src, dst []*os.File
	extents  []uint64
	cloned   bool
}

// Begin opens the sources of a batch. Nothing is made or changed.
func (s *Store) Begin(_ context.Context, sources []backend.Source) (backend.Batch, error) {
	b, err := s.begin(sources)
	if err != nil {
		return nil, err // not a Batch that is nil
	}
	return b, nil
}

func (s *Store) begin(sources []backend.Source) (*Batch, error) {
	b := &Batch{s: s, sources: slices.Clone(sources), extents: make([]uint64, len(sources))}
	for _, p := range sources {
		f, err := os.Open(s.Path(p.NAA))
		if err != nil {
			b.close()
			return nil, failed("prepare copy", p.NAA.String(), "its file cannot be opened", "Check the store, then delete the LUN if its file is lost", err)
		}
		b.src = append(b.src, f)
	}
	return b, nil
}

// Count flushes the sources and counts their extents. It honours ctx: an fsync
// that is under way when ctx ends finishes in the background.
func (b *Batch) Count(ctx context.Context) error {
	for i, f := range b.src {
		n, err := b.s.flushAndCount(ctx, f)
		if err != nil {
			if ctx.Err() != nil {
				return given(ctx, "prepare copy", b.sources[i].NAA.String())
			}
			return failed("prepare copy", b.sources[i].NAA.String(), "its file cannot be flushed, or its extents not be counted", "Run the array as root and check the store's device with dmesg", err)
		}
		b.extents[i] = n
	}
	return nil
}

// flushAndCount works on a descriptor of its own, so that giving up on it
// leaves nothing it could misuse.
func (s *Store) flushAndCount(ctx context.Context, f *os.File) (uint64, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	type result struct {
		n   uint64
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer unix.Close(fd)
		if err := unix.Fsync(fd); err != nil {
			done <- result{0, err}
			return
		}
		count := countExtents
		if s.btrfs {
			count = countItems
		}
		n, err := count(fd)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// countExtents is FIEMAP without room for extents: the kernel only counts.
func countExtents(fd int) (uint64, error) {
	const fsIocFiemap, flagSync = 0xC020660B, 1
	req := struct {
		start, length                         uint64
		flags, mapped, extentCount, reserved_ uint32
	}{length: ^uint64(0), flags: flagSync}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocFiemap, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return 0, errno
	}
	return uint64(req.mapped), nil
}

// Pieces is the number of extents of all sources, and of the worst one with its
// name.
func (b *Batch) Pieces() (total, most uint64, worst lun.NAA) {
	for i, n := range b.extents {
		total += n
		if n >= most {
			most, worst = n, b.sources[i].NAA
		}
	}
	return total, most, worst
}

// Predict is how long Commit is expected to take.
func (b *Batch) Predict() time.Duration {
	total, _, _ := b.Pieces()
	return b.s.rate.Predict(len(b.sources), total)
}

// Takes is what the clones' own records of extents need, about 64 bytes each.
func (b *Batch) Takes() uint64 {
	total, _, _ := b.Pieces()
	return total * 64
}

// MakeTargets makes the empty target files, parallel to the sources, and keeps
// them open.
func (b *Batch) MakeTargets(ctx context.Context, names []lun.NAA) error {
	if err := fpBeforeTargets.Hit(ctx); err != nil {
		return failed("prepare copy", "", "injected", "Disarm the failpoint", err)
	}
	if len(names) != len(b.sources) || len(b.targets) > 0 {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: "prepare copy", Reason: "every source has one target", Remedy: "Report it"}
	}
	for i, n := range names {
		f, err := os.OpenFile(b.s.Path(n), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return failed("prepare copy", n.String(), "its file cannot be made", "Check the store's free space and state", err)
		}
		b.dst, b.targets = append(b.dst, f), append(b.targets, n)
		if b.s.btrfs {
			if err := alike(f, b.src[i]); err != nil {
				return failed("prepare copy", n.String(), "its file cannot be made of its source's kind", "Check the store's state with dmesg", err)
			}
		}
		if err := f.Truncate(int64(b.sources[i].Size)); err != nil {
			return failed("prepare copy", n.String(), "its file cannot be sized", "Check the store's free space and state", err)
		}
	}
	return nil
}

// Commit clones every source. Nothing is logged, flushed or recorded. If one
// clone fails the rest is not tried and the batch can only be discarded.
func (b *Batch) Commit(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	var g errgroup.Group
	g.SetLimit(cap(b.s.slots))
	var mu sync.Mutex
	var first error
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil {
			first = err
		}
	}
	ended := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return first != nil
	}
	for i := range b.sources {
		if ended() {
			break
		}
		g.Go(func() error {
			b.s.slots <- struct{}{}
			defer func() { <-b.s.slots }()
			switch {
			case ended():
			case ctx.Err() != nil:
				fail(given(ctx, "clone LUN", b.sources[i].NAA.String()))
			default:
				err := fpBeforeClone.Hit(ctx)
				if err == nil {
					err = unix.IoctlFileClone(int(b.dst[i].Fd()), int(b.src[i].Fd()))
				}
				if err == nil {
					err = fpAfterClone.Hit(ctx)
				}
				if err != nil {
					fail(failed("clone LUN", b.sources[i].NAA.String(), "the store refused the clone", "Read dmesg and the store's free space, then create the set again", err))
				}
			}
			return nil
		})
	}
	_ = g.Wait()
	took := time.Since(start)
	b.cloned = first == nil
	return took, first
}

// Persist makes a committed batch durable, and lets the store learn from how
// long Commit took.
func (b *Batch) Persist(ctx context.Context, took time.Duration) error {
	if !b.cloned {
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "make copies durable", Reason: "they were not all cloned", Remedy: "Abort the set and create it again"}
	}
	total, _, _ := b.Pieces()
	b.s.rate.learn(len(b.sources), total, took)
	if err := fpBeforeFsync.Hit(ctx); err != nil {
		return failed("make copies durable", "", "injected", "Disarm the failpoint", err)
	}
	var g errgroup.Group
	g.SetLimit(persistAtOnce)
	for i, f := range b.dst {
		g.Go(func() error {
			if err := f.Sync(); err != nil {
				return failed("make copies durable", b.targets[i].String(), "its file cannot be flushed", "Check the store's device with dmesg, then create the set again", err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := syncDir(b.s.luns); err != nil {
		return err
	}
	if err := fpAfterFsync.Hit(ctx); err != nil {
		return failed("make copies durable", "", "injected", "Disarm the failpoint", err)
	}
	return nil
}

// persistAtOnce is how many fsyncs run together: they share the log's flush.
const persistAtOnce = 8

// Finish closes the files of a batch that is durable and recorded.
func (b *Batch) Finish() { b.close() }

// Discard removes the targets.
func (b *Batch) Discard(ctx context.Context) error {
	b.close()
	var errs []error
	for _, n := range b.targets {
		errs = append(errs, b.s.Remove(ctx, n))
	}
	return errors.Join(errs...)
}

func (b *Batch) close() {
	for _, f := range append(b.src, b.dst...) {
		f.Close()
	}
	b.src, b.dst = nil, nil
}
