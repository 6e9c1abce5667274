package array

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/fdpass"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

// A set travels from one host to another: the whole story over real sockets.
func TestSetTravels(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b := r.enroll("a", ""), r.enroll("b", "")
	n1, c1 := r.lun(4*mib, "a")
	n2, c2 := r.lun(2*mib, "a")

	if luns, err := a.ReportLUNs(ctx); err != nil || len(luns) != 2 {
		t.Fatalf("a sees %v, %v", luns, err)
	}
	if luns, err := b.ReportLUNs(ctx); err != nil || len(luns) != 0 {
		t.Fatalf("b sees %v, %v", luns, err)
	}
	set := vss.NewID()
	copies := snapshot(t, a, set, transportable, n1, n2)
	r.fill(n1) // after the point in time
	if !bytes.Equal(r.read(copies[0]), c1) || !bytes.Equal(r.read(copies[1]), c2) {
		t.Fatal("a copy is not what its source was")
	}
	if got, err := a.TargetLUNs(ctx, set, []lun.NAA{n2, n1, n2}); err != nil || !slices.Equal(got, []lun.NAA{copies[1], copies[0], copies[1]}) {
		t.Fatalf("%v, %v", got, err)
	}
	states, err := a.DescribeLUNs(ctx, copies)
	if err != nil || !states[0].ReadOnly || states[0].Generation == 0 || states[0].Generation != states[1].Generation || states[0].Size != 4*mib {
		t.Fatalf("%+v, %v", states, err)
	}
	tk, err := a.IssueTicket(ctx, set, digest, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	// Transportable: masked to nobody, its maker included.
	_, err = a.OpenLUNs(ctx, copies)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)

	im := client.Location{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies}
	for range 2 { // the same import may ask again
		if got, err := b.LocateLUNs(ctx, im); err != nil || got[1].Size != 2*mib || !got[1].ReadOnly {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	open, err := b.OpenLUNs(ctx, copies)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, mib)
	if _, err := unix.Pread(open[0].FD, buf, 0); err != nil || !bytes.Equal(buf, c1) {
		t.Fatalf("b reads something else: %v", err)
	}
	if _, err := unix.Pwrite(open[0].FD, buf, 0); !errors.Is(err, unix.EBADF) {
		t.Fatalf("b can write a copy: %v", err)
	}
	luns, err := r.admin.ListLUNs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(luns, func(l client.LUN) bool { return l.NAA == copies[0] })
	if l := luns[i]; !slices.Equal(l.AttachedBy, []string{"b"}) || !slices.Equal(l.Masks, []string{"b"}) || l.MadeBy != "a" || *l.Source != n1 || *l.SetID != set {
		t.Fatalf("%+v", l)
	}
	// Attached, a copy is neither hidden nor deleted.
	wantCode(t, b.MaskLUNs(ctx, copies), vss.VSS_E_VOLUME_IN_USE, "b")
	wantCode(t, b.DeleteLUNs(ctx, copies), vss.VSS_E_VOLUME_IN_USE)
	wantCode(t, b.ReleaseImport(ctx, set, im.ImportID), vss.VSS_E_VOLUME_IN_USE)
	wantCode(t, r.admin.DeleteLUN(ctx, copies[0].String(), false), vss.VSS_E_VOLUME_IN_USE, "--force")
	_, err = r.admin.Mask(ctx, copies[0].String(), "b", false)
	wantCode(t, err, vss.VSS_E_VOLUME_IN_USE)
	wantCode(t, r.admin.RemoveHost(ctx, "b", false), vss.VSS_E_VOLUME_IN_USE)
	// And a copy imported elsewhere is not its maker's to delete.
	wantCode(t, a.DeleteLUNs(ctx, copies[:1]), vss.VSS_E_VOLUME_IN_USE)
	closeOpened(open)
	wantCode(t, a.DeleteLUNs(ctx, copies[:1]), vss.E_ACCESSDENIED)
	wantCode(t, b.DeleteLUNs(ctx, []lun.NAA{n1}), vss.E_ACCESSDENIED)
	for range 2 {
		if err := b.DeleteLUNs(ctx, copies); err != nil {
			t.Fatal(err)
		}
	}
	if sets, err := r.admin.ListSets(ctx); err != nil || len(sets) != 0 {
		t.Fatalf("%v, %v", sets, err)
	}
	if _, err := os.Stat(r.a.store.Path(copies[0])); !os.IsNotExist(err) {
		t.Fatal("the file of a deleted copy is there")
	}
	_, err = b.LocateLUNs(ctx, im)
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO)
}

