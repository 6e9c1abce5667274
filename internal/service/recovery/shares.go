package recovery

import (
	"context"
	"strings"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/copies"
	"github.com/umbra-vss/umbra/vss"
)

// shares makes the shares again of the copies that are here, and ends all
// others: a file server remembers shares over a reboot, and must not offer an
// empty folder for a copy that is gone or not back yet.
func (r *Recovery) shares(ctx context.Context) {
	if r.Keeper.Shares == nil {
		return
	}
	var shared []catalog.Copy
	err := r.Catalog.View(func(t *catalog.Tx) error {
		for c, err := range t.CopiesAfter(vss.GUIDNull, catalog.CopyFilter{}) {
			if err != nil {
				return err
			}
			if c.ShareType != "" && !r.missing[c.Prop.SnapshotID] {
				shared = append(shared, c)
			}
		}
		return nil
	})
	if err != nil {
		r.Log.Error("read copies", "err", err)
		return
	}
	keep := map[string]bool{}
	for _, c := range shared {
		if r.reshare(ctx, c.Prop.SnapshotID) {
			keep[c.Prop.ExposedName] = true
		}
	}
	removed, err := r.Keeper.Shares.Sweep(ctx, keep)
	if len(removed) > 0 {
		r.Log.Info("shares without a copy were removed", "shares", strings.Join(removed, ", "))
	}
	if err != nil {
		r.event(ctx, catalog.Event{Level: "error", Name: "recovery.failed", Object: "shares",
			Message: "shares of copies that are not here could not all be removed; it will be tried at the next start", Failure: catalog.FailureOf(err)})
	}
}

// reshare makes a copy's share again, if it has one. One that cannot be made is
// not on record any more, as with a local exposure.
func (r *Recovery) reshare(ctx context.Context, id vss.ID) bool {
	c, err := r.Keeper.Get("recover share", id)
	if err != nil || c.ShareType == "" {
		return false
	}
	if err := r.Keeper.Reshare(ctx, c); err != nil {
		r.event(ctx, catalog.Event{Level: "error", Name: "recovery.exposure-lost", SetID: c.Prop.SnapshotSetID, Object: c.Prop.ExposedName, Message: "an exposure could not be restored", Failure: catalog.FailureOf(err)})
		if err := r.Catalog.Update(ctx, func(t *catalog.Tx) error { return t.PutCopy(copies.Concealed(c)) }); err != nil {
			r.Log.Error("forget share", "share", c.Prop.ExposedName, "err", err)
		}
		return false
	}
	return true
}
