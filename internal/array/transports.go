package array

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/iscsi"
	"github.com/umbra-vss/umbra/internal/array/export/nbd"
	"github.com/umbra-vss/umbra/internal/array/export/nvme"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// exporter serves LUNs to hosts of other machines over one transport.
// Descriptors for hosts on this machine (tokens.go) are not one: a host fetches
// them, and the kernel tells when they are gone, while what an exporter shows is
// the array's own doing and stays until it is taken back.
type exporter interface {
	// Portals are where it listens, as the administrator said it.
	Portals() []string
	// Reach is what a host connects to, and where.
	Reach(export.Peer) (target string, portals []string)
	// Reconcile makes what is exported what the database says, and tells what
	// was different.
	Reconcile(peers []export.Peer, luns []export.LUN) (differences []string, err error)
	// Admit lets a host in, with its secrets and no others.
	Admit(export.Peer) error
	// Revoke takes everything away from a host, its live sessions too.
	Revoke(initiator string) error
	// Apply makes what is exported of a LUN what it says.
	Apply(export.LUN) error
	// Connected reports whether a host has a session.
	Connected(initiator string) (bool, error)
	// Teardown leaves nothing of it on this machine.
	Teardown() error
}

// transport is what the array knows of a way to hosts of other machines.
type transport struct {
	kind      export.Kind
	flag      string                // of umbra array serve
	portals   func(Config) []string // none: it is not served
	initiator func(host string) string
	secrets   func(host string) secrets
	// present: an earlier process left something of it on this machine.
	present func(Config, arrayRecord) bool
	// open makes the exporter, which Reconcile starts.
	open func(Config, arrayRecord, []string) (exporter, error)
	// bundle puts into a host's bundle how it reaches its LUNs this way.
	bundle func(b *client.Bundle, target string, portals []string, p export.Peer)
}

// transports are those there are; a host that has a choice takes the first.
var transports = []transport{overISCSI, overNVMe, overNBD}

var overISCSI = transport{
	kind: export.ISCSI, flag: "--iscsi-portal",
	portals:   func(c Config) []string { return c.ISCSIPortals },
	initiator: iscsi.InitiatorName,
	secrets: func(host string) secrets {
		return secrets{Initiates: export.Secret{User: host, Password: randomHex(16)}, Answers: export.Secret{User: "array", Password: randomHex(16)}}
	},
	present: func(c Config, id arrayRecord) bool { return iscsi.Present(c.configfs, id.ID) },
	open: func(c Config, id arrayRecord, portals []string) (exporter, error) {
		return iscsi.Open(c.configfs, id.ID, id.Prefix, portals)
	},
	bundle: func(b *client.Bundle, target string, portals []string, p export.Peer) {
		b.ISCSI = &client.ISCSI{Target: target, Portals: portals, Initiator: p.Initiator,
			User: p.Initiates.User, Secret: p.Initiates.Password, TargetUser: p.Answers.User, TargetSecret: p.Answers.Password}
	},
}

var overNVMe = transport{
	kind: export.NVMe, flag: "--nvme-portal",
	portals:   func(c Config) []string { return c.NVMePortals },
	initiator: nvme.HostName,
	secrets: func(host string) secrets {
		return secrets{Initiates: export.Secret{User: host, Password: randomHex(32)}, Answers: export.Secret{User: "array", Password: randomHex(32)}}
	},
	present: func(c Config, id arrayRecord) bool { return nvme.Present(c.configfs, id.ID) },
	open: func(c Config, id arrayRecord, portals []string) (exporter, error) {
		return nvme.Open(c.configfs, id.ID, id.Prefix, portals)
	},
	bundle: func(b *client.Bundle, target string, portals []string, p export.Peer) {
		b.NVMe = &client.NVMe{Subsystem: target, Portals: portals, Host: p.Initiator, Secret: p.Initiates.Password, ArraySecret: p.Answers.Password}
	},
}

var overNBD = transport{
	kind: export.NBD, flag: "--nbd-portal",
	portals:   func(c Config) []string { return c.NBDPortals },
	initiator: nbd.Identity,
	secrets: func(host string) secrets {
		// One key: it proves both sides to each other.
		return secrets{Initiates: export.Secret{User: nbd.Identity(host), Password: randomHex(32)}}
	},
	present: func(c Config, _ arrayRecord) bool { return nbd.Present(nbd.Folder(c.Dir)) },
	open: func(c Config, _ arrayRecord, portals []string) (exporter, error) {
		return nbd.Open(nbd.Folder(c.Dir), portals, c.Logger)
	},
	bundle: func(b *client.Bundle, _ string, portals []string, p export.Peer) {
		b.NBD = &client.NBD{Portals: portals, Identity: p.Initiates.User, Key: p.Initiates.Password}
	},
}

// secrets are those of a host and, to it, of the array, over one transport.
type secrets struct{ Initiates, Answers export.Secret }

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// outlet is a transport that this array serves.
type outlet struct {
	transport
	exporter
}

