package iscsi

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const prefix = "0123456ab"

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
	return export.Peer{Initiator: InitiatorName(host), Initiates: export.Secret{User: host, Password: "in-" + host}, Answers: export.Secret{User: "array", Password: "out-" + host}}
}

func target(k *kernel, portals ...string) *Target {
	return &Target{fs: k, iqn: TargetName(arrayID), prefix: prefix, portals: portals}
}

const portal = "192.0.2.1:3260"

func reconciled(t *testing.T, k *kernel, hosts ...string) *Target {
	t.Helper()
	tg := target(k, portal)
	var ps []export.Peer
	for _, h := range hosts {
		ps = append(ps, peer(h))
	}
	if err := k.Mkdir("iscsi"); err != nil {
		t.Fatal(err)
	}
	if diff, err := tg.Reconcile(ps, nil); err != nil || len(diff) > 0 {
		t.Fatalf("a new target: %v, differences %v", err, diff)
	}
	return tg
}

// TestNewTarget: authentication and write protection before anybody can come,
// portals last.
func TestNewTarget(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	d, p := "iscsi/"+tg.iqn, "iscsi/"+tg.iqn+"/tpgt_1"
	acl := p + "/acls/iqn.2026-01.io.umbra:hosta"
	k.told("mkdir iscsi", "mkdir "+d, "mkdir "+p,
		p+"/attrib/authentication = 1", p+"/attrib/demo_mode_discovery = 0", p+"/attrib/prod_mode_write_protect = 1",
		"mkdir "+acl, acl+"/auth/userid = hosta", acl+"/auth/password = in-hosta", acl+"/auth/userid_mutual = array", acl+"/auth/password_mutual = out-hosta",
		"mkdir "+p+"/np/192.0.2.1:3260", p+"/enable = 1")
}

// TestExport: every write of a LUN that is exported, opened for writing, shared,
// and withdrawn.
func TestExport(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta", "hostb")
	k.did()
	n := naa(t, "ff")
	s := "core/fileio_7480/" + n.String()
	p := tg.tpg()
	a, b := p+"/acls/iqn.2026-01.io.umbra:hosta", p+"/acls/iqn.2026-01.io.umbra:hostb"
	l := export.LUN{NAA: n, File: "/store/luns/" + n.String(), Size: 64 << 20, Maps: []export.Mapping{{Initiator: InitiatorName("hosta"), Number: 7, ReadOnly: true}}}
	apply := func() {
		t.Helper()
		if err := tg.Apply(l); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	k.told("mkdir core/fileio_7480", "mkdir "+s,
		s+"/control = fd_dev_name=/store/luns/"+n.String()+",fd_dev_size=67108864",
		s+"/wwn/vpd_unit_serial = "+prefix+"00000000000000ff",
		s+"/wwn/vendor_id = UMBRA", s+"/wwn/product_id = FILE LUN", s+"/wwn/revision = 1",
		s+"/enable = 1", s+"/attrib/emulate_tpu = 1", s+"/attrib/emulate_3pc = 0",
		"mkdir "+p+"/lun/lun_0", "link "+p+"/lun/lun_0/"+n.String()+" -> "+s,
		"mkdir "+a+"/lun_7", "link "+a+"/lun_7/"+n.String()+" -> "+p+"/lun/lun_0", a+"/lun_7/write_protect = 1")

	apply() // as it is
	k.told()

	l.Maps[0].ReadOnly = false // broken, live
	apply()
	k.told(a + "/lun_7/write_protect = 0")

	l.Maps = append(l.Maps, export.Mapping{Initiator: InitiatorName("hostb"), Number: 1})
	apply()
	k.told("mkdir "+b+"/lun_1", "link "+b+"/lun_1/"+n.String()+" -> "+p+"/lun/lun_0", b+"/lun_1/write_protect = 0")

	l.Maps = l.Maps[1:] // masked from hosta, live
	apply()
	k.told("unlink "+a+"/lun_7/"+n.String(), "rmdir "+a+"/lun_7")

	l.Maps = nil
	apply()
	k.told("unlink "+b+"/lun_1/"+n.String(), "rmdir "+b+"/lun_1", "unlink "+p+"/lun/lun_0/"+n.String(), "rmdir "+p+"/lun/lun_0", "rmdir "+s)

	apply()
	k.told()
}

// TestNumberReused: what is at the number goes before the LUN comes.
func TestNumberReused(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	who := InitiatorName("hosta")
	one, two := naa(t, "1"), naa(t, "2")
	lunAt := func(n lun.NAA, number uint16) export.LUN {
		return export.LUN{NAA: n, File: "/f", Size: 1 << 20, Maps: []export.Mapping{{Initiator: who, Number: number}}}
	}
	for _, l := range []export.LUN{lunAt(one, 3), lunAt(two, 3), lunAt(two, 5)} {
		if err := tg.Apply(l); err != nil {
			t.Fatal(err)
		}
		ms, err := tg.mapped(who)
		if err != nil || len(ms) != 1 || ms[0].Number != l.Maps[0].Number || len(ms[0].luns) != 1 || ms[0].luns[0] != l.NAA.String() {
			t.Errorf("%s at %d: mapped: %+v, %v", l.NAA, l.Maps[0].Number, ms, err)
		}
	}
}

// TestReconcile: another tool has changed everything; it is put right, and said.
func TestReconcile(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta", "gone")
	kept, extra, moved := naa(t, "1"), naa(t, "2"), naa(t, "3")
	at := func(n lun.NAA, host string, number uint16, ro bool) export.LUN {
		return export.LUN{NAA: n, File: "/f", Size: 1 << 20, Maps: []export.Mapping{{Initiator: InitiatorName(host), Number: number, ReadOnly: ro}}}
	}
	for _, l := range []export.LUN{at(kept, "hosta", 1, true), at(extra, "gone", 1, true), at(moved, "hosta", 9, true)} {
		if err := tg.Apply(l); err != nil {
			t.Fatal(err)
		}
	}
	k.put(tg.acl(InitiatorName("hosta"))+"/lun_1/write_protect", "0") // a copy that was made writable by hand
	k.put(tg.acl(InitiatorName("hosta"))+"/auth/password", "guessed")
	k.did()
	next := target(k, "192.0.2.2:3260")
	diff, err := next.Reconcile([]export.Peer{peer("hosta"), peer("hostb")}, []export.LUN{at(kept, "hosta", 1, true), at(moved, "hosta", 2, true)})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(diff, "\n")
	for _, want := range []string{"umbra:gone, which is no enrolled host", "other secrets for iqn.2026-01.io.umbra:hosta", "did not know iqn.2026-01.io.umbra:hostb", extra.String() + " was exported to nobody",
		kept.String() + " for iqn.2026-01.io.umbra:hosta", moved.String() + " at number 9", "portal 192.0.2.1:3260 is closed", "portal 192.0.2.2:3260 is opened"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among the differences:\n%s", want, all)
		}
	}
	if len(diff) != 9 {
		t.Errorf("%d differences:\n%s", len(diff), all)
	}
	if wp, _ := k.Read(next.acl(InitiatorName("hosta")) + "/lun_1/write_protect"); wp != "1" {
		t.Error("a copy stays writable")
	}
	if k.Exists(backstore(extra)) || k.Exists(next.acl(InitiatorName("gone"))) {
		t.Error("what nobody has is still exported")
	}
	k.did()
	if diff, err := next.Reconcile([]export.Peer{peer("hosta"), peer("hostb")}, []export.LUN{at(kept, "hosta", 1, true), at(moved, "hosta", 2, true)}); err != nil || len(diff) > 0 {
		t.Errorf("a second time: %v, %v", diff, err)
	}
	k.told() // and nothing is written: hosts may be logged in
}

