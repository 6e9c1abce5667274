package array

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpExportBeforeRecord = failpoint.New("array.export.before-record")
	fpExportAfterRecord  = failpoint.New("array.export.after-record")
	fpExportAfterMap     = failpoint.New("array.export.after-map")
	fpUnexportRecorded   = failpoint.New("array.unexport.after-record")
)

// exported is a host that has a LUN attached over the network, at this number.
type exported struct {
	Host   string
	Number uint16
	By     export.Kind `json:",omitempty"` // "": iSCSI, as earlier versions wrote it
}

func (e exported) kind() export.Kind {
	if e.By == "" {
		return export.ISCSI
	}
	return e.By
}

// exportTo finds how a host has the LUN.
func (l *lunRecord) exportTo(host string) (exported, bool) {
	i := slices.IndexFunc(l.Exports, func(e exported) bool { return e.Host == host })
	if i < 0 {
		return exported{}, false
	}
	return l.Exports[i], true
}

// withExport returns a copy of the record that the host has attached.
func (l *lunRecord) withExport(e exported) *lunRecord {
	c := *l
	c.Exports = append(slices.Clone(l.Exports), e)
	return &c
}

// withoutExport returns a copy of the record that the host has not attached.
func (l *lunRecord) withoutExport(host string) *lunRecord {
	c := *l
	c.Exports = slices.DeleteFunc(slices.Clone(l.Exports), func(e exported) bool { return e.Host == host })
	return &c
}

const (
	// A LUN number of one byte is what every initiator can address.
	lastPlainNumber = 255
	lastNumber      = 16383
)

// nextNumber draws a LUN number for a host. Numbers go round, so that one is
// not given again soon after its LUN has gone: a host that missed the going
// would take the new LUN for the old one. 0 is left to the target itself.
func (t *txn) nextNumber(h *hostRecord) (uint16, error) {
	taken := map[uint16]bool{}
	for _, l := range t.s.allLUNs() {
		if own := t.lun(l.NAA); own != nil {
			if e, ok := own.exportTo(h.Name); ok {
				taken[e.Number] = true
			}
		}
	}
	last := t.host(h.Name).LastNumber
	for i := range uint16(lastPlainNumber) {
		if n := (last+i)%lastPlainNumber + 1; !taken[n] {
			return n, nil
		}
	}
	for n := uint16(lastPlainNumber + 1); n <= lastNumber; n++ {
		if !taken[n] {
			return n, nil
		}
	}
	return 0, &vss.Error{Code: vss.E_OUTOFMEMORY, Op: "export LUN", Object: h.Name, Reason: "the host has no LUN number left", Remedy: "Detach LUNs there"}
}

// exportOf is how a LUN is to be exported over a transport; l is nil for one
// that is deleted.
func (a *Array) exportOf(t transport, n lun.NAA, l *lunRecord) export.LUN {
	out := export.LUN{NAA: n}
	if l == nil {
		return out
	}
	out.File, out.Size = a.store.Path(n), l.Size
	for _, e := range l.Exports {
		if e.kind() == t.kind {
			out.Maps = append(out.Maps, export.Mapping{Initiator: t.initiator(e.Host), Number: e.Number, ReadOnly: l.ReadOnly})
		}
	}
	return out
}

// convergeAtATime is of how many LUNs the exports are changed at a time: kernels
// have them wait.
const convergeAtATime = 16

// converge makes the exports of LUNs what the database says now. Whoever
// changed a record calls it afterwards; of several at a time the last sees the
// last word, because each reads it under the lock.
func (a *Array) converge(luns ...lun.NAA) error {
	if len(a.outlets) == 0 {
		return nil
	}
	a.exportMu.Lock()
	defer a.exportMu.Unlock()
	// A host may name a LUN twice, and one is not to be changed by two at a time.
	luns = slices.Clone(luns)
	slices.SortFunc(luns, func(x, y lun.NAA) int { return bytes.Compare(x[:], y[:]) })
	luns = slices.Compact(luns)
	errs := make([][]error, len(luns))
	var g errgroup.Group
	g.SetLimit(convergeAtATime)
	for i, n := range luns {
		g.Go(func() error {
			for _, o := range a.outlets {
				errs[i] = append(errs[i], o.Apply(a.exportOf(o.transport, n, a.state.lun(n))))
			}
			return nil
		})
	}
	_ = g.Wait()
	return vss.Join("", slices.Concat(errs...)...)
}

