package array

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpPrepareBeforeIntent = failpoint.New("array.prepare.before-intent")
	fpPrepareAfterIntent  = failpoint.New("array.prepare.after-intent")
	fpPrepareAfterTargets = failpoint.New("array.prepare.after-targets")
	fpPreCommit           = failpoint.New("array.precommit.before-count")
	fpPostBeforeRecord    = failpoint.New("array.postcommit.before-record")
	fpPostAfterRecord     = failpoint.New("array.postcommit.after-record")
	fpAbortBeforeRemove   = failpoint.New("array.abort.before-remove")
	fpAbortAfterRemove    = failpoint.New("array.abort.after-remove")
	fpAbortAfterRecord    = failpoint.New("array.abort.after-record")
)

// maxSetLUNs is the most LUNs of one set: 64 volumes, of several LUNs each.
const maxSetLUNs = 1024

// pending is a set between PrepareSet and PostCommitSet.
type pending struct {
	id      vss.ID
	host    string
	cancel  context.CancelFunc // of what runs for the set now
	last    atomic.Int64       // when its host was heard of, Unix nanoseconds
	expects atomic.Int64       // predicted clone time in ns, while prepared

	mu      sync.Mutex // one call at a time
	state   phase
	context vss.Context
	targets []target
	batch   backend.Batch
	took    time.Duration
}

type phase int

const (
	phasePreparing phase = iota
	phasePrepared
	phasePreCommitted
	phaseCommitted
	phaseFailed
	phaseDone // recorded, or aborted
)

func (p *pending) idleSince(t time.Time) bool { return p.last.Load() < t.UnixNano() }

func (a *Array) unfinished(want func(*pending) bool) []*pending {
	a.pmu.Lock()
	defer a.pmu.Unlock()
	var out []*pending
	for _, p := range a.pending {
		if want(p) {
			out = append(out, p)
		}
	}
	return out
}

// prepared says what a set will cost.
type prepared struct {
	Targets   []target
	Extents   uint64
	Predicted time.Duration
}

type sourceLUN struct {
	NAA       lun.NAA
	Snapshots []vss.ID
}

