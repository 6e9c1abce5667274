package array

import (
	"context"
	"crypto/ed25519"
	"slices"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/array/ticket"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpLocateBeforeRecord  = failpoint.New("array.locate.before-record")
	fpLocateAfterRecord   = failpoint.New("array.locate.after-record")
	fpReleaseBeforeRecord = failpoint.New("array.release.before-record")
	fpReleaseAfterRecord  = failpoint.New("array.release.after-record")
	fpTicketBeforeRecord  = failpoint.New("array.ticket.before-record")
	fpTicketAfterRecord   = failpoint.New("array.ticket.after-record")
)

type location struct {
	Set      vss.ID
	ImportID vss.ID
	Ticket   []byte
	Digest   [32]byte
	LUNs     []lun.NAA
}

// locate verifies the ticket, binds the set to this host and import, and
// unmasks the LUNs: one transaction, all or nothing. The same import may ask
// again. Without a ticket it serves the host that made the set, for a set that
// does not travel.
func (a *Array) locate(ctx context.Context, host string, im location) ([]*lunRecord, error) {
	if err := fpLocateBeforeRecord.Hit(ctx); err != nil {
		return nil, injected("locate LUNs", err)
	}
	out, err := a.admit(ctx, host, im, a.state.update)
	if err != nil {
		return nil, err
	}
	if err := fpLocateAfterRecord.Hit(ctx); err != nil {
		return nil, injected("locate LUNs", err)
	}
	return out, nil
}

// checkImport answers what locate would, and changes nothing.
func (a *Array) checkImport(ctx context.Context, host string, im location) ([]*lunRecord, error) {
	return a.admit(ctx, host, im, a.state.rehearse)
}

