// Package recovery is what a service does before it serves: it puts right, or
// names, everything its last life left half done.
//
// In this order: filesystems that may still be frozen are thawed (before
// anything that could block); sets that were being created are dropped; an
// import that was broken off is left exactly as it is and listed, because only
// the requester may clean it up; deletions are finished; half-made exposures
// are taken back; auto-release copies, whose requester is gone, are deleted, and
// so are those that were to last until the machine boots; and the device
// objects of the others are mounted again. Each step writes an event.
//
// A storage system may come up after the service. What could not be put right
// without it is tried again while the service serves, see [Recovery.Continue].
package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/service/copies"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Host is what recovery needs beyond its parts' own needs.
type Host interface {
	copies.Host
	Hide(ctx context.Context, luns []lun.Info) error
	Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error)
}

// Recovery puts things right at start-up.
type Recovery struct {
	Host      Host
	Catalog   *catalog.Catalog
	Providers *registry.Registry
	Importer  *importing.Importer
	Keeper    *copies.Keeper
	BootID    string
	HoldDir   string
	Log       *slog.Logger

	missing map[vss.ID]bool // copies whose LUNs did not come back yet
	wake    chan struct{}
}

// New completes a Recovery.
func New(r Recovery) *Recovery {
	r.wake = make(chan struct{}, 1)
	return &r
}

// Thaw is the first step, on its own because it needs no catalogue and no
// array: every filesystem a hold intent names is thawed.
func (r *Recovery) Thaw(ctx context.Context) ([]freeze.Recovered, error) {
	return freeze.RecoverIntents(ctx, r.HoldDir, r.Log)
}

// Run does the rest. Errors are events, not reasons not to start: a service
// that does not start helps nobody.
func (r *Recovery) Run(ctx context.Context, thawed []freeze.Recovered) {
	for _, t := range thawed {
		r.event(ctx, catalog.Event{Level: "warning", Name: "recovery.thawed", Object: t.Name, Message: "a filesystem that the service may have left frozen was dealt with: " + string(t.Action), Failure: catalog.FailureOf(t.Err)})
	}
	var intents []catalog.Intent
	if err := r.Catalog.View(func(t *catalog.Tx) (err error) { intents, err = t.Intents(); return err }); err != nil {
		r.Log.Error("read intents", "err", err)
		return
	}
	for _, in := range intents {
		var err error
		when := "at the next start"
		switch in.Kind {
		case "create":
			err, when = r.dropCreation(ctx, in), "again"
		case "import":
			err = r.keepImport(ctx, in)
		case "delete":
			err = r.finishDelete(ctx, in)
		case "expose":
			err = r.undoExpose(ctx, in)
		case "share":
			if err = r.Keeper.UndoShare(ctx, in); err == nil {
				err = r.closeIntent(ctx, in)
			}
		case "group":
			if err = r.Keeper.UndoGroup(ctx, in); err == nil {
				err = r.closeIntent(ctx, in)
			}
		case "cleanup":
			err = r.keepCleanup(ctx, in)
		}
		if err != nil {
			r.event(ctx, catalog.Event{Level: "error", Name: "recovery.failed", SetID: in.SetID, Object: in.Object,
				Message: "the " + in.Kind + " that was broken off could not be dealt with; it will be tried " + when, Failure: catalog.FailureOf(err)})
		}
	}
	r.copies(ctx)
	r.shares(ctx)
	r.groups(ctx)
}

func (r *Recovery) event(ctx context.Context, e catalog.Event) {
	r.Log.Info(e.Message, "event", e.Name, "set", e.SetID, "object", e.Object)
	if _, err := r.Catalog.Log(ctx, e); err != nil {
		r.Log.Error("write event", "err", err)
	}
}

