package iscsi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

func wantDid(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n  %s\nnot\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestAttachAndDetach: records, one login, a look at one number, and back.
func TestAttachAndDetach(t *testing.T) {
	m, i := newMachine(t)
	m.late = 50 * time.Millisecond
	m.show(naa(1), 7)
	d := rescan(t, i, naa(1))[0]
	if d.Name != "sda" || d.DiskSeq != 1 || !d.ReadOnly {
		t.Errorf("it is %+v", d)
	}
	said, told := m.did()
	node := "-m node -T " + targetName + " -p " + portal + ",1 -I umbra-0a1b2c3d"
	wantDid(t, "iscsiadm", said, "-m iface -I umbra-0a1b2c3d -o new", node+" -o new", node+" --login")
	wantDid(t, "the kernel was told", told, "class/scsi_host/host2/scan = 0 0 7")

	b, err := os.ReadFile(m.node())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"node.name = " + targetName, "node.session.scan = manual", "node.startup = manual", "node.session.auth.authmethod = CHAP", "node.session.auth.username = hostb",
		"node.session.auth.password = s3cret-in", "node.session.auth.username_in = array", "node.session.auth.password_in = s3cret-out",
		"iface.initiatorname = " + initiatorName, "node.session.timeo.replacement_timeout = 120", "# END RECORD"} {
		if n := strings.Count(string(b), l+"\n"); n != 1 {
			t.Errorf("%q is %d times in the record:\n%s", l, n, b)
		}
	}
	if strings.Contains(string(b), "scan = auto") || !strings.HasSuffix(string(b), "# END RECORD\n") {
		t.Errorf("the record is\n%s", b)
	}
	if fi, err := os.Stat(m.node()); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the secrets have mode %v, %v", fi.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(m.base, ".umbra*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	// Again: it is asked what it is, and stays.
	if again := rescan(t, i, naa(1))[0]; again.DiskSeq != d.DiskSeq {
		t.Errorf("it came again as %+v", again)
	}
	said, told = m.did()
	wantDid(t, "iscsiadm", said)
	wantDid(t, "the kernel was told", told, "class/scsi_device/2:0:0:7/device/rescan = 1")

	m.claimed = &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Object: "sda", Reason: "mounted"}
	if err := i.Detach(t.Context(), d); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Errorf("a mounted disk is detached: %v", err)
	}
	m.claimed = nil
	m.did()
	m.show(naa(2), 8)
	rescan(t, i, naa(2))
	m.did()
	if err := i.Detach(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	said, told = m.did()
	wantDid(t, "iscsiadm", said) // another disk is on the session
	wantDid(t, "the kernel was told", told, "flush sda", "class/scsi_device/2:0:0:7/device/delete = 1")
	if err := i.Detach(t.Context(), d); err != nil {
		t.Errorf("again: %v", err)
	}
	if !slices.Equal(m.closed, []lun.NAA{naa(1), naa(1)}) {
		t.Errorf("closed: %v", m.closed)
	}
	d2, _ := m.inspect(t.Context(), "sdb")
	m.did()
	if err := i.Detach(t.Context(), d2); err != nil {
		t.Fatal(err)
	}
	said, _ = m.did()
	wantDid(t, "iscsiadm", said, "-m session -r 3 --logout")

	// The records are there: a login is one command.
	rescan(t, i, naa(1))
	said, _ = m.did()
	wantDid(t, "iscsiadm", said, node+" --login")
}

// TestReusedNumber: the kernel remembers at this number the LUN that was there.
func TestReusedNumber(t *testing.T) {
	m, i := newMachine(t)
	m.show(naa(1), 7)
	old := rescan(t, i, naa(1))[0]
	m.did()
	m.show(naa(2), 7) // the host has not been told
	d := rescan(t, i, naa(2))[0]
	_, told := m.did()
	// What it remembers is asked for again. That it is now the LUN that is wanted
	// does not make the disk a new one: what holds it open thinks it is the old.
	if n, _ := d.LUN.NAA(); n != naa(2) {
		t.Errorf("it is %v; the kernel was told %v", n, told)
	}
	if d.DiskSeq == old.DiskSeq {
		t.Errorf("a disk that was another LUN is used; the kernel was told %v", told)
	}
}

