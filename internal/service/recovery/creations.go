package recovery

import (
	"context"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// dropTime bounds one attempt to have the storage systems drop a set.
const dropTime = 30 * time.Second

// leftovers lists the creations that failed and left copies which could not be
// dropped. Their intents are open; one that runs is not failed yet.
func (r *Recovery) leftovers() (out []catalog.Intent, err error) {
	err = r.Catalog.View(func(t *catalog.Tx) error {
		all, err := t.Intents()
		for _, in := range all {
			if in.Kind != "create" {
				continue
			}
			s, found, err := t.Set(catalog.Created, in.SetID)
			if err != nil {
				return err
			}
			if found && s.State == catalog.SetFailed {
				out = append(out, in)
			}
		}
		return err
	})
	return out, err
}

// dropCreation drops a set whose creation was broken off, or failed and left
// something: no document was issued, so nobody can be waiting for it. An intent
// stays open until every storage system has said that nothing is left.
func (r *Recovery) dropCreation(ctx context.Context, in catalog.Intent) error {
	message := "what a failed creation had left was dropped"
	// Recorded first: from here on it has failed, whoever drops it in the end.
	// It is also what makes this wait while another set holds writes.
	err := r.Catalog.Update(ctx, func(t *catalog.Tx) error {
		s, found, err := t.Set(catalog.Created, in.SetID)
		if err != nil || !found || s.State != catalog.SetCreating {
			return err
		}
		message = "a set whose creation was broken off was dropped"
		s.State = catalog.SetFailed
		s.Failure = &catalog.Failure{Code: vss.VSS_E_UNEXPECTED, Op: "DoSnapshotSet", Object: in.SetID.String(),
			Reason: "the service was stopped while the set was being made", Remedy: "Create the set again"}
		return t.PutSet(s)
	})
	if err != nil {
		return err
	}
	gone, err := r.dropSet(ctx, in)
	if err != nil {
		return err
	}
	for _, id := range gone {
		message += "; provider " + id.String() + " is not registered any more: what it has of the set its own tools must delete"
	}
	return r.Catalog.Update(ctx, func(t *catalog.Tx) error {
		if _, err := t.AddEvent(catalog.Event{Level: "warning", Name: "recovery.create-dropped", SetID: in.SetID, Message: message}); err != nil {
			return err
		}
		return t.CloseIntent(in.ID)
	})
}

// dropSet has the providers drop what they have of a set: those that made it, or,
// where that is not on record, all. Those that are not registered any more are
// returned.
func (r *Recovery) dropSet(ctx context.Context, in catalog.Intent) (gone []vss.ID, failed error) {
	ctx, cancel := context.WithTimeout(ctx, dropTime)
	defer cancel()
	// What this machine had of a set that does not travel goes first: a storage
	// system keeps a LUN that is attached.
	failed = r.Importer.Withdraw(ctx, in.SetID)
	if len(in.Parts) == 0 {
		for _, p := range r.Providers.Hardware() {
			failed = vss.Join("", failed, dropPart(ctx, p, in.SetID, nil))
		}
	}
	for _, part := range in.Parts {
		p, err := r.Providers.Get(part.ProviderID)
		if err != nil {
			gone = append(gone, part.ProviderID)
			continue
		}
		failed = vss.Join("", failed, dropPart(ctx, p, in.SetID, part.LUNs))
	}
	return gone, failed
}

// dropPart has one provider drop what it has of a set. A complete set is beyond
// AbortSnapshots: DropSet takes it, or its copies are destroyed one by one.
func dropPart(ctx context.Context, p provider.Hardware, set vss.ID, luns []lun.Info) (failed error) {
	err := registry.Checked(ctx, p, "AbortSnapshots", p.AbortSnapshots(ctx, set))
	if err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		failed = err
	}
	if d, ok := provider.As[provider.SetDropper](p); ok {
		return vss.Join("", failed, registry.Checked(ctx, p, "DropSet", d.DropSet(ctx, set)))
	}
	if len(luns) > 0 {
		failed = vss.Join("", failed, registry.Reclaim(ctx, p, set, make([]string, len(luns)), luns))
	}
	return failed
}
