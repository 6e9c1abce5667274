// Package originals keeps which LUNs of the joined arrays this machine sees as
// ordinary disks.
//
// Copies come by ImportSnapshots only. But an array can show a machine a copy
// without being asked by us, when its administrator unmasks one by hand, and
// such a disk has the UUIDs and labels of an original that may be mounted here.
// So whatever belongs to a joined array is hidden from everything that acts on
// new disks (package hide), unless an administrator let it through: umbra rescan
// does, by recording the LUN here. The record outlives reboots, which the rules
// do not.
//
// The order is what makes it safe. An original is recorded, then admitted, and
// only then attached; and all that is recorded or in use is admitted before the
// array's rule is written, because hiding a mounted disk would make systemd
// unmount it at the disk's next event.
package originals

import (
	"context"
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Host is what this package asks of the machine.
type Host interface {
	// Unmasked lists the originals the arrays show to this machine. What the
	// arrays that answered said is returned beside the others' errors.
	Unmasked(ctx context.Context) ([]lun.Info, error)
	Enumerate(ctx context.Context) ([]block.Device, error)
	InUse(ctx context.Context, d block.Device) bool
	Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error)
	Detach(ctx context.Context, d block.Device) error
	Admit(ctx context.Context, luns []lun.Info) error
	Dismiss(ctx context.Context, luns []lun.Info) error
	HideFamily(ctx context.Context, f hide.Family) error
}

// Keeper keeps the originals of one machine. Its methods are safe for
// concurrent use and take turns.
type Keeper struct {
	Host    Host
	Catalog *catalog.Catalog

	turn chan struct{}
}

// New returns a Keeper.
func New(h Host, c *catalog.Catalog) *Keeper {
	return &Keeper{Host: h, Catalog: c, turn: make(chan struct{}, 1)}
}

