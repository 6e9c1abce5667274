package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpStarted = failpoint.New("array.nbd.after-start") // a host's server runs and exports nothing
	fpAdded   = failpoint.New("array.nbd.after-add")
	fpRemoved = failpoint.New("array.nbd.after-remove")
)

// Folder is where an array keeps its servers, in its own.
func Folder(arrayDir string) string { return filepath.Join(arrayDir, "nbd") }

// Identity is the name of a host's key.
func Identity(host string) string { return host }

// Export is an array's servers. It is safe for concurrent use; calls wait for
// the servers, which may wait for requests under way.
type Export struct {
	dir     string
	portals []netip.AddrPort // of the first host; none for an export that only takes down
	log     *slog.Logger

	mu     sync.Mutex
	peers  map[string]export.Peer
	wanted map[lun.NAA]export.LUN // what is to be exported, for a server that ends by itself
	watch  map[string]bool        // servers that are watched, by their folders
	ctx    context.Context
	stop   context.CancelFunc
	tasks  sync.WaitGroup
}

// ParsePortal checks an address and port that hosts of other machines can reach;
// E_INVALIDARG for anything else.
func ParsePortal(s string) (netip.AddrPort, error) {
	p, err := netip.ParseAddrPort(s)
	switch {
	case err == nil && p.Addr().IsUnspecified():
		return p, &vss.Error{Code: vss.E_INVALIDARG, Op: "open array", Object: s, Reason: "hosts must be told an address they can connect to", Remedy: "Give the address of one interface with --nbd-portal"}
	case err != nil || p.Port() == 0 || p.Addr().Zone() != "":
		return p, &vss.Error{Code: vss.E_INVALIDARG, Op: "open array", Object: s, Reason: "not the address of a portal", Remedy: "Write ADDRESS:PORT with an IP address, such as 192.0.2.1:10809", Err: err}
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()), nil
}

// Open finds the server's program and returns the array's servers, which
// Reconcile sets up. Without portals they can only be taken down.
func Open(dir string, portals []string, log *slog.Logger) (*Export, error) {
	e := &Export{dir: dir, log: log, peers: map[string]export.Peer{}, wanted: map[lun.NAA]export.LUN{}, watch: map[string]bool{}}
	e.ctx, e.stop = context.WithCancel(context.Background())
	if len(portals) == 0 {
		return e, nil
	}
	for _, s := range portals {
		p, err := ParsePortal(s)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(e.portals, func(o netip.AddrPort) bool { return o.Addr() == p.Addr() }) {
			return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "open array", Object: s, Reason: "NBD has one portal at an address: the ports above it are other hosts'", Remedy: "Give --nbd-portal once for each address"}
		}
		e.portals = append(e.portals, p)
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "export over NBD", Object: program, Reason: "QEMU's storage daemon is not installed",
			Remedy: "Install it (apt install qemu-system-common); or serve hosts without --nbd-portal", Err: err}
	}
	return e, nil
}

// Present reports whether servers of an earlier process may be there.
func Present(dir string) bool {
	found, _ := filepath.Glob(filepath.Join(dir, "*", keysName))
	return len(found) > 0
}

// Portals are those of the first host; every other host has the next ports.
func (e *Export) Portals() []string {
	var out []string
	for _, p := range e.portals {
		out = append(out, p.String())
	}
	return out
}

// Reach is where a host's own servers listen.
func (e *Export) Reach(p export.Peer) (target string, portals []string) {
	for _, s := range e.servers(p) {
		portals = append(portals, net.JoinHostPort(s.address, strconv.Itoa(int(s.port))))
	}
	return Identity(p.Initiator), portals
}

// portOf is a host's port at a portal. A port beyond the last is none, and refused
// by open.
func portOf(portal netip.AddrPort, p export.Peer) uint16 {
	n := uint32(portal.Port()) + uint32(max(p.Lane, 1)) - 1
	if n > 65535 {
		return 0
	}
	return uint16(n)
}

// hasPorts reports whether there is a port for a host at every portal.
func (e *Export) hasPorts(p export.Peer) bool {
	return !slices.ContainsFunc(e.portals, func(portal netip.AddrPort) bool { return portOf(portal, p) == 0 })
}

// servers are a host's as they are to be, one for each portal: a server has one
// address. The first has the host's folder, the others have folders in it.
func (e *Export) servers(p export.Peer) []*server {
	var out []*server
	for k, portal := range e.portals {
		s := &server{dir: filepath.Join(e.dir, p.Initiator), address: portal.Addr().String(), port: portOf(portal, p)}
		if k > 0 {
			s.dir = filepath.Join(s.dir, portalPrefix+s.address)
		}
		out = append(out, s)
	}
	return out
}

// present are a host's servers as their folders tell, the first before others.
func (e *Export) present(host string) []*server {
	dir := filepath.Join(e.dir, host)
	out := []*server{{dir: dir}}
	entries, _ := os.ReadDir(dir)
	for _, d := range entries {
		if strings.HasPrefix(d.Name(), portalPrefix) {
			out = append(out, &server{dir: filepath.Join(dir, d.Name())})
		}
	}
	return out
}