func TestSetIsImportedOnce(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b, c := r.enroll("a", ""), r.enroll("b", ""), r.enroll("c", "")
	n, _ := r.lun(mib, "a")
	set := vss.NewID()
	copies := snapshot(t, a, set, transportable, n)
	tk, err := a.IssueTicket(ctx, set, digest, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	first := client.Location{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies}
	if _, err := b.LocateLUNs(ctx, first); err != nil {
		t.Fatal(err)
	}
	other := first
	other.ImportID = vss.NewID()
	_, err = b.LocateLUNs(ctx, other)
	wantCode(t, err, vss.VSS_E_BAD_STATE, "b", "cleanup")
	_, err = c.LocateLUNs(ctx, other)
	wantCode(t, err, vss.VSS_E_BAD_STATE, "imported before")
	_, err = c.LocateLUNs(ctx, first) // b's import ID does not help c
	wantCode(t, err, vss.VSS_E_BAD_STATE)
	if luns, _ := c.ReportLUNs(ctx); len(luns) != 0 {
		t.Fatalf("c sees %v", luns)
	}
	// The binding survives a restart of the array.
	r.shutdown()
	r.start()
	_, err = c.LocateLUNs(ctx, other)
	wantCode(t, err, vss.VSS_E_BAD_STATE)
	// Released by its importer, the set may be imported once more.
	if err := c.ReleaseImport(ctx, set, first.ImportID); err != nil {
		t.Fatal(err) // not c's: nothing happens
	}
	if err := b.ReleaseImport(ctx, set, other.ImportID); err != nil {
		t.Fatal(err) // not that import: nothing happens
	}
	_, err = c.LocateLUNs(ctx, other)
	wantCode(t, err, vss.VSS_E_BAD_STATE)
	for range 2 {
		if err := b.ReleaseImport(ctx, set, first.ImportID); err != nil {
			t.Fatal(err)
		}
	}
	if luns, _ := b.ReportLUNs(ctx); len(luns) != 0 {
		t.Fatalf("b still sees %v", luns)
	}
	if _, err := c.LocateLUNs(ctx, other); err != nil {
		t.Fatal(err)
	}
}

// Of hosts that import at the same time exactly one gets the set.
func TestImportRace(t *testing.T) {
	r := newRig(t)
	a := r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	set := vss.NewID()
	copies := snapshot(t, a, set, transportable, n)
	tk, err := a.IssueTicket(t.Context(), set, digest, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 6 {
		c := r.enroll(fmt.Sprint("h", i), "")
		wg.Go(func() {
			_, err := c.LocateLUNs(t.Context(), client.Location{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if vss.CodeOf(err) != vss.VSS_E_BAD_STATE {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d hosts imported the set", won)
	}
}

func TestTickets(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b, c := r.enroll("a", ""), r.enroll("b", ""), r.enroll("c", "")
	n, _ := r.lun(mib, "a")
	set, set2 := vss.NewID(), vss.NewID()
	copies := snapshot(t, a, set, transportable, n)
	copies2 := snapshot(t, a, set2, transportable, n)
	issue := func(s vss.ID, host string, life time.Duration) []byte {
		t.Helper()
		tk, err := a.IssueTicket(ctx, s, digest, host, life)
		if err != nil {
			t.Fatal(err)
		}
		return tk
	}
	good, forC, brief, second := issue(set, "", 0), issue(set, "c", 0), issue(set, "", time.Second), issue(set2, "", 0)
	tampered := bytes.Clone(good)
	tampered[len(tampered)-1] ^= 1
	foreign, err := newRig(t).foreignTicket(set)
	if err != nil {
		t.Fatal(err)
	}
	locate := func(tk []byte, d [32]byte, s vss.ID, luns []lun.NAA) error {
		_, err := b.LocateLUNs(ctx, client.Location{SetID: s, ImportID: vss.NewID(), Ticket: tk, Digest: d, LUNs: luns})
		return err
	}
	ticketFor := "umbra array ticket " + set.String()
	wantCode(t, locate(nil, digest, set, copies), vss.VSS_E_PROVIDER_VETO, "no ticket", ticketFor)
	wantCode(t, locate(tampered, digest, set, copies), vss.VSS_E_PROVIDER_VETO, "signature", ticketFor)
	wantCode(t, locate(foreign, digest, set, copies), vss.VSS_E_PROVIDER_VETO, "signature")
	wantCode(t, locate(good, [32]byte{9}, set, copies), vss.VSS_E_PROVIDER_VETO, "description")
	wantCode(t, locate(second, digest, set, copies), vss.VSS_E_PROVIDER_VETO, "another set")
	wantCode(t, locate(forC, digest, set, copies), vss.VSS_E_PROVIDER_VETO, "another host")
	wantCode(t, locate(good, digest, set, copies2), vss.VSS_E_PROVIDER_VETO, "not a copy of the set")
	wantCode(t, locate(good, digest, set, []lun.NAA{n}), vss.VSS_E_PROVIDER_VETO)
	r.a.now = func() time.Time { return time.Now().Add(time.Minute) }
	wantCode(t, locate(brief, digest, set, copies), vss.VSS_E_PROVIDER_VETO, "expired", ticketFor)
	if luns, _ := b.ReportLUNs(ctx); len(luns) != 0 {
		t.Fatalf("a refused import unmasked %v", luns)
	}
	if sets, _ := r.admin.ListSets(ctx); sets[0].BoundHost != "" || sets[1].BoundHost != "" {
		t.Fatal("a refused import bound the set")
	}
	// The administrator issues it again, for the digest the host signed.
	again, err := r.admin.IssueTicket(ctx, set, "c", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, locate(again, digest, set, copies), vss.VSS_E_PROVIDER_VETO, "another host")
	if _, err := c.LocateLUNs(ctx, client.Location{SetID: set, Ticket: again, Digest: digest, LUNs: copies}); err != nil {
		t.Fatal(err)
	}
	// A copy that was written to is not what the ticket vouched for.
	if err := a.SetLUNAccess(ctx, copies2, client.Recovery); vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		t.Fatalf("a opened a window on a copy it does not see: %v", err)
	}
	if _, err := r.admin.Unmask(ctx, copies2[0].String(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []client.Access{client.Recovery, client.ReadOnly} {
		if err := a.SetLUNAccess(ctx, copies2, to); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, locate(second, digest, set2, copies2), vss.VSS_E_PROVIDER_VETO, "written to")
	_, err = r.admin.IssueTicket(ctx, vss.NewID(), "", 0)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
	_, err = b.IssueTicket(ctx, set, digest, "", 0)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
}

func (r *rig) foreignTicket(set vss.ID) ([]byte, error) {
	a := r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	snapshot(r.t, a, set, transportable, n)
	return a.IssueTicket(context.Background(), set, digest, "", 0)
}

// A set that does not travel is located without a ticket, by its maker alone.
func TestAutoImport(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b := r.enroll("a", ""), r.enroll("b", "")
	n, want := r.lun(mib, "a")
	set := vss.NewID()
	copies := snapshot(t, a, set, vss.CTX_APP_ROLLBACK, n)
	_, err := b.LocateLUNs(ctx, client.Location{LUNs: copies})
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO, "no ticket")
	if _, err := a.LocateLUNs(ctx, client.Location{LUNs: copies}); err != nil {
		t.Fatal(err)
	}
	// The writable window of auto-recovery, and its end.
	before, _ := a.DescribeLUNs(ctx, copies)
	if err := a.SetLUNAccess(ctx, copies, client.Recovery); err != nil {
		t.Fatal(err)
	}
	open, err := a.OpenLUNs(ctx, copies)
	if err != nil || open[0].ReadOnly {
		t.Fatalf("%+v, %v", open, err)
	}
	want[0]++
	if _, err := unix.Pwrite(open[0].FD, want[:1], 0); err != nil {
		t.Fatal(err)
	}
	closeOpened(open)
	if err := a.SetLUNAccess(ctx, copies, client.ReadOnly); err != nil {
		t.Fatal(err)
	}
	after, _ := a.DescribeLUNs(ctx, copies)
	if !after[0].ReadOnly || after[0].Generation <= before[0].Generation || !bytes.Equal(r.read(copies[0]), want) {
		t.Fatalf("%+v after %+v", after, before)
	}
	// Broken writable, it is an original: nobody's to delete, opened by no ticket.
	for range 2 {
		if err := a.SetLUNAccess(ctx, copies, client.ReadWrite); err != nil {
			t.Fatal(err)
		}
	}
	if open, err = a.OpenLUNs(ctx, copies); err != nil || open[0].ReadOnly {
		t.Fatalf("%+v, %v", open, err)
	}
	closeOpened(open)
	wantCode(t, a.DeleteLUNs(ctx, copies), vss.E_ACCESSDENIED)
	if err := a.MaskLUNs(ctx, copies); err != nil {
		t.Fatal(err)
	}
	if luns, _ := a.ReportLUNs(ctx, copies...); len(luns) != 0 {
		t.Fatal("masked and visible")
	}
}

func TestMasks(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b := r.enroll("a", ""), r.enroll("b", "")
	mine, _ := r.lun(mib, "a")
	theirs, _ := r.lun(mib, "b")
	_, err := a.OpenLUNs(ctx, []lun.NAA{mine, theirs})
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND, theirs.String())
	_, err = a.DescribeLUNs(ctx, []lun.NAA{theirs})
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
	_, err = a.PrepareSet(ctx, vss.NewID(), transportable, []client.Source{{NAA: mine}, {NAA: theirs}})
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND, "umbra array unmask")
	if sets, _ := r.admin.ListSets(ctx); len(sets) != 0 {
		t.Fatalf("a refused set is recorded: %v", sets)
	}
	if ok, why, err := a.AreLUNsSupported(ctx, transportable, []lun.NAA{mine, theirs}); ok || err != nil || why == "" {
		t.Fatal("another host's LUN is supported", err)
	}
	if ok, _, err := a.AreLUNsSupported(ctx, transportable, []lun.NAA{mine}); !ok || err != nil {
		t.Fatal("the host's own LUN is not supported", err)
	}
	set := vss.NewID()
	copies := snapshot(t, a, set, transportable, mine)
	for what, err := range map[string]error{
		"commit": func() error { _, err := b.CommitSet(ctx, set); return err }(),
		"target": func() error { _, err := b.TargetLUNs(ctx, set, []lun.NAA{mine}); return err }(),
	} {
		if vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
			t.Errorf("%s of another host's set: %v", what, err)
		}
	}
	if err := b.AbortSet(ctx, set, true); err != nil {
		t.Fatal(err)
	}
	if _, err := a.DescribeLUNs(ctx, copies); err != nil {
		t.Fatal("another host aborted the set:", err)
	}
	wantCode(t, b.DeleteLUNs(ctx, copies), vss.E_ACCESSDENIED)
	if _, err := r.admin.Mask(ctx, mine.String(), "a", false); err != nil {
		t.Fatal(err)
	}
	if luns, _ := a.ReportLUNs(ctx); len(luns) != 0 {
		t.Fatal("a masked LUN is reported")
	}
}

// A token is good once, for its host, for a while, and only while the mask is.
func TestTokens(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	open := func() fdpass.Token {
		t.Helper()
		k, _, err := r.a.openLUNs(ctx, r.a.state.host("a"), []lun.NAA{n})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := open()
	got, err := fdpass.Fetch(ctx, r.cfg.DataSocket, k)
	if err != nil || len(got) != 1 || got[0].NAA != n {
		t.Fatalf("%v, %v", got, err)
	}
	got[0].File.Close()
	_, err = fdpass.Fetch(ctx, r.cfg.DataSocket, k)
	wantCode(t, err, vss.E_ACCESSDENIED, "used")
	_, err = fdpass.Fetch(ctx, r.cfg.DataSocket, fdpass.Token{})
	wantCode(t, err, vss.E_ACCESSDENIED)

	k = open()
	if _, err := r.admin.Mask(ctx, n.String(), "a", false); err != nil {
		t.Fatal(err)
	}
	_, err = fdpass.Fetch(ctx, r.cfg.DataSocket, k)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
	if _, err := r.admin.Unmask(ctx, n.String(), "a"); err != nil {
		t.Fatal(err)
	}

	k = open()
	r.enroll("a", "") // revokes the certificate the token was got with
	_, err = fdpass.Fetch(ctx, r.cfg.DataSocket, k)
	wantCode(t, err, vss.E_ACCESSDENIED)

	k = open()
	if err := r.hosts["a"].CloseLUNs(ctx, []lun.NAA{n}); err != nil {
		t.Fatal(err)
	}
	_, err = fdpass.Fetch(ctx, r.cfg.DataSocket, k)
	wantCode(t, err, vss.E_ACCESSDENIED)

	k = open()
	r.a.now = func() time.Time { return time.Now().Add(time.Minute) }
	_, err = fdpass.Fetch(ctx, r.cfg.DataSocket, k)
	wantCode(t, err, vss.E_ACCESSDENIED)
}

func TestManyLUNsInOneFetch(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a := r.enroll("a", "")
	var luns []lun.NAA
	for range 150 { // more than one packet of descriptors
		l, err := r.a.createLUN(ctx, "", mib)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.a.unmask(ctx, l.NAA.String(), "a"); err != nil {
			t.Fatal(err)
		}
		luns = append(luns, l.NAA)
	}
	open, err := a.OpenLUNs(ctx, luns)
	if err != nil {
		t.Fatal(err)
	}
	defer closeOpened(open)
	for i, o := range open {
		var st unix.Stat_t
		if err := unix.Fstat(o.FD, &st); err != nil || o.NAA != luns[i] || st.Ino != o.Ino || st.Size != mib {
			t.Fatalf("descriptor %d is not LUN %s: %v", i, luns[i], err)
		}
	}
}

func TestCertificates(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	first := r.enroll("a", "")
	if _, err := first.ReportLUNs(ctx); err != nil {
		t.Fatal(err)
	}
	raw, err := r.admin.EnrollHost(ctx, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = first.ReportLUNs(ctx) // on the connection it has open
	wantCode(t, err, vss.E_ACCESSDENIED, "umbra join")
	second := r.dial(raw)
	if _, err := second.ReportLUNs(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.admin.RemoveHost(ctx, "a", false); err != nil {
		t.Fatal(err)
	}
	_, err = second.ReportLUNs(ctx)
	wantCode(t, err, vss.E_ACCESSDENIED)
	wantCode(t, r.admin.RemoveHost(ctx, "a", false), vss.VSS_E_OBJECT_NOT_FOUND)

	// A certificate of another array opens nothing, and another array is not
	// mistaken for this one.
	other := newRig(t)
	rawOther, err := other.admin.EnrollHost(ctx, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	mixed, err := client.ParseBundle(rawOther)
	if err != nil {
		t.Fatal(err)
	}
	mixed.Endpoints = r.a.Endpoints()
	c, err := client.Dial(mixed)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.ReportLUNs(ctx)
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO, "does not answer")
}

func TestBundle(t *testing.T) {
	r := newRig(t)
	raw, err := r.admin.EnrollHost(t.Context(), "a", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(map[string]any){
		"version": func(m map[string]any) { m["version"] = 2 }, "host": func(m map[string]any) { m["host"] = "b" },
		"endpoint": func(m map[string]any) { m["endpoints"] = []string{"http://x"} }, "no endpoint": func(m map[string]any) { m["endpoints"] = nil },
		"key": func(m map[string]any) { m["key"] = "" }, "prefix": func(m map[string]any) { m["lun_prefix"] = "xyz" }, "ca": func(m map[string]any) { m["ca"] = "" },
	} {
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		edit(m)
		bad, _ := json.Marshal(m)
		_, err := client.ParseBundle(bad)
		if vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = client.ParseBundle(make([]byte, client.MaxBundle+1))
	wantCode(t, err, vss.E_INVALIDARG)
	for _, name := range []string{"", "A", "a b", "-a", strings.Repeat("a", 65)} {
		_, err := r.admin.EnrollHost(t.Context(), name, "")
		wantCode(t, err, vss.E_INVALIDARG)
	}
}

func TestTCP(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Listen = []string{"tcp://127.0.0.1:0"} })
	c := r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	d, err := c.Describe(t.Context(), strings.TrimSpace(string(boot)))
	if err != nil || !d.Local || d.Host != "a" || d.ArrayID != c.ArrayID() {
		t.Fatalf("%+v, %v", d, err)
	}
	if d.Stores[devOfPath(r.a.store.Describe(t.Context()).Place)] == "" || d.Stores[devOfPath(r.cfg.Dir)] == "" {
		t.Fatalf("the store or the state folder is not among %v", d.Stores)
	}
	if d, err := c.Describe(t.Context(), "another boot"); err != nil || d.Local || len(d.Stores) != 0 {
		t.Fatalf("a remote host is told of local filesystems: %+v, %v", d, err)
	}
	open, err := c.OpenLUNs(t.Context(), []lun.NAA{n})
	if err != nil {
		t.Fatal(err)
	}
	closeOpened(open)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.ReportLUNs(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	r.shutdown()
	_, err = c.ReportLUNs(t.Context())
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO, "does not answer", "tcp://127.0.0.1")
}

func TestClusterGuard(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b, out := r.enroll("a", "prod"), r.enroll("b", "prod"), r.enroll("out", "")
	n, _ := r.lun(mib, "a")
	set := vss.NewID()
	copies := snapshot(t, a, set, transportable, n)
	tk, err := a.IssueTicket(ctx, set, digest, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	open, err := a.OpenLUNs(ctx, []lun.NAA{n})
	if err != nil {
		t.Fatal(err)
	}
	im := client.Location{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies}
	_, err = b.LocateLUNs(ctx, im)
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO, "cluster prod", "fast recovery")
	_, err = r.admin.Unmask(ctx, copies[0].String(), "b")
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO)
	if _, err := out.LocateLUNs(ctx, im); err != nil {
		t.Fatal("outside the cluster:", err)
	}
	if err := out.ReleaseImport(ctx, set, im.ImportID); err != nil {
		t.Fatal(err)
	}
	closeOpened(open)
	if _, err := b.LocateLUNs(ctx, im); err != nil {
		t.Fatal("with the original detached:", err)
	}
}

func TestLUNs(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	for _, size := range []uint64{0, mib - 4096, mib + 1, 1 << 60} {
		_, err := r.admin.CreateLUN(ctx, "", size)
		wantCode(t, err, vss.E_INVALIDARG)
	}
	l, err := r.admin.CreateLUN(ctx, "db", 3*mib)
	if err != nil || l.Size != 3*mib || l.Allocated != 0 || l.Copy || l.ReadOnly || len(l.Masks) != 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	_, err = r.admin.CreateLUN(ctx, "db", mib)
	wantCode(t, err, vss.VSS_E_OBJECT_ALREADY_EXISTS, l.NAA.String())
	_, err = r.admin.CreateLUN(ctx, "naa.x", mib)
	wantCode(t, err, vss.E_INVALIDARG)
	_, err = r.admin.Unmask(ctx, "db", "nobody")
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND, "enroll")
	_, err = r.admin.Unmask(ctx, "nothing", "a")
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
	a := r.enroll("a", "")
	if _, err := r.admin.Unmask(ctx, "db", "a"); err != nil {
		t.Fatal(err)
	}
	// A LUN that is being copied is not deleted.
	set := vss.NewID()
	if _, err := a.PrepareSet(ctx, set, transportable, []client.Source{{NAA: l.NAA}}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.admin.DeleteLUN(ctx, "db", false), vss.VSS_E_VOLUME_IN_USE, "copying")
	if err := a.AbortSet(ctx, set, false); err != nil {
		t.Fatal(err)
	}
	if err := r.admin.DeleteLUN(ctx, "db", false); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.admin.DeleteLUN(ctx, "db", false), vss.VSS_E_OBJECT_NOT_FOUND)
	info, err := r.admin.Info(ctx)
	if err != nil || info.LUNs != 0 || info.Hosts != 1 || info.ClonePerExtent == 0 || info.ClonesAtOnce == 0 || info.Image == "" {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	r := newRig(t)
	_, err := Open(t.Context(), r.cfg)
	wantCode(t, err, vss.VSS_E_BAD_STATE, "another array process")
}