// prepareSet readies the copy of LUNs the host sees, and refuses what could not
// be committed in time or has no room.
func (a *Array) prepareSet(ctx context.Context, host string, set vss.ID, c vss.Context, sources []sourceLUN) (*prepared, error) {
	const op = "prepare set"
	refuse := func(code vss.HResult, object, reason, remedy string) error {
		return &vss.Error{Code: code, Op: op, Object: object, Reason: reason, Remedy: remedy}
	}
	switch {
	case set.IsNull() || len(sources) == 0:
		return nil, refuse(vss.E_INVALIDARG, set.String(), "a set has an ID and at least one LUN", "Name the set and its LUNs")
	case len(sources) > maxSetLUNs:
		return nil, refuse(vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, set.String(), fmt.Sprintf("%d LUNs are more than %d", len(sources), maxSetLUNs), "Put fewer volumes in the set")
	case a.state.committed(set):
		return nil, refuse(vss.VSS_E_OBJECT_ALREADY_EXISTS, set.String(), "the array has this set", "Use a new set ID")
	}
	// A host makes one set at a time; a new one replaces one it gave up.
	for _, old := range a.unfinished(func(p *pending) bool { return p.host == host && p.id != set }) {
		if err := a.abortPending(ctx, old); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &pending{id: set, host: host, cancel: cancel, context: c}
	p.last.Store(a.now().UnixNano())
	p.mu.Lock()
	defer p.mu.Unlock()
	a.pmu.Lock()
	if a.pending[set] != nil {
		a.pmu.Unlock()
		return nil, refuse(vss.VSS_E_BAD_STATE, set.String(), "the set is in preparation", "Abort it before preparing it again")
	}
	a.pending[set] = p
	a.pmu.Unlock()

	out, err := a.prepare(ctx, p, sources)
	if err != nil {
		// The caller is told that nothing is left; ctx may be what ended.
		if aerr := a.discard(context.WithoutCancel(ctx), p); aerr != nil {
			a.log.Warn("a refused set stays until the next start", "set", set, "error", aerr)
		}
		return nil, err
	}
	p.state = phasePrepared
	p.last.Store(a.now().UnixNano())
	return out, nil
}

func (a *Array) prepare(ctx context.Context, p *pending, sources []sourceLUN) (*prepared, error) {
	const op = "prepare set"
	var from []backend.Source
	for _, s := range sources {
		l := a.state.lun(s.NAA)
		if l == nil || !l.masked(p.host) {
			return nil, notYours(op, s.NAA)
		}
		if slices.ContainsFunc(from, func(q backend.Source) bool { return q.NAA == s.NAA }) {
			return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: s.NAA.String(), Reason: "the LUN is named twice", Remedy: "Name each LUN once"}
		}
		from = append(from, backend.Source{NAA: s.NAA, Size: l.Size})
	}
	if err := fpPrepareBeforeIntent.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	b, err := a.store.Begin(ctx, from)
	if err != nil {
		return nil, err
	}
	p.batch = b
	if err := a.checkTime(ctx, p); err != nil {
		return nil, err
	}
	if err := a.checkRoom(ctx, op, p.id.String(), p.batch); err != nil {
		return nil, err
	}
	var names []lun.NAA
	err = a.state.update(ctx, op, func(t *txn) error {
		if t.set(p.id) != nil {
			return &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: op, Object: p.id.String(), Reason: "the array has this set", Remedy: "Use a new set ID"}
		}
		for i, s := range sources {
			if l := t.lun(s.NAA); l == nil || !l.masked(p.host) {
				return notYours(op, s.NAA)
			}
			n, err := t.newNAA()
			for err == nil && slices.Contains(names, n) {
				n, err = t.newNAA()
			}
			if err != nil {
				return err
			}
			names = append(names, n)
			p.targets = append(p.targets, target{Source: s.NAA, Target: n, Size: from[i].Size, Snapshots: s.Snapshots})
		}
		t.putSet(&setRecord{ID: p.id, Host: p.host, Context: p.context, State: setPreparing, Created: a.now().UTC(), Targets: p.targets})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := fpPrepareAfterIntent.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	if err := b.MakeTargets(ctx, names); err != nil {
		return nil, err
	}
	if err := fpPrepareAfterTargets.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	total, _, _ := b.Pieces()
	return &prepared{Targets: p.targets, Extents: total, Predicted: b.Predict()}, nil
}

// checkTime flushes and counts, and refuses a set whose clones would hold
// writes for too long, alone or together with sets of other hosts that are
// ready to commit.
func (a *Array) checkTime(ctx context.Context, p *pending) error {
	if err := p.batch.Count(ctx); err != nil {
		return err
	}
	predicted := p.batch.Predict()
	total, most, worst := p.batch.Pieces()
	if predicted > a.cfg.CloneLimit {
		pieces, fewer := "", "Put fewer LUNs in the set"
		if total > 0 {
			pieces = fmt.Sprintf(": the LUNs have %d extents, %d of them in %s", total, most, worst)
		}
		if quicker := a.store.Quicken(worst); quicker != "" {
			fewer = quicker + ", put fewer LUNs in the set"
		}
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "prepare set", Object: p.id.String(),
			Reason: fmt.Sprintf("cloning would hold writes for about %v, longer than the limit of %v", predicted.Round(time.Millisecond), a.cfg.CloneLimit) + pieces,
			Remedy: fmt.Sprintf("%s, or raise --clone-limit to at most %v", fewer, maxCloneLimit)}
	}
	all := predicted
	for _, o := range a.unfinished(func(o *pending) bool { return o != p }) {
		all += time.Duration(o.expects.Load())
	}
	if all > maxCloneLimit {
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "prepare set", Object: p.id.String(),
			Reason: fmt.Sprintf("sets of other hosts are about to commit; together they would hold writes for about %v", all.Round(time.Millisecond)),
			Remedy: "Create the set again in a minute"}
	}
	p.expects.Store(int64(predicted))
	return nil
}

