package copies

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/share"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints of shares.
var (
	fpShareAfterIntent   = failpoint.New("share.after-intent")
	fpShareAfterMount    = failpoint.New("share.after-mount")
	fpShareAfterPublish  = failpoint.New("share.after-publish")
	fpUnshareAfterClosed = failpoint.New("unshare.after-withdraw")
	fpUnshareAfterUmnt   = failpoint.New("unshare.after-unmount")
)

// Shares is what exposing remotely needs of this machine; share.Shares is it.
type Shares interface {
	// Type is the type of new shares, VSS_E_NOT_SUPPORTED if none can be made.
	Type() (string, error)
	Free(ctx context.Context, s share.Share) error
	// Mount and Publish make a share, Withdraw and Unmount end it, in this
	// order; each may be repeated.
	Mount(ctx context.Context, s share.Share) error
	Publish(ctx context.Context, s share.Share) error
	Withdraw(ctx context.Context, s share.Share) error
	Unmount(ctx context.Context, s share.Share) error
	UnmountLazily(ctx context.Context, s share.Share) error // from under who uses it
	// Sweep ends all shares but those to keep.
	Sweep(ctx context.Context, keep map[string]bool) ([]string, error)
}

// Share makes a subtree of a persistent copy available to other machines under
// name, or under a name of its own choice if that is empty, and returns the
// name. E_INVALIDARG for a name that cannot be one and for a path that is no
// folder of the copy; VSS_E_OBJECT_ALREADY_EXISTS if the copy is exposed or the
// name taken; VSS_E_NOT_SUPPORTED if no file server is configured, or it is not
// installed.
func (k *Keeper) Share(ctx context.Context, session, id vss.ID, path, name string) (string, error) {
	const op = "ExposeSnapshot"
	path, err := share.CleanPath(path)
	if err != nil {
		return "", err
	}
	if name != "" {
		if err := share.CheckName(name); err != nil {
			return "", err
		}
	}
	release, err := k.Turn(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	c, err := k.Get(op, id)
	if err != nil {
		return "", err
	}
	if err := k.exposable(op, c); err != nil {
		return "", err
	}
	if c.Prop.DeviceObject == "" {
		return "", &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: op, Object: id.String(), Reason: "the copy is not mounted on this machine, so there are no files to share",
			Remedy: "See the event copy.not-mounted of this copy"}
	}
	if k.Shares == nil {
		return "", &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: op, Object: id.String(), Reason: "this service makes no shares", Remedy: "Expose locally"}
	}
	if c.ShareType, err = k.Shares.Type(); err != nil {
		return "", err
	}
	c.Prop.ExposedPath = path
	if c.Prop.ExposedName, err = k.shareName(ctx, c, name); err != nil {
		return "", err
	}
	s := k.shareOf(c)
	var intent catalog.Intent
	err = k.Catalog.Update(ctx, func(t *catalog.Tx) error {
		intent, err = t.OpenIntent(catalog.Intent{Kind: "share", Role: catalog.Imported, SetID: c.Prop.SnapshotSetID, Object: strings.Join([]string{id.String(), s.Type, s.Name}, " "),
			Session: session, Begun: time.Now(), BootID: k.BootID})
		return err
	})
	if err != nil {
		return "", err
	}
	if err := fpShareAfterIntent.Hit(ctx); err != nil {
		return "", err
	}
	serr := k.makeShare(ctx, s)
	if serr == nil {
		if err := fpShareAfterPublish.Hit(ctx); err != nil {
			return "", err
		}
	}
	wctx := context.WithoutCancel(ctx)
	uerr := k.Catalog.Update(wctx, func(t *catalog.Tx) error {
		if serr == nil {
			have, found, err := t.Copy(id)
			if err != nil || !found {
				return errors.Join(err, notFound(op, id))
			}
			have.ShareType, have.Prop.ExposedName, have.Prop.ExposedPath = c.ShareType, s.Name, s.Path
			have.Prop.Attributes = have.Prop.Attributes&^vss.ATTR_NOT_SURFACED | vss.ATTR_EXPOSED_REMOTELY
			if err := t.PutCopy(have); err != nil {
				return err
			}
		}
		return t.CloseIntent(intent.ID)
	})
	if serr == nil && uerr != nil {
		// Not recorded means not exposed: take it back.
		uerr = errors.Join(uerr, k.endShare(wctx, s, false))
	}
	if err := errors.Join(serr, uerr); err != nil {
		return "", err
	}
	return s.Name, nil
}

