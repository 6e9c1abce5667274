package array

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpEnrollBeforeRecord = failpoint.New("array.enroll.before-record")
	fpEnrollAfterRecord  = failpoint.New("array.enroll.after-record")
	fpRemoveBeforeRecord = failpoint.New("array.removehost.before-record")
	fpRemoveAfterRecord  = failpoint.New("array.removehost.after-record")
)

func unknownHost(name string) error {
	return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "array", Object: name, Reason: "the array does not know this host, or its certificate was replaced",
		Remedy: "Run `umbra array enroll " + name + "` on the array and `umbra join` on the host"}
}

func validHost(s string) bool {
	return s != "" && len(s) <= 64 && s[0] != '-' && s[0] != '.' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// enroll makes a host known, or gives a known one a new certificate and new
// secrets, which revokes the old: sessions that began with those end. What it has
// attached stays exported, for whoever comes with the new ones. The bundle holds
// the only copy of the private key.
func (a *Array) enroll(ctx context.Context, name, cluster string) ([]byte, error) {
	const op = "enroll host"
	if !validHost(name) || cluster != "" && !validHost(cluster) {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: name, Reason: "names of hosts and clusters have 1 to 64 lower-case letters, digits, dots and dashes", Remedy: "Choose another name"}
	}
	if len(a.hosts) == 0 && len(a.cfg.Advertise) == 0 {
		return nil, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Object: name, Reason: "the array listens for no hosts", Remedy: "Start it with --listen tcp://ADDRESS:PORT or unix:///PATH"}
	}
	cert, key, leaf, err := a.ca.host(name)
	if err != nil {
		return nil, err
	}
	if err := fpEnrollBeforeRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	var h *hostRecord
	var attached []lun.NAA // by one who was known before
	err = a.state.update(ctx, op, func(t *txn) error {
		h = &hostRecord{Name: name, Cluster: cluster, Serial: leaf.SerialNumber.Text(16), Enrolled: a.now().UTC(), Expires: leaf.NotAfter.UTC()}
		if old := t.host(name); old != nil {
			h.Slot, h.LastNumber, h.Lane = old.Slot, old.LastNumber, old.Lane
			h.Cluster = cmp.Or(cluster, old.Cluster)
			for _, l := range a.state.allLUNs() {
				if _, ok := l.exportTo(name); ok {
					attached = append(attached, l.NAA)
				}
			}
		} else {
			t.edit().Slot++
			h.Slot = t.edit().Slot
		}
		if h.Secrets = a.newSecrets(name); h.Secrets != nil && h.Lane == 0 {
			h.Lane = t.freeLane()
		}
		t.putHost(h)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := a.replaceSecrets(h, attached); err != nil {
		return nil, err
	}
	if err := fpEnrollAfterRecord.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	id := a.state.identity()
	b := client.Bundle{ArrayID: id.ID, ArrayName: id.Name, Prefix: id.Prefix, Host: name,
		Endpoints: a.Endpoints(), DataSocket: a.cfg.DataSocket, CA: a.ca.pem(), Cert: cert, Key: key,
		TicketKey: a.ticket.Public().(ed25519.PublicKey)}
	a.describeTransports(&b, h)
	raw, err := b.Marshal()
	if err != nil {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: name, Reason: "the bundle cannot be written", Remedy: "Report it", Err: err}
	}
	return raw, nil
}

// removeHost revokes a host over every transport, live sessions included, and
// hides every LUN from it. Sets it imported stay bound to its name: a set is
// imported once.
func (a *Array) removeHost(ctx context.Context, name string, force bool) error {
	const op = "remove host"
	for _, p := range a.unfinished(func(p *pending) bool { return p.host == name }) {
		if err := a.abortPending(ctx, p); err != nil {
			return err
		}
	}
	if err := fpRemoveBeforeRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	var masked []lun.NAA
	err := a.state.update(ctx, op, func(t *txn) error {
		if t.host(name) == nil {
			return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: name, Reason: "the array has no such host", Remedy: "List them with `umbra array host list`"}
		}
		t.dropHost(name)
		for _, l := range a.state.allLUNs() {
			if !force {
				if err := a.idle(ctx, op, l.NAA, name, 0, "Detach it there, or remove the host with --force"); err != nil {
					return err
				}
			}
			if l.masked(name) {
				t.putLUN(l.withMask(name, false))
				masked = append(masked, l.NAA)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.tokens.revoke(name)
	// Its sessions first: that takes all its LUNs away at once.
	if err := vss.Join("", a.revoke(name), a.converge(masked...)); err != nil {
		return err
	}
	if err := fpRemoveAfterRecord.Hit(ctx); err != nil {
		return injected(op, err)
	}
	return nil
}

// setCluster says which cluster a host is a member of.
func (a *Array) setCluster(ctx context.Context, name, cluster string) error {
	const op = "set cluster"
	if cluster != "" && !validHost(cluster) {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: cluster, Reason: "names of clusters have 1 to 64 lower-case letters, digits, dots and dashes", Remedy: "Choose another name"}
	}
	return a.state.update(ctx, op, func(t *txn) error {
		h := t.host(name)
		if h == nil {
			return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: name, Reason: "the array has no such host", Remedy: "List them with `umbra array host list`"}
		}
		c := *h
		c.Cluster = cluster
		t.putHost(&c)
		return nil
	})
}