// runs reports whether any of a host's servers does.
func (e *Export) runs(host string) bool {
	return slices.ContainsFunc(e.present(host), func(s *server) bool { return s.process().Alive() })
}

// endAll ends a host's servers, but for those at the folders to keep.
func (e *Export) endAll(ctx context.Context, host string, keep ...*server) (ended bool, err error) {
	var errs []error
	for k, s := range e.present(host) {
		if slices.ContainsFunc(keep, func(o *server) bool { return o.dir == s.dir }) {
			continue
		}
		ended = ended || s.process().Alive()
		err := s.end(ctx)
		if err == nil && k > 0 && len(keep) > 0 { // else the portal is still one
			err = os.RemoveAll(s.dir)
		}
		errs = append(errs, e.ended(err, host))
	}
	return ended, vss.Join("", errs...)
}

// writeKeys gives a host's servers its key.
func (e *Export) writeKeys(p export.Peer) (changed bool, err error) {
	for _, s := range e.servers(p) {
		c, err := s.writeKey(p)
		changed = changed || c
		if err != nil {
			return changed, failed("export over NBD", p.Initiator, "its key cannot be written", err)
		}
	}
	return changed, nil
}

func failed(op, object, reason string, err error) error {
	return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: object, Reason: reason,
		Remedy: "Look at the file log in the host's folder, in the folder nbd of the array's, and whether another program has its port", Err: err}
}

// hosts are those that have a folder here.
func (e *Export) hosts() []string {
	entries, _ := os.ReadDir(e.dir)
	var out []string
	for _, d := range entries {
		if d.IsDir() {
			out = append(out, d.Name())
		}
	}
	return out
}

// Reconcile makes the servers what the database says, and tells what was
// different; nothing, when none ran: that is how it is after a boot.
func (e *Export) Reconcile(peers []export.Peer, luns []export.LUN) (differences []string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx := e.ctx
	fresh := true
	for _, h := range e.hosts() {
		fresh = fresh && !e.runs(h)
	}
	differ := func(s string) {
		if !fresh {
			differences = append(differences, s)
		}
	}
	for _, h := range e.hosts() {
		if !slices.ContainsFunc(peers, func(p export.Peer) bool { return p.Initiator == h }) {
			differ("there was a server for " + h + ", which is no enrolled host; it is ended")
			if err := e.revoke(ctx, h); err != nil {
				return differences, err
			}
		}
	}
	for _, p := range peers {
		had := slices.Contains(e.hosts(), p.Initiator)
		changed, err := e.writeKeys(p)
		if err != nil {
			return differences, err
		}
		if changed && had {
			differ("there was another key for " + p.Initiator + "; it is put right")
		}
		e.peers[p.Initiator] = p
	}
	for _, l := range luns {
		e.wanted[l.NAA] = l
	}
	for _, p := range peers {
		changed, err := e.serve(ctx, p)
		for _, c := range changed {
			differ(c)
		}
		if err != nil { // one host's keeps no other from its LUNs
			differences = append(differences, err.Error())
		}
	}
	return differences, nil
}

// serve makes a host's servers export what is wanted, and returns what was
// otherwise. A host without a LUN has no server.
func (e *Export) serve(ctx context.Context, p export.Peer) (changed []string, err error) {
	want := map[lun.NAA]bool{}
	for n, l := range e.wanted {
		for _, m := range l.Maps {
			if m.Initiator == p.Initiator {
				want[n] = m.ReadOnly
			}
		}
	}
	if len(want) == 0 {
		ended, err := e.endAll(ctx, p.Initiator)
		if ended {
			changed = append(changed, p.Initiator+" had a server and no LUN")
		}
		return changed, err
	}
	if !e.hasPorts(p) {
		return nil, failed("export over NBD", p.Initiator, "there are not that many ports above the portal's", nil)
	}
	servers := e.servers(p)
	ended, err := e.endAll(ctx, p.Initiator, servers...)
	if ended {
		changed = append(changed, p.Initiator+" had a server at a portal that is none any more")
	}
	errs := []error{err}
	var idle []error // of portals where nothing is exported, good or bad
	for _, s := range servers {
		c, err := e.serveAt(ctx, p, s, want)
		changed = append(changed, c...)
		if err != nil && !s.process().Alive() {
			idle = append(idle, err)
			continue
		}
		errs = append(errs, err)
	}
	if len(idle) == len(servers) {
		errs = append(errs, idle...)
	} else if len(idle) > 0 { // an interface that is down is why there are several
		e.log.Warn("a portal does not serve, others do", "host", p.Initiator, "error", vss.Join("", idle...))
	}
	return changed, vss.Join("", errs...)
}

