package array

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// maxVolumes is the most snapshots of one set.
const maxVolumes = 64

// dropTimeout bounds the clean-up of a set whose caller is gone.
const dropTimeout = 30 * time.Second

// set is the one set in creation. Its fields are guarded by Provider.mu; while
// a call runs for it (state is one of the PROCESSING ones) only that call and
// AbortSnapshots touch it.
type set struct {
	id        vss.ID
	context   vss.Context
	state     vss.SnapshotState
	snapshots map[vss.ID]bool
	parts     []*part
	targets   map[lun.NAA]lun.NAA // source to copy

	dirty  bool               // an array may have something of it
	cancel context.CancelFunc // of the call that runs
	done   chan struct{}      // closed when it ended
}

// part is what one array copies.
type part struct {
	array   *client.Client
	sources []client.Source
}

// durable reports whether the set's copies exist: it is dropped by an abort of
// its own only.
func (s *set) durable() bool {
	switch s.state {
	case vss.SS_POSTCOMMITTED, vss.SS_PROCESSING_PREFINALCOMMIT, vss.SS_PREFINALCOMMITTED, vss.SS_PROCESSING_POSTFINALCOMMIT, vss.SS_CREATED:
		return true
	}
	return false
}

func (p *Provider) knownTargets(id vss.ID) map[lun.NAA]lun.NAA {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur == nil || p.cur.id != id || p.cur.state == vss.SS_ABORTED {
		return map[lun.NAA]lun.NAA{}
	}
	return maps.Clone(p.cur.targets)
}

// State tells where the current set is, for tests and events.
func (p *Provider) State() (vss.ID, vss.SnapshotState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur == nil {
		return vss.GUIDNull, vss.SS_UNKNOWN
	}
	return p.cur.id, p.cur.state
}

// BeginPrepareSnapshot implements provider.Hardware. Nothing is asked of the
// array yet: everything slow is EndPrepareSnapshots'.
func (p *Provider) BeginPrepareSnapshot(ctx context.Context, id, snapshot vss.ID, c vss.Context, _ []string, luns []lun.Info) error {
	const op = "BeginPrepareSnapshot"
	bad := func(code vss.HResult, object, reason, remedy string) error {
		return &vss.Error{Code: code, Op: op, Object: object, Reason: reason, Remedy: remedy}
	}
	switch {
	case id.IsNull() || snapshot.IsNull() || len(luns) == 0:
		return bad(vss.E_INVALIDARG, id.String(), "a snapshot has a set, an ID and at least one LUN", "Name all three")
	case c.Has(vss.ATTR_CLIENT_ACCESSIBLE):
		return bad(vss.VSS_E_UNSUPPORTED_CONTEXT, c.String(), "copies for shared folders are the system provider's", "Use another context, or the system provider")
	}
	for _, info := range luns {
		if _, _, ok := p.owner(info); !ok {
			return bad(vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER, info.Name(), "the LUN is not of an array this host has joined", "Join its array with `umbra join`, or choose another provider")
		}
	}
	shares, err := p.partition(op, luns)
	if err != nil {
		return err
	}
	p.mu.Lock()
	for p.cur != nil && !(p.cur.id == id && p.cur.state == vss.SS_PREPARING) && !p.cur.durable() && (p.cur.dirty || p.cur.done != nil) {
		old := p.cur
		p.mu.Unlock()
		// Silently: an array that cannot be told drops the set by itself, when
		// the new one is prepared or its lease ends.
		_ = p.drop(ctx, old)
		if ctx.Err() != nil {
			return permitted(op, ctx.Err())
		}
		p.mu.Lock()
		if p.cur == old {
			p.cur = nil
		}
	}
	defer p.mu.Unlock()
	if p.cur == nil || p.cur.id != id || p.cur.state != vss.SS_PREPARING {
		p.cur = &set{id: id, context: c, state: vss.SS_PREPARING, snapshots: map[vss.ID]bool{}, targets: map[lun.NAA]lun.NAA{}}
	}
	s := p.cur
	switch {
	case s.context != c:
		return bad(vss.E_INVALIDARG, id.String(), "the volumes of one set have one context", "Use the context the set began with")
	case s.snapshots[snapshot]:
		return bad(vss.E_INVALIDARG, snapshot.String(), "the set has this snapshot", "Give every volume a snapshot ID of its own")
	case len(s.snapshots) == maxVolumes:
		return bad(vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, id.String(), "a set has at most 64 volumes", "Make a second set")
	}
	s.snapshots[snapshot] = true
	for _, sh := range shares {
		i := slices.IndexFunc(s.parts, func(q *part) bool { return q.array == sh.array })
		if i < 0 {
			i, s.parts = len(s.parts), append(s.parts, &part{array: sh.array})
		}
		for _, n := range sh.luns {
			// A LUN under several volumes is copied once, for all of them.
			j := slices.IndexFunc(s.parts[i].sources, func(src client.Source) bool { return src.NAA == n })
			if j < 0 {
				j, s.parts[i].sources = len(s.parts[i].sources), append(s.parts[i].sources, client.Source{NAA: n})
			}
			s.parts[i].sources[j].Snapshots = append(s.parts[i].sources[j].Snapshots, snapshot)
		}
	}
	return nil
}