// keepImport leaves a broken-off import as it is and lists its LUNs.
func (r *Recovery) keepImport(ctx context.Context, in catalog.Intent) error {
	return r.Catalog.Update(ctx, func(t *catalog.Tx) error {
		all, err := t.LUNsOf(in.SetID)
		if err != nil {
			return err
		}
		n := 0
		for _, l := range all {
			if l.State == catalog.LUNUnmasking {
				l.State, l.Reason = catalog.LUNOrphaned, "the service was stopped while the set was being imported"
				if err := t.PutLUN(l); err != nil {
					return err
				}
				n++
			}
		}
		s, found, err := t.Set(catalog.Imported, in.SetID)
		if err != nil {
			return err
		}
		if found && s.State == catalog.SetImporting {
			s.State = catalog.SetImportFailed
			s.Failure = &catalog.Failure{Code: vss.VSS_E_UNEXPECTED, Op: "ImportSnapshots", Object: in.SetID.String(),
				Reason: "the service was stopped while the set was being imported", Remedy: "Clean up with umbra cleanup " + in.SetID.String() + ", then import again"}
			if err := t.PutSet(s); err != nil {
				return err
			}
		}
		if _, err := t.AddEvent(catalog.Event{Level: "warning", Name: "recovery.import-interrupted", SetID: in.SetID,
			Message: fmt.Sprintf("an import was broken off; %d LUNs stay as they are until the requester cleans up", n)}); err != nil {
			return err
		}
		return t.CloseIntent(in.ID)
	})
}

// keepCleanup closes the intent: what was not cleaned is still listed.
func (r *Recovery) keepCleanup(ctx context.Context, in catalog.Intent) error {
	return r.Catalog.Update(ctx, func(t *catalog.Tx) error {
		if _, err := t.AddEvent(catalog.Event{Level: "warning", Name: "recovery.cleanup-interrupted", SetID: in.SetID,
			Message: "a clean-up was broken off; LUNs that are not clean stay listed: run umbra cleanup again"}); err != nil {
			return err
		}
		return t.CloseIntent(in.ID)
	})
}

// finishDelete deletes again what was being deleted. The intent is closed only
// when that is done, or there is nothing left to delete.
func (r *Recovery) finishDelete(ctx context.Context, in catalog.Intent) error {
	id, kind := in.SetID, vss.OBJECT_SNAPSHOT_SET
	if in.Role != catalog.Created {
		var err error
		if id, err = vss.ParseID(in.Object); err != nil {
			return err
		}
		kind = vss.OBJECT_SNAPSHOT
	}
	_, err := r.Keeper.Delete(ctx, in.Session, id, kind, in.Force) // opens an intent of its own
	if err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		return err
	}
	if err == nil {
		r.event(ctx, catalog.Event{Level: "warning", Name: "recovery.delete-finished", SetID: in.SetID, Object: in.Object, Message: "a deletion that was broken off was finished"})
	}
	return r.closeIntent(ctx, in)
}

// undoExpose takes back a mount that was not recorded.
func (r *Recovery) undoExpose(ctx context.Context, in catalog.Intent) error {
	idText, folder, _ := strings.Cut(in.Object, " ")
	id, err := vss.ParseID(idText)
	if err != nil {
		return err
	}
	c, err := r.Keeper.Get("recover exposure", id)
	if err == nil && c.Prop.ExposedName != folder && in.BootID == r.BootID && len(c.Attachments) > 0 {
		err = r.Host.Unmount(ctx, folder, importing.VolumeOf(c))
	}
	if err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		return err
	}
	return r.closeIntent(ctx, in)
}

func (r *Recovery) closeIntent(ctx context.Context, in catalog.Intent) error {
	return r.Catalog.Update(ctx, func(t *catalog.Tx) error { return t.CloseIntent(in.ID) })
}

// ended reports whether a copy does not outlive the service's last life: no
// requester is left to release an auto-release copy, and a copy that is neither
// that nor persistent ends when the machine boots (requester.md 3.7).
func (r *Recovery) ended(c catalog.Copy) (why string, ended bool) {
	switch {
	case c.AutoRelease:
		return "an auto-release copy whose requester is gone", true
	case !c.Prop.Attributes.Has(vss.ATTR_PERSISTENT) && c.BootID != r.BootID:
		return "a copy that was to last until the machine boots", true
	}
	return "", false
}

// rescanTime bounds the search for the LUNs of all copies together: the
// service does not answer before.
const rescanTime = 30 * time.Second

// rescan finds the copies' LUNs again after a restart (they are still there)
// or a reboot (the initiators bring them back, hidden and read-only). What was
// found is returned beside the error.
func (r *Recovery) rescan(ctx context.Context, cs []catalog.Copy) ([]block.Device, error) {
	var luns []lun.Info
	seen := map[string]bool{}
	for _, c := range cs {
		for _, a := range c.Attachments {
			if n := a.LUN.Name(); !seen[n] {
				seen[n] = true
				luns = append(luns, a.LUN)
			}
		}
	}
	if err := r.Host.Hide(ctx, luns); err != nil {
		return nil, err
	}
	ds, err := r.Host.Rescan(ctx, luns)
	shown, lerr := r.showAgain(ctx, cs, ds)
	if shown {
		ds, err = r.Host.Rescan(ctx, luns)
	}
	return ds, vss.Join("", lerr, err)
}

