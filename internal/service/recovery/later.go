package recovery

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// How long Continue waits between attempts: ever longer, because a storage
// system that is away for an hour need not be asked every second, and never so
// long that an administrator would rather restart the service.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// askTime bounds the question whether a storage system shows a copy's LUNs.
const askTime = 10 * time.Second

// Continue tries again what could not be put right because a storage system did
// not answer, until ctx ends: copies that did not come back at the start, and
// sets that failed and left copies, then or later (see Wake). It is called after
// Run, and nothing of it runs any more when it returns. Users may do what they
// like meanwhile.
func (r *Recovery) Continue(ctx context.Context) {
	pause, left := firstPause, r.unfinished()
	for {
		var next <-chan time.Time // never, if nothing is left
		if left {
			next = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			pause, left = firstPause, true
		case <-next:
			r.again(ctx)
			pause, left = min(2*pause, longestPause), r.unfinished()
		}
	}
}

// Wake tells Continue that there is something to try again. It never waits.
func (r *Recovery) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // it knows
	}
}

// unfinished reports whether there is anything to try again.
func (r *Recovery) unfinished() bool {
	left, err := r.leftovers()
	return len(r.missing) > 0 || len(left) > 0 || err != nil
}

// again is one attempt at everything. A provider's panic is no reason to try no
// more.
func (r *Recovery) again(ctx context.Context) {
	for _, try := range []func(context.Context) error{r.findMissing, r.dropLeftovers} {
		if err := registry.Guard("recover", func() error { return try(ctx) }); err != nil && ctx.Err() == nil {
			r.Log.Warn("not everything could be put right yet", "err", err)
		}
	}
}

// dropLeftovers tries once to drop what failed creations left.
func (r *Recovery) dropLeftovers(ctx context.Context) error {
	left, err := r.leftovers()
	for _, in := range left {
		err = vss.Join("", err, r.dropCreation(ctx, in))
	}
	return err
}

func (r *Recovery) miss(id vss.ID) {
	if r.missing == nil {
		r.missing = map[vss.ID]bool{}
	}
	r.missing[id] = true
}

// findMissing looks once for every copy that is missing. The storage systems
// are asked first, holding nothing: one that is still away must not keep users
// from importing and deleting what other systems have.
func (r *Recovery) findMissing(ctx context.Context) (err error) {
	for ids := range slices.Chunk(slices.Collect(maps.Keys(r.missing)), atOnce) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = vss.Join("", err, r.findSome(ctx, ids))
	}
	return brief(err)
}

func (r *Recovery) findSome(ctx context.Context, ids []vss.ID) error {
	var missing []catalog.Copy
	err := r.Catalog.View(func(t *catalog.Tx) error {
		for _, id := range ids {
			c, found, err := t.Copy(id)
			if err != nil {
				return err
			}
			if found {
				missing = append(missing, c)
			} else {
				delete(r.missing, id) // deleted meanwhile
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	shown := make([]bool, len(missing))
	var wg sync.WaitGroup
	for i, c := range missing {
		wg.Go(func() { shown[i] = r.shown(ctx, c) })
	}
	wg.Wait()
	for i, c := range missing {
		if shown[i] {
			err = vss.Join("", err, r.bringBack(ctx, c.Prop.SnapshotID))
		}
	}
	return err
}

// shown reports whether the copy's storage system answers and shows its LUNs
// to this machine, or cannot be asked but by trying.
func (r *Recovery) shown(ctx context.Context, c catalog.Copy) bool {
	err := registry.Guard("DescribeLUNs", func() error {
		p, err := r.Providers.Get(c.Prop.ProviderID)
		if err != nil {
			return err
		}
		d, ok := provider.As[provider.Describer](p)
		if !ok {
			return nil
		}
		var luns []lun.Info
		for _, a := range c.Attachments {
			luns = append(luns, a.LUN)
		}
		ctx, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		_, err = d.DescribeLUNs(ctx, luns)
		return err
	})
	return err == nil
}

// bringBack attaches, mounts and exposes one missing copy again. It holds the
// importer's place and the keeper's turn, so that nobody imports, cleans up,
// exposes or deletes at the same time; a copy that was deleted first is left.
func (r *Recovery) bringBack(ctx context.Context, id vss.ID) error {
	leave, err := r.Importer.Acquire(ctx, true)
	if err != nil {
		return err
	}
	defer leave()
	release, err := r.Keeper.Turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	c, err := r.Keeper.Get("recover copy", id)
	if err != nil {
		if vss.CodeOf(err) == vss.VSS_E_OBJECT_NOT_FOUND {
			delete(r.missing, id)
			return nil
		}
		return err
	}
	sctx, cancel := context.WithTimeout(ctx, rescanTime)
	defer cancel()
	c.BootID = "" // what is otherwise than it was is told by the event below
	ds, why := r.rescan(sctx, []catalog.Copy{c})
	if err := r.reattach(ctx, &c, ds, why); err != nil {
		return err
	}
	if err := r.record(ctx, c); err != nil {
		return err
	}
	if err := r.Importer.MountCopy(ctx, c); err != nil {
		return err // not recorded; what is mounted is found mounted next time
	}
	r.reshare(ctx, id)
	delete(r.missing, id)
	r.regroup(ctx, c)
	r.event(ctx, catalog.Event{Level: "info", Name: "recovery.copy-found", SetID: c.Prop.SnapshotSetID, Object: id.String(),
		Message: "a copy that was missing is attached again"})
	return nil
}