// serveAt is serve for one of the host's servers.
func (e *Export) serveAt(ctx context.Context, p export.Peer, s *server, want map[lun.NAA]bool) (changed []string, err error) {
	if _, err := s.writeKey(p); err != nil {
		return nil, failed("export over NBD", p.Initiator, "its key cannot be written", err)
	}
	q, started, err := s.talk(ctx)
	if err != nil {
		return changed, failed("export over NBD", p.Initiator, "its server cannot be started, or does not answer", err)
	}
	defer q.close()
	if started {
		changed = append(changed, "no server ran for "+p.Initiator)
		if err := fpStarted.Hit(ctx); err != nil {
			return changed, vss.AsError("export over NBD", err)
		}
	}
	e.supervise(p.Initiator, s)
	have, err := q.exports()
	if err != nil {
		return changed, failed("look at exports", p.Initiator, "its server does not tell them", err)
	}
	var errs []error
	for n, ro := range have {
		if wantRO, ok := want[n]; !ok || wantRO != ro {
			changed = append(changed, fmt.Sprintf("%s for %s", n, p.Initiator))
			if err := q.remove(ctx, n, ro); err != nil {
				errs = append(errs, failed("end export", n.String(), "the server of "+p.Initiator+" does not let go of it", err))
			}
			errs = append(errs, fpRemoved.Hit(ctx))
			delete(have, n)
		}
	}
	for n, ro := range want {
		if _, ok := have[n]; !ok {
			if !started {
				changed = append(changed, fmt.Sprintf("%s for %s", n, p.Initiator))
			}
			if err := q.add(e.wanted[n], ro); err != nil {
				errs = append(errs, failed("export LUN", n.String(), "the server of "+p.Initiator+" does not take it", err))
			}
			errs = append(errs, fpAdded.Hit(ctx))
		}
	}
	return changed, vss.Join("", errs...)
}

func (e *Export) ended(err error, host string) error {
	if err != nil {
		return failed("end export", host, "its server does not end", err)
	}
	return nil
}

// supervise starts a host's server again when it ends while it is wanted.
func (e *Export) supervise(host string, s *server) {
	if e.watch[s.dir] {
		return
	}
	e.watch[s.dir] = true
	e.tasks.Go(func() {
		defer func() {
			e.mu.Lock()
			delete(e.watch, s.dir)
			e.mu.Unlock()
		}()
		for pause := 100 * time.Millisecond; ; pause = min(2*pause, 30*time.Second) {
			since := time.Now()
			if s.process().Wait(e.ctx) != nil {
				return
			}
			e.mu.Lock()
			p, known := e.peers[host]
			wanted := known && e.wants(host)
			var err error
			if wanted && !s.process().Alive() {
				e.log.Warn("the NBD server of a host ended and is started again", "host", host)
				_, err = e.serve(e.ctx, p)
			}
			e.mu.Unlock()
			if !wanted {
				return
			}
			if err != nil {
				e.log.Error("the NBD server of a host cannot be started", "host", host, "error", err)
			}
			if time.Since(since) > time.Minute {
				pause = 100 * time.Millisecond
			}
			select {
			case <-e.ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	})
}

func (e *Export) wants(host string) bool {
	for _, l := range e.wanted {
		if slices.ContainsFunc(l.Maps, func(m export.Mapping) bool { return m.Initiator == host }) {
			return true
		}
	}
	return false
}

// Admit gives a host its key; the next connection needs it.
func (e *Export) Admit(p export.Peer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.hasPorts(p) {
		return failed("admit host", p.Initiator, "there are not that many ports above the portal's", nil)
	}
	e.peers[p.Initiator] = p
	_, err := e.writeKeys(p)
	return err
}

// Revoke ends a host's server, with its connections, and forgets its key.
func (e *Export) Revoke(initiator string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.revoke(e.ctx, initiator)
}

func (e *Export) revoke(ctx context.Context, host string) error {
	delete(e.peers, host)
	if _, err := e.endAll(ctx, host); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(e.dir, host)); err != nil {
		return failed("revoke host", host, "its folder cannot be removed", err)
	}
	return nil
}

// Apply makes what is exported of a LUN what l says.
func (e *Export) Apply(l export.LUN) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.wanted[l.NAA]
	if len(l.Maps) == 0 {
		delete(e.wanted, l.NAA)
	} else {
		e.wanted[l.NAA] = l
	}
	var errs []error
	done := map[string]bool{}
	for _, m := range slices.Concat(before.Maps, l.Maps) {
		p, known := e.peers[m.Initiator]
		if known && !done[m.Initiator] {
			done[m.Initiator] = true
			_, err := e.serve(e.ctx, p)
			errs = append(errs, err)
		}
	}
	return vss.Join("", errs...)
}

// Connected reports whether the host has a connection.
func (e *Export) Connected(initiator string) (bool, error) {
	e.mu.Lock()
	servers := e.servers(e.peers[initiator])
	e.mu.Unlock()
	for _, s := range servers {
		if on, err := s.connected(); on || err != nil {
			return on, err
		}
	}
	return false, nil
}

// Teardown ends all servers.
func (e *Export) Teardown() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, h := range e.hosts() {
		errs = append(errs, e.revoke(e.ctx, h))
	}
	if err := os.Remove(e.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return vss.Join("", errs...)
}

// Close stops watching the servers, which serve on.
func (e *Export) Close() error {
	e.stop()
	e.tasks.Wait()
	return nil
}
