package nvme

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func rescan(t *testing.T, i *Initiator, naas ...lun.NAA) []block.Device {
	t.Helper()
	ds, err := i.Rescan(t.Context(), infos(naas...))
	if err != nil {
		t.Fatal(err)
	}
	if len(ds) != len(naas) {
		t.Fatalf("%d devices of %d LUNs: %+v", len(ds), len(naas), ds)
	}
	return ds
}

func wantDid(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the kernel was told\n  %s\nnot\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const connected = "connect nqn=" + targetName + ",transport=tcp,traddr=192.0.2.1,trsvcid=4420,hostnqn=" + hostName +
	",hostid=HOSTID,ctrl_loss_tmo=86400,fast_io_fail_tmo=120,reconnect_delay=2,keep_alive_tmo=5,dhchap_secret=" + secret + ",dhchap_ctrl_secret=DHHC-1:00:out:"

// TestAttachAndDetach: one connection, nothing looked for, and back: the array
// takes the LUN away while the disk is claimed, and the last ends the connection.
func TestAttachAndDetach(t *testing.T) {
	m, i := newMachine(t)
	m.late = 50 * time.Millisecond
	m.offer(naa(1), 7)
	d := rescan(t, i, naa(1))[0]
	if d.Name != "nvme0n1" || d.DiskSeq != 1 || !d.ReadOnly {
		t.Errorf("it is %+v", d)
	}
	wantDid(t, m.did(), strings.Replace(connected, "HOSTID", hostID(hostName), 1), "protect nvme0n1")

	// Again: it stays.
	if again := rescan(t, i, naa(1))[0]; again.DiskSeq != d.DiskSeq {
		t.Errorf("it came again as %+v", again)
	}
	wantDid(t, m.did(), "protect nvme0n1")

	m.claimed = &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Object: "nvme0n1", Reason: "mounted"}
	if err := i.Detach(t.Context(), d); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) || !i.Present(naa(1)) || len(m.closed) > 0 {
		t.Errorf("a mounted disk is detached: %v", err)
	}
	m.claimed = nil
	m.offer(naa(2), 8)
	d2 := rescan(t, i, naa(2))[0]
	m.did()
	m.closing = errors.New("the array is away")
	if err := i.Detach(t.Context(), d); !errors.Is(err, m.closing) || !i.Present(naa(1)) {
		t.Errorf("the array does not answer: %v", err)
	}
	m.closing = nil
	m.did()
	if err := i.Detach(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	wantDid(t, m.did(), "flush nvme0n1", "release nvme0n1") // another disk is on the connection
	if err := i.Detach(t.Context(), d); err != nil {
		t.Errorf("again: %v", err)
	}
	if !slices.Equal(m.closed, []lun.NAA{naa(1), naa(1)}) {
		t.Errorf("closed: %v", m.closed)
	}
	m.did()
	if err := i.Detach(t.Context(), d2); err != nil {
		t.Fatal(err)
	}
	wantDid(t, m.did(), "flush nvme0n2", "class/nvme/nvme0/delete_controller = 1", "release nvme0n2")
}

// TestDeaf: word that something came or went is lost; the kernel is told to look.
func TestDeaf(t *testing.T) {
	m, i := newMachine(t)
	i.patience = 5 * time.Second
	m.offer(naa(1), 1)
	rescan(t, i, naa(1))
	m.deaf = true
	m.offer(naa(2), 2)
	d := rescan(t, i, naa(2))[0]
	if told := m.did(); !slices.Contains(told, "class/nvme/nvme0/rescan_controller = 1") {
		t.Errorf("the kernel was told %v", told)
	}
	if err := i.Detach(t.Context(), d); err != nil || i.Present(naa(2)) {
		t.Errorf("%v", err)
	}
}

// TestDetachWhileDown: the kernel does not hear that the LUN is taken away. With
// its last disk the connection is ended; with others on it, it is not.
func TestDetachWhileDown(t *testing.T) {
	m, i := newMachine(t)
	m.offer(naa(1), 1)
	m.offer(naa(2), 2)
	ds := []block.Device{rescan(t, i, naa(1))[0], rescan(t, i, naa(2))[0]}
	m.deaf, m.blind, i.patience = true, true, 100*time.Millisecond
	if err := i.Detach(t.Context(), ds[0]); err == nil || !m.live() || !i.Present(naa(2)) {
		t.Errorf("another disk is on the connection: %v", err)
	}
	m.blind = false
	m.look()
	m.blind = true
	if err := i.Detach(t.Context(), ds[1]); err != nil || m.live() || i.Present(naa(2)) {
		t.Errorf("the last: %v", err)
	}
}