func (k *Keeper) enter(ctx context.Context) (leave func(), err error) {
	select {
	case k.turn <- struct{}{}:
		return func() { <-k.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Cover hides the LUNs of arrays that were not let through. It is called when
// the service starts and before an array is joined. A disk of these arrays that
// is in use counts as let through, and is recorded.
func (k *Keeper) Cover(ctx context.Context, families ...hide.Family) error {
	if len(families) == 0 {
		return ctx.Err()
	}
	leave, err := k.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	known, copies, err := k.records()
	if err != nil {
		return err
	}
	ds, err := k.Host.Enumerate(ctx)
	if err != nil {
		return err
	}
	var used []lun.Info
	for _, d := range ds {
		ours := slices.ContainsFunc(families, func(f hide.Family) bool { return f.Has(d.LUN) })
		if d.Going() && (d.NBD != nil || d.Loop.ReadOnly) {
			continue // what is left of a copy that was deleted by force while it was read
		}
		if ours && !contains(known, d.LUN) && !copies[d.LUN.Name()] && k.Host.InUse(ctx, d) {
			used = append(used, d.LUN)
		}
	}
	if err := k.record(ctx, used); err != nil {
		return err
	}
	if err := k.Host.Admit(ctx, append(known, used...)); err != nil {
		return err
	}
	for _, f := range families {
		if err := k.Host.HideFamily(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// Report writes an event for each original that was let through and is not here:
// it was detached while the service was away, or nobody attached it since the
// machine booted.
func (k *Keeper) Report(ctx context.Context) error {
	leave, err := k.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	known, _, err := k.records()
	if err != nil || len(known) == 0 {
		return err
	}
	ds, err := k.Host.Enumerate(ctx)
	if err != nil {
		return err
	}
	for _, l := range known {
		if slices.ContainsFunc(ds, func(d block.Device) bool { return d.LUN.Name() == l.Name() }) {
			continue
		}
		if _, err := k.Catalog.Log(ctx, catalog.Event{Level: "warning", Name: "recovery.original-missing", Object: l.Name(),
			Message: "a LUN that was let through is not attached to this machine; run umbra rescan to attach it, umbra detach to forget it"}); err != nil {
			return err
		}
	}
	return nil
}

// Rescan lets originals through and attaches them: all that the arrays show to
// this machine, or those that are named. What was attached is returned beside
// the error.
//
// VSS_E_OBJECT_NOT_FOUND if no array shows a named LUN as an original; nothing
// is attached then.
func (k *Keeper) Rescan(ctx context.Context, named ...lun.NAA) ([]block.Device, error) {
	leave, err := k.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	shown, unheard := k.Host.Unmasked(ctx)
	want := shown
	if len(named) > 0 {
		if want, err = pick(shown, named, unheard); err != nil {
			return nil, err
		}
		unheard = nil
	}
	known, copies, err := k.records()
	if err != nil {
		return nil, err
	}
	want = slices.DeleteFunc(slices.Clone(want), func(l lun.Info) bool { return copies[l.Name()] })
	if err := k.record(ctx, slices.DeleteFunc(slices.Clone(want), func(l lun.Info) bool { return contains(known, l) })); err != nil {
		return nil, err
	}
	if err := k.Host.Admit(ctx, want); err != nil {
		return nil, err
	}
	ds, err := k.Host.Rescan(ctx, want)
	if len(named) == 0 && unheard == nil {
		err = vss.Join("", err, k.forgetGone(ctx, known, shown))
	}
	return ds, vss.Join("", err, unheard)
}

// pick finds the named among the shown.
func pick(shown []lun.Info, named []lun.NAA, unheard error) ([]lun.Info, error) {
	var out []lun.Info
	var missing []string
	for _, n := range named {
		i := slices.IndexFunc(shown, func(l lun.Info) bool { got, ok := l.NAA(); return ok && got == n })
		if i < 0 {
			missing = append(missing, n.String())
			continue
		}
		out = append(out, shown[i])
	}
	if len(missing) > 0 {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "Rescan", Object: strings.Join(missing, ", "),
			Reason: "no array shows this machine such an original",
			Remedy: "Unmask it on its array (umbra array unmask), join the array (umbra list arrays); shadow copies come by umbra import only", Err: unheard}
	}
	return out, nil
}

// forgetGone forgets originals that no array shows any more and that are not
// here either.
func (k *Keeper) forgetGone(ctx context.Context, known, shown []lun.Info) error {
	var gone []lun.Info
	for _, l := range known {
		if !contains(shown, l) {
			gone = append(gone, l)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	ds, err := k.Host.Enumerate(ctx)
	if err != nil {
		return err
	}
	gone = slices.DeleteFunc(gone, func(l lun.Info) bool {
		return slices.ContainsFunc(ds, func(d block.Device) bool { return d.LUN.Name() == l.Name() })
	})
	return k.forget(ctx, gone...)
}

// Detach removes an original's device and forgets the LUN, so that it is hidden
// if it comes again by itself. Copies leave by DeleteSnapshots or CleanupImport
// only.
//
// VSS_E_BAD_STATE for a copy; VSS_E_OBJECT_NOT_FOUND for a LUN that is neither
// here nor known; VSS_E_VOLUME_IN_USE while it is used.
func (k *Keeper) Detach(ctx context.Context, n lun.NAA) error {
	const op = "DetachLUN"
	leave, err := k.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	known, copies, err := k.records()
	if err != nil {
		return err
	}
	if copies[n.String()] {
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Object: n.String(), Reason: "the LUN is a shadow copy's", Remedy: "Delete the copy (umbra delete copy), or clean up its import (umbra cleanup)"}
	}
	ds, err := k.Host.Enumerate(ctx)
	if err != nil {
		return err
	}
	is := func(l lun.Info) bool { got, ok := l.NAA(); return ok && got == n }
	here := slices.IndexFunc(ds, func(d block.Device) bool { return is(d.LUN) })
	record := slices.IndexFunc(known, is)
	if here < 0 && record < 0 {
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: n.String(), Reason: "the LUN is not attached to this machine", Remedy: "See umbra list luns"}
	}
	if here >= 0 {
		if err := k.Host.Detach(ctx, ds[here]); err != nil {
			return err
		}
	}
	if record < 0 {
		return nil
	}
	return k.forget(ctx, known[record])
}

// records are the LUNs that were let through, and the names of those that
// imports touched.
func (k *Keeper) records() (known []lun.Info, copies map[string]bool, err error) {
	copies = map[string]bool{}
	err = k.Catalog.View(func(t *catalog.Tx) error {
		var err error
		if known, err = t.Originals(); err != nil {
			return err
		}
		ls, err := t.LUNs()
		for _, l := range ls {
			copies[l.Name] = true
		}
		return err
	})
	return known, copies, err
}

func (k *Keeper) record(ctx context.Context, luns []lun.Info) error {
	if len(luns) == 0 {
		return nil
	}
	return k.Catalog.Update(ctx, func(t *catalog.Tx) error {
		for _, l := range luns {
			if err := t.PutOriginal(l); err != nil {
				return err
			}
		}
		return nil
	})
}

// forget is the reverse of record and admit: the rule goes first, so that a LUN
// whose record is left is only let through once more than it need be.
func (k *Keeper) forget(ctx context.Context, luns ...lun.Info) error {
	if len(luns) == 0 {
		return nil
	}
	if err := k.Host.Dismiss(ctx, luns); err != nil {
		return err
	}
	return k.Catalog.Update(ctx, func(t *catalog.Tx) error {
		for _, l := range luns {
			if err := t.DeleteOriginal(l.Name()); err != nil {
				return err
			}
		}
		return nil
	})
}

func contains(ls []lun.Info, want lun.Info) bool {
	return slices.ContainsFunc(ls, func(l lun.Info) bool { return l.Name() == want.Name() })
}