func (a *Array) admit(ctx context.Context, host string, im location, run func(context.Context, string, func(*txn) error) error) ([]*lunRecord, error) {
	const op = "locate LUNs"
	if len(im.LUNs) == 0 || len(im.LUNs) > maxSetLUNs {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: im.Set.String(), Reason: "an import has 1 to 1024 LUNs", Remedy: "Name the set's LUNs"}
	}
	var out []*lunRecord
	err := run(ctx, op, func(t *txn) error {
		veto := func(reason, remedy string, err error) error {
			return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: im.Set.String(), Reason: reason, Remedy: remedy, Err: err}
		}
		reissue := "Run `umbra array ticket " + im.Set.String() + "` on the array and import with the new ticket"
		h := t.host(host)
		if h == nil {
			return unknownHost(host)
		}
		if im.Set.IsNull() {
			if l := t.lun(im.LUNs[0]); l != nil {
				im.Set = l.Set
			}
		}
		var tk ticket.Ticket
		r := t.set(im.Set)
		if len(im.Ticket) > 0 {
			var err error
			tk, err = ticket.Verify(a.ticket.Public().(ed25519.PublicKey), im.Ticket,
				ticket.Expect{SetID: im.Set, Digest: im.Digest, Host: host, Now: a.now()})
			if err != nil {
				return veto(vss.AsError(op, err).Reason, reissue, err)
			}
			if tk.ArrayID != a.state.identity().ID {
				return veto("the ticket is another array's", reissue, nil)
			}
		} else if r == nil || r.Host != host || r.Context.Transportable() {
			return veto("the import has no ticket", reissue, nil)
		}
		if r == nil || r.State != setCommitted {
			return veto("the array does not have the set's copies any more: they were deleted or broken, or the set was never committed", "Create a new set", nil)
		}
		if r.Bound != nil && (r.Bound.Host != host || r.Bound.ImportID != im.ImportID) {
			return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Object: im.Set.String(),
				Reason: "the set was imported before, by " + r.Bound.Host + " on " + r.Bound.At.Format(time.RFC3339),
				Remedy: "Use the copies there; a set is imported once. If that import failed, run `umbra cleanup " + im.Set.String() + "` there first"}
		}
		out = nil
		for _, n := range im.LUNs {
			l := t.lun(n)
			if l == nil || !l.Copy || l.Set != im.Set {
				return veto("LUN "+n.String()+" is not a copy of the set, or not any more", "Create a new set", nil)
			}
			if len(im.Ticket) > 0 {
				if g, ok := tk.Generation(n); !ok || g != l.Generation {
					return veto("the ticket does not open LUN "+n.String()+" as it is now: the copy was written to after the ticket was issued", reissue, nil)
				}
			}
			if a.lost[n] {
				return veto("the file of LUN "+n.String()+" is missing in the array's store", "Create a new set", nil)
			}
			if err := a.clusterGuard(ctx, op, h, l); err != nil {
				return err
			}
			if !l.masked(host) {
				l = l.withMask(host, true)
				t.putLUN(l)
			}
			out = append(out, l)
		}
		if r.Bound == nil {
			c := *r
			c.Bound = &binding{Host: host, ImportID: im.ImportID, At: a.now().UTC()}
			t.putSet(&c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// clusterGuard refuses to show a copy to a cluster member while any member has
// the original attached: two disks with one identity in one cluster.
func (a *Array) clusterGuard(ctx context.Context, op string, h *hostRecord, l *lunRecord) error {
	if h.Cluster == "" || !l.Copy {
		return nil
	}
	by, err := a.attachedBy(ctx, l.Source, 0)
	if err != nil {
		return err
	}
	src := a.state.lun(l.Source)
	by = slices.DeleteFunc(by, func(name string) bool {
		o := a.state.host(name)
		if o == nil || o.Cluster != h.Cluster {
			return true
		}
		// A member that went down has not detached. Its cluster knows that it is
		// down, which is why it recovers elsewhere.
		e, exported := src.exportTo(name)
		return exported && !a.live(e)
	})
	if len(by) == 0 {
		return nil
	}
	return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: l.NAA.String(),
		Reason: "its original " + l.Source.String() + " is attached in cluster " + h.Cluster + ", by " + strings.Join(by, ", "),
		Remedy: "Import on a host outside the cluster; for fast recovery take the resource offline, mask the original from every member, then import"}
}

// release forgets the binding of an import of this host that has no copy
// attached, and hides the copies from it. Idempotent.
func (a *Array) release(ctx context.Context, host string, set, importID vss.ID) error {
	const op = "release import"
	r := a.state.set(set)
	if r == nil || r.Bound == nil || r.Bound.Host != host || r.Bound.ImportID != importID {
		return nil
	}
	const remedy = "Unmount the copy and detach its device, then clean up again"
	for _, tg := range r.Targets {
		if err := a.idle(ctx, op, tg.Target, host, letGo, remedy); err != nil {
			return err
		}
	}
	if err := fpReleaseBeforeRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	err := a.state.update(ctx, op, func(t *txn) error {
		r := t.set(set)
		if r == nil || r.Bound == nil || r.Bound.Host != host || r.Bound.ImportID != importID {
			return nil
		}
		for _, tg := range r.Targets {
			if l := t.lun(tg.Target); l != nil && l.masked(host) {
				if err := a.idle(ctx, op, tg.Target, host, 0, remedy); err != nil {
					return err
				}
				t.putLUN(l.withMask(host, false))
			}
		}
		c := *r
		c.Bound = nil
		t.putSet(&c)
		return nil
	})
	if err != nil {
		return err
	}
	if err := fpReleaseAfterRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	return nil
}

// issueTicket signs a committed set of this host. The digest is kept, so that
// the administrator can issue the ticket again.
func (a *Array) issueTicket(ctx context.Context, host string, set vss.ID, digest [32]byte, only string, life time.Duration) ([]byte, error) {
	const op = "issue ticket"
	var r *setRecord
	if err := fpTicketBeforeRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	err := a.state.update(ctx, op, func(t *txn) error {
		r = t.set(set)
		if r == nil || r.Host != host || r.State != setCommitted {
			return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: set.String(), Reason: "this host has committed no such set", Remedy: "Issue tickets after PostCommit, on the host that made the set"}
		}
		if string(r.Digest) != string(digest[:]) {
			c := *r
			c.Digest = digest[:]
			t.putSet(&c)
			r = &c
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := fpTicketAfterRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	return a.sign(r, only, life)
}

// reissueTicket is the administrator's.
func (a *Array) reissueTicket(set vss.ID, only string, life time.Duration) ([]byte, error) {
	const op = "issue ticket"
	r := a.state.set(set)
	if r == nil || r.State != setCommitted {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: set.String(), Reason: "the array has no such set", Remedy: "List them with `umbra array sets`"}
	}
	if r.Digest == nil {
		return nil, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Object: set.String(), Reason: "the set's host has not issued a ticket, so what it would sign is unknown", Remedy: "Finish creating the set first; a set that is not transportable gets no ticket"}
	}
	return a.sign(r, only, life)
}

func (a *Array) sign(r *setRecord, only string, life time.Duration) ([]byte, error) {
	const op = "issue ticket"
	if life < 0 {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: r.ID.String(), Reason: "a ticket cannot have expired already", Remedy: "Give a lifetime above zero, or none"}
	}
	if only != "" && a.state.host(only) == nil {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: only, Reason: "the array has no such host", Remedy: "Enroll it with `umbra array enroll`"}
	}
	t := ticket.Ticket{ArrayID: a.state.identity().ID, SetID: r.ID, Digest: [32]byte(r.Digest), Issued: a.now(), Host: only}
	if life > 0 {
		t.Expires = t.Issued.Add(max(life, time.Second))
	}
	for _, tg := range r.Targets {
		l := a.state.lun(tg.Target)
		if l == nil {
			continue // deleted in between
		}
		t.LUNs = append(t.LUNs, ticket.LUN{NAA: l.NAA, Generation: l.Generation})
	}
	return ticket.Sign(a.ticket, t)
}