// checkRoom refuses below the watermark, and when what the copies take at once
// would go there.
func (a *Array) checkRoom(ctx context.Context, op, object string, b backend.Batch) error {
	sp, err := a.store.Space(ctx)
	if err != nil {
		return err
	}
	need := a.watermark(sp)
	if b != nil {
		need += b.Takes()
	}
	if sp.Free < need {
		return &vss.Error{Code: vss.VSS_E_INSUFFICIENT_STORAGE, Op: op, Object: object,
			Reason: fmt.Sprintf("the array has %d MiB free and keeps %d MiB for what is written to its LUNs", sp.Free>>20, need>>20),
			Remedy: "Delete copies that are no longer needed, or enlarge the array's store"}
	}
	if keep := a.part(sp.MetadataTotal); sp.MetadataFree < keep {
		return &vss.Error{Code: vss.VSS_E_INSUFFICIENT_STORAGE, Op: op, Object: object,
			Reason: fmt.Sprintf("the array has %d KiB free for metadata and keeps %d KiB for what is written to its LUNs", sp.MetadataFree>>10, keep>>10),
			Remedy: "Delete copies that are no longer needed, or enlarge the pool's metadata"}
	}
	return nil
}

func (a *Array) watermark(sp backend.Space) uint64 { return a.part(sp.Total) }

// part is what is kept free of a whole.
func (a *Array) part(whole uint64) uint64 { return uint64(float64(whole) * a.cfg.Watermark) }

// enter gives a host's call on a pending set the set, locked.
func (a *Array) enter(ctx context.Context, op, host string, set vss.ID, want phase) (*pending, error) {
	a.pmu.Lock()
	p := a.pending[set]
	a.pmu.Unlock()
	if p == nil || p.host != host {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: set.String(),
			Reason: "no such set is being made by this host; it may have been aborted after its lease", Remedy: "Create the set again"}
	}
	p.mu.Lock()
	if ctx.Err() != nil {
		p.mu.Unlock()
		return nil, given(ctx, op)
	}
	if p.state != want {
		p.mu.Unlock()
		return nil, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Object: set.String(),
			Reason: "the set's calls came in another order, or one failed", Remedy: "Abort the set and create it again"}
	}
	return p, nil
}

// preCommitSet flushes and counts once more: now that writers have stopped, what
// they wrote last is on its way, and need not be flushed while writes are held.
func (a *Array) preCommitSet(ctx context.Context, host string, set vss.ID) error {
	p, err := a.enter(ctx, "pre-commit set", host, set, phasePrepared)
	if err != nil {
		return err
	}
	defer p.mu.Unlock()
	p.last.Store(a.now().UnixNano())
	if err := fpPreCommit.Hit(ctx); err != nil {
		return injected("pre-commit set", err)
	}
	if err := a.checkTime(ctx, p); err != nil {
		return err
	}
	p.state = phasePreCommitted
	return nil
}

// commitSet is the point in time. It touches nothing but the clones.
func (a *Array) commitSet(ctx context.Context, host string, set vss.ID) (time.Duration, error) {
	p, err := a.enter(ctx, "commit set", host, set, phasePreCommitted)
	if err != nil {
		return 0, err
	}
	defer p.mu.Unlock()
	p.last.Store(a.now().UnixNano())
	took, err := p.batch.Commit(ctx)
	p.expects.Store(0)
	if err != nil {
		p.state = phaseFailed
		return took, err
	}
	p.took, p.state = took, phaseCommitted
	return took, nil
}