// shareName is the name asked for, if it is free, or a free one: the beginning
// of the copy's ID, all of it if need be.
func (k *Keeper) shareName(ctx context.Context, c catalog.Copy, name string) (string, error) {
	candidates := []string{name}
	if name == "" {
		id := c.Prop.SnapshotID.Bare()
		candidates = []string{"umbra-" + id[:8], "umbra-" + id}
	}
	var err error
	for _, n := range candidates {
		c.Prop.ExposedName = n
		if err = k.free(ctx, c); vss.CodeOf(err) != vss.VSS_E_OBJECT_ALREADY_EXISTS {
			return n, err
		}
	}
	return "", err
}

// free reports whether the name is nobody's. Clients do not tell the case of
// letters.
func (k *Keeper) free(ctx context.Context, c catalog.Copy) error {
	err := k.Catalog.View(func(t *catalog.Tx) error {
		for o, err := range t.CopiesAfter(vss.GUIDNull, catalog.CopyFilter{}) {
			if err != nil {
				return err
			}
			if o.ShareType != "" && strings.EqualFold(o.Prop.ExposedName, c.Prop.ExposedName) {
				return &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: "ExposeSnapshot", Object: c.Prop.ExposedName, Reason: "another copy is shared under this name: " + o.Prop.SnapshotID.String(),
					Remedy: "Give another name, or none and one is chosen"}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return k.Shares.Free(ctx, k.shareOf(c))
}

func (k *Keeper) shareOf(c catalog.Copy) share.Share {
	s := share.Share{Type: c.ShareType, Name: c.Prop.ExposedName, Path: c.Prop.ExposedPath, Copy: c.Prop.SnapshotID, Root: k.DeviceObject(c.Prop.SnapshotID)}
	if len(c.Attachments) > 0 {
		s.Device = importing.VolumeOf(c)
	}
	return s
}

// makeShare mounts and publishes; a failure leaves nothing.
func (k *Keeper) makeShare(ctx context.Context, s share.Share) error {
	if err := k.Shares.Mount(ctx, s); err != nil {
		return err
	}
	err := fpShareAfterMount.Hit(ctx)
	if err == nil {
		err = k.Shares.Publish(ctx, s)
	}
	if err != nil {
		// It may have been published before ctx ended.
		ctx = context.WithoutCancel(ctx)
		return errors.Join(err, k.Shares.Withdraw(ctx, s), k.Shares.Unmount(ctx, s))
	}
	return nil
}

// endShare ends a share. If somebody keeps it open it is published again, so
// that it is what the catalogue says it is; by force it ends all the same.
func (k *Keeper) endShare(ctx context.Context, s share.Share, force bool) error {
	if k.Shares == nil {
		return nil
	}
	if err := k.Shares.Withdraw(ctx, s); err != nil {
		return err
	}
	if err := fpUnshareAfterClosed.Hit(ctx); err != nil {
		return err
	}
	err := k.Shares.Unmount(ctx, s)
	if force && vss.CodeOf(err) == vss.VSS_E_VOLUME_IN_USE {
		err = k.Shares.UnmountLazily(ctx, s)
	}
	if err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		return errors.Join(err, k.Shares.Publish(context.WithoutCancel(ctx), s))
	}
	return fpUnshareAfterUmnt.Hit(ctx)
}

// conceal takes the copy's exposure away, whichever it is.
func (k *Keeper) conceal(ctx context.Context, c catalog.Copy, force bool) error {
	if c.Prop.Attributes.Has(vss.ATTR_EXPOSED_REMOTELY) {
		return k.endShare(ctx, k.shareOf(c), force)
	}
	return k.unmount(ctx, c, c.Prop.ExposedName, force)
}

// Concealed is the record of a copy that is not exposed.
func Concealed(c catalog.Copy) catalog.Copy {
	c.Prop.ExposedName, c.Prop.ExposedPath, c.ShareType = "", "", ""
	c.Prop.Attributes = c.Prop.Attributes&^(vss.ATTR_EXPOSED_LOCALLY|vss.ATTR_EXPOSED_REMOTELY) | vss.ATTR_NOT_SURFACED
	return c
}

// Reshare makes the share that a copy is on record with, if it is not there,
// after its device object was mounted. The caller has the turn, or nobody else
// can have it yet.
func (k *Keeper) Reshare(ctx context.Context, c catalog.Copy) error {
	if k.Shares == nil {
		_, err := (&share.Shares{}).Type()
		return err
	}
	return k.makeShare(ctx, k.shareOf(c))
}

// UndoShare ends what an intent to share may have left. The copy it was of may
// be gone.
func (k *Keeper) UndoShare(ctx context.Context, in catalog.Intent) error {
	words := strings.SplitN(in.Object, " ", 3)
	id, err := vss.ParseID(words[0])
	if err != nil || len(words) != 3 || k.Shares == nil {
		return err
	}
	c, err := k.Get("recover share", id)
	if err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		return err
	}
	c.Prop.SnapshotID, c.ShareType, c.Prop.ExposedName = id, words[1], words[2]
	return k.endShare(ctx, k.shareOf(c), false)
}
