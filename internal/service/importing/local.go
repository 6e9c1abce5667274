package importing

import (
	"context"
	"errors"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/vss"
)

// Local is a set that was just made on this machine and does not travel: its
// LUNs are attached and verified, and its copies wait to be recorded together
// with the set.
type Local struct {
	r        *run
	statuses []catalog.CopyStatus
}

// ImportLocal is the end of making a hardware set that is not transportable
// (requester.md 2.3.1 step 11b): the steps of an import, on the machine whose
// originals are there, too. It needs no ticket, since the storage system knows
// who made the set, and no turn: it is no import of a requester's, and its
// LUNs are nobody else's.
//
// A set is whole or it is not, so one copy that cannot be shown fails it. The
// caller then calls Withdraw, or leaves that to recovery by keeping its own
// intent open: the LUNs are on record before they are unmasked.
func (im *Importer) ImportLocal(ctx context.Context, session vss.ID, set *document.SnapshotSet, tl *timeline.Recorder, pr *timeline.Progress) (*Local, error) {
	l := &Local{}
	err := registry.Guard("DoSnapshotSet: import", func() error {
		parts, err := im.parts(set)
		if err != nil {
			return err
		}
		l.r = &run{im: im, session: session, set: set, parts: parts, id: vss.NewID(), tl: tl, pr: pr, begun: time.Now(), points: localPoints}
		if err := im.Catalog.Update(ctx, l.r.listLUNs); err != nil {
			return err
		}
		if err := l.r.points.afterIntent.Hit(ctx); err != nil {
			return err
		}
		if l.statuses, err = l.r.attach(ctx); err != nil {
			return err
		}
		for _, s := range l.statuses {
			if s.Code != vss.S_OK {
				return s.Failure.Err()
			}
		}
		return nil
	})
	switch {
	case err == nil:
		return l, nil
	case ctx.Err() != nil:
		return nil, err
	}
	return nil, localFailure(set.ID, err)
}

// localFailure says what failed in a code DoSnapshotSet may answer
// (requester.md 2.3.1): those of an import alone, of disks that did not arrive
// say, are not among them.
func localFailure(set vss.ID, err error) error {
	e := vss.AsError("", err)
	out := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "DoSnapshotSet: import", Object: set.String(),
		Reason: "the copies were made, but could not be shown to this machine", Err: err,
		Remedy: "Check the path to the array, then create the set again; or create it with --transportable and import it elsewhere"}
	switch e.Code {
	case vss.E_ACCESSDENIED, vss.E_OUTOFMEMORY, vss.VSS_E_INSUFFICIENT_STORAGE, vss.VSS_E_PROVIDER_VETO, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR:
		out.Code, out.Object, out.Remedy = e.Code, e.Object, e.Remedy
	}
	return out
}

// Record files the copies and their LUNs in the transaction that makes the set
// one that was created.
func (l *Local) Record(t *catalog.Tx) error {
	return errors.Join(l.r.recordLUNs(t, l.statuses, nil), l.r.recordCopies(t, l.statuses))
}

// Mount makes the device objects, after Record. What cannot be mounted safely
// keeps its block node, as in an import.
func (l *Local) Mount(ctx context.Context) error {
	_ = l.r.points.afterRecord.Hit(ctx)
	l.r.pr.Report("mount", "", 0, len(l.statuses))
	end := l.r.tl.Start("mount", "")
	err := l.r.im.MountCopies(ctx, l.r.set.ID)
	end()
	_ = l.r.points.afterMount.Hit(ctx)
	return err
}

// Withdraw takes back what ImportLocal did for a set that did not come to be,
// and destroys its copies: LUN by LUN, as far as it had come, from what is on
// record. It does nothing for a set without LUNs on record here, and may be
// repeated until it succeeds.
func (im *Importer) Withdraw(ctx context.Context, set vss.ID) error {
	var luns []catalog.LUN
	err := im.Catalog.View(func(t *catalog.Tx) error {
		all, err := t.LUNs()
		for _, l := range all {
			if l.SetID == set {
				luns = append(luns, l)
			}
		}
		return err
	})
	if err != nil || len(luns) == 0 {
		return err
	}
	devices, err := im.Host.Enumerate(ctx)
	if err != nil {
		return err // it is not known what is attached
	}
	var gone []string
	var failed error
	for _, l := range luns {
		if _, err := im.cleanLUN(ctx, l, devices, Reclaim); err != nil {
			failed = vss.Join("", failed, err)
			continue
		}
		gone = append(gone, l.Name)
	}
	err = im.Catalog.Update(context.WithoutCancel(ctx), func(t *catalog.Tx) error {
		for _, name := range gone {
			if err := t.DeleteLUN(name); err != nil {
				return err
			}
		}
		return nil
	})
	return vss.Join("", failed, err)
}
