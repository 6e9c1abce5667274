package copies

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/vss"
)

// Expose mounts a persistent copy read-only on an existing empty folder and
// returns the folder. The options are those that are right for a clone beside
// its original. E_INVALIDARG for a folder that is not absolute, empty or
// there; VSS_E_UNSUPPORTED_CONTEXT for auto-release copies (their device
// object is readable without); VSS_E_OBJECT_ALREADY_EXISTS when the copy is
// exposed already.
func (k *Keeper) Expose(ctx context.Context, session, id vss.ID, folder string) (string, error) {
	const op = "ExposeSnapshot"
	release, err := k.Turn(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	c, err := k.Get(op, id)
	if err != nil {
		return "", err
	}
	bad := func(code vss.HResult, object, reason, remedy string, err error) (string, error) {
		return "", &vss.Error{Code: code, Op: op, Object: object, Reason: reason, Remedy: remedy, Err: err}
	}
	if err := k.exposable(op, c); err != nil {
		return "", err
	}
	if !filepath.IsAbs(folder) {
		return bad(vss.E_INVALIDARG, strconv.Quote(folder), "not an absolute path", "Name an existing empty folder by its full path", nil)
	}
	// Links are followed once, here: what is recorded is where the mount is.
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return bad(vss.E_INVALIDARG, folder, "the folder cannot be found", "Name an existing empty folder", err)
	}
	folder = real
	entries, err := os.ReadDir(folder)
	if err != nil {
		return bad(vss.E_INVALIDARG, folder, "the folder cannot be read", "Name an existing empty folder", err)
	}
	if len(entries) > 0 {
		return bad(vss.E_INVALIDARG, folder, "the folder is not empty", "Name an existing empty folder", nil)
	}

	var intent catalog.Intent
	err = k.Catalog.Update(ctx, func(t *catalog.Tx) error {
		intent, err = t.OpenIntent(catalog.Intent{Kind: "expose", Role: catalog.Imported, SetID: c.Prop.SnapshotSetID, Object: id.String() + " " + folder, Session: session, Begun: time.Now(), BootID: k.BootID})
		return err
	})
	if err != nil {
		return "", err
	}
	if err := fpExposeAfterIntent.Hit(ctx); err != nil {
		return "", err
	}
	merr := k.Host.MountClone(ctx, importing.CloneMountOf(c, folder))
	if merr == nil {
		if err := fpExposeAfterMount.Hit(ctx); err != nil {
			return "", err
		}
	}
	uerr := k.Catalog.Update(context.WithoutCancel(ctx), func(t *catalog.Tx) error {
		if err := t.CloseIntent(intent.ID); err != nil || merr != nil {
			return err
		}
		c, found, err := t.Copy(id)
		if err != nil || !found {
			return errors.Join(err, notFound(op, id))
		}
		c.Prop.ExposedName = folder
		c.Prop.Attributes = c.Prop.Attributes&^vss.ATTR_NOT_SURFACED | vss.ATTR_EXPOSED_LOCALLY
		return t.PutCopy(c)
	})
	if merr == nil && uerr != nil {
		// Not recorded means not exposed: take it back.
		uerr = errors.Join(uerr, k.Host.Unmount(context.WithoutCancel(ctx), folder, importing.VolumeOf(c)))
	}
	if err := errors.Join(merr, uerr); err != nil {
		return "", err
	}
	return folder, nil
}

// exposable refuses copies that cannot be exposed, here or by anybody.
func (k *Keeper) exposable(op string, c catalog.Copy) error {
	if err := k.lasting(op, c); err != nil {
		return err
	}
	if c.Prop.ExposedName != "" {
		return &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: op, Object: c.Prop.SnapshotID.String(), Reason: "the copy is exposed at " + c.Prop.ExposedName, Remedy: "Unexpose it first"}
	}
	return nil
}

// lasting refuses copies that are not here, or not for as long as an exposure is.
func (k *Keeper) lasting(op string, c catalog.Copy) error {
	id := c.Prop.SnapshotID.String()
	switch {
	case c.BootID != k.BootID: // where it was attached may be another disk by now
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: id, Reason: "the copy's LUN has not come back since the machine booted",
			Remedy: "Check the array and the path to it; the copy is attached when the array shows it"}
	case !c.Prop.Attributes.Has(vss.ATTR_PERSISTENT) || c.Prop.Attributes.Has(vss.ATTR_CLIENT_ACCESSIBLE):
		return &vss.Error{Code: vss.VSS_E_UNSUPPORTED_CONTEXT, Op: op, Object: id, Reason: "only copies of the contexts app-rollback and nas-rollback can be exposed",
			Remedy: "Read the copy through its device object " + c.Prop.DeviceObject + ", which needs no expose"}
	}
	return nil
}

// Unexpose takes the mount or the share away, or of a copy that has neither the
// volume group it is shown in; the copy stays. VSS_E_OBJECT_NOT_FOUND for a
// copy that is unknown or not exposed, VSS_E_VOLUME_IN_USE while somebody uses
// it.
func (k *Keeper) Unexpose(ctx context.Context, id vss.ID) error {
	const op = "UnexposeSnapshot"
	release, err := k.Turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	c, err := k.Get(op, id)
	if err != nil {
		return err
	}
	if c.Prop.ExposedName == "" && len(c.Groups) > 0 {
		return k.endGroupsOf(ctx, &c, false)
	}
	if c.Prop.ExposedName == "" {
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: id.String(), Reason: "the copy is not exposed", Remedy: "See umbra list copies"}
	}
	if err := k.conceal(ctx, c, false); err != nil {
		return err
	}
	if err := fpUnexposeAfterUmnt.Hit(ctx); err != nil {
		return err
	}
	return k.Catalog.Update(context.WithoutCancel(ctx), func(t *catalog.Tx) error {
		c, found, err := t.Copy(id)
		if err != nil || !found {
			return err
		}
		return t.PutCopy(Concealed(c))
	})
}

// unmount unmounts the copy's filesystem from target; that it is not mounted
// there is success. By force it is taken from under who uses it.
func (k *Keeper) unmount(ctx context.Context, c catalog.Copy, target string, force bool) error {
	d := importing.VolumeOf(c)
	err := k.Host.Unmount(ctx, target, d)
	if force && vss.CodeOf(err) == vss.VSS_E_VOLUME_IN_USE {
		err = k.Host.UnmountLazily(ctx, target, d)
	}
	if vss.CodeOf(err) == vss.VSS_E_OBJECT_NOT_FOUND {
		return nil
	}
	return err
}