// TestReusedNumber: the kernel remembers at this number the LUN that was there.
func TestReusedNumber(t *testing.T) {
	m, i := newMachine(t)
	m.offer(naa(1), 7)
	old := rescan(t, i, naa(1))[0]
	m.deaf = true
	delete(m.shown, 7)
	m.offer(naa(2), 7)
	d := rescan(t, i, naa(2))[0]
	if n, _ := d.LUN.NAA(); n != naa(2) || d.DiskSeq == old.DiskSeq {
		t.Errorf("it is %+v", d)
	}
	// What the kernel remembers is right by its own word, and the array shows
	// something else: it is asked, and the disk not used.
	i.patience = 300 * time.Millisecond
	m.blind = true
	m.shown[7] = Exported{NAA: naa(3), Number: 7}
	m.closed = nil
	ds, err := i.Rescan(t.Context(), infos(naa(2)))
	var e *vss.Error
	if !errors.As(err, &e) || e.Code != vss.VSS_E_MISSING_DISK || !strings.Contains(e.Reason, naa(3).String()) || e.Remedy == "" || len(ds) > 0 {
		t.Errorf("a disk that is another LUN by now: %+v, %v", ds, err)
	}
	// The array says naa(4) is at 9, and the kernel has another there.
	m.offer(naa(4), 7)
	if _, err := i.Rescan(t.Context(), infos(naa(4))); !errors.As(err, &e) || e.Code != vss.VSS_E_MISSING_DISK || !slices.Contains(m.closed, naa(4)) {
		t.Errorf("another LUN's disk is there: %v, closed %v", err, m.closed)
	}
}

// TestSomeArrive: those that came are returned beside the error, and those that
// did not are closed.
func TestSomeArrive(t *testing.T) {
	m, i := newMachine(t)
	i.patience = 300 * time.Millisecond
	m.offer(naa(1), 1)
	m.offer(naa(2), 2)
	m.shown[2] = Exported{NAA: naa(9), Number: 2, Size: 1}
	ds, err := i.Rescan(t.Context(), append(infos(naa(1), naa(2)), lun.Info{Version: lun.InfoVersion, SerialNumber: "x"}))
	if err == nil || len(ds) != 1 || !strings.Contains(err.Error(), naa(2).String()) {
		t.Errorf("%+v, %v", ds, err)
	}
	if !slices.Equal(m.closed, []lun.NAA{naa(2)}) {
		t.Errorf("closed %v", m.closed)
	}
}

// TestRefused: what the kernel answers, and what helps.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		at     string
		err    error
		code   vss.HResult
		remedy string
	}{
		{"connect ", errNVMe, vss.E_ACCESSDENIED, "umbra array enroll"},
		{"connect ", unix.EKEYREJECTED, vss.E_ACCESSDENIED, "umbra array enroll"},
		{"connect ", unix.ECONNREFUSED, vss.VSS_E_UNEXPECTED, "--nvme-portal"},
		{"dial ", unix.EHOSTUNREACH, vss.VSS_E_UNEXPECTED, "--nvme-portal"},
		{"connect ", unix.ENOENT, vss.VSS_E_NOT_SUPPORTED, "modprobe nvme_tcp"},
		{"connect ", unix.ENOMEM, vss.VSS_E_UNEXPECTED, "kernel log"},
	} {
		m, i := newMachine(t)
		m.offer(naa(1), 1)
		m.refuse[c.at+portal] = c.err
		_, err := i.Rescan(t.Context(), infos(naa(1)))
		var e *vss.Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Remedy, c.remedy) || !strings.Contains(err.Error(), portal) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s%v: %v", c.at, c.err, err)
		}
		if !slices.Equal(m.closed, []lun.NAA{naa(1)}) {
			t.Errorf("%s%v: closed %v", c.at, c.err, m.closed)
		}
	}
	m, i := newMachine(t)
	m.offer(naa(1), 1)
	m.refuse["connect "+portal] = unix.EALREADY // somebody else was faster
	m.controller("nvme0", "connecting", "192.0.2.1", "4420")
	m.soon(50*time.Millisecond, func() {
		m.controller("nvme0", "live", "192.0.2.1", "4420")
		m.look()
	})
	rescan(t, i, naa(1))
}

