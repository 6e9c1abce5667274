package recovery

import (
	"context"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/vss"
)

// groups shows the volume groups again that are on record, where all of their
// copies have come back. Those of the others follow with their last copy.
func (r *Recovery) groups(ctx context.Context) {
	var grouped []catalog.Copy
	err := r.Catalog.View(func(t *catalog.Tx) error {
		for c, err := range t.CopiesAfter(vss.GUIDNull, catalog.CopyFilter{}) {
			if err != nil {
				return err
			}
			if len(c.Groups) > 0 {
				grouped = append(grouped, c)
			}
		}
		return nil
	})
	if err != nil {
		r.Log.Error("read copies", "err", err)
		return
	}
	done := map[string]bool{}
	for _, c := range grouped {
		for _, g := range c.Groups {
			if !done[g.Identity.UUID] {
				done[g.Identity.UUID] = true
				r.showGroup(ctx, c.Prop.SnapshotSetID, g)
			}
		}
	}
}

// regroup shows the groups of a copy that has come back.
func (r *Recovery) regroup(ctx context.Context, c catalog.Copy) {
	for _, g := range c.Groups {
		r.showGroup(ctx, c.Prop.SnapshotSetID, g)
	}
}

// showGroup shows a group; one that cannot be shown is not on record any more, as
// with other exposures.
func (r *Recovery) showGroup(ctx context.Context, set vss.ID, g catalog.Group) {
	err := r.Keeper.Regroup(ctx, set, g, func(id vss.ID) bool { return !r.missing[id] })
	if err == nil {
		return
	}
	r.event(ctx, catalog.Event{Level: "error", Name: "recovery.exposure-lost", SetID: set, Object: g.Identity.Name, Message: "an exposure could not be restored", Failure: catalog.FailureOf(err)})
	if err := r.Keeper.ForgetGroup(ctx, set, g); err != nil {
		r.Log.Error("forget volume group", "group", g.Identity.Name, "err", err)
	}
}