// outlet is the one of a kind, if the array serves it; "" is iSCSI, from before
// there were others.
func (a *Array) outlet(k export.Kind) (outlet, bool) {
	if k == "" {
		k = export.ISCSI
	}
	i := slices.IndexFunc(a.outlets, func(o outlet) bool { return o.kind == k })
	if i < 0 {
		return outlet{}, false
	}
	return a.outlets[i], true
}

// peer is the host as a transport sees it; false if it was enrolled before the
// array had that.
func (h *hostRecord) peer(t transport) (export.Peer, bool) {
	s, ok := h.Secrets[t.kind]
	if !ok && t.kind == export.ISCSI && h.CHAP != nil {
		s, ok = *h.CHAP, true
	}
	return export.Peer{Initiator: t.initiator(h.Name), Initiates: s.Initiates, Answers: s.Answers, Lane: h.Lane}, ok
}

// newSecrets gives a host secrets for each transport that the array serves.
func (a *Array) newSecrets(host string) map[export.Kind]secrets {
	var out map[export.Kind]secrets
	for _, o := range a.outlets {
		if out == nil {
			out = map[export.Kind]secrets{}
		}
		out[o.kind] = o.transport.secrets(host)
	}
	return out
}

// freeLane draws the lowest number that no host has.
func (t *txn) freeLane() uint16 {
	taken := map[uint16]bool{}
	for _, h := range t.s.allHosts() {
		if now := t.host(h.Name); now != nil {
			taken[now.Lane] = true
		}
	}
	lane := uint16(1)
	for taken[lane] {
		lane++
	}
	return lane
}

// replaceSecrets lets a host in over every transport, with its present secrets
// only: whoever is in with others is put out. The LUNs that it has attached are
// shown to it again.
func (a *Array) replaceSecrets(h *hostRecord, attached []lun.NAA) error {
	var errs []error
	a.exportMu.Lock() // nothing is exported to a host that is out for a moment
	for _, o := range a.outlets {
		err := o.Revoke(o.initiator(h.Name))
		if p, ok := h.peer(o.transport); ok && err == nil {
			err = o.Admit(p)
		}
		errs = append(errs, err)
	}
	a.exportMu.Unlock()
	return vss.Join("", append(errs, a.converge(attached...))...)
}

// revoke takes everything away from a host, over every transport: one that
// fails keeps no other from it.
func (a *Array) revoke(host string) error {
	var errs []error
	for _, o := range a.outlets {
		errs = append(errs, o.Revoke(o.initiator(host)))
	}
	return vss.Join("", errs...)
}

// describeTransports puts into a host's bundle how it reaches its LUNs.
func (a *Array) describeTransports(b *client.Bundle, h *hostRecord) {
	for _, o := range a.outlets {
		if p, ok := h.peer(o.transport); ok {
			target, portals := o.Reach(p)
			o.bundle(b, target, portals, p)
		}
	}
	b.Seal()
}

// openExports gets ready what the array serves, and makes the exports what the
// database says.
func (a *Array) openExports(ctx context.Context) error {
	id := a.state.identity()
	for _, t := range transports {
		portals := t.portals(a.cfg)
		e, given := a.cfg.exporters[t.kind]
		switch {
		case given:
		case len(portals) > 0:
			var err error
			if e, err = t.open(a.cfg, id, portals); err != nil {
				return err
			}
		case t.present(a.cfg, id):
			if err := a.retire(id, t); err != nil {
				return err
			}
			continue
		default:
			continue
		}
		if err := a.startOutlet(outlet{t, e}); err != nil {
			return err
		}
	}
	return nil
}

func (a *Array) startOutlet(o outlet) error {
	var peers []export.Peer
	for _, h := range a.state.allHosts() {
		if p, ok := h.peer(o.transport); ok {
			peers = append(peers, p)
		}
	}
	var luns []export.LUN
	for _, l := range a.state.allLUNs() {
		if e := a.exportOf(o.transport, l.NAA, l); len(e.Maps) > 0 {
			luns = append(luns, e)
		}
	}
	differences, err := o.Reconcile(peers, luns)
	if err != nil {
		return err
	}
	for _, d := range differences {
		a.log.Warn("exports were not what the database says", "transport", o.kind, "difference", d)
	}
	a.outlets, a.differences = append(a.outlets, o), append(a.differences, differences...)
	return nil
}

// retire takes down what an array that is to serve a transport no more has of
// it, unless a host uses it: nobody would take the LUNs away that the array
// deletes.
func (a *Array) retire(id arrayRecord, t transport) error {
	for _, l := range a.state.allLUNs() {
		if i := slices.IndexFunc(l.Exports, func(e exported) bool { return e.kind() == t.kind }); i >= 0 {
			return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "open array", Object: l.NAA.String(), Reason: "hosts have LUNs attached over " + t.kind.Label() + ", " + l.Exports[i].Host + " for one",
				Remedy: "Start the array with " + t.flag + ", detach the LUNs there, and start it without"}
		}
	}
	e, err := t.open(a.cfg, id, nil)
	if err == nil {
		err = e.Teardown()
	}
	if err == nil {
		a.log.Info("a transport is taken down", "transport", t.kind)
	}
	return err
}
