package recovery

import (
	"context"
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

// Continue tries again what Run could not put right because a storage system
// did not answer, until ctx ends. It is called after Run and returns when
// nothing of it runs any more. Users may do what they like meanwhile.
func (r *Recovery) Continue(ctx context.Context) {
	for pause := firstPause; len(r.missing) > 0; pause = min(2*pause, longestPause) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		r.again(ctx)
	}
}

// again is one attempt. A provider's panic is no reason to look no more.
func (r *Recovery) again(ctx context.Context) {
	if err := registry.Guard("recover copies", func() error { r.findMissing(ctx); return nil }); err != nil {
		r.Log.Error("look for missing copies", "err", err)
	}
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
func (r *Recovery) findMissing(ctx context.Context) {
	var missing []catalog.Copy
	err := r.Catalog.View(func(t *catalog.Tx) error {
		all, err := t.Copies()
		missing = slices.DeleteFunc(all, func(c catalog.Copy) bool { return !r.missing[c.Prop.SnapshotID] })
		return err
	})
	if err != nil {
		r.Log.Error("read copies", "err", err)
		return
	}
	for id := range r.missing {
		if !slices.ContainsFunc(missing, func(c catalog.Copy) bool { return c.Prop.SnapshotID == id }) {
			delete(r.missing, id) // deleted meanwhile
		}
	}
	shown := make([]bool, len(missing))
	var wg sync.WaitGroup
	for i, c := range missing {
		wg.Go(func() { shown[i] = r.shown(ctx, c) })
	}
	wg.Wait()
	for i, c := range missing {
		if !shown[i] {
			continue
		}
		if err := r.bringBack(ctx, c.Prop.SnapshotID); err != nil && ctx.Err() == nil {
			r.Log.Warn("a missing copy is not back yet", "copy", c.Prop.SnapshotID, "err", err)
		}
	}
}

// shown reports whether the copy's storage system answers and shows its LUNs
// to this machine, or cannot be asked but by trying.
func (r *Recovery) shown(ctx context.Context, c catalog.Copy) bool {
	err := registry.Guard("DescribeLUNs", func() error {
		p, err := r.Providers.Get(c.Prop.ProviderID)
		if err != nil {
			return err
		}
		d, ok := p.(provider.Describer)
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
	ds, why := r.rescan(ctx, []catalog.Copy{c})
	if err := r.reattach(ctx, &c, ds, why); err != nil {
		return err
	}
	if err := r.Importer.MountCopy(ctx, c); err != nil {
		return err // not recorded; what is mounted is found mounted next time
	}
	delete(r.missing, id)
	r.event(ctx, catalog.Event{Level: "info", Name: "recovery.copy-found", SetID: c.Prop.SnapshotSetID, Object: id.String(),
		Message: "an imported copy that was missing is attached again"})
	return nil
}