// TestStale: a disk that claims to be the LUN at another number, and one whose
// array shows another LUN there now.
func TestStale(t *testing.T) {
	m, i := newMachine(t)
	m.show(naa(1), 7)
	rescan(t, i, naa(1))
	m.mu.Lock()
	delete(m.numbers, 7)
	m.mu.Unlock()
	m.show(naa(1), 9)
	if d := rescan(t, i, naa(1))[0]; d.Name != "sdb" || m.sys.has("2:0:0:7") {
		t.Errorf("it is %s, and the stale disk is there: %v", d.Name, m.sys.has("2:0:0:7"))
	}
	// The array says naa(3) is at 9, and naa(1) is.
	m.mu.Lock()
	m.exports[naa(3)] = 9
	m.closed = nil
	m.mu.Unlock()
	_, err := i.Rescan(t.Context(), infos(naa(3)))
	var e *vss.Error
	if !errors.As(err, &e) || e.Code != vss.VSS_E_MISSING_DISK || !strings.Contains(e.Reason, naa(1).String()) || e.Remedy == "" {
		t.Errorf("the wrong LUN at the number: %v", err)
	}
	if m.sys.has("2:0:0:9") || !slices.Contains(m.closed, naa(3)) {
		t.Errorf("the wrong disk stays, or counts as attached: %v", m.closed)
	}
}