// step runs one phase of the current set. Out of order, or for another set, it
// is vetoed and the current set dropped, unless its copies are durable.
func (p *Provider) step(ctx context.Context, op string, id vss.ID, from, busy, to vss.SnapshotState, f func(context.Context, *set) error) error {
	p.mu.Lock()
	s := p.cur
	if s == nil || s.id != id || s.state != from {
		state := vss.SS_UNKNOWN
		if s != nil && s.id == id {
			state = s.state
		}
		p.mu.Unlock()
		if s != nil {
			_ = p.dropUnlessDurable(ctx, s) // the veto is what the caller must hear
		}
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: id.String(),
			Reason: "the set is not at this point: " + state.String() + " instead of " + from.String(), Remedy: "Abort the set and create it again"}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.state, s.cancel, s.done = busy, cancel, make(chan struct{})
	p.mu.Unlock()

	err := f(ctx, s)

	p.mu.Lock()
	close(s.done)
	s.done, s.cancel = nil, nil
	aborted := s.state != busy
	if !aborted && err == nil {
		s.state = to
	}
	p.mu.Unlock()
	switch {
	case aborted:
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Object: id.String(), Reason: "the set was aborted", Remedy: "Create the set again", Err: err}
	case err == nil:
		return nil
	}
	if busy == vss.SS_PROCESSING_COMMIT {
		// Writes are held: say so now, clean up when the abort comes.
		p.mu.Lock()
		s.state = vss.SS_ABORTED
		p.mu.Unlock()
	} else {
		_ = p.drop(ctx, s)
	}
	return permitted(op, err)
}

// EndPrepareSnapshots implements provider.SnapshotSetCreator.
func (p *Provider) EndPrepareSnapshots(ctx context.Context, id vss.ID) error {
	return p.step(ctx, "EndPrepareSnapshots", id, vss.SS_PREPARING, vss.SS_PROCESSING_PREPARE, vss.SS_PREPARED, func(ctx context.Context, s *set) error {
		p.mu.Lock()
		s.dirty = true
		p.mu.Unlock()
		var mu sync.Mutex
		return each(ctx, s.parts, func(ctx context.Context, q *part) error {
			got, err := q.array.PrepareSet(ctx, s.id, s.context, q.sources)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			p.mu.Lock()
			defer p.mu.Unlock()
			maps.Copy(s.targets, got.Targets)
			return nil
		})
	})
}

// PreCommitSnapshots implements provider.SnapshotSetCreator.
func (p *Provider) PreCommitSnapshots(ctx context.Context, id vss.ID) error {
	return p.step(ctx, "PreCommitSnapshots", id, vss.SS_PREPARED, vss.SS_PROCESSING_PRECOMMIT, vss.SS_PRECOMMITTED, func(ctx context.Context, s *set) error {
		return each(ctx, s.parts, func(ctx context.Context, q *part) error { return q.array.PreCommitSet(ctx, s.id) })
	})
}

// CommitSnapshots implements provider.SnapshotSetCreator.
func (p *Provider) CommitSnapshots(ctx context.Context, id vss.ID) error {
	return p.step(ctx, "CommitSnapshots", id, vss.SS_PRECOMMITTED, vss.SS_PROCESSING_COMMIT, vss.SS_COMMITTED, func(ctx context.Context, s *set) error {
		return each(ctx, s.parts, func(ctx context.Context, q *part) error { _, err := q.array.CommitSet(ctx, s.id); return err })
	})
}

