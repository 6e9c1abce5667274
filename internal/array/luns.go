package array

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpCreateAfterFile    = failpoint.New("array.createlun.after-file")
	fpCreateAfterRecord  = failpoint.New("array.createlun.after-record")
	fpDeleteBeforeRecord = failpoint.New("array.delete.before-record")
	fpDeleteAfterRecord  = failpoint.New("array.delete.after-record")
	fpDeleteAfterRemove  = failpoint.New("array.delete.after-remove")
	fpMaskBeforeRecord   = failpoint.New("array.mask.before-record")
	fpMaskAfterRecord    = failpoint.New("array.mask.after-record")
	fpAccessBeforeRecord = failpoint.New("array.access.before-record")
	fpAccessAfterRecord  = failpoint.New("array.access.after-record")
)

// letGo is how long a call that wants a LUN detached waits for the kernel to
// let go of it after the host has.
const letGo = time.Second

const maxName = 64

func notYours(op string, n lun.NAA) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: n.String(), Reason: "the array has no such LUN for this host",
		Remedy: "Unmask it on the array with `umbra array unmask`"}
}

// createLUN makes an empty LUN, thin: it takes room as it is written.
func (a *Array) createLUN(ctx context.Context, name string, size uint64) (*lunRecord, error) {
	const op = "create LUN"
	bad := func(code vss.HResult, object, reason, remedy string) (*lunRecord, error) {
		return nil, &vss.Error{Code: code, Op: op, Object: object, Reason: reason, Remedy: remedy}
	}
	const maxSize = 1 << 56 // bytes; the store's filesystem has limits of its own
	if size < backend.MinSize || size%backend.Align != 0 || size > maxSize {
		return bad(vss.E_INVALIDARG, fmt.Sprint(size), "the size of a LUN is a multiple of 4096 bytes, at least 1 MiB", "Choose another size")
	}
	if name != "" && !validName(name) {
		return bad(vss.E_INVALIDARG, name, "a LUN's name has 1 to 64 letters, digits, dots, dashes and underscores, and does not look like an identifier", "Choose another name")
	}
	if err := a.checkRoom(ctx, op, name, nil); err != nil {
		return nil, err
	}
	rec := &lunRecord{Name: name, Size: size, Created: a.now().UTC()}
	taken := func(t *txn) error {
		for _, l := range a.state.allLUNs() {
			if name != "" && l.Name == name {
				_, err := bad(vss.VSS_E_OBJECT_ALREADY_EXISTS, name, "another LUN has this name: "+l.NAA.String(), "Choose another name")
				return err
			}
		}
		return nil
	}
	// The name is drawn, and what is yet to be made put on record as trash: a
	// crash before the LUN is on record leaves nothing.
	err := a.state.update(ctx, op, func(t *txn) error {
		if err := taken(t); err != nil {
			return err
		}
		n, err := t.newNAA()
		if err != nil {
			return err
		}
		rec.NAA = n
		t.setTrash(n, true)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = a.store.Create(ctx, rec.NAA, size)
	if err == nil {
		if err = fpCreateAfterFile.Hit(ctx); err != nil {
			err = injected(op, err)
		}
	}
	if err == nil {
		err = a.state.update(ctx, op, func(t *txn) error {
			if err := taken(t); err != nil {
				return err
			}
			t.setTrash(rec.NAA, false)
			rec.Generation = t.generation()
			t.putLUN(rec)
			return nil
		})
	}
	if err != nil {
		// What cannot be removed now stays trash, and goes at the next start.
		if a.store.Remove(context.WithoutCancel(ctx), rec.NAA) == nil {
			a.state.emptied(rec.NAA)
		}
		return nil, err
	}
	if err := fpCreateAfterRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	return rec, nil
}

func validName(s string) bool {
	if s == "" || len(s) > maxName || strings.HasPrefix(s, "naa.") {
		return false
	}
	if _, err := lun.ParseNAA(s); err == nil {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	}) < 0
}

// find reads a LUN by identifier or by name.
func (a *Array) find(op, what string) (*lunRecord, error) {
	if n, err := lun.ParseNAA(what); err == nil {
		if l := a.state.lun(n); l != nil {
			return l, nil
		}
	} else {
		for _, l := range a.state.allLUNs() {
			if what != "" && l.Name == what {
				return l, nil
			}
		}
	}
	return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: what, Reason: "the array has no such LUN", Remedy: "List them with `umbra array lun list`"}
}