// TestSomeArrive: those that came are returned beside the error, and those that
// did not are closed.
func TestSomeArrive(t *testing.T) {
	m, i := newMachine(t)
	i.patience = 300 * time.Millisecond
	m.show(naa(1), 1)
	m.show(naa(2), 2)
	m.mu.Lock()
	delete(m.numbers, 2)
	m.mu.Unlock()
	ds, err := i.Rescan(t.Context(), append(infos(naa(1), naa(2)), lun.Info{Version: lun.InfoVersion, SerialNumber: "x"}))
	if len(ds) != 1 || !strings.Contains(errText(err), naa(2).String()) {
		t.Errorf("%+v, %v", ds, err)
	}
	if !slices.Equal(m.closed, []lun.NAA{naa(2)}) {
		t.Errorf("closed %v", m.closed)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestLoginRefused: codes and remedies, as iscsiadm 2.1.8 says it.
func TestLoginRefused(t *testing.T) {
	for _, c := range []struct {
		exit   int
		code   vss.HResult
		remedy string
	}{
		{24, vss.E_ACCESSDENIED, "umbra array enroll"},
		{19, vss.E_ACCESSDENIED, "umbra array enroll"},
		{4, vss.VSS_E_UNEXPECTED, "--iscsi-portal"},
		{8, vss.VSS_E_UNEXPECTED, "--iscsi-portal"},
		{12, vss.VSS_E_NOT_SUPPORTED, "modprobe iscsi_tcp"},
		{20, vss.VSS_E_UNEXPECTED, "iscsid"},
		{1, vss.VSS_E_UNEXPECTED, "journalctl"},
	} {
		m, i := newMachine(t)
		m.show(naa(1), 1)
		m.refuse = exited{c.exit, "initiator reported error (24 - iSCSI login failed due to authorization failure)"}
		_, err := i.Rescan(t.Context(), infos(naa(1)))
		var e *vss.Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Remedy, c.remedy) || !strings.Contains(err.Error(), portal) {
			t.Errorf("exit %d: %v", c.exit, err)
		}
		if !slices.Equal(m.closed, []lun.NAA{naa(1)}) {
			t.Errorf("exit %d: closed %v", c.exit, m.closed)
		}
	}
	m, i := newMachine(t)
	m.show(naa(1), 1)
	m.refuse = exited{exitSessionExists, "session exists"}
	m.session("LOGGED_IN")
	os.Rename(m.sys.at("class/iscsi_session"), m.sys.at("class/hidden"))
	go func() {
		time.Sleep(50 * time.Millisecond)
		os.Rename(m.sys.at("class/hidden"), m.sys.at("class/iscsi_session"))
	}()
	rescan(t, i, naa(1)) // somebody else logged in at this moment
}

func TestLastLine(t *testing.T) {
	const out = `Logging in to [iface: umbra-0a1b2c3d, target: iqn.2026-01.io.umbra:array.0123, portal: 10.0.0.1,3260]
iscsiadm: Could not login to [iface: umbra-0a1b2c3d, target: iqn.2026-01.io.umbra:array.0123, portal: 10.0.0.1,3260].
iscsiadm: initiator reported error (20 - could not connect to iscsid)
iscsiadm: Could not log into all portals
`
	if got, want := lastLine(out), "initiator reported error (20 - could not connect to iscsid)"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	if got, want := lastLine("iscsiadm: No active sessions.\n"), "No active sessions."; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestSessionDown: one that iscsid mends is waited for; one whose secrets are
// old is ended.
func TestSessionDown(t *testing.T) {
	m, i := newMachine(t)
	m.show(naa(1), 1)
	rescan(t, i, naa(1))
	m.session("FAILED")
	m.did()
	go func() { time.Sleep(100 * time.Millisecond); m.session("LOGGED_IN") }()
	rescan(t, i, naa(1))
	said, _ := m.did()
	wantDid(t, "iscsiadm", said)

	m.session("FAILED")
	i.patience = 200 * time.Millisecond
	_, err := i.Rescan(t.Context(), infos(naa(1)))
	if err == nil || !strings.Contains(err.Error(), "down") {
		t.Errorf("a session that stays down: %v", err)
	}
	if len(m.closed) > 0 {
		t.Errorf("closed %v, whose disk is here", m.closed)
	}

	j := m.initiator() // joined again
	j.credentials.Secret = "s3cret-new"
	m.did()
	rescan(t, j, naa(1))
	said, _ = m.did()
	wantDid(t, "iscsiadm", said, "-m session -r 3 --logout", "-m node -T "+targetName+" -p "+portal+",1 -I umbra-0a1b2c3d --login")
	if b, _ := os.ReadFile(m.node()); !strings.Contains(string(b), "node.session.auth.password = s3cret-new\n") {
		t.Errorf("the record is\n%s", b)
	}
}

// TestOthersSession: another initiator's session at the array is not ours.
func TestOthersSession(t *testing.T) {
	m, i := newMachine(t)
	m.session("LOGGED_IN")
	m.put(m.sys.at("class/iscsi_session/session3/initiatorname"), "iqn.1993-08.org.debian:01:abc\n")
	if _, ok := i.at(targetName, portal); ok {
		t.Error("it is taken for ours")
	}
}

// TestCloseAbsent closes what never arrived, and nothing that did.
func TestCloseAbsent(t *testing.T) {
	m, i := newMachine(t)
	m.show(naa(1), 1)
	rescan(t, i, naa(1))
	if err := i.CloseAbsent(t.Context(), []lun.NAA{naa(1), naa(2)}); err != nil || !slices.Equal(m.closed, []lun.NAA{naa(2)}) {
		t.Errorf("closed %v, %v", m.closed, err)
	}
}

// TestCloseAbsentLeaves: a session that was begun for LUNs that never came ends with
// them.
func TestCloseAbsentLeaves(t *testing.T) {
	m, i := newMachine(t)
	m.session("LOGGED_IN")
	if err := i.CloseAbsent(t.Context(), []lun.NAA{naa(2)}); err != nil || len(i.sys.sessions(targetName, i.credentials.Initiator)) > 0 {
		t.Errorf("%v; the session is there", err)
	}
}

// TestDetachOfAnother: the recorded name is another disk's by now.
func TestDetachOfAnother(t *testing.T) {
	m, i := newMachine(t)
	m.show(naa(1), 1)
	d := rescan(t, i, naa(1))[0]
	for what, change := range map[string]func(*block.Device){
		"another attachment": func(d *block.Device) { d.DiskSeq += 7 },
		"another LUN":        func(d *block.Device) { d.LUN = infos(naa(9))[0] },
		"another name":       func(d *block.Device) { d.Name = "sdz" },
	} {
		other := d
		change(&other)
		for _, f := range []func(context.Context, block.Device) error{i.Detach, i.Abandon} {
			if err := f(t.Context(), other); err != nil || !m.sys.has("2:0:0:1") {
				t.Errorf("%s: %v, still there: %v", what, err, m.sys.has("2:0:0:1"))
			}
		}
	}
	if slices.Contains(m.closed, naa(1)) {
		t.Error("the LUN that is here was closed")
	}
	m.claimed = &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE}
	if err := i.Abandon(t.Context(), d); err != nil || m.sys.has("2:0:0:1") || !slices.Contains(m.closed, naa(1)) {
		t.Errorf("abandoned: %v", err)
	}
}

// TestCancelled: a rescan ends with its caller, and closes what did not come.
func TestCancelled(t *testing.T) {
	m, i := newMachine(t)
	i.patience = time.Minute
	m.show(naa(1), 1)
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
	for what, s := range map[string]shown{
		"writable": {naa(1), 64 << 20, false},
		"smaller":  {naa(1), 32 << 20, true},
	} {
		m, i := newMachine(t)
		m.show(naa(1), 1)
		m.numbers[1] = s
		ds, err := i.Rescan(t.Context(), infos(naa(1)))
		var e *vss.Error
		if !errors.As(err, &e) || e.Object != naa(1).String() || len(ds) > 0 {
			t.Errorf("%s: %+v, %v", what, ds, err)
		}
	}
}