func TestRevokeAndConnected(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	who := InitiatorName("hosta")
	n := naa(t, "1")
	if err := tg.Apply(export.LUN{NAA: n, File: "/f", Size: 1 << 20, Maps: []export.Mapping{{Initiator: who, Number: 1}}}); err != nil {
		t.Fatal(err)
	}
	if on, err := tg.Connected(who); on || err != nil {
		t.Errorf("nobody has logged in: %v, %v", on, err)
	}
	k.put(tg.acl(who)+"/info", "InitiatorName: "+who+"\nInitiatorAlias: \nLIO Session ID: 1   ISID: 0x00 02 3d 00 00 01  TSIH: 1  SessionType: Normal\nSession State: TARG_SESS_STATE_LOGGED_IN\n")
	if on, err := tg.Connected(who); !on || err != nil {
		t.Errorf("a session is not seen: %v, %v", on, err)
	}
	k.did()
	if err := tg.Revoke(who); err != nil {
		t.Fatal(err)
	}
	k.told("unlink "+tg.acl(who)+"/lun_1/"+n.String(), "rmdir "+tg.acl(who)+"/lun_1", "rmdir "+tg.acl(who))
	if on, err := tg.Connected(who); on || err != nil {
		t.Errorf("a revoked host is connected: %v, %v", on, err)
	}
	if err := tg.Apply(export.LUN{NAA: n, File: "/f", Size: 1 << 20, Maps: []export.Mapping{{Initiator: who, Number: 1}}}); !errors.Is(err, vss.VSS_E_PROVIDER_VETO) {
		t.Errorf("a LUN for a revoked host: %v", err)
	}
}