// attachedBy lists the hosts that have the LUN: those for which the kernel holds
// its file, after waiting at most d for them to let go, and those to which it is
// exported over the network. One of the latter that is cut off counts: it comes
// back within two minutes and writes what it holds.
func (a *Array) attachedBy(ctx context.Context, n lun.NAA, d time.Duration) ([]string, error) {
	slots, err := a.store.WaitUnheld(ctx, n, d)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range slots {
		out = append(out, a.state.hostOfSlot(s))
	}
	if l := a.state.lun(n); l != nil {
		for _, e := range l.Exports {
			out = append(out, e.Host)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func inUse(op string, n lun.NAA, by []string, remedy string) error {
	return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: op, Object: n.String(), Reason: "it is attached by " + strings.Join(by, ", "), Remedy: remedy}
}

// idle refuses while the LUN is attached, by host or, if host is empty, by
// anybody, after waiting at most d for the kernel to let go. Whoever takes a
// LUN away asks twice: before its transaction with a wait, and in it without;
// redeem runs as a transaction too, so no descriptor is handed out in between.
func (a *Array) idle(ctx context.Context, op string, n lun.NAA, host string, d time.Duration, remedy string) error {
	by, err := a.attachedBy(ctx, n, d)
	if err != nil {
		return err
	}
	if host != "" {
		by = slices.DeleteFunc(by, func(h string) bool { return h != host })
	}
	if len(by) > 0 {
		return inUse(op, n, by, remedy)
	}
	return nil
}

// idleBut refuses while another than host has the LUN attached.
func (a *Array) idleBut(ctx context.Context, op string, n lun.NAA, host, remedy string) error {
	by, err := a.attachedBy(ctx, n, 0)
	if err != nil {
		return err
	}
	if by = slices.DeleteFunc(by, func(h string) bool { return h == host }); len(by) > 0 {
		return inUse(op, n, by, remedy)
	}
	return nil
}

// busySource refuses to take away a LUN that is being copied.
func (a *Array) busySource(op string, n lun.NAA) error {
	for _, r := range a.state.allSets() {
		if r.State == setPreparing && slices.ContainsFunc(r.Targets, func(tg target) bool { return tg.Source == n }) {
			return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: op, Object: n.String(), Reason: "set " + r.ID.String() + " of " + r.Host + " is copying it",
				Remedy: "Wait until the set is created, or abort it"}
		}
	}
	return nil
}

// deleteLUN is the administrator's delete, of any LUN.
func (a *Array) deleteLUN(ctx context.Context, what string, force bool) error {
	const op = "delete LUN"
	l, err := a.find(op, what)
	if err != nil {
		return err
	}
	return a.remove(ctx, op, []lun.NAA{l.NAA}, func(_ *txn, l *lunRecord) error {
		if force {
			return nil
		}
		if err := a.idle(ctx, op, l.NAA, "", 0, "Detach it there, or delete it with --force"); err != nil {
			return err
		}
		return a.busySource(op, l.NAA)
	})
}

// deleteLUNs is a host's delete: of copies it imported, or made and nobody else
// imported. A LUN that is gone already is success. With force it is no obstacle
// that the host itself has one attached: the file loses its name, and its blocks
// go when the last who has it open closes it.
func (a *Array) deleteLUNs(ctx context.Context, host string, luns []lun.NAA, force bool) error {
	const op = "delete LUN"
	const remedy = "Unmount the copy and detach its device, then delete it again"
	idle := func(n lun.NAA, d time.Duration) error {
		if force {
			return a.idleBut(ctx, op, n, host, remedy)
		}
		return a.idle(ctx, op, n, "", d, remedy)
	}
	for _, n := range luns {
		if err := idle(n, letGo); err != nil {
			return err
		}
	}
	return a.remove(ctx, op, luns, func(t *txn, l *lunRecord) error {
		if !l.Copy {
			return &vss.Error{Code: vss.E_ACCESSDENIED, Op: op, Object: l.NAA.String(), Reason: "it is not a copy",
				Remedy: "Delete it on the array with `umbra array lun delete`"}
		}
		if owner(t, l) != host {
			return &vss.Error{Code: vss.E_ACCESSDENIED, Op: op, Object: l.NAA.String(), Reason: "the copy is another host's",
				Remedy: "Delete it on the host that imported it, or on the array with `umbra array lun delete`"}
		}
		if err := idle(l.NAA, 0); err != nil {
			return err
		}
		return a.busySource(op, l.NAA)
	})
}

// owner is the host a copy belongs to: the one that imported its set, else the
// one that made it.
func owner(t *txn, l *lunRecord) string {
	if r := t.set(l.Set); r != nil && r.Bound != nil {
		return r.Bound.Host
	}
	return l.MadeBy
}

// remove deletes records and files of LUNs, all records in one transaction.
func (a *Array) remove(ctx context.Context, op string, luns []lun.NAA, check func(*txn, *lunRecord) error) error {
	if err := fpDeleteBeforeRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	var gone []lun.NAA
	err := a.state.update(ctx, op, func(t *txn) error {
		for _, n := range luns {
			l := t.lun(n)
			if l == nil {
				continue
			}
			if err := check(t, l); err != nil {
				return err
			}
			t.dropLUN(l)
			gone = append(gone, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := fpDeleteAfterRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	if err := a.converge(gone...); err != nil {
		return err // the next start removes the files
	}
	for _, n := range gone {
		if err := a.store.Remove(ctx, n); err != nil {
			return err
		}
	}
	a.state.emptied(gone...)
	if err := fpDeleteAfterRemove.Hit(ctx); err != nil {
		return injected(op, err)
	}
	return nil
}

// unmask lets a host see a LUN.
func (a *Array) unmask(ctx context.Context, what, host string) (*lunRecord, error) {
	const op = "unmask LUN"
	found, err := a.find(op, what)
	if err != nil {
		return nil, err
	}
	return a.changeMask(ctx, op, found.NAA, host, true, func(t *txn, l *lunRecord) error {
		h := t.host(host)
		if h == nil {
			return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: host, Reason: "the array has no such host", Remedy: "Enroll it with `umbra array enroll`"}
		}
		return a.clusterGuard(ctx, op, h, l)
	})
}

// mask hides a LUN from a host.
func (a *Array) mask(ctx context.Context, what, host string, force bool) (*lunRecord, error) {
	const op = "mask LUN"
	found, err := a.find(op, what)
	if err != nil {
		return nil, err
	}
	return a.changeMask(ctx, op, found.NAA, host, false, func(*txn, *lunRecord) error {
		if force {
			return nil
		}
		return a.idle(ctx, op, found.NAA, host, 0, "Detach it there, or mask it with --force")
	})
}

func (a *Array) changeMask(ctx context.Context, op string, n lun.NAA, host string, visible bool, check func(*txn, *lunRecord) error) (*lunRecord, error) {
	if err := fpMaskBeforeRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	var out *lunRecord
	err := a.state.update(ctx, op, func(t *txn) error {
		out = t.lun(n)
		if out == nil {
			return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: n.String(), Reason: "the LUN was deleted", Remedy: "List them with `umbra array lun list`"}
		}
		if err := check(t, out); err != nil {
			return err
		}
		if out.masked(host) != visible {
			out = out.withMask(host, visible)
			t.putLUN(out)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := fpMaskAfterRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	if !visible {
		return out, a.converge(n)
	}
	return out, nil
}

// maskLUNs is a host hiding LUNs from itself; the data stays. What it does not
// see is success.
func (a *Array) maskLUNs(ctx context.Context, host string, luns []lun.NAA) error {
	const op = "mask LUN"
	const remedy = "Unmount it and detach its device, then mask it again"
	for _, n := range luns {
		if err := a.idle(ctx, op, n, host, letGo, remedy); err != nil {
			return err
		}
	}
	if err := fpMaskBeforeRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	err := a.state.update(ctx, op, func(t *txn) error {
		for _, n := range luns {
			if l := t.lun(n); l != nil && l.masked(host) {
				if err := a.idle(ctx, op, n, host, 0, remedy); err != nil {
					return err
				}
				t.putLUN(l.withMask(host, false))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := fpMaskAfterRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	return nil
}

type access int

const (
	accessReadWrite access = iota + 1
	accessRecovery
	accessReadOnly
)

// setAccess opens and closes the writable window of copies a host imported or
// made, or gives it a copy for good. Every change has a generation of its own:
// a ticket or a document of the time before no longer fits the content. A
// descriptor the host has keeps the rights it was opened with; it opens the LUN
// again to get others. Over the network they change at once.
func (a *Array) setAccess(ctx context.Context, host string, luns []lun.NAA, to access) error {
	const op = "change LUN access"
	if to < accessReadWrite || to > accessReadOnly {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: "no such access", Remedy: "Use a provider of the array's version"}
	}
	if err := fpAccessBeforeRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	err := a.state.update(ctx, op, func(t *txn) error {
		for _, n := range luns {
			l := t.lun(n)
			if l == nil || !l.masked(host) {
				return notYours(op, n)
			}
			if !l.Copy {
				if to == accessReadWrite && !l.ReadOnly {
					continue // broken before
				}
				return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: n.String(), Reason: "it is not a copy", Remedy: "Name copies only"}
			}
			if owner(t, l) != host {
				return &vss.Error{Code: vss.E_ACCESSDENIED, Op: op, Object: n.String(), Reason: "the copy is another host's", Remedy: "Do it on the host that imported the copy"}
			}
			if l.ReadOnly == (to == accessReadOnly) && to != accessReadWrite {
				continue
			}
			by, err := a.attachedBy(ctx, n, 0)
			if err != nil {
				return err
			}
			if by = slices.DeleteFunc(by, func(h string) bool { return h == host }); len(by) > 0 && to != accessReadOnly {
				return inUse(op, n, by, "Detach it there first")
			}
			c := *l
			c.ReadOnly = to == accessReadOnly
			c.Generation = t.generation()
			if to == accessReadWrite {
				t.leaveSet(l)
				c.Copy, c.Set = false, vss.GUIDNull
			}
			t.putLUN(&c)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := fpAccessAfterRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	return a.converge(luns...)
}

// describe is what the array says of LUNs a host sees or made.
func (a *Array) describe(host string, luns []lun.NAA) ([]*lunRecord, error) {
	var out []*lunRecord
	for _, n := range luns {
		l := a.state.lun(n)
		if l == nil || !l.masked(host) && l.MadeBy != host {
			return nil, notYours("describe LUN", n)
		}
		out = append(out, l)
	}
	return out, nil
}

// supported reports whether LUNs can be copied, and if not why. That the array
// is full is no property of a LUN: preparing the set says so, with its own code.
func (a *Array) supported(host string, luns []lun.NAA) (bool, string, error) {
	for _, n := range luns {
		l := a.state.lun(n)
		switch {
		case l == nil || !l.masked(host) && l.MadeBy != host:
			return false, n.String() + " is not a LUN of the array that this host sees", nil
		case a.lost[n]:
			return false, n.String() + " has lost its file", nil
		}
	}
	return true, "", nil
}