// PostCommitSnapshots implements provider.SnapshotSetCreator. count is the
// whole set's, other providers' snapshots included, so it is no fewer than ours.
func (p *Provider) PostCommitSnapshots(ctx context.Context, id vss.ID, count int) error {
	const op = "PostCommitSnapshots"
	return p.step(ctx, op, id, vss.SS_COMMITTED, vss.SS_PROCESSING_POSTCOMMIT, vss.SS_POSTCOMMITTED, func(ctx context.Context, s *set) error {
		if count < len(s.snapshots) {
			return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: id.String(), Reason: "the set has more snapshots than it is said to have", Remedy: "Give the number of snapshots of the set"}
		}
		return each(ctx, s.parts, func(ctx context.Context, q *part) error { _, err := q.array.PostCommitSet(ctx, s.id); return err })
	})
}

// PreFinalCommitSnapshots implements provider.SnapshotSetCreator.
func (p *Provider) PreFinalCommitSnapshots(ctx context.Context, id vss.ID) error {
	return p.step(ctx, "PreFinalCommitSnapshots", id, vss.SS_POSTCOMMITTED, vss.SS_PROCESSING_PREFINALCOMMIT, vss.SS_PREFINALCOMMITTED, nothing)
}

// PostFinalCommitSnapshots implements provider.SnapshotSetCreator.
func (p *Provider) PostFinalCommitSnapshots(ctx context.Context, id vss.ID) error {
	return p.step(ctx, "PostFinalCommitSnapshots", id, vss.SS_PREFINALCOMMITTED, vss.SS_PROCESSING_POSTFINALCOMMIT, vss.SS_CREATED, nothing)
}

func nothing(context.Context, *set) error { return nil }

// AbortSnapshots implements provider.SnapshotSetCreator. For a set this process
// does not know, of before a restart, every array drops what it has unfinished;
// one that cannot be reached will do so by itself.
func (p *Provider) AbortSnapshots(ctx context.Context, id vss.ID) error {
	const op = "AbortSnapshots"
	p.mu.Lock()
	s := p.cur
	if s != nil && s.id == id {
		p.mu.Unlock()
		return permitted(op, p.drop(ctx, s))
	}
	p.mu.Unlock()
	_ = each(ctx, p.arrays(), func(ctx context.Context, c *client.Client) error {
		_ = c.AbortSet(ctx, id, false)
		return nil
	})
	if ctx.Err() != nil {
		return permitted(op, &vss.Error{Code: vss.E_ABORT, Op: op, Object: id.String(), Reason: "the call was given up", Remedy: "Repeat it with more time", Err: context.Cause(ctx)})
	}
	return nil
}

// DropSet deletes what the arrays have of a set whose creation an earlier life
// of this service broke off, durable or not: no document was issued, so nobody
// waits for it. Arrays that know nothing of it do nothing. An array that cannot
// be asked is an error, because it may keep copies that are nobody's.
func (p *Provider) DropSet(ctx context.Context, id vss.ID) error {
	var mu sync.Mutex
	var errs []error
	_ = each(ctx, p.arrays(), func(ctx context.Context, c *client.Client) error {
		if err := c.AbortSet(ctx, id, true); err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
		return nil // one array that is away keeps no other from it
	})
	return permitted("DropSet", vss.Join("DropSet", errs...))
}

func (p *Provider) dropUnlessDurable(ctx context.Context, s *set) error {
	p.mu.Lock()
	keep := s.durable()
	p.mu.Unlock()
	if keep {
		return nil
	}
	return p.drop(ctx, s)
}

// drop ends what runs for a set, waits for it, and has the arrays delete what
// they made. A created set is left alone. What could not be told to an array is
// remembered, for the next drop.
func (p *Provider) drop(ctx context.Context, s *set) error {
	p.mu.Lock()
	if s.state == vss.SS_CREATED {
		p.mu.Unlock()
		return nil
	}
	var committed bool
	switch s.state {
	case vss.SS_PREPARING, vss.SS_PROCESSING_PREPARE, vss.SS_PREPARED, vss.SS_PROCESSING_PRECOMMIT, vss.SS_PRECOMMITTED, vss.SS_PROCESSING_COMMIT:
	default:
		// Its commit may have been recorded, without anybody having been told.
		committed = true
	}
	s.state = vss.SS_ABORTED
	cancel, done := s.cancel, s.done
	p.mu.Unlock()
	if done != nil {
		cancel()
		<-done
	}
	p.mu.Lock()
	dirty := s.dirty
	p.mu.Unlock()
	if !dirty {
		return nil
	}
	// The arrays are told also for a caller that is gone.
	ctx, cancelDrop := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancelDrop()
	var mu sync.Mutex
	var errs []error
	_ = each(ctx, s.parts, func(ctx context.Context, q *part) error {
		if err := q.array.AbortSet(ctx, s.id, committed); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
		return nil
	})
	if err := vss.Join("", errs...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.dirty = false
	return nil
}
