package importing

import (
	"context"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// CleanupMode says what CleanupImport does with a LUN.
type CleanupMode int

// Cleanup modes. Mask is the default because a copy may be the only backup.
const (
	Mask    CleanupMode = iota // hide the LUN from this host and keep its data
	Reclaim                    // destroy the copy
)

// Cleaned is one LUN that Cleanup dealt with.
type Cleaned struct {
	LUN    catalog.LUN
	Device string
	Action string // masked or reclaimed
}

// Cleanup removes what a failed, cancelled or broken-off import of the set
// left on this machine. Imported copies are not touched (DeleteSnapshots is
// for them). It is idempotent and can be repeated after an error; what is not
// clean yet stays listed. VSS_E_OBJECT_NOT_FOUND when no import of the set is
// on record here, VSS_E_BAD_STATE while an import runs.
func (im *Importer) Cleanup(ctx context.Context, session, set vss.ID, mode CleanupMode) ([]Cleaned, error) {
	release, err := im.Acquire(ctx, false)
	if err != nil {
		return nil, err
	}
	defer release()
	const op = "CleanupImport"
	var luns []catalog.LUN
	var rec catalog.Set
	var intent catalog.Intent
	err = im.Catalog.Update(ctx, func(t *catalog.Tx) error {
		var found bool
		var err error
		if rec, found, err = t.Set(catalog.Imported, set); err != nil {
			return err
		}
		if !found {
			return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: set.String(), Reason: "no import of this set is on record here",
				Remedy: "See umbra list sets and umbra list luns --orphaned"}
		}
		all, err := t.LUNsOf(set)
		if err != nil {
			return err
		}
		for _, l := range all {
			if l.State != catalog.LUNImported {
				luns = append(luns, l)
			}
		}
		intent, err = t.OpenIntent(catalog.Intent{Kind: "cleanup", Role: catalog.Imported, SetID: set, Session: session, Begun: time.Now(), BootID: im.BootID})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := fpInCleanup.Hit(ctx); err != nil {
		return nil, err
	}
	var done []Cleaned
	devices, failed := im.Host.Enumerate(ctx)
	if failed != nil {
		luns = nil // it is not known what is attached
	}
	for _, l := range luns {
		c, err := im.cleanLUN(ctx, l, devices, mode)
		if err != nil {
			failed = vss.Join("", failed, err)
			continue
		}
		done = append(done, c)
	}
	mapped := false
	for _, s := range rec.Copies {
		mapped = mapped || s.Code == vss.S_OK
	}
	if failed == nil && !mapped && !rec.ImportID.IsNull() && rec.Description != nil {
		failed = im.releaseBinding(ctx, rec)
	}
	err = im.Catalog.Update(context.WithoutCancel(ctx), func(t *catalog.Tx) error {
		for _, c := range done {
			if err := t.DeleteLUN(c.LUN.Name); err != nil {
				return err
			}
			if _, err := t.AddEvent(catalog.Event{Level: "info", Name: "cleanup." + c.Action, Session: session, SetID: set, Object: c.LUN.Name,
				Message: "the LUN left by an import was " + c.Action + " on the requester's word"}); err != nil {
				return err
			}
		}
		if failed != nil {
			if _, err := t.AddEvent(catalog.Event{Level: "error", Name: "cleanup.failed", Session: session, SetID: set, Message: "not everything could be cleaned up; the rest stays listed", Failure: catalog.FailureOf(failed)}); err != nil {
				return err
			}
		}
		if rec.State == catalog.SetImporting {
			rec.State = catalog.SetImportFailed
			if err := t.PutSet(rec); err != nil {
				return err
			}
		}
		return t.CloseIntent(intent.ID)
	})
	return done, vss.Join("", failed, err)
}

// cleanLUN removes one LUN from this host in the safe order: unmount, detach,
// then mask or reclaim, then let udev see the identifier again.
func (im *Importer) cleanLUN(ctx context.Context, l catalog.LUN, devices []block.Device, mode CleanupMode) (Cleaned, error) {
	c := Cleaned{LUN: l}
	p, err := im.Providers.Get(l.ProviderID)
	if err != nil {
		return c, err
	}
	for _, d := range devices {
		info := d.LUN
		if mine, err := p.FillInLUNInfo(ctx, d.Path, &info); err != nil || !mine || lun.Match(l.Info, info) != nil {
			continue
		}
		if err := im.Host.Unmount(ctx, im.DeviceObject(l.SnapshotID), d); err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
			return c, err
		}
		if err := im.Host.Detach(ctx, d); err != nil {
			return c, err
		}
		c.Device = d.Path
	}
	if mode == Reclaim {
		c.Action = "reclaimed"
		err = registry.Checked(ctx, p, "OnLUNEmpty", p.OnLUNEmpty(ctx, c.Device, l.Info))
	} else {
		c.Action = "masked"
		ch, ok := provider.As[provider.LUNStateChanger](p)
		if !ok {
			return c, &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "CleanupImport", Object: l.Name, Reason: "its provider cannot mask LUNs",
				Remedy: "Mask the LUN with the array's own tools, or use --reclaim"}
		}
		err = registry.Checked(ctx, p, "OnLUNStateChange", ch.OnLUNStateChange(ctx, []lun.Info{l.Info}, []lun.Info{im.originalOf(l)}, vss.ONLUNSTATECHANGE_DO_MASK_LUNS))
	}
	if err != nil {
		return c, err
	}
	if err := fpAfterMask.Hit(ctx); err != nil {
		return c, err
	}
	return c, im.Host.Unhide(ctx, []lun.Info{l.Info})
}

// originalOf is what a LUN is a copy of, by the set's description; empty if that
// is not known any more.
func (im *Importer) originalOf(l catalog.LUN) (source lun.Info) {
	_ = im.Catalog.View(func(t *catalog.Tx) error {
		rec, _, err := t.Set(catalog.Imported, l.SetID)
		if err != nil || rec.Description == nil {
			return err
		}
		for _, s := range rec.Description.Snapshots {
			for _, m := range s.LUNs {
				if m.Target.Name() == l.Name {
					source = m.Source
				}
			}
		}
		return nil
	})
	return source
}

// releaseBinding lets the set be imported elsewhere, because no copy was
// mapped here (requester.md 8, row 2).
func (im *Importer) releaseBinding(ctx context.Context, rec catalog.Set) error {
	parts, err := im.parts(rec.Description)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if b, ok := provider.As[provider.ImportBinder](p.provider); ok {
			if err := registry.Checked(ctx, p.provider, "ReleaseImport", b.ReleaseImport(ctx, rec.ID, rec.ImportID)); err != nil {
				return err
			}
		}
	}
	return nil
}
