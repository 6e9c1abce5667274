package iscsi

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func twoPortals(t *testing.T) (*machine, *Initiator) {
	m, i := newMachine(t)
	m.portals = []string{portal, portal2}
	m.show(naa(1), 7)
	return m, i
}

func (m *machine) disks() []string { return m.sys.names(scsiDevices) }

func wantDisks(t *testing.T, m *machine, want ...string) {
	t.Helper()
	if got := m.disks(); !slices.Equal(got, want) {
		t.Errorf("the kernel has %v, not %v", got, want)
	}
}

// TestTwoPaths: a session at each portal, one device, and all of it goes.
func TestTwoPaths(t *testing.T) {
	m, i := twoPortals(t)
	d := rescan(t, i, naa(1))[0]
	wantDisks(t, m, "2:0:0:7", "3:0:0:7")
	if d.DiskSeq != 1 {
		t.Errorf("of two it is %+v", d)
	}
	m.did()
	if again := rescan(t, i, naa(1))[0]; again.DiskSeq != d.DiskSeq {
		t.Errorf("then it is %+v", again)
	}
	said, _ := m.did()
	wantDid(t, "iscsiadm", said)

	m.used["sdb"] = true // say somebody mounted the other
	if other := rescan(t, i, naa(1))[0]; other.Name != "sdb" {
		t.Errorf("the path that is in use is not the LUN: %+v", other)
	}
	m.used["sdb"] = false
	m.did()
	if err := i.Detach(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	wantDisks(t, m)
	said, told := m.did()
	slices.Sort(told)
	wantDid(t, "the kernel was told", told, "class/scsi_device/2:0:0:7/device/delete = 1", "class/scsi_device/3:0:0:7/device/delete = 1", "flush sda", "flush sdb")
	wantDid(t, "iscsiadm", said, "-m session -r 3 --logout", "-m session -r 4 --logout")
	if !slices.Equal(m.closed, []lun.NAA{naa(1)}) {
		t.Errorf("closed %v", m.closed)
	}
}

// TestPathInUse: as long as somebody uses a path, all stay.
func TestPathInUse(t *testing.T) {
	m, i := twoPortals(t)
	d := rescan(t, i, naa(1))[0]
	m.used["sdb"] = true
	m.put(m.sys.at(scsiDevices, m.sys.attr("class/block/sdb/place"), "device/state"), "blocked\n")
	if err := i.Detach(t.Context(), d); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Errorf("%v", err)
	}
	wantDisks(t, m, "2:0:0:7", "3:0:0:7")
	if err := i.Abandon(t.Context(), d); err != nil {
		t.Error(err)
	}
	wantDisks(t, m)
}

// TestPortalSilent: a portal that does not answer costs no more than the grace,
// and iscsid is not sent there.
func TestPortalSilent(t *testing.T) {
	m, i := twoPortals(t)
	m.silent[portal] = true
	begin := time.Now()
	rescan(t, i, naa(1))
	if took := time.Since(begin); took > i.patience {
		t.Errorf("after %v", took)
	}
	wantDisks(t, m, "3:0:0:7")
	said, _ := m.did()
	if slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, portal+",1") && strings.Contains(s, "--login") }) {
		t.Errorf("iscsiadm %v", said)
	}

	// It answers again: the next attaching brings the path.
	m.mu.Lock()
	m.silent[portal] = false
	m.mu.Unlock()
	rescan(t, i, naa(1))
	wantDisks(t, m, "2:0:0:7", "3:0:0:7")
}

// TestNoPortal: with neither there, both are named.
func TestNoPortal(t *testing.T) {
	m, i := twoPortals(t)
	i.dial = func(context.Context, string) error { return errors.New("no route to host") }
	_, err := i.Rescan(t.Context(), infos(naa(1)))
	for _, w := range []string{portal, portal2, "does not answer", "no route"} {
		if !strings.Contains(errText(err), w) {
			t.Errorf("%q is not in %v", w, err)
		}
	}
	if e := (*vss.Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Remedy, "--iscsi-portal") {
		t.Errorf("%v", err)
	}
	if !slices.Equal(m.closed, []lun.NAA{naa(1)}) {
		t.Errorf("closed %v", m.closed)
	}
}

// TestOnlyPortalSilent: iscsid would try for long; who waits is told soon.
func TestOnlyPortalSilent(t *testing.T) {
	m, i := newMachine(t)
	m.show(naa(1), 7)
	m.deaf = true
	i.dial = func(context.Context, string) error { return &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} }
	i.patience = time.Minute
	begin := time.Now()
	defer func() {
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("after %v", took)
		}
	}()
	_, err := i.Rescan(t.Context(), infos(naa(1)))
	if e := (*vss.Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Remedy, "--iscsi-portal") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
	if !slices.Equal(m.closed, []lun.NAA{naa(1)}) {
		t.Errorf("closed %v", m.closed)
	}
}

// TestCableBack: a portal that does not answer for a moment is waited for.
func TestCableBack(t *testing.T) {
	m, i := twoPortals(t)
	var calls atomic.Int32
	i.dial = func(context.Context, string) error {
		if calls.Add(1) < 7 {
			return errors.New("i/o timeout")
		}
		return nil
	}
	rescan(t, i, naa(1))
	if calls.Load() < 7 || len(m.disks()) == 0 {
		t.Errorf("%d dials, disks %v", calls.Load(), m.disks())
	}
}