// exportLUNs shows LUNs that the host sees to it over a transport: all, or none.
// Repeating it gives the same answer.
func (a *Array) exportLUNs(ctx context.Context, h *hostRecord, by export.Kind, luns []lun.NAA) ([]*lunRecord, error) {
	const op = "export LUNs"
	o, served := a.outlet(by)
	switch {
	case len(luns) == 0 || len(luns) > maxSetLUNs:
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: "1 to 1024 LUNs are exported at a time", Remedy: "Export them in several calls"}
	case !served:
		return nil, notServed(op, a.state.identity().Name, by)
	}
	if _, ok := h.peer(o.transport); !ok {
		return nil, &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: op, Object: h.Name, Reason: "the host was enrolled before the array had portals for " + o.kind.Label() + ", and has no secrets there",
			Remedy: "Run `umbra array enroll " + h.Name + "` on the array and `umbra join` on the host"}
	}
	if err := fpExportBeforeRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	var out []*lunRecord
	var fresh []lun.NAA
	err := a.state.update(ctx, op, func(t *txn) error {
		now := t.host(h.Name)
		if now == nil || now.Serial != h.Serial {
			return unknownHost(h.Name)
		}
		for _, n := range luns {
			l := t.lun(n)
			if l == nil || !l.masked(h.Name) {
				return notYours(op, n)
			}
			if a.lost[n] {
				return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: n.String(), Reason: "its file is missing in the array's store", Remedy: "Check the store, then delete the LUN if its file is lost"}
			}
			e, ok := l.exportTo(h.Name)
			if ok && e.kind() != o.kind {
				// Two ways at a time would be two disks of one LUN, with two caches.
				return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: op, Object: n.String(), Reason: "the host has it attached over " + e.kind().Label(), Remedy: "Detach it there first"}
			}
			if !ok {
				number, err := t.nextNumber(h)
				if err != nil {
					return err
				}
				c := *t.host(h.Name)
				c.LastNumber = number
				t.putHost(&c)
				l = l.withExport(exported{Host: h.Name, Number: number, By: o.kind})
				t.putLUN(l)
				fresh = append(fresh, n)
			}
			out = append(out, l)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := fpExportAfterRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	// Those that were there as well: somebody may have changed LIO by hand.
	if err := a.converge(luns...); err != nil {
		if uerr := a.unexport(context.WithoutCancel(ctx), h.Name, fresh); uerr != nil {
			a.log.Warn("an export that failed stays on record until the host closes it", "host", h.Name, "error", uerr)
		}
		return nil, err
	}
	if err := fpExportAfterMap.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	return out, nil
}

func notServed(op, array string, by export.Kind) error {
	e := &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: op, Object: array, Reason: "the array does not serve LUNs over " + by.Label(), Remedy: "Update the array: it does not know this transport"}
	for _, t := range transports {
		if t.kind == by {
			e.Remedy = "Start it with " + t.flag + " ADDRESS:PORT"
		}
	}
	return e
}

// unexport takes LUNs away that a host has let go of. Idempotent.
func (a *Array) unexport(ctx context.Context, host string, luns []lun.NAA) error {
	var gone []lun.NAA
	err := a.state.update(ctx, "close LUNs", func(t *txn) error {
		for _, n := range luns {
			if l := t.lun(n); l != nil {
				if _, ok := l.exportTo(host); ok {
					t.putLUN(l.withoutExport(host))
					gone = append(gone, n)
				}
			}
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	if err := fpUnexportRecorded.Hit(ctx); err != nil {
		return injected("close LUNs", err)
	}
	return a.converge(gone...)
}

// live reports whether a host that has the LUN attached over the network is
// there: it has a session. What cannot be asked counts as there.
func (a *Array) live(e exported) bool {
	o, ok := a.outlet(e.kind())
	if !ok {
		return true
	}
	on, err := o.Connected(o.initiator(e.Host))
	return on || err != nil
}

// differencesNow are for the administrator: what was mended at start.
func (a *Array) differencesNow() []string {
	var out []string
	for _, d := range a.differences {
		out = append(out, fmt.Sprintf("at start, %s", strings.TrimSpace(d)))
	}
	return out
}
