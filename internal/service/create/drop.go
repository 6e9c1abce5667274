package create

import (
	"context"
	"errors"

	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/vss"
)

// Abort drops a set that was not made: providers are told, the place is given
// back. It is idempotent, and does nothing to a set that is made.
func (s *Set) Abort(ctx context.Context) {
	if !s.finish() {
		return
	}
	for _, p := range s.providers() {
		_ = p.AbortSnapshots(ctx, s.ID)
	}
}

// finish ends the set's life in the Creator; true for the call that did it.
func (s *Set) finish() bool {
	s.mu.Lock()
	was := s.finished
	s.finished = true
	s.mu.Unlock()
	if !was {
		s.c.leave(s)
	}
	return !was
}

// stopped says plainly that a creation did not fail but was ended.
func (s *Set) stopped(ctx context.Context, err error) error {
	e := &vss.Error{Op: "DoSnapshotSet", Object: s.ID.String(), Err: err}
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return err
	case errors.Is(cause, async.ErrCancelled):
		e.Code, e.Reason, e.Remedy = vss.E_ABORT, "cancelled by the requester; the volumes are released and no copy is left", "Create the set again when it is wanted"
	default:
		e.Code, e.Reason, e.Remedy = vss.VSS_E_UNEXPECTED, "the service was stopped; the volumes are released", "Start the service and create the set again"
	}
	return e
}

// drop removes whatever providers have of a failed set: AbortSnapshots for
// what is not complete, OnLUNEmpty for copies that already were. Leftovers
// are named in the error that is returned, and clean is false: recovery drops
// them when it can.
func (s *Set) drop(ctx context.Context, durable bool, cause error) (err error, clean bool) {
	var left error
	// What this machine itself has of the copies goes first: a storage system
	// keeps a LUN that is attached.
	if !s.Context.Transportable() {
		left = s.c.Importer.Withdraw(ctx, s.ID)
	}
	for _, p := range s.providers() {
		if err := registry.Checked(ctx, p, "AbortSnapshots", p.AbortSnapshots(ctx, s.ID)); err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
			left = vss.Join("", left, err)
		}
	}
	if durable {
		for _, m := range s.members {
			left = vss.Join("", left, registry.Reclaim(ctx, m.provider, s.ID, m.devices, m.luns))
		}
	}
	if left == nil {
		return cause, true
	}
	e := *vss.AsError("DoSnapshotSet", cause)
	e.Reason += "; some copies could not be dropped yet, which the service goes on trying (" + left.Error() + ")"
	e.Remedy = "See umbra array lun list for LUNs of set " + s.ID.String() + "; " + e.Remedy
	return &e, false
}
