package lvmthin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpTargets   = failpoint.New("array.thin.targets-recorded")
	fpSuspend   = failpoint.New("array.thin.before-suspend")
	fpSuspended = failpoint.New("array.thin.suspended")
	fpCopied    = failpoint.New("array.thin.copied")
	fpResumed   = failpoint.New("array.thin.resumed")
)

// Batch copies LUNs under one suspend.
type Batch struct {
	s       *Store
	sources []backend.Source
	from    []record
	open    []*os.File // the sources, to have them written out
	targets []lun.NAA
	copied  bool
	unsure  bool // a message to the pool was given up: it may come through yet
}

var _ backend.Batch = (*Batch)(nil)

// Begin looks at the sources.
func (s *Store) Begin(ctx context.Context, sources []backend.Source) (backend.Batch, error) {
	const op = "prepare copy"
	if err := s.sound(ctx, op); err != nil {
		return nil, err
	}
	b := &Batch{s: s, sources: slices.Clone(sources)}
	for _, p := range sources {
		s.mu.Lock()
		l, node := s.rec.luns[p.NAA], s.nodes[p.NAA]
		s.mu.Unlock()
		f, err := os.Open(node)
		if err != nil || l.Gone {
			b.Finish()
			return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: p.NAA.String(), Reason: "its device cannot be opened", Remedy: "Check the pool, then delete the LUN if it is lost", Err: err}
		}
		b.from, b.open = append(b.from, l), append(b.open, f)
	}
	return b, nil
}

// Count writes out what hosts on this machine have written and the kernel not
// yet.
func (b *Batch) Count(ctx context.Context) error {
	for i, f := range b.open {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return b.s.failed("prepare copy", b.sources[i].NAA, "its device cannot be flushed", err)
		}
		done := make(chan error, 1)
		go func() {
			defer unix.Close(fd)
			done <- unix.Fsync(fd)
		}()
		select {
		case err := <-done:
			if err != nil {
				return b.s.failed("prepare copy", b.sources[i].NAA, "its device cannot be flushed", err)
			}
		case <-ctx.Done():
			return givenUp(ctx, "prepare copy", b.sources[i].NAA)
		}
	}
	return nil
}

// Pieces cost nothing here.
func (b *Batch) Pieces() (total, most uint64, worst lun.NAA) { return 0, 0, b.sources[0].NAA }

// Takes nothing: a copy shares all it has, its metadata included.
func (b *Batch) Takes() uint64 { return 0 }

// margin is what predictions are multiplied by: a commit may wait for the disk.
const margin = 1.5

// Predict is by the LUN.
func (b *Batch) Predict() time.Duration {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return time.Duration(float64(b.s.per) * margin * float64(len(b.sources)))
}

// measure makes an empty thin device and deletes it again: what a copy takes is
// that, the pool's metadata written to its disk.
func (s *Store) measure(ctx context.Context) error {
	p, err := s.status(ctx)
	if err != nil || trouble(p) != "" {
		s.per = 100 * time.Millisecond
		return err
	}
	n := lun.NAA{0x6f} // nobody's
	if err := s.reserve("measure store", map[lun.NAA]uint64{n: backend.MinSize}); err != nil {
		if err = s.remove(ctx, n); err == nil { // of a process that died here
			err = s.reserve("measure store", map[lun.NAA]uint64{n: backend.MinSize})
		}
		if err != nil {
			return err
		}
	}
	start := time.Now()
	_, err = s.dm.Message(ctx, s.pool.Ref(), 0, fmt.Sprintf("create_thin %d", s.rec.luns[n].ID))
	s.per = max(time.Since(start), time.Millisecond)
	return errors.Join(err, s.remove(ctx, n))
}

// MakeTargets records the copies' numbers.
func (b *Batch) MakeTargets(ctx context.Context, names []lun.NAA) error {
	const op = "prepare copy"
	if len(names) != len(b.sources) || len(b.targets) > 0 {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: "every source has one target", Remedy: "Report it"}
	}
	luns := map[lun.NAA]uint64{}
	for i, n := range names {
		luns[n] = b.sources[i].Size
	}
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if err := b.s.reserve(op, luns); err != nil {
		return err
	}
	b.targets = slices.Clone(names)
	if err := fpTargets.Hit(ctx); err != nil {
		return injected(op, names[0], err)
	}
	return nil
}

