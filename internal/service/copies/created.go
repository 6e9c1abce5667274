package copies

import (
	"context"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpCreatedAfterIntent = failpoint.New("delete-created.after-intent")
	fpCreatedAfterEmpty  = failpoint.New("delete-created.after-lun-empty")
)

// deleteCreated deletes a transportable set on the machine that created it.
// None of its LUNs is here; the storage system destroys them, and refuses
// while the set is imported somewhere.
func (k *Keeper) deleteCreated(ctx context.Context, session, id vss.ID, force bool) (Deleted, error) {
	const op = "DeleteSnapshots"
	release, err := k.Turn(ctx)
	if err != nil {
		return Deleted{}, err
	}
	defer release()
	var set *document.SnapshotSet
	var intent catalog.Intent
	err = k.Catalog.Update(ctx, func(t *catalog.Tx) error {
		s, found, err := t.Set(catalog.Created, id)
		if err != nil {
			return err
		}
		if !found || s.State != catalog.SetCreated || s.Description == nil {
			return notFound(op, id)
		}
		// What an import here has, or left, is not deleted behind its back.
		if im, found, err := t.Set(catalog.Imported, id); err != nil {
			return err
		} else if found && im.State == catalog.SetDeleted {
			return notFound(op, id)
		}
		luns, err := t.LUNsOf(id)
		if err != nil {
			return err
		}
		if len(luns) > 0 {
			return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: luns[0].Name, Reason: "an import of the set runs here, or left the LUN on this machine",
				Remedy: "Wait for the import, or clean up with umbra cleanup " + id.String() + " first"}
		}
		set = s.Description
		intent, err = t.OpenIntent(catalog.Intent{Kind: "delete", Role: catalog.Created, SetID: id, Session: session, Force: force, Begun: time.Now(), BootID: k.BootID})
		return err
	})
	if err != nil {
		return Deleted{}, err
	}
	if err := fpCreatedAfterIntent.Hit(ctx); err != nil {
		return Deleted{}, err
	}
	d, failed := k.emptySet(ctx, set, force)
	if failed == nil {
		if err := fpCreatedAfterEmpty.Hit(ctx); err != nil {
			return d, err
		}
	}
	err = k.Catalog.Update(context.WithoutCancel(ctx), func(t *catalog.Tx) error {
		ev := catalog.Event{Level: "info", Name: "delete.done", Session: session, SetID: id, Message: "the set was deleted and its LUNs given back to the storage system"}
		if failed != nil {
			ev = catalog.Event{Level: "error", Name: "delete.failed", Session: session, SetID: id, Object: d.FirstFailed.String(),
				Message: "the set could not be deleted and stays", Failure: catalog.FailureOf(failed)}
		}
		if _, err := t.AddEvent(ev); err != nil {
			return err
		}
		if failed == nil {
			s, found, err := t.Set(catalog.Created, id)
			if err != nil {
				return err
			}
			if found {
				s.State = catalog.SetDeleted
				if err := t.PutSet(s); err != nil {
					return err
				}
			}
		}
		return t.CloseIntent(intent.ID)
	})
	if failed != nil {
		return d, failed
	}
	return d, err
}

// emptySet gives the LUNs of each copy back, in the document's order, and
// stops at the first that fails. A copy counts when all its LUNs are gone; a
// LUN that several copies share goes with the last of them.
func (k *Keeper) emptySet(ctx context.Context, set *document.SnapshotSet, force bool) (Deleted, error) {
	users := map[string]int{}
	for _, s := range set.Snapshots {
		for _, m := range s.LUNs {
			users[m.Target.Name()]++
		}
	}
	var d Deleted
	for _, s := range set.Snapshots {
		fail := func(err error) (Deleted, error) {
			d.FirstFailed = s.ID
			return d, err
		}
		p, err := k.Providers.Get(s.ProviderID)
		if err != nil {
			return fail(err)
		}
		for _, m := range s.LUNs {
			name := m.Target.Name()
			if users[name]--; users[name] > 0 {
				continue
			}
			if err := giveBack(ctx, p, "", m.Target, force); err != nil {
				return fail(err)
			}
		}
		d.Count++
	}
	return d, nil
}