// TestPaths: a kernel that makes one disk of several paths is given all there
// are, whatever else is down; one that does not, one.
func TestPaths(t *testing.T) {
	for multipath, want := range map[string]int{"Y": 2, "N": 1} {
		m, i := newMachine(t)
		m.put("module/nvme_core/parameters/multipath", multipath)
		m.portals = []string{"192.0.2.7:4420", portal, "192.0.2.2:4420"}
		m.refuse["dial 192.0.2.7:4420"] = unix.EHOSTUNREACH
		m.offer(naa(1), 1)
		rescan(t, i, naa(1))
		if n := len(m.sys.controllers(i.credentials)); n != want {
			t.Errorf("multipath %s: %d connections", multipath, n)
		}
		delete(m.refuse, "dial 192.0.2.7:4420")
		rescan(t, i, naa(1))
		if n := len(m.sys.controllers(i.credentials)); n != map[string]int{"Y": 3, "N": 1}[multipath] {
			t.Errorf("multipath %s: %d connections when all are up", multipath, n)
		}
	}
}

// TestDown: a connection that the kernel mends is waited for; one whose secret
// is old is ended.
func TestDown(t *testing.T) {
	m, i := newMachine(t)
	m.offer(naa(1), 1)
	rescan(t, i, naa(1))
	m.did()
	m.controller("nvme0", "connecting", "192.0.2.1", "4420")
	mended := m.soon(100*time.Millisecond, func() { m.controller("nvme0", "live", "192.0.2.1", "4420") })
	rescan(t, i, naa(1))
	<-mended
	wantDid(t, m.did(), "protect nvme0n1")

	m.controller("nvme0", "connecting", "192.0.2.1", "4420")
	i.patience = 200 * time.Millisecond
	if _, err := i.Rescan(t.Context(), infos(naa(1))); err == nil || !strings.Contains(err.Error(), "down") || len(m.closed) > 0 {
		t.Errorf("a connection that stays down: %v, closed %v", err, m.closed)
	}
	j := m.initiator() // joined again
	j.credentials.Secret = "DHHC-1:00:new:"
	m.did()
	rescan(t, j, naa(1))
	if told := m.did(); len(told) < 2 || told[0] != "class/nvme/nvme0/delete_controller = 1" || !strings.Contains(told[1], "dhchap_secret=DHHC-1:00:new:") {
		t.Errorf("the kernel was told %v", told)
	}
}

// TestWithoutSecrets: a kernel that cannot prove who it is connects without.
func TestWithoutSecrets(t *testing.T) {
	m, i := newMachine(t)
	i.offers = func() string { return "instance=-1,cntlid=-1,transport=%s" }
	m.offer(naa(1), 1)
	rescan(t, i, naa(1))
	if told := m.did(); strings.Contains(strings.Join(told, ""), "dhchap") {
		t.Errorf("the kernel was told %v", told)
	}
}

// TestOthers: disks and connections of other subsystems, and hidden paths, are
// not ours.
func TestOthers(t *testing.T) {
	m, i := newMachine(t)
	for name, target := range map[string]string{"nvme5n1": "nqn.other", "nvme0c0n1": targetName} {
		m.put("class/block/"+name+"/device/subsysnqn", target)
		m.put("class/block/"+name+"/nsid", "1")
		m.put("class/block/"+name+"/uuid", identity.GUIDText(identity.UUID(naa(1))))
		if target == targetName {
			m.put("class/block/"+name+"/hidden", "1")
		}
	}
	m.controller("nvme9", "live", "192.0.2.1", "4420")
	m.put("class/nvme/nvme9/hostnqn", "nqn.other.host")
	if i.Present(naa(1)) || len(m.sys.controllers(i.credentials)) > 0 {
		t.Errorf("%+v %+v", m.sys.disks(targetName), m.sys.controllers(i.credentials))
	}
}

// TestCloseAbsent closes what never arrived, and nothing that did.
func TestCloseAbsent(t *testing.T) {
	m, i := newMachine(t)
	m.offer(naa(1), 1)
	rescan(t, i, naa(1))
	if err := i.CloseAbsent(t.Context(), []lun.NAA{naa(1), naa(2)}); err != nil || !slices.Equal(m.closed, []lun.NAA{naa(2)}) {
		t.Errorf("closed %v, %v", m.closed, err)
	}
}