// Commit suspends all sources, copies each, and lets them go on.
func (b *Batch) Commit(ctx context.Context) (time.Duration, error) {
	const op = "copy LUN"
	start := time.Now()
	if ctx.Err() != nil {
		return 0, givenUp(ctx, op, b.sources[0].NAA)
	}
	b.s.mu.Lock()
	ids := make([]uint32, len(b.targets))
	for i, n := range b.targets {
		ids[i] = b.s.rec.luns[n].ID
	}
	b.s.mu.Unlock()

	stopped := 0
	resume := func() (err error) {
		for ; stopped > 0; stopped-- {
			n := b.sources[stopped-1].NAA
			// Not given up, whatever becomes of the caller.
			if rerr := b.s.dm.Resume(context.WithoutCancel(ctx), devicemapper.Name(b.s.name(n)), devicemapper.Unread); rerr != nil && err == nil {
				err = b.s.failed(op, n, "it does not go on after its copy", rerr)
			}
		}
		return err
	}
	defer func() { _ = resume() }()

	if err := fpSuspend.Hit(ctx); err != nil {
		return time.Since(start), injected(op, b.sources[0].NAA, err)
	}
	for _, p := range b.sources {
		stopped++ // before: one that is not suspended goes on as well
		// The kernel writes out what hosts on this machine have written meanwhile,
		// as it does for a filesystem, of which there is none here.
		if err := b.s.dm.Suspend(ctx, devicemapper.Name(b.s.name(p.NAA)), 0); err != nil {
			return time.Since(start), b.s.failed(op, p.NAA, "it cannot be suspended", err)
		}
	}
	if err := fpSuspended.Hit(ctx); err != nil {
		return time.Since(start), injected(op, b.sources[0].NAA, err)
	}
	for i, p := range b.sources {
		if _, err := b.s.dm.Message(ctx, b.s.pool.Ref(), 0, fmt.Sprintf("create_snap %d %d", ids[i], b.from[i].ID)); err != nil {
			b.unsure = ctx.Err() != nil
			return time.Since(start), b.s.failed(op, p.NAA, "the pool did not copy it", err)
		}
	}
	if err := fpCopied.Hit(ctx); err != nil {
		return time.Since(start), injected(op, b.sources[0].NAA, err)
	}
	if err := resume(); err != nil {
		return time.Since(start), err
	}
	took := time.Since(start)
	if err := fpResumed.Hit(ctx); err != nil {
		return took, injected(op, b.sources[0].NAA, err)
	}
	b.copied = true
	return took, nil
}

// Persist activates the copies. They are durable: the pool's answer to each
// message came after its metadata was on the disk.
func (b *Batch) Persist(ctx context.Context, took time.Duration) error {
	const op = "make copies durable"
	if !b.copied {
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Reason: "they were not all copied", Remedy: "Abort the set and create it again"}
	}
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.learn(len(b.sources), took)
	for _, n := range b.targets {
		if err := b.s.activate(ctx, n, b.s.rec.luns[n]); err != nil {
			return b.s.failed(op, n, "its device cannot be made", err)
		}
	}
	return nil
}

// learn believes slower at once, faster by and by.
func (s *Store) learn(luns int, took time.Duration) {
	s.last = took
	seen := took / time.Duration(luns)
	if seen > s.per {
		s.per = (s.per + seen) / 2
	} else {
		s.per = (9*s.per + seen) / 10
	}
}

// Finish closes the sources.
func (b *Batch) Finish() {
	for _, f := range b.open {
		f.Close()
	}
	b.open = nil
}

// Discard removes the copies.
func (b *Batch) Discard(ctx context.Context) error {
	b.Finish()
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	var errs []error
	for _, n := range b.targets {
		if b.unsure {
			// The pool may make it yet; it is deleted later, and at the next start.
			if _, ok := b.s.rec.luns[n]; ok {
				errs = append(errs, b.s.park(n))
			}
			continue
		}
		errs = append(errs, b.s.remove(ctx, n))
	}
	return errors.Join(errs...)
}
