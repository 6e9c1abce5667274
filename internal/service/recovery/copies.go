package recovery

import (
	"context"
	"fmt"
	"strings"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/vss"
)

// There may be tens of thousands of copies. They are looked at some at a time,
// so that they are never all in memory; what is recorded of those is one
// transaction; and of a trouble that very many have only the first have events
// of their own, since the event log would else hold nothing older.
const (
	atOnce = 500
	named  = 20
)

// copies deletes those whose life has ended and brings the others back.
func (r *Recovery) copies(ctx context.Context) {
	sctx, cancel := context.WithTimeout(ctx, rescanTime)
	defer cancel()
	sets := map[vss.ID]bool{}    // with copies that are back
	var unmounted []catalog.Copy // in this boot, while the service was away
	missing := &trouble{r: r, event: catalog.Event{Level: "error", Name: "recovery.copy-missing"},
		one: "a copy is not attached; the service goes on looking for it", more: "%d more copies are not attached; the service goes on looking for them"}
	kept := &trouble{r: r, event: catalog.Event{Level: "error", Name: "recovery.not-released"}, more: "%d more copies whose life has ended could not be deleted"}
	for after := vss.GUIDNull; ; {
		cs, err := r.some(after)
		if err != nil {
			r.Log.Error("read copies", "err", err)
			break
		}
		if len(cs) == 0 {
			break
		}
		after = cs[len(cs)-1].Prop.SnapshotID
		var stay []catalog.Copy
		for _, c := range cs {
			why, ended := r.ended(c)
			if !ended {
				stay = append(stay, c)
				continue
			}
			if _, err := r.Keeper.Delete(ctx, c.Session, c.Prop.SnapshotID, vss.OBJECT_SNAPSHOT, false); err != nil {
				kept.one = why + " could not be deleted"
				kept.of(ctx, c, err)
				continue
			}
			r.event(ctx, catalog.Event{Level: "info", Name: "recovery.auto-released", SetID: c.Prop.SnapshotSetID, Object: c.Prop.SnapshotID.String(), Message: why + " was deleted"})
		}
		had := map[vss.ID]bool{}
		for _, c := range stay {
			had[c.Prop.SnapshotID] = c.BootID == r.BootID && c.Prop.DeviceObject != ""
		}
		for c, err := range r.bringAllBack(ctx, sctx, stay) {
			if err != nil {
				missing.of(ctx, c, err)
				r.miss(c.Prop.SnapshotID)
				continue
			}
			sets[c.Prop.SnapshotSetID] = true
			if had[c.Prop.SnapshotID] && !importing.MountedAt(c.Prop.DeviceObject, importing.VolumeOf(c)) {
				unmounted = append(unmounted, c)
			}
		}
	}
	missing.rest(ctx)
	kept.rest(ctx)
	for id := range sets {
		if err := r.Importer.MountCopies(ctx, id); err != nil {
			r.Log.Error("mount device objects", "set", id, "err", err)
		}
	}
	for _, c := range unmounted {
		if importing.MountedAt(c.Prop.DeviceObject, importing.VolumeOf(c)) { // else there is an event that it is not
			r.mounted(ctx, c, c.Prop.DeviceObject, "a device object")
		}
	}
}

// some are the next copies after one.
func (r *Recovery) some(after vss.ID) (cs []catalog.Copy, err error) {
	err = r.Catalog.View(func(t *catalog.Tx) error {
		for c, err := range t.CopiesAfter(after, catalog.CopyFilter{}) {
			if err != nil {
				return err
			}
			if cs = append(cs, c); len(cs) == atOnce {
				break
			}
		}
		return nil
	})
	return cs, err
}

// trouble is one that several copies have.
type trouble struct {
	r         *Recovery
	event     catalog.Event
	one, more string
	n         int
}

func (t *trouble) of(ctx context.Context, c catalog.Copy, err error) {
	if t.n++; t.n > named {
		return
	}
	e := t.event
	e.SetID, e.Object, e.Message, e.Failure = c.Prop.SnapshotSetID, c.Prop.SnapshotID.String(), t.one, catalog.FailureOf(err)
	t.r.event(ctx, e)
}

func (t *trouble) rest(ctx context.Context) {
	if t.n > named {
		e := t.event
		e.Message = fmt.Sprintf(t.more, t.n-named)
		t.r.event(ctx, e)
	}
}

// bringAllBack yields each copy, with what keeps it from being back. sctx bounds
// the search.
func (r *Recovery) bringAllBack(ctx, sctx context.Context, cs []catalog.Copy) func(yield func(catalog.Copy, error) bool) {
	return func(yield func(catalog.Copy, error) bool) {
		if len(cs) == 0 {
			return
		}
		ds, why := r.rescan(sctx, cs)
		why = brief(why)
		var back []catalog.Copy
		for _, c := range cs {
			if err := r.reattach(ctx, &c, ds, why); err == nil {
				back = append(back, c)
			} else if !yield(c, err) {
				return
			}
		}
		err := r.record(ctx, back...)
		for _, c := range back {
			if !yield(c, err) {
				return
			}
		}
	}
}

func (r *Recovery) record(ctx context.Context, cs ...catalog.Copy) error {
	if len(cs) == 0 {
		return nil
	}
	return r.Catalog.Update(ctx, func(t *catalog.Tx) error {
		for _, c := range cs {
			if err := t.PutCopy(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// brief is an error that says its beginning: one that many LUNs have a part in
// is the reason of every one of them.
func brief(err error) error {
	const enough = 800
	if err == nil || len(err.Error()) <= enough {
		return err
	}
	return briefly{err, strings.ToValidUTF8(err.Error()[:enough], "") + " …"}
}

type briefly struct {
	err  error
	text string
}

func (b briefly) Error() string { return b.text }
func (b briefly) Unwrap() error { return b.err }