// postCommitSet makes the copies durable and recorded. Asked again it answers
// the same.
func (a *Array) postCommitSet(ctx context.Context, host string, set vss.ID) (uint64, error) {
	const op = "post-commit set"
	recorded := func() *setRecord {
		if r := a.state.set(set); r != nil && r.State == setCommitted && r.Host == host {
			return r
		}
		return nil
	}
	if r := recorded(); r != nil {
		return r.Generation, nil
	}
	p, err := a.enter(ctx, op, host, set, phaseCommitted)
	if err != nil {
		if r := recorded(); r != nil { // by the call that this one repeats, and waited for
			return r.Generation, nil
		}
		return 0, err
	}
	defer p.mu.Unlock()
	p.last.Store(a.now().UnixNano())
	if err := p.batch.Persist(ctx, p.took); err != nil {
		return 0, err
	}
	if err := fpPostBeforeRecord.Hit(ctx); err != nil {
		return 0, injected(op, err)
	}
	var generation uint64
	err = a.state.update(ctx, op, func(t *txn) error {
		generation = t.generation()
		now := a.now().UTC()
		for _, tg := range p.targets {
			t.putLUN(&lunRecord{NAA: tg.Target, Size: tg.Size, Copy: true, Source: tg.Source, Set: p.id, MadeBy: host,
				Generation: generation, ReadOnly: true, Created: now})
		}
		r := *t.set(p.id)
		r.State, r.Committed, r.Generation = setCommitted, now, generation
		t.putSet(&r)
		return nil
	})
	if err != nil {
		return 0, err
	}
	p.batch.Finish()
	a.forget(p)
	if err := fpPostAfterRecord.Hit(ctx); err != nil {
		return 0, injected(op, err)
	}
	return generation, nil
}

// forget ends a pending set; p.mu is held.
func (a *Array) forget(p *pending) {
	p.state = phaseDone
	a.pmu.Lock()
	defer a.pmu.Unlock()
	delete(a.pending, p.id)
}

// abortSet drops what is not complete of a host's set: idempotent, in any
// state. A committed set is left alone unless its maker says that it was never
// complete; then it goes if nobody else imported it.
func (a *Array) abortSet(ctx context.Context, host string, set vss.ID, committed bool) error {
	a.pmu.Lock()
	p := a.pending[set]
	a.pmu.Unlock()
	if p != nil && p.host == host {
		return a.abortPending(ctx, p)
	}
	r := a.state.set(set)
	if r == nil || r.Host != host || r.State != setCommitted || !committed {
		return nil
	}
	if r.Bound != nil && r.Bound.Host != host {
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "abort set", Object: set.String(),
			Reason: "it was imported by " + r.Bound.Host, Remedy: "Delete the copies on that host"}
	}
	var luns []lun.NAA
	for _, tg := range r.Targets {
		luns = append(luns, tg.Target)
	}
	return a.deleteLUNs(ctx, host, luns, false)
}

func (a *Array) abortPending(ctx context.Context, p *pending) error {
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	return a.discard(ctx, p)
}

// discard removes a pending set's files, then its record; p.mu is held. If the
// process dies in between, the next start does the same again.
func (a *Array) discard(ctx context.Context, p *pending) error {
	const op = "abort set"
	if p.state == phaseDone {
		return nil
	}
	p.state = phaseFailed
	p.expects.Store(0)
	if err := fpAbortBeforeRemove.Hit(ctx); err != nil {
		return injected(op, err)
	}
	if p.batch != nil {
		if err := p.batch.Discard(ctx); err != nil {
			return err
		}
	}
	if err := fpAbortAfterRemove.Hit(ctx); err != nil {
		return injected(op, err)
	}
	err := a.state.update(ctx, op, func(t *txn) error {
		if r := t.set(p.id); r != nil && r.State != setCommitted {
			t.dropSet(p.id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := fpAbortAfterRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	a.forget(p)
	return nil
}

// targetLUNs says, one for one, what the copies of these LUNs in a set are.
func (a *Array) targetLUNs(host string, set vss.ID, sources []lun.NAA) ([]lun.NAA, error) {
	const op = "target LUNs"
	r := a.state.set(set)
	if r == nil || r.Host != host {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: set.String(), Reason: "this host made no such set", Remedy: "Create the set again"}
	}
	var out []lun.NAA
	for _, s := range sources {
		i := slices.IndexFunc(r.Targets, func(tg target) bool { return tg.Source == s })
		if i < 0 {
			return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: s.String(), Reason: "the set has no copy of this LUN", Remedy: "Ask for the LUNs the set was prepared with"}
		}
		out = append(out, r.Targets[i].Target)
	}
	return out, nil
}
