package array

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/iscsi"
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

// exporter serves LUNs to hosts of other machines. Descriptors for hosts on
// this machine (tokens.go) are not one: a host fetches them, and the kernel
// tells when they are gone, while what an exporter shows is the array's own
// doing and stays until it is taken back.
type exporter interface {
	Name() string
	Portals() []string
	Reconcile(peers []export.Peer, luns []export.LUN) (differences []string, err error)
	Admit(export.Peer) error
	Revoke(initiator string) error
	Apply(export.LUN) error
	Connected(initiator string) (bool, error)
}

// exported is a host that has a LUN attached over the network, at this number.
type exported struct {
	Host   string
	Number uint16
}

// chap are the secrets of a host and, to it, of the array.
type chap struct{ Initiates, Answers export.Secret }

func newCHAP(host string) *chap {
	secret := func() string {
		b := make([]byte, 16)
		rand.Read(b)
		return hex.EncodeToString(b)
	}
	return &chap{Initiates: export.Secret{User: host, Password: secret()}, Answers: export.Secret{User: "array", Password: secret()}}
}

func (h *hostRecord) peer() export.Peer {
	return export.Peer{Initiator: iscsi.InitiatorName(h.Name), Initiates: h.CHAP.Initiates, Answers: h.CHAP.Answers}
}

// exportTo finds the LUN's number for a host.
func (l *lunRecord) exportTo(host string) (uint16, bool) {
	i := slices.IndexFunc(l.Exports, func(e exported) bool { return e.Host == host })
	if i < 0 {
		return 0, false
	}
	return l.Exports[i].Number, true
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
			if n, ok := own.exportTo(h.Name); ok {
				taken[n] = true
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

// openExports gets the exporter ready, if the array has one, and makes the
// kernel's target what the database says.
func (a *Array) openExports(ctx context.Context) error {
	id := a.state.identity()
	if a.cfg.exporter != nil {
		return a.startExports(a.cfg.exporter)
	}
	if len(a.cfg.ISCSIPortals) == 0 {
		if !iscsi.Present(a.cfg.configfs, id.ID) {
			return nil
		}
		return a.retireExports(ctx, id)
	}
	t, err := iscsi.Open(a.cfg.configfs, id.ID, id.Prefix, a.cfg.ISCSIPortals)
	if err != nil {
		return err
	}
	return a.startExports(t)
}

func (a *Array) startExports(t exporter) error {
	var peers []export.Peer
	for _, h := range a.state.allHosts() {
		if h.CHAP != nil {
			peers = append(peers, h.peer())
		}
	}
	var luns []export.LUN
	for _, l := range a.state.allLUNs() {
		if len(l.Exports) > 0 {
			luns = append(luns, a.exportOf(l.NAA, l))
		}
	}
	differences, err := t.Reconcile(peers, luns)
	if err != nil {
		return err
	}
	for _, d := range differences {
		a.log.Warn("exports were not what the database says", "difference", d)
	}
	a.exporter, a.differences = t, differences
	return nil
}

// retireExports takes down the target of an array that is to have none any
// more, unless a host uses it: nobody would take the LUNs away that the array
// deletes.
func (a *Array) retireExports(ctx context.Context, id arrayRecord) error {
	for _, l := range a.state.allLUNs() {
		if len(l.Exports) > 0 {
			return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "open array", Object: iscsi.TargetName(id.ID), Reason: "hosts have LUNs attached over iSCSI, " + l.Exports[0].Host + " for one",
				Remedy: "Start the array with --iscsi-portal, detach the LUNs there, and start it without"}
		}
	}
	t, err := iscsi.Open(a.cfg.configfs, id.ID, id.Prefix, nil)
	if err == nil {
		err = t.Teardown()
	}
	if err == nil {
		a.log.Info("the iSCSI target is taken down", "target", iscsi.TargetName(id.ID))
	}
	return err
}

// exportOf is how a LUN is to be exported; l is nil for one that is deleted.
func (a *Array) exportOf(n lun.NAA, l *lunRecord) export.LUN {
	out := export.LUN{NAA: n}
	if l == nil {
		return out
	}
	out.File, out.Size = a.store.Path(n), l.Size
	for _, e := range l.Exports {
		out.Maps = append(out.Maps, export.Mapping{Initiator: iscsi.InitiatorName(e.Host), Number: e.Number, ReadOnly: l.ReadOnly})
	}
	return out
}

// converge makes the exports of LUNs what the database says now. Whoever
// changed a record calls it afterwards; of several at a time the last sees the
// last word, because each reads it under the lock.
func (a *Array) converge(luns ...lun.NAA) error {
	if a.exporter == nil {
		return nil
	}
	a.exportMu.Lock()
	defer a.exportMu.Unlock()
	var errs []error
	for _, n := range luns {
		errs = append(errs, a.exporter.Apply(a.exportOf(n, a.state.lun(n))))
	}
	return vss.Join("", errs...)
}

// exportLUNs maps LUNs that the host sees to its initiator: all, or none.
// Repeating it gives the same answer.
func (a *Array) exportLUNs(ctx context.Context, h *hostRecord, luns []lun.NAA) ([]*lunRecord, error) {
	const op = "export LUNs"
	switch {
	case len(luns) == 0 || len(luns) > maxSetLUNs:
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: "1 to 1024 LUNs are exported at a time", Remedy: "Export them in several calls"}
	case a.exporter == nil:
		return nil, &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: op, Object: a.state.identity().Name, Reason: "the array serves LUNs to its own machine only", Remedy: "Start it with --iscsi-portal ADDRESS:PORT"}
	case h.CHAP == nil:
		return nil, notForISCSI(op, h.Name)
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
			if _, ok := l.exportTo(h.Name); !ok {
				number, err := t.nextNumber(h)
				if err != nil {
					return err
				}
				c := *t.host(h.Name)
				c.LastNumber = number
				t.putHost(&c)
				l = l.withExport(exported{h.Name, number})
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

func notForISCSI(op, host string) error {
	return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: op, Object: host, Reason: "the host was enrolled before the array had portals, and has no iSCSI secrets",
		Remedy: "Run `umbra array enroll " + host + "` on the array and `umbra join` on the host"}
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

// liveOver reports whether a host that has the LUN attached over the network is
// there: it has a session. What cannot be asked counts as there.
func (a *Array) liveOver(host string) bool {
	if a.exporter == nil {
		return true
	}
	on, err := a.exporter.Connected(iscsi.InitiatorName(host))
	return on || err != nil
}

// bundleISCSI is the part of a host's bundle that is about iSCSI; nil if the
// array has no portals.
func (a *Array) bundleISCSI(h *hostRecord) *client.ISCSI {
	if a.exporter == nil || h.CHAP == nil {
		return nil
	}
	p := h.peer()
	return &client.ISCSI{Target: a.exporter.Name(), Portals: a.exporter.Portals(), Initiator: p.Initiator,
		User: p.Initiates.User, Secret: p.Initiates.Password, TargetUser: p.Answers.User, TargetSecret: p.Answers.Password}
}

// differencesNow are for the administrator: what was mended at start.
func (a *Array) differencesNow() []string {
	var out []string
	for _, d := range a.differences {
		out = append(out, fmt.Sprintf("at start, %s", strings.TrimSpace(d)))
	}
	return out
}
