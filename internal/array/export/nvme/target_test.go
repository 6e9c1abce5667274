package nvme

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/nvme/dhchap"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const (
	prefix = "0123456ab"
	portal = "192.0.2.1:4420"
	own    = "nqn.2026-01.io.umbra:array.11220000-0000-0000-0000-000000000000."
)

var arrayID = vss.ID{0x11, 0x22}

func naa(t *testing.T, tail string) lun.NAA {
	t.Helper()
	n, err := lun.ParseNAA("6001405" + prefix + strings.Repeat("0", 16-len(tail)) + tail)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func peer(host string) export.Peer {
	return export.Peer{Initiator: HostName(host), Initiates: export.Secret{User: host, Password: "in-" + host}, Answers: export.Secret{User: "array", Password: "out-" + host}}
}

func target(k *kernel, portals ...string) *Target {
	own := subsystemsOf(arrayID)
	return &Target{fs: k, back: k, own: own, serial: "11220000000000000000", prefix: prefix, portals: portals,
		talking: func(string) (bool, error) { return k.live, nil }}
}

func reconciled(t *testing.T, k *kernel, hosts ...string) *Target {
	t.Helper()
	tg := target(k, portal)
	var ps []export.Peer
	for _, h := range hosts {
		ps = append(ps, peer(h))
	}
	if diff, err := tg.Reconcile(ps, nil); err != nil || len(diff) > 0 {
		t.Fatalf("a new target: %v, differences %v", err, diff)
	}
	return tg
}

func at(n lun.NAA, host string, number uint16, ro bool) export.LUN {
	return export.LUN{NAA: n, File: "/f", Size: 1 << 20, Maps: []export.Mapping{{Initiator: HostName(host), Number: number, ReadOnly: ro}}}
}

func apply(t *testing.T, tg *Target, ls ...export.LUN) {
	t.Helper()
	for _, l := range ls {
		if err := tg.Apply(l); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNewTarget: a host is admitted, by name and with its secrets where the
// kernel asks for them, before its portal is opened.
func TestNewTarget(t *testing.T) {
	for _, chap := range []bool{false, true} {
		k := newKernel(t)
		k.chap = chap
		tg := reconciled(t, k, "hosta")
		s, h := "subsystems/"+own+"hosta", "hosts/nqn.2026-01.io.umbra:hosta"
		want := []string{"hide " + prefix, "mkdir " + s, "mkdir " + h, s + "/attr_model = UMBRA FILE LUN", s + "/attr_serial = 11220000000000000000"}
		if chap {
			want = append(want, h+"/dhchap_key = "+dhchap.Key("in-hosta"), h+"/dhchap_ctrl_key = "+dhchap.Key("out-hosta"))
		}
		k.told(append(want, "link "+s+"/allowed_hosts/nqn.2026-01.io.umbra:hosta -> "+h,
			"mkdir ports/7480", "ports/7480/addr_trtype = tcp", "ports/7480/addr_adrfam = ipv4", "ports/7480/addr_traddr = 192.0.2.1", "ports/7480/addr_trsvcid = 4420",
			"link ports/7480/subsystems/"+own+"hosta -> "+s)...)
		if err := tg.Admit(peer("hosta")); err != nil {
			t.Fatal(err)
		}
		k.told()
		name, portals := tg.Reach(peer("hosta"))
		if name != own+"hosta" || len(portals) != 1 || portals[0] != portal {
			t.Errorf("it is reached at %s, %v", name, portals)
		}
	}
}

// TestExport: every write of a LUN that is exported, opened for writing, shared,
// and withdrawn.
func TestExport(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta", "hostb")
	k.did()
	n := naa(t, "ff")
	a, b := "subsystems/"+own+"hosta/namespaces/", "subsystems/"+own+"hostb/namespaces/"
	created := func(ns, device string) []string {
		return []string{"mkdir " + ns, ns + "/device_path = " + device, ns + "/device_nguid = 00000000-0000-00ff-0014-050123456ab6", ns + "/device_uuid = 01405012-3456-8ab0-8000-0000000000ff", ns + "/enable = 1"}
	}
	l := at(n, "hosta", 7, true)
	apply(t, tg, l)
	ro, rw := deviceOf(l, true), deviceOf(l, false)
	k.told(append([]string{"make " + ro}, created(a+"7", ro)...)...)

	apply(t, tg, l) // as it is
	k.told()

	l.Maps[0].ReadOnly = false // broken: a namespace cannot change beneath its host
	apply(t, tg, l)
	k.told(append([]string{a + "7/enable = 0", "rmdir " + a + "7", "make " + rw}, created(a+"7", rw)...)...)

	l.Maps = append(l.Maps, export.Mapping{Initiator: HostName("hostb"), Number: 1})
	apply(t, tg, l)
	k.told(created(b+"1", rw)...)

	l.Maps = l.Maps[1:] // masked from hosta, live
	apply(t, tg, l)
	k.told(a+"7/enable = 0", "rmdir "+a+"7")

	l.Maps = nil
	apply(t, tg, l)
	k.told(b+"1/enable = 0", "rmdir "+b+"1", "drop "+n.String())

	apply(t, tg, l)
	k.told()
}

// TestNumberReused: what is at the number goes before the LUN comes.
func TestNumberReused(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	one, two := naa(t, "1"), naa(t, "2")
	for _, l := range []export.LUN{at(one, "hosta", 3, true), at(two, "hosta", 3, true), at(two, "hosta", 5, true)} {
		apply(t, tg, l)
		all, err := tg.namespaces()
		if err != nil || len(all) != 1 || all[0].number != uint64(l.Maps[0].Number) || !all[0].ours || all[0].lun != l.NAA {
			t.Errorf("%s at %d: %+v, %v", l.NAA, l.Maps[0].Number, all, err)
		}
	}
	for _, number := range []uint16{0, MaxNumber + 1} {
		if err := tg.Apply(at(one, "hosta", number, true)); !errors.Is(err, vss.VSS_E_PROVIDER_VETO) {
			t.Errorf("number %d: %v", number, err)
		}
	}
}

// TestReconcile: another tool has changed everything; it is put right, and said.
func TestReconcile(t *testing.T) {
	k := newKernel(t)
	k.chap = true
	tg := reconciled(t, k, "hosta", "gone")
	kept, extra, moved, off := naa(t, "1"), naa(t, "2"), naa(t, "3"), naa(t, "4")
	apply(t, tg, at(kept, "hosta", 1, true), at(extra, "gone", 1, true), at(moved, "hosta", 9, true), at(off, "hosta", 4, true))
	a := "subsystems/" + own + "hosta"
	k.put(a+"/namespaces/1/device_path", deviceOf(at(kept, "", 1, false), false)) // a copy that was made writable by hand
	k.put(a+"/namespaces/4/enable", "0")
	k.put("hosts/"+HostName("hosta")+"/dhchap_key", "guessed")
	k.put(a+"/attr_allow_any_host", "1")
	for _, err := range []error{k.Mkdir("hosts/nqn.evil"), k.Link("hosts/nqn.evil", a+"/allowed_hosts/nqn.evil"), k.Mkdir(a + "/namespaces/99")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	k.put(a+"/namespaces/99/device_path", "/dev/sda")
	k.made[naa(t, "5")] = "/dev/left" // by a process that died
	peers := []export.Peer{peer("hosta"), peer("hostb")}
	luns := []export.LUN{at(kept, "hosta", 1, true), at(moved, "hosta", 2, true), at(off, "hosta", 4, true)}
	next := target(k, "192.0.2.2:4420")
	diff, err := next.Reconcile(peers, luns)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(diff, "\n")
	for _, want := range []string{"umbra:gone, which is no enrolled host", "other secrets for nqn.2026-01.io.umbra:hosta", "let everybody in", "nqn.evil could see", "did not know nqn.2026-01.io.umbra:hostb",
		"/dev/sda (namespace 99) was exported", kept.String() + " for nqn.2026-01.io.umbra:hosta", moved.String() + " at number 9", off.String() + " at number 4",
		"portal 192.0.2.1:4420 is closed", "portal 192.0.2.2:4420 was closed to nqn.2026-01.io.umbra:hosta", "portal 192.0.2.2:4420 was closed to nqn.2026-01.io.umbra:hostb"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among the differences:\n%s", want, all)
		}
	}
	if dev, _ := k.Read(a + "/namespaces/1/device_path"); dev != deviceOf(luns[0], true) {
		t.Errorf("a copy stays exported as %s", dev)
	}
	if k.Exists("subsystems/"+own+"gone") || k.Exists("hosts/"+HostName("gone")) || k.Exists(a+"/allowed_hosts/nqn.evil") || len(k.made) != 3 {
		t.Errorf("what nobody has is still there: %v", k.made)
	}
	k.did()
	if diff, err := next.Reconcile(peers, luns); err != nil || len(diff) > 0 {
		t.Errorf("a second time: %v, %v", diff, err)
	}
	k.told("hide " + prefix) // and nothing else: hosts may be connected
}

// TestRevoke: the LUNs go while the host can hear of it, then its session.
func TestRevoke(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta", "hostb")
	n := naa(t, "1")
	apply(t, tg, at(n, "hosta", 1, false))
	who := HostName("hosta")
	for _, live := range []bool{false, true} {
		k.live = live
		if on, err := tg.Connected(who); on != live || err != nil {
			t.Errorf("connected: %v, %v, want %v", on, err, live)
		}
	}
	k.did()
	if err := tg.Revoke(who); err != nil {
		t.Fatal(err)
	}
	s := "subsystems/" + own + "hosta"
	k.told(s+"/namespaces/1/enable = 0", "rmdir "+s+"/namespaces/1", "unlink ports/7480/"+s, "drop "+n.String(), "unlink "+s+"/allowed_hosts/"+who, "rmdir "+s, "rmdir hosts/"+who)
	if on, err := tg.Connected(who); on || err != nil {
		t.Errorf("a revoked host is connected: %v, %v", on, err)
	}
	if !k.Exists("ports/7480/subsystems/" + own + "hostb") {
		t.Error("hostb's portal is closed")
	}
	if err := tg.Apply(at(n, "hosta", 1, false)); !errors.Is(err, vss.VSS_E_PROVIDER_VETO) || len(k.made) > 0 {
		t.Errorf("a LUN for a revoked host: %v, %v", err, k.made)
	}
	if err := tg.Revoke(who); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestOthers: what other tools and other arrays export is left alone.
func TestOthers(t *testing.T) {
	k := newKernel(t)
	another := strings.Replace(own, "1122", "3344", 1) + "hosta"
	for _, d := range []string{"hosts/" + HostName("hosta"), "subsystems/" + another, "subsystems/nqn.mine", "ports/1", "ports/7480"} {
		if err := k.Mkdir(d); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"subsystems/" + another + "/allowed_hosts/" + HostName("hosta"), "ports/1/subsystems/nqn.mine", "ports/7480/subsystems/" + another} {
		to := "hosts/" + HostName("hosta")
		if strings.HasPrefix(p, "ports") {
			to = "subsystems/" + path.Base(p)
		}
		if err := k.Link(to, p); err != nil {
			t.Fatal(err)
		}
	}
	tg := reconciled(t, k, "hosta")
	apply(t, tg, at(naa(t, "1"), "hosta", 1, true))
	if err := tg.Teardown(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"hosts/" + HostName("hosta"), "subsystems/" + another + "/allowed_hosts/" + HostName("hosta"), "subsystems/nqn.mine", "ports/1/subsystems/nqn.mine", "ports/7480/subsystems/" + another} {
		if !k.Exists(d) {
			t.Errorf("%s is gone", d)
		}
	}
	if k.Exists("ports/7481") || k.Exists("subsystems/"+own+"hosta") || len(k.made) > 0 {
		t.Errorf("left: %v, ports %v", k.made, k.Exists("ports/7481"))
	}
	if err := tg.Teardown(); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestRefused: whatever the kernel refuses, nothing half made stays exported and
// the next attempt succeeds.
func TestRefused(t *testing.T) {
	l := at(naa(t, "1"), "hosta", 1, true)
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	k.did()
	apply(t, tg, l)
	for _, call := range k.did() {
		k := newKernel(t)
		tg := reconciled(t, k, "hosta")
		k.fail = call
		err := tg.Apply(l)
		var e *vss.Error
		if strings.HasPrefix(call, "make") {
			if err == nil {
				t.Errorf("%s is refused: no error", call)
			}
		} else if !errors.As(err, &e) || e.Code != vss.VSS_E_PROVIDER_VETO || e.Remedy == "" {
			t.Errorf("%s is refused: %v", call, err)
		}
		if all, _ := tg.namespaces(); len(all) > 0 || len(k.made) > 0 {
			t.Errorf("%s is refused: left: %+v, %v", call, all, k.made)
		}
		k.fail = ""
		apply(t, tg, l, export.LUN{NAA: l.NAA})
		if err := tg.Teardown(); err != nil {
			t.Errorf("after %s was refused: %v", call, err)
		}
	}
}

func TestOpen(t *testing.T) {
	_, err := Open(t.TempDir(), arrayID, prefix, []string{portal})
	var e *vss.Error
	if !errors.As(err, &e) || e.Code != vss.VSS_E_NOT_SUPPORTED || !strings.Contains(e.Remedy, "modprobe") {
		t.Errorf("without a target in the kernel: %v", err)
	}
	if _, err := Open(t.TempDir(), arrayID, prefix, []string{"0.0.0.0:4420"}); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("a portal that is everywhere: %v", err)
	}
	k := newKernel(t)
	root := path.Dir(string(k.FS))
	if Present(root, arrayID) {
		t.Error("nothing is taken for the array's")
	}
	reconciled(t, k, "hosta")
	if !Present(root, arrayID) || Present(root, vss.ID{1}) {
		t.Error("the array's is not seen, or taken for another's")
	}
}

func TestPortOfIPv6(t *testing.T) {
	k := newKernel(t)
	tg := target(k, "[2001:db8::1]:4420")
	if _, err := tg.Reconcile([]export.Peer{peer("hosta")}, nil); err != nil {
		t.Fatal(err)
	}
	for f, want := range map[string]string{"addr_adrfam": "ipv6", "addr_traddr": "2001:db8::1", "addr_trsvcid": "4420"} {
		if got, _ := k.Read("ports/7480/" + f); got != want {
			t.Errorf("%s is %q", f, got)
		}
	}
	k.did()
	if diff, err := tg.Reconcile([]export.Peer{peer("hosta")}, nil); err != nil || len(diff) > 0 {
		t.Errorf("a second time: %v, %v", diff, err)
	}
}

func TestSocketAddress(t *testing.T) {
	for s, want := range map[string]string{"0101A8C0:1144": "192.168.1.1:4420", "0000000000000000FFFF00000101A8C0:1144": "192.168.1.1:4420", "B80D0120000000000000000001000000:1144": "[2001:db8::1]:4420"} {
		if got, ok := socketAddress(s); !ok || got.String() != want {
			t.Errorf("%s is %v, %v", s, got, ok)
		}
	}
	if _, ok := socketAddress("x:y"); ok {
		t.Error("nonsense is an address")
	}
}