// TestPathHangs: a path that is lost while the LUN is on its way is not the LUN
// lost.
func TestPathHangs(t *testing.T) {
	m, i := twoPortals(t)
	i.patience = 20 * time.Second
	m.hang[2] = true
	begin := time.Now()
	rescan(t, i, naa(1))
	if took := time.Since(begin); took > i.patience/2 {
		t.Errorf("after %v", took)
	}
	wantDisks(t, m, "3:0:0:7")
}

// TestPathWrong: a path that leads to another LUN is removed and not used.
func TestPathWrong(t *testing.T) {
	m, i := twoPortals(t)
	m.wrong = map[string]shown{"2:0:0:7": {naa(9), 64 << 20, true}}
	if d := rescan(t, i, naa(1))[0]; m.sys.attr("class/block", d.Name, "place") != "3:0:0:7" {
		t.Errorf("it is %+v", d)
	}
	wantDisks(t, m, "3:0:0:7")
}

// TestDeadPathReplaced: the next attaching chooses a path that works. Whoever
// has the dead one on record can detach by it.
func TestDeadPathReplaced(t *testing.T) {
	m, i := twoPortals(t)
	d := rescan(t, i, naa(1))[0]
	place := m.sys.attr("class/block", d.Name, "place")
	m.sessionAt(map[string]string{"2:0:0:7": portal, "3:0:0:7": portal2}[place], "FAILED")
	m.put(m.sys.at(scsiDevices, place, "device/state"), "transport-offline\n")
	i.patience = 300 * time.Millisecond
	if now := rescan(t, i, naa(1))[0]; now.DiskSeq == d.DiskSeq {
		t.Errorf("the dead path is the LUN: %+v", now)
	}
	m.drop(place) // the kernel gives it up
	stranger := d
	stranger.DiskSeq = 1000
	if err := i.Detach(t.Context(), stranger); err != nil || len(m.disks()) != 1 {
		t.Errorf("a device that never was the LUN's: %v, %v", err, m.disks())
	}
	if err := i.Detach(t.Context(), d); err != nil {
		t.Error(err)
	}
	wantDisks(t, m)
	if !slices.Equal(m.closed, []lun.NAA{naa(1)}) {
		t.Errorf("closed %v", m.closed)
	}
	// It comes again: what was the LUN's before is not any more.
	m.sessionAt(portal, "LOGGED_IN")
	rescan(t, i, naa(1))
	if err := i.Detach(t.Context(), d); err != nil || len(m.disks()) == 0 {
		t.Errorf("a record of the attachment before detaches this one: %v", err)
	}
}

// TestMap: of an original that multipathd wants its map is the LUN. It goes
// before the paths.
func TestMap(t *testing.T) {
	m, i := twoPortals(t)
	i.target = writable{m}
	m.numbers[7] = shown{naa(1), 64 << 20, false}
	m.greedy = true
	d := rescan(t, i, naa(1))[0]
	if d.Name != "dm-0" || !d.Multipath {
		t.Fatalf("it is %+v", d)
	}
	m.clings = true
	if err := i.Detach(t.Context(), d); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Errorf("multipathd keeps it: %v", err)
	}
	wantDisks(t, m, "2:0:0:7", "3:0:0:7")
	m.clings = false
	m.did()
	if err := i.Detach(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	_, told := m.did()
	if len(told) != 6 || told[0] != "flush dm-0" || told[1] != "flush mpatha" || !strings.HasSuffix(told[5], "delete = 1") {
		t.Errorf("told %v", told)
	}
	wantDisks(t, m)

	d = rescan(t, i, naa(1))[0]
	m.did()
	if err := i.Abandon(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	_, told = m.did()
	if len(told) != 3 || told[0] != "fail mpatha" {
		t.Errorf("told %v", told)
	}
}

// TestMapOfCopy: what multipathd has of a copy is taken from it, or not used.
func TestMapOfCopy(t *testing.T) {
	m, i := twoPortals(t)
	m.greedy = true
	rescan(t, i, naa(1))
	m.mapped()
	if d := rescan(t, i, naa(1))[0]; d.Multipath || slices.Contains(m.sys.names("class/block"), "dm-0") {
		t.Errorf("it is %+v, and there are %v", d, m.sys.names("class/block"))
	}
	m.mapped()
	m.clings = true
	var e *vss.Error
	if _, err := i.Rescan(t.Context(), infos(naa(1))); !errors.As(err, &e) || e.Code != vss.VSS_E_VOLUME_IN_USE || !strings.Contains(e.Remedy, "blacklist") {
		t.Errorf("%v", err)
	}
}

// TestNewSecretsInUse: a session with old secrets is not ended under a disk that
// is in use.
func TestNewSecretsInUse(t *testing.T) {
	m, i := newMachine(t)
	m.show(naa(1), 1)
	rescan(t, i, naa(1))
	m.session("FAILED")
	m.used["sda"] = true
	j := m.initiator()
	j.credentials.Secret = "s3cret-new"
	m.did()
	for range 2 { // the record has the new ones by the second time
		_, err := j.Rescan(t.Context(), infos(naa(1)))
		if e := (*vss.Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Remedy, "systemctl restart iscsid") {
			t.Errorf("%v", err)
		}
	}
	if said, _ := m.did(); len(said) > 0 {
		t.Errorf("iscsiadm %v", said)
	}
	wantDisks(t, m, "2:0:0:1")
	m.session("LOGGED_IN") // iscsid has the new ones, which are in its records
	rescan(t, j, naa(1))
}

// writable exports LUNs as originals.
type writable struct{ *machine }

func (w writable) ExportLUNs(ctx context.Context, naas []lun.NAA) (Exports, error) {
	out, err := w.machine.ExportLUNs(ctx, naas)
	for n := range out.LUNs {
		out.LUNs[n].ReadOnly = false
	}
	return out, err
}
