package copies

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Deleted is what DeleteSnapshots did.
type Deleted struct {
	Count       int
	FirstFailed vss.ID // GUID_NULL when all went
}

// Delete deletes one copy or all copies of a set that are on this machine, in
// sequence; it stops at the first failure. A set that was created here to be
// transported, and that nobody has imported, is deleted on its storage system.
// VSS_E_OBJECT_NOT_FOUND when the ID names nothing here.
func (k *Keeper) Delete(ctx context.Context, session, id vss.ID, kind vss.ObjectType) (Deleted, error) {
	const op = "DeleteSnapshots"
	var cs []catalog.Copy
	switch kind {
	case vss.OBJECT_SNAPSHOT:
		c, err := k.Get(op, id)
		if err != nil {
			return Deleted{}, err
		}
		cs = []catalog.Copy{c}
	case vss.OBJECT_SNAPSHOT_SET:
		err := k.Catalog.View(func(t *catalog.Tx) (err error) { cs, err = t.CopiesOf(id); return err })
		if err != nil {
			return Deleted{}, err
		}
		if len(cs) == 0 {
			return k.deleteCreated(ctx, session, id)
		}
	default:
		return Deleted{}, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: kind.String(), Reason: "only a copy or a set can be deleted",
			Remedy: "Give OBJECT_SNAPSHOT or OBJECT_SNAPSHOT_SET"}
	}
	var d Deleted
	for _, c := range cs {
		if err := k.deleteCopy(ctx, session, c); err != nil {
			d.FirstFailed = c.Prop.SnapshotID
			return d, err
		}
		d.Count++
	}
	return d, nil
}

// Release deletes the auto-release copies of a session that ended.
func (k *Keeper) Release(ctx context.Context, session vss.ID) error {
	var cs []catalog.Copy
	err := k.Catalog.View(func(t *catalog.Tx) (err error) { cs, err = t.AutoReleased(session); return err })
	for _, c := range cs {
		if derr := k.deleteCopy(ctx, session, c); derr != nil && vss.CodeOf(derr) != vss.VSS_E_OBJECT_NOT_FOUND {
			err = vss.Join("", err, derr)
		}
	}
	return err
}

// deleteCopy deletes one copy. Every step may be repeated after a crash.
func (k *Keeper) deleteCopy(ctx context.Context, session vss.ID, c catalog.Copy) error {
	release, err := k.Turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	id := c.Prop.SnapshotID
	// Read again: another deletion, or an exposure, may have come first.
	if c, err = k.Get("DeleteSnapshots", id); err != nil {
		return err
	}
	p, err := k.Providers.Get(c.Prop.ProviderID)
	if err != nil {
		return err
	}
	var intent catalog.Intent
	var shared map[string]bool // LUNs other copies still use
	err = k.Catalog.Update(ctx, func(t *catalog.Tx) (err error) {
		if shared, err = sharedLUNs(t, c); err != nil {
			return err
		}
		intent, err = t.OpenIntent(catalog.Intent{Kind: "delete", Role: catalog.Imported, SetID: c.Prop.SnapshotSetID, Object: id.String(), Session: session, Begun: time.Now(), BootID: k.BootID})
		return err
	})
	if err != nil {
		return err
	}
	if err := fpDeleteAfterIntent.Hit(ctx); err != nil {
		return err
	}
	failed := func(err error) error {
		_ = k.Catalog.Update(context.WithoutCancel(ctx), func(t *catalog.Tx) error {
			if _, err2 := t.AddEvent(catalog.Event{Level: "error", Name: "delete.failed", Session: session, SetID: c.Prop.SnapshotSetID, Object: id.String(),
				Message: "the copy could not be deleted and stays", Failure: catalog.FailureOf(err)}); err2 != nil {
				return err2
			}
			if err2 := t.PutCopy(c); err2 != nil { // without the mounts that are gone
				return err2
			}
			return t.CloseIntent(intent.ID)
		})
		return err
	}
	if c.BootID == k.BootID {
		if err := k.detach(ctx, &c, shared); err != nil {
			return failed(err)
		}
	}
	if err := fpDeleteAfterDetach.Hit(ctx); err != nil {
		return err
	}
	for _, a := range c.Attachments {
		if shared[a.LUN.Name()] {
			continue
		}
		if err := registry.Checked(ctx, p, "OnLUNEmpty", p.OnLUNEmpty(ctx, a.Device, a.LUN)); err != nil {
			return failed(err)
		}
		if err := k.Host.Unhide(ctx, []lun.Info{a.LUN}); err != nil {
			return failed(err)
		}
	}
	if err := fpDeleteAfterEmpty.Hit(ctx); err != nil {
		return err
	}
	return k.Catalog.Update(context.WithoutCancel(ctx), func(t *catalog.Tx) error {
		for _, a := range c.Attachments {
			if !shared[a.LUN.Name()] {
				if err := t.DeleteLUN(a.LUN.Name()); err != nil {
					return err
				}
			}
		}
		if err := t.DeleteCopy(id); err != nil {
			return err
		}
		rest, err := t.CopiesOf(c.Prop.SnapshotSetID)
		if err != nil {
			return err
		}
		if len(rest) == 0 {
			role, whole := catalog.Created, catalog.SetCreated // made here, and never travelled
			if c.Prop.Attributes.Has(vss.ATTR_IMPORTED) {
				role, whole = catalog.Imported, catalog.SetImported
			}
			if s, found, err := t.Set(role, c.Prop.SnapshotSetID); err != nil {
				return err
			} else if found && s.State == whole {
				s.State = catalog.SetDeleted
				if err := t.PutSet(s); err != nil {
					return err
				}
			}
		}
		if _, err := t.AddEvent(catalog.Event{Level: "info", Name: "delete.done", Session: session, SetID: c.Prop.SnapshotSetID, Object: id.String(),
			Message: "the copy was deleted and its LUN given back to the storage system"}); err != nil {
			return err
		}
		return t.CloseIntent(intent.ID)
	})
}

// detach removes the copy's mounts and devices from this machine. c is kept to
// what is still there.
func (k *Keeper) detach(ctx context.Context, c *catalog.Copy, shared map[string]bool) error {
	if c.Prop.ExposedName != "" {
		if err := k.conceal(ctx, *c); err != nil {
			return err
		}
		*c = Concealed(*c)
	}
	target := k.DeviceObject(c.Prop.SnapshotID)
	if err := k.unmount(ctx, *c, target); err != nil {
		return err
	}
	c.Prop.DeviceObject = ""
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "DeleteSnapshots", Object: target, Reason: "the device object's folder cannot be removed", Remedy: "See what is in it", Err: err}
	}
	if err := fpDeleteAfterUnmnt.Hit(ctx); err != nil {
		return err
	}
	for _, a := range c.Attachments {
		if shared[a.LUN.Name()] {
			continue
		}
		if err := k.Host.Detach(ctx, importing.DeviceOf(a)); err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
			return err
		}
	}
	return nil
}

// sharedLUNs are the copy's LUNs that another copy still lies on.
func sharedLUNs(t *catalog.Tx, c catalog.Copy) (map[string]bool, error) {
	shared := map[string]bool{}
	for _, a := range c.Attachments {
		name := a.LUN.Name()
		on, err := t.CopiesOn(name)
		if err != nil {
			return nil, err
		}
		shared[name] = slices.ContainsFunc(on, func(o catalog.Copy) bool { return o.Prop.SnapshotID != c.Prop.SnapshotID })
	}
	return shared, nil
}
