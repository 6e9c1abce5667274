package nbd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// ground is a folder for an array, and ports of this machine that were free.
type ground struct {
	t      *testing.T
	dir    string
	portal string
	one    lun.NAA
	two    lun.NAA
}

func newGround(t *testing.T) *ground {
	t.Helper()
	for _, p := range []string{program, "nbdkit", "nbdinfo"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := &ground{t: t, dir: t.TempDir(), portal: l.Addr().String()}
	g.one, _ = lun.ParseNAA("naa.6001405000000000000000000000001a")
	g.two, _ = lun.ParseNAA("naa.6001405000000000000000000000002b")
	for _, n := range []lun.NAA{g.one, g.two} {
		if err := os.WriteFile(g.file(n), bytes.Repeat([]byte(n.String()[30:]), 1<<18), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // whatever the test did
		e, err := Open(Folder(g.dir), nil, slog.New(slog.DiscardHandler))
		if err == nil {
			err = errors.Join(e.Teardown(), e.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *ground) file(n lun.NAA) string { return filepath.Join(g.dir, n.String()) }

func (g *ground) lun(n lun.NAA, maps ...export.Mapping) export.LUN {
	return export.LUN{NAA: n, File: g.file(n), Size: 6 << 18, Maps: maps}
}

func peer(host string, lane uint16, key byte) export.Peer {
	return export.Peer{Initiator: host, Initiates: export.Secret{User: host, Password: hex.EncodeToString(bytes.Repeat([]byte{key}, 32))}, Lane: lane}
}

// open is another life of the array.
func (g *ground) open() *Export {
	g.t.Helper()
	e, err := Open(Folder(g.dir), []string{g.portal}, slog.New(slog.DiscardHandler))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { e.Close() })
	return e
}

func (g *ground) reconcile(e *Export, peers []export.Peer, luns ...export.LUN) []string {
	g.t.Helper()
	d, err := e.Reconcile(peers, luns)
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}

// sees is what a client with the peer's key finds at an address: "rw", "ro" or
// the error.
func (g *ground) sees(e *Export, at, as export.Peer, n lun.NAA) string {
	g.t.Helper()
	_, portals := e.Reach(at)
	return g.seesAt(portals[0], as, n)
}

func (g *ground) seesAt(portal string, as export.Peer, n lun.NAA) string {
	g.t.Helper()
	keys := filepath.Join(g.t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(as.Initiates.User+":"+as.Initiates.Password+"\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(portal)
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nbdkit", "-U", "-", "nbd", "hostname="+host, "port="+port, "export="+n.String(), "tls=require", "tls-username="+as.Initiates.User, "tls-psk="+keys,
		"--run", `nbdinfo --size "$uri" >/dev/null && if nbdinfo --is readonly "$uri"; then echo ro; else echo rw; fi`).CombinedOutput()
	if s := strings.TrimSpace(string(out)); s == "ro" || s == "rw" {
		return s
	}
	return fmt.Sprintf("nothing: %v", err)
}

func (g *ground) want(e *Export, p export.Peer, n lun.NAA, want string) {
	g.t.Helper()
	if got := g.sees(e, p, p, n); !strings.HasPrefix(got, want) {
		g.t.Errorf("%s sees of %s %q, not %q", p.Initiator, n, got, want)
	}
}

// TestHostsAreApart: each host has what is mapped to it, as it is mapped, and
// nothing of another's, not by name, not by port.
func TestHostsAreApart(t *testing.T) {
	g := newGround(t)
	e := g.open()
	a, b := peer("hosta", 1, 1), peer("hostb", 2, 2)
	g.reconcile(e, []export.Peer{a, b})
	if err := errors.Join(e.Apply(g.lun(g.one, export.Mapping{Initiator: "hosta"})), e.Apply(g.lun(g.two, export.Mapping{Initiator: "hostb", ReadOnly: true}))); err != nil {
		t.Fatal(err)
	}
	g.want(e, a, g.one, "rw")
	g.want(e, b, g.two, "ro")
	g.want(e, a, g.two, "nothing")
	g.want(e, b, g.one, "nothing")
	if got := g.sees(e, a, b, g.one); !strings.HasPrefix(got, "nothing") {
		t.Errorf("hostb at hosta's port: %s", got)
	}
	imposter := a
	imposter.Initiates.Password = b.Initiates.Password
	if got := g.sees(e, a, imposter, g.one); !strings.HasPrefix(got, "nothing") {
		t.Errorf("hostb under hosta's name: %s", got)
	}
	// A new key counts from the next connection on, the old no more.
	renewed := peer("hosta", 1, 9)
	if err := e.Admit(renewed); err != nil {
		t.Fatal(err)
	}
	g.want(e, renewed, g.one, "rw")
	g.want(e, a, g.one, "nothing")
	server := e.present("hosta")[0].process()
	if err := e.Revoke("hosta"); err != nil {
		t.Fatal(err)
	}
	if server.Alive() { // its sessions end with it
		t.Error("the server of a host that was revoked lives")
		_ = server.End(t.Context(), 0)
	}
	g.want(e, renewed, g.one, "nothing")
	g.want(e, b, g.two, "ro")
}

// TestLiveRemoval: what is taken away is gone for those who have it open, and a
// host without a LUN has no server.
func TestLiveRemoval(t *testing.T) {
	g := newGround(t)
	e := g.open()
	a := peer("hosta", 1, 1)
	g.reconcile(e, []export.Peer{a})
	if err := errors.Join(e.Apply(g.lun(g.one, export.Mapping{Initiator: "hosta"})), e.Apply(g.lun(g.two, export.Mapping{Initiator: "hosta"}))); err != nil {
		t.Fatal(err)
	}
	// A client that holds both open; what it says when one goes.
	keys := filepath.Join(g.t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("hosta:"+a.Initiates.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, portals := e.Reach(a)
	host, port, _ := net.SplitHostPort(portals[0])
	here, goOn := filepath.Join(t.TempDir(), "here"), filepath.Join(t.TempDir(), "on")
	cmd := exec.CommandContext(t.Context(), "nbdkit", "-U", "-", "nbd", "hostname="+host, "port="+port, "export="+g.one.String(), "tls=require", "tls-username=hosta", "tls-psk="+keys, "shared=true",
		"--run", `nbdinfo --size "$uri" >`+here+`; until test -e `+goOn+`; do sleep 0.02; done; nbdcopy "$uri" - >/dev/null 2>&1 && echo read || echo error`)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if b, _ := os.ReadFile(here); len(b) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the client does not connect")
		}
	}
	if on, err := e.Connected("hosta"); err != nil || !on {
		t.Errorf("connected: %v, %v", on, err)
	}
	if err := e.Apply(g.lun(g.one)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || strings.TrimSpace(out.String()) != "error" {
		t.Errorf("a client whose export was taken away: %q, %v", out.String(), err)
	}
	g.want(e, a, g.two, "rw")
	// What can be written and what cannot follows on the spot.
	if err := e.Apply(g.lun(g.two, export.Mapping{Initiator: "hosta", ReadOnly: true})); err != nil {
		t.Fatal(err)
	}
	g.want(e, a, g.two, "ro")
	pid := e.present("hosta")[0].process()
	if err := e.Apply(g.lun(g.two)); err != nil {
		t.Fatal(err)
	}
	if pid.Alive() {
		t.Error("the server of a host without LUNs lives")
	}
	if on, err := e.Connected("hosta"); err != nil || on {
		t.Errorf("connected: %v, %v", on, err)
	}
}

// TestNextLife: servers serve on without the array, which finds them again; what
// is different from its database is mended and told.
func TestNextLife(t *testing.T) {
	g := newGround(t)
	a, b, c := peer("hosta", 1, 1), peer("hostb", 2, 2), peer("hostc", 3, 3)
	one, two := g.lun(g.one, export.Mapping{Initiator: "hosta"}), g.lun(g.two, export.Mapping{Initiator: "hosta", ReadOnly: true}, export.Mapping{Initiator: "hostc"})
	e := g.open()
	if d := g.reconcile(e, []export.Peer{a, b, c}, one, two); len(d) > 0 {
		t.Errorf("new, and different: %v", d)
	}
	before := e.present("hosta")[0].process()
	e.Close()
	g.want(e, a, g.one, "rw")
	e = g.open()
	if d := g.reconcile(e, []export.Peer{a, b, c}, one, two); len(d) > 0 {
		t.Errorf("unchanged, and different: %v", d)
	}
	if e.present("hosta")[0].process() != before || !before.Alive() {
		t.Error("the server is another")
	}
	// Meanwhile in the database: hostc is gone, hosta has one LUN less and the
	// other for writing, and another key.
	e.Close()
	e = g.open()
	renewed := peer("hosta", 1, 7)
	d := g.reconcile(e, []export.Peer{renewed, b}, g.lun(g.two, export.Mapping{Initiator: "hosta"}))
	for _, want := range []string{"hostc, which is no enrolled host", "another key for hosta", g.one.String() + " for hosta", g.two.String() + " for hosta"} {
		if !slices.ContainsFunc(d, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("not told: %s, of %q", want, d)
		}
	}
	g.want(e, renewed, g.two, "rw")
	g.want(e, renewed, g.one, "nothing")
	g.want(e, c, g.two, "nothing")
	if before = e.present("hosta")[0].process(); !before.Alive() {
		t.Fatal("no server")
	}
	// One that ends by itself is started again.
	if err := before.End(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(15 * time.Second); !strings.HasPrefix(g.sees(e, renewed, renewed, g.two), "rw"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server is not started again")
		}
	}
	if err := e.Teardown(); err != nil {
		t.Fatal(err)
	}
	if Present(Folder(g.dir)) || e.present("hosta")[0].process().Alive() {
		t.Error("something is left")
	}
}

// TestPortTaken: the error names the host, and nothing is left running.
func TestPortTaken(t *testing.T) {
	g := newGround(t)
	l, err := net.Listen("tcp", g.portal)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	e := g.open()
	g.reconcile(e, []export.Peer{peer("hosta", 1, 1)})
	if err := e.Apply(g.lun(g.one, export.Mapping{Initiator: "hosta"})); !errors.Is(err, vss.VSS_E_PROVIDER_VETO) || !strings.Contains(fmt.Sprint(err), "hosta") {
		t.Errorf("%v", err)
	}
	if e.present("hosta")[0].process().Alive() {
		t.Error("a server without a port lives")
	}
}

// TestSeveralPortals: a LUN is at each of them with the same rights, and nowhere
// when these end; one that is given up, or cannot serve, keeps nobody from the
// others.
func TestSeveralPortals(t *testing.T) {
	g := newGround(t)
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip(err)
	}
	second := l.Addr().String()
	l.Close()
	open := func(portals ...string) *Export {
		t.Helper()
		e, err := Open(Folder(g.dir), portals, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return e
	}
	at := func(portal, want string, p export.Peer) {
		t.Helper()
		if got := g.seesAt(portal, p, g.one); !strings.HasPrefix(got, want) {
			t.Errorf("at %s %s sees %q, not %q", portal, p.Initiator, got, want)
		}
	}
	a, b := peer("hosta", 1, 1), peer("hostb", 2, 2)
	e := open(g.portal, second)
	if _, portals := e.Reach(a); !slices.Equal(portals, []string{g.portal, second}) {
		t.Errorf("hosta is told %v", portals)
	}
	one := g.lun(g.one, export.Mapping{Initiator: "hosta", ReadOnly: true})
	g.reconcile(e, []export.Peer{a, b})
	if err := e.Apply(one); err != nil {
		t.Fatal(err)
	}
	at(g.portal, "ro", a)
	at(second, "ro", a)
	at(second, "nothing", b)
	servers := e.present("hosta")
	if len(servers) != 2 {
		t.Fatalf("%d servers", len(servers))
	}
	pids := []int{servers[0].process().PID, servers[1].process().PID}
	e.Close()
	// The next life finds both, and one more without the second ends that.
	e = open(g.portal, second)
	if d := g.reconcile(e, []export.Peer{a, b}, one); len(d) > 0 || servers[0].process().PID != pids[0] || servers[1].process().PID != pids[1] {
		t.Errorf("found otherwise: %v", d)
	}
	e.Close()
	other := servers[1].process()
	e = open(g.portal)
	if d := g.reconcile(e, []export.Peer{a, b}, one); len(d) != 1 || other.Alive() || len(e.present("hosta")) != 1 {
		t.Errorf("a portal is given up: %v; its server lives: %v", d, other.Alive())
	}
	at(g.portal, "ro", a)
	e.Close()
	// An address that cannot be had.
	if l, err = net.Listen("tcp", second); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e = open(second, g.portal)
	if err := e.Revoke("hosta"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Reconcile([]export.Peer{a, b}, nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(one); err != nil {
		t.Errorf("one portal of two cannot serve: %v", err)
	}
	at(g.portal, "ro", a)
	if err := e.Revoke("hosta"); err != nil {
		t.Fatal(err)
	}
	at(g.portal, "nothing", a)
	e.Close()
	if _, err := Open(Folder(g.dir), []string{g.portal, "127.0.0.1:1"}, slog.New(slog.DiscardHandler)); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("two portals at an address: %v", err)
	}
}

func TestPortals(t *testing.T) {
	for s, good := range map[string]bool{"192.0.2.1:10809": true, "[2001:db8::1]:10809": true, "0.0.0.0:10809": false, "array:10809": false, "192.0.2.1": false, "192.0.2.1:0": false, "-x": false} {
		if _, err := ParsePortal(s); (err == nil) != good || err != nil && !errors.Is(err, vss.E_INVALIDARG) {
			t.Errorf("%s: %v", s, err)
		}
	}
	e, err := Open(t.TempDir(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	e.portals = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:65534")}
	for lane, want := range map[uint16]string{1: "192.0.2.1:65534", 2: "192.0.2.1:65535"} {
		if _, p := e.Reach(peer("h", lane, 1)); p[0] != want {
			t.Errorf("number %d is at %s", lane, p[0])
		}
	}
	if err := e.Admit(peer("h", 3, 1)); !errors.Is(err, vss.VSS_E_PROVIDER_VETO) {
		t.Errorf("a host without a port: %v", err)
	}
}

// TestBlockDevice: a LUN may be a block device, as in a thin pool.
func TestBlockDevice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a loop device")
	}
	g := newGround(t)
	out, err := exec.Command("losetup", "--find", "--show", g.file(g.one)).Output()
	if err != nil {
		t.Skip("no loop device: ", err)
	}
	device := strings.TrimSpace(string(out))
	defer func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("%s%v", out, err)
		}
	}()
	e := g.open()
	a := peer("hosta", 1, 1)
	g.reconcile(e, []export.Peer{a})
	for _, readOnly := range []bool{false, true} {
		l := g.lun(g.one, export.Mapping{Initiator: "hosta", ReadOnly: readOnly})
		l.File = device
		if err := e.Apply(l); err != nil {
			t.Fatal(err)
		}
		g.want(e, a, g.one, map[bool]string{true: "ro", false: "rw"}[readOnly])
	}
	if err := e.Apply(g.lun(g.one)); err != nil {
		t.Fatal(err)
	}
}