// TestCloseAbsentLeaves: a connection that was made for LUNs that never came ends
// with them.
func TestCloseAbsentLeaves(t *testing.T) {
	m, i := newMachine(t)
	m.controller("nvme0", "live", "192.0.2.1", "4420")
	if err := i.CloseAbsent(t.Context(), []lun.NAA{naa(2)}); err != nil || len(m.sys.controllers(i.credentials)) > 0 {
		t.Errorf("%v; the connection is there", err)
	}
}

// TestDetachOfAnother: the recorded name is another disk's by now.
func TestDetachOfAnother(t *testing.T) {
	m, i := newMachine(t)
	m.offer(naa(1), 1)
	d := rescan(t, i, naa(1))[0]
	for what, change := range map[string]func(*block.Device){
		"another attachment": func(d *block.Device) { d.DiskSeq += 7 },
		"another LUN":        func(d *block.Device) { d.LUN = infos(naa(9))[0] },
		"another name":       func(d *block.Device) { d.Name = "nvme9n9" },
	} {
		other := d
		change(&other)
		for _, f := range []func(context.Context, block.Device) error{i.Detach, i.Abandon} {
			if err := f(t.Context(), other); err != nil || !i.Present(naa(1)) {
				t.Errorf("%s: %v, still there: %v", what, err, i.Present(naa(1)))
			}
		}
	}
	if slices.Contains(m.closed, naa(1)) {
		t.Error("the LUN that is here was closed")
	}
	for _, f := range []func(context.Context, block.Device) error{i.Detach, i.Abandon} {
		if err := f(t.Context(), block.Device{Name: "nvme5n1"}); !errors.Is(err, vss.E_INVALIDARG) {
			t.Errorf("what is no LUN: %v", err)
		}
	}
	m.claimed = &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE}
	if err := i.Abandon(t.Context(), d); err != nil || i.Present(naa(1)) || !slices.Contains(m.closed, naa(1)) {
		t.Errorf("abandoned: %v", err)
	}
}

// TestCancelled: a rescan ends with its caller, and closes what did not come.
func TestCancelled(t *testing.T) {
	m, i := newMachine(t)
	i.patience = time.Minute
	m.offer(naa(1), 1)
	m.blind = true
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := i.Rescan(ctx, infos(naa(1))); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	if !slices.Equal(m.closed, []lun.NAA{naa(1)}) {
		t.Errorf("closed %v", m.closed)
	}
}

// TestNotAsExported: a disk that is not what the array says is no disk of the
// LUN.
func TestNotAsExported(t *testing.T) {
	m, i := newMachine(t)
	m.offer(naa(1), 1)
	m.shown[1] = Exported{NAA: naa(1), Number: 1, Size: 32 << 20}
	ds, err := i.Rescan(t.Context(), infos(naa(1)))
	var e *vss.Error
	if !errors.As(err, &e) || e.Object != naa(1).String() || len(ds) > 0 {
		t.Errorf("a smaller one: %+v, %v", ds, err)
	}
	m, i = newMachine(t)
	m.offer(naa(1), 1)
	m.refuse["protect"] = errors.New("no")
	if ds, err := i.Rescan(t.Context(), infos(naa(1))); !errors.Is(err, m.refuse["protect"]) || len(ds) > 0 {
		t.Errorf("a writable one: %+v, %v", ds, err)
	}
}

// TestNames: descriptors as the kernel's target sends them.
func TestNames(t *testing.T) {
	nguid, uuid := identity.NGUID(naa(1)), identity.UUID(naa(1))
	descriptor := func(kind byte, name []byte) []byte { return append([]byte{kind, byte(len(name)), 0, 0}, name...) }
	page := append(append(append(descriptor(3, uuid[:]), descriptor(2, nguid[:])...), descriptor(4, []byte{0})...), make([]byte, 100)...)
	if n, ok := names(page); !ok || n != naa(1) {
		t.Errorf("%s, %v", n, ok)
	}
	for _, bad := range [][]byte{nil, make([]byte, 4096), descriptor(3, uuid[:])[:10], {3, 255, 0, 0}} {
		if n, ok := names(bad); ok {
			t.Errorf("%x is %s", bad, n)
		}
	}
}