// showAgain has providers that are programs of their own show those copies again
// that are not here: after a boot nobody else makes devices of theirs. Repeats are
// tolerated (provider.md 3).
func (r *Recovery) showAgain(ctx context.Context, cs []catalog.Copy, ds []block.Device) (shown bool, failed error) {
	missing := map[vss.ID][]lun.Info{}
	for _, c := range cs {
		for _, a := range c.Attachments {
			if r.Providers.Foreign(c.Prop.ProviderID) != nil && !slices.ContainsFunc(ds, func(d block.Device) bool { return lun.Match(a.LUN, withIdentity(a.LUN, d.LUN)) == nil }) {
				missing[c.Prop.ProviderID] = append(missing[c.Prop.ProviderID], a.LUN)
			}
		}
	}
	for id, luns := range missing {
		p, err := r.Providers.Get(id)
		if err == nil {
			err = registry.Checked(ctx, p, "LocateLUNs", p.LocateLUNs(ctx, luns))
		}
		failed, shown = vss.Join("", failed, err), shown || err == nil
	}
	return shown, failed
}

// reattach finds where the copy's LUNs are now, for its caller to record, and
// restores a local exposure; a share needs the device object first. why is what
// kept LUNs from being found. What is otherwise than this boot had it is an event:
// somebody did that while the service was away.
func (r *Recovery) reattach(ctx context.Context, c *catalog.Copy, ds []block.Device, why error) error {
	same, was := c.BootID == r.BootID, c.Attachments
	c.Attachments = slices.Clone(was)
	for i, a := range c.Attachments {
		ok := false
		for _, d := range ds {
			if lun.Match(a.LUN, withIdentity(a.LUN, d.LUN)) == nil {
				c.Attachments[i].Device, c.Attachments[i].Major, c.Attachments[i].Minor, c.Attachments[i].DiskSeq = d.Path, d.Major, d.Minor, d.DiskSeq
				ok = true
			}
		}
		if !ok {
			return &vss.Error{Code: vss.VSS_E_MISSING_DISK, Op: "recover copy", Object: a.LUN.Name(), Reason: "its LUN did not come back", Remedy: "Check the array and the path to it; the copy is attached when the array shows it", Err: why}
		}
	}
	if err := r.Importer.Resurface(ctx, c); err != nil {
		return err
	}
	for i, a := range c.Attachments {
		if same && a.DiskSeq != was[i].DiskSeq {
			r.event(ctx, catalog.Event{Level: "warning", Name: "recovery.device-replaced", SetID: c.Prop.SnapshotSetID, Object: a.LUN.Name(),
				Message: fmt.Sprintf("the LUN of a copy was detached while the service was away (it was %s) and is attached again as %s", was[i].Device, a.Device)})
		}
	}
	c.BootID = r.BootID
	if c.Prop.ExposedName != "" && c.ShareType == "" && !importing.MountedAt(c.Prop.ExposedName, importing.VolumeOf(*c)) {
		if err := r.Host.MountClone(ctx, importing.CloneMountOf(*c, c.Prop.ExposedName)); err != nil {
			r.event(ctx, catalog.Event{Level: "error", Name: "recovery.exposure-lost", Object: c.Prop.ExposedName, Message: "an exposure could not be restored", Failure: catalog.FailureOf(err)})
			*c = copies.Concealed(*c)
		} else if same {
			r.mounted(ctx, *c, c.Prop.ExposedName, "an exposure")
		}
	}
	return nil
}

// mounted tells that something had to be mounted again in the boot that had it
// mounted.
func (r *Recovery) mounted(ctx context.Context, c catalog.Copy, where, what string) {
	r.event(ctx, catalog.Event{Level: "warning", Name: "recovery.mount-restored", SetID: c.Prop.SnapshotSetID, Object: where,
		Message: what + " was unmounted while the service was away and is mounted again"})
}

// withIdentity is the catalogue's LUN info with the identifiers the device
// shows now: strings were normalised by the provider at import.
func withIdentity(want, got lun.Info) lun.Info {
	want.StorageIDs = got.StorageIDs
	return want
}