func TestTeardown(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	if err := tg.Apply(export.LUN{NAA: naa(t, "1"), File: "/f", Size: 1 << 20, Maps: []export.Mapping{{Initiator: InitiatorName("hosta"), Number: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := tg.Teardown(); err != nil {
		t.Fatal(err)
	}
	if left, _ := k.List("iscsi"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left, _ := k.List("core"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := tg.Teardown(); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestRefused: whatever write the kernel refuses, nothing half made stays and
// the next attempt succeeds.
func TestRefused(t *testing.T) {
	n := naa(t, "1")
	l := export.LUN{NAA: n, File: "/f", Size: 1 << 20, Maps: []export.Mapping{{Initiator: InitiatorName("hosta"), Number: 1}}}
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	k.did()
	if err := tg.Apply(l); err != nil {
		t.Fatal(err)
	}
	for _, call := range k.did() {
		k := newKernel(t)
		tg := reconciled(t, k, "hosta")
		k.fail = call
		err := tg.Apply(l)
		var e *vss.Error
		if !errors.As(err, &e) || e.Code != vss.VSS_E_PROVIDER_VETO || e.Remedy == "" {
			t.Errorf("%s is refused: %v", call, err)
		}
		if ms, _ := tg.mapped(InitiatorName("hosta")); len(ms) > 0 {
			t.Errorf("%s is refused: mapped all the same: %+v", call, ms)
		}
		k.fail = ""
		if err := tg.Apply(l); err != nil {
			t.Errorf("after %s was refused: %v", call, err)
		}
		if err := tg.Apply(export.LUN{NAA: n}); err != nil {
			t.Errorf("after %s was refused: %v", call, err)
		}
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
	for _, bad := range []string{"", "array:3260", "0.0.0.0:3260", "[::]:3260", "192.0.2.1", "192.0.2.1:0", "[fe80::1%eth0]:3260"} {
		if _, err := ParsePortal(bad); !errors.Is(err, vss.E_INVALIDARG) {
			t.Errorf("portal %q: %v", bad, err)
		}
	}
	for in, want := range map[string]string{portal: portal, "[2001:DB8::1]:860": "[2001:db8::1]:860", "[::ffff:192.0.2.1]:3260": portal} {
		if got, err := ParsePortal(in); got != want || err != nil {
			t.Errorf("portal %q is %q, %v", in, got, err)
		}
	}
}

// TestPath: the kernel's option parser would cut a path at a comma.
func TestPath(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	err := tg.Apply(export.LUN{NAA: naa(t, "1"), File: "/a,b", Size: 1 << 20, Maps: []export.Mapping{{Initiator: InitiatorName("hosta"), Number: 1}}})
	if !errors.Is(err, vss.VSS_E_PROVIDER_VETO) || k.Exists(hba) {
		t.Errorf("%v", err)
	}
}

// TestEmptyMapping: of a mapping whose LUN was taken away by hand the folder is
// left. It goes with the next thing that is done.
func TestEmptyMapping(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	who, n := InitiatorName("hosta"), naa(t, "1")
	if err := tg.Apply(export.LUN{NAA: n, File: "/f", Size: 1 << 20, Maps: []export.Mapping{{Initiator: who, Number: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := k.Unlink(tg.acl(who) + "/lun_1/" + n.String()); err != nil {
		t.Fatal(err)
	}
	if err := tg.Apply(export.LUN{NAA: n}); err != nil {
		t.Fatal(err)
	}
	if ms, err := tg.mapped(who); err != nil || len(ms) > 0 {
		t.Errorf("left: %+v, %v", ms, err)
	}
}

// waits is a kernel that ends no link to a backstore, and no such link's end,
// before some of them are waited for.
type waits struct {
	*kernel
	seen *sync.WaitGroup
}

func (w waits) Link(to, p string) error {
	if strings.HasPrefix(to, "core/") {
		w.seen.Done()
		w.seen.Wait()
	}
	return w.kernel.Link(to, p)
}

func (w waits) Unlink(p string) error {
	if strings.Contains(p, "/lun/") {
		w.seen.Done()
		w.seen.Wait()
	}
	return w.kernel.Unlink(p)
}

// TestTogether: what the kernel takes its time for it does for many LUNs at once.
func TestTogether(t *testing.T) {
	k := newKernel(t)
	tg := reconciled(t, k, "hosta")
	const n = 4
	w := waits{k, &sync.WaitGroup{}}
	tg.fs = w
	all := func(maps func(i int) []export.Mapping) {
		t.Helper()
		w.seen.Add(n)
		errs := make(chan error, n)
		for i := range n {
			l := export.LUN{NAA: naa(t, fmt.Sprintf("a%d", i)), File: "/store/luns/x", Size: 1 << 20, Maps: maps(i)}
			go func() { errs <- tg.Apply(l) }()
		}
		for range n {
			select {
			case err := <-errs:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("one LUN waits for another")
			}
		}
	}
	all(func(i int) []export.Mapping {
		return []export.Mapping{{Initiator: InitiatorName("hosta"), Number: uint16(i + 1), ReadOnly: true}}
	})
	have, err := tg.mapped(InitiatorName("hosta"))
	if err != nil || len(have) != n {
		t.Fatalf("mapped are %v, %v", have, err)
	}
	for _, m := range have {
		if want := naa(t, fmt.Sprintf("a%d", m.Number-1)).String(); len(m.luns) != 1 || m.luns[0] != want || !m.ReadOnly {
			t.Errorf("at %d there is %v, want %s", m.Number, m.luns, want)
		}
	}
	if names, err := k.List(tg.tpg() + "/lun"); err != nil || len(names) != n {
		t.Errorf("the target's LUNs are %v, %v", names, err)
	}
	all(func(int) []export.Mapping { return nil })
	if names, err := k.List(tg.tpg() + "/lun"); err != nil || len(names) != 0 {
		t.Errorf("left are %v, %v", names, err)
	}
}
