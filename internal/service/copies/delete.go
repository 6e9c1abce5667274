package copies

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
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
//
// A copy in use is VSS_E_VOLUME_IN_USE and stays. By force it goes: its mounts and
// its device are left to who uses them, and its storage system is asked to destroy
// the LUN all the same (provider.ForcedReclaimer).
func (k *Keeper) Delete(ctx context.Context, session, id vss.ID, kind vss.ObjectType, force bool) (Deleted, error) {
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
			return k.deleteCreated(ctx, session, id, force)
		}
	default:
		return Deleted{}, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: kind.String(), Reason: "only a copy or a set can be deleted",
			Remedy: "Give OBJECT_SNAPSHOT or OBJECT_SNAPSHOT_SET"}
	}
	var d Deleted
	for _, c := range cs {
		if err := k.deleteCopy(ctx, session, c, force); err != nil {
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
		if derr := k.deleteCopy(ctx, session, c, false); derr != nil && vss.CodeOf(derr) != vss.VSS_E_OBJECT_NOT_FOUND {
			err = vss.Join("", err, derr)
		}
	}
	return err
}

// deleteCopy deletes one copy. Every step may be repeated after a crash.
func (k *Keeper) deleteCopy(ctx context.Context, session vss.ID, c catalog.Copy, force bool) error {
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
		intent, err = t.OpenIntent(catalog.Intent{Kind: "delete", Role: catalog.Imported, SetID: c.Prop.SnapshotSetID, Object: id.String(), Session: session, Force: force, Begun: time.Now(), BootID: k.BootID})
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
	used, err := k.detach(ctx, &c, shared, force)
	if err != nil {
		return failed(err)
	}
	if err := fpDeleteAfterDetach.Hit(ctx); err != nil {
		return err
	}
	for _, a := range c.Attachments {
		if shared[a.LUN.Name()] {
			continue
		}
		if err := giveBack(ctx, p, a.Device, a.LUN, force); err != nil {
			return failed(err)
		}
		if err := k.Host.Unhide(ctx, []lun.Info{a.LUN}); err != nil {
			return failed(err)
		}
	}
	if err := fpDeleteAfterEmpty.Hit(ctx); err != nil {
		return err
	}
	message := "the copy was deleted and its LUN given back to the storage system"
	if used {
		message = "the copy was deleted by force while it was in use; its device and its space go when the last user has closed it"
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
			Message: message}); err != nil {
			return err
		}
		return t.CloseIntent(intent.ID)
	})
}

// giveBack has the storage system destroy a LUN.
func giveBack(ctx context.Context, p provider.Hardware, device string, l lun.Info, force bool) error {
	if f, ok := provider.As[provider.ForcedReclaimer](p); ok && force {
		return registry.Checked(ctx, p, "OnLUNEmptyForced", f.OnLUNEmptyForced(ctx, device, l))
	}
	return registry.Checked(ctx, p, "OnLUNEmpty", p.OnLUNEmpty(ctx, device, l))
}

// detach removes the copy's mounts and devices from this machine. c is kept to
// what is still there. By force a device in use is left to its users: then used
// is true.
func (k *Keeper) detach(ctx context.Context, c *catalog.Copy, shared map[string]bool, force bool) (used bool, err error) {
	if err := k.endGroupsOf(ctx, c, force); err != nil {
		return false, err
	}
	here, err := k.attached(ctx, *c)
	if err != nil {
		return false, err
	}
	if k.found(ctx, c, here) {
		if err := k.unmountAll(ctx, c, force); err != nil {
			return false, err
		}
	}
	if err := fpDeleteAfterUnmnt.Hit(ctx); err != nil {
		return false, err
	}
	// A LUN that other copies keep here stays, and what was made of it for this
	// copy goes. What stands on a LUN that goes is cleared with it.
	for _, d := range importing.SurfacesOf(*c) {
		if c.BootID != k.BootID || d.Kind == surface.Disk {
			continue
		}
		err := k.Host.TakeDown(ctx, d, false)
		if force && vss.CodeOf(err) == vss.VSS_E_VOLUME_IN_USE {
			used, err = true, k.Host.TakeDown(ctx, d, true)
		}
		if err != nil {
			return used, err
		}
	}
	for _, a := range here {
		if shared[a.LUN.Name()] {
			continue
		}
		err := k.Host.Detach(ctx, importing.DeviceOf(a))
		if force && vss.CodeOf(err) == vss.VSS_E_VOLUME_IN_USE {
			used, err = true, k.Host.Abandon(ctx, importing.DeviceOf(a))
		}
		if err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
			return used, err
		}
	}
	return used, nil
}

// found brings the record of a copy's block devices up to date, if its LUNs are
// here. It reports whether the copy may be mounted.
func (k *Keeper) found(ctx context.Context, c *catalog.Copy, here []catalog.Attachment) bool {
	if c.BootID == k.BootID {
		return len(here) > 0
	}
	if len(here) != len(c.Attachments) {
		return false // it was never put together, since the machine booted
	}
	now := *c
	now.Attachments = here
	if k.Resurface == nil || k.Resurface(ctx, &now) != nil {
		return false
	}
	now.BootID = k.BootID
	*c = now
	return true
}

// attached is what this machine has of the copy. Of one that did not come back
// when the machine booted some LUNs may have come all the same, which is on no
// record: they are looked for.
func (k *Keeper) attached(ctx context.Context, c catalog.Copy) (here []catalog.Attachment, err error) {
	if c.BootID == k.BootID {
		return slices.Clone(c.Attachments), nil
	}
	devices, err := k.Host.Enumerate(ctx)
	for _, a := range c.Attachments {
		for _, d := range devices {
			got := a.LUN
			got.StorageIDs = d.LUN.StorageIDs
			if lun.Match(a.LUN, got) == nil {
				a.Device, a.Major, a.Minor, a.DiskSeq = d.Path, d.Major, d.Minor, d.DiskSeq
				here = append(here, a)
			}
		}
	}
	return here, err
}

func (k *Keeper) unmountAll(ctx context.Context, c *catalog.Copy, force bool) error {
	if c.Prop.ExposedName != "" {
		if err := k.conceal(ctx, *c, force); err != nil {
			return err
		}
		*c = Concealed(*c)
	}
	target := k.DeviceObject(c.Prop.SnapshotID)
	if err := k.unmount(ctx, *c, target, force); err != nil {
		return err
	}
	c.Prop.DeviceObject = ""
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "DeleteSnapshots", Object: target, Reason: "the device object's folder cannot be removed", Remedy: "See what is in it", Err: err}
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
