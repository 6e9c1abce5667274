package array

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/iscsi"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// fakeExport is a network export in memory. It outlives the array, as the kernel's
// does.
type fakeExport struct {
	mu    sync.Mutex
	peers map[string]export.Peer
	luns  map[lun.NAA]export.LUN
	live  map[string]bool // initiators with a session
	fail  error
}

func newFakeExport() *fakeExport {
	return &fakeExport{peers: map[string]export.Peer{}, luns: map[lun.NAA]export.LUN{}, live: map[string]bool{}}
}

func (o *fakeExport) Name() string      { return "iqn.2026-01.io.umbra:array.test" }
func (o *fakeExport) Portals() []string { return []string{"192.0.2.1:3260"} }
func (o *fakeExport) Teardown() error   { return nil }

func (o *fakeExport) Reach(p export.Peer) (string, []string) {
	return o.Name(), []string{fmt.Sprintf("192.0.2.1:%d", 3259+p.Lane)}
}

func (o *fakeExport) Reconcile(peers []export.Peer, luns []export.LUN) (out []string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range peers {
		o.peers[p.Initiator] = p
	}
	want := map[lun.NAA]export.LUN{}
	for _, l := range luns {
		want[l.NAA] = l
	}
	for n, l := range o.luns {
		if fmt.Sprint(want[n]) != fmt.Sprint(l) {
			out = append(out, n.String())
		}
	}
	o.luns = want
	return out, nil
}

func (o *fakeExport) Admit(p export.Peer) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.peers[p.Initiator] = p
	return nil
}

func (o *fakeExport) Revoke(who string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.peers, who)
	delete(o.live, who)
	for n, l := range o.luns {
		l.Maps = slices.DeleteFunc(slices.Clone(l.Maps), func(m export.Mapping) bool { return m.Initiator == who })
		o.luns[n] = l
	}
	return nil
}

func (o *fakeExport) Apply(l export.LUN) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil && len(l.Maps) > 0 {
		return o.fail
	}
	if len(l.Maps) == 0 {
		delete(o.luns, l.NAA)
	} else {
		o.luns[l.NAA] = l
	}
	return nil
}

func (o *fakeExport) Connected(who string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.live[who], nil
}

// maps says how a LUN is exported: "host#number:ro host#number:rw".
func (o *fakeExport) maps(n lun.NAA) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	for _, m := range o.luns[n].Maps {
		how := "rw"
		if m.ReadOnly {
			how = "ro"
		}
		out = append(out, fmt.Sprintf("%s#%d:%s", strings.TrimPrefix(m.Initiator, iscsi.Authority+":"), m.Number, how))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func networked(t *testing.T) (*rig, *fakeExport) {
	t.Helper()
	o := newFakeExport()
	return newRig(t, func(c *Config) { c.exporters = map[export.Kind]exporter{export.ISCSI: o} }), o
}

func wantMaps(t *testing.T, o *fakeExport, n lun.NAA, want string) {
	t.Helper()
	if got := o.maps(n); got != want {
		t.Errorf("%s is exported to %q, not %q", n, got, want)
	}
}

// TestExports follows an original and its copy over the network.
func TestExports(t *testing.T) {
	r, o := networked(t)
	ctx := t.Context()
	a, b := r.enroll("hosta", ""), r.enroll("hostb", "")
	orig, _ := r.lun(16<<20, "hosta")
	wantMaps(t, o, orig, "") // a mask permits; it exports nothing
	if _, err := b.ExportLUNs(ctx, export.ISCSI, []lun.NAA{orig}); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("a LUN that the host does not see: %v", err)
	}
	for range 2 { // again is the same
		e, err := a.ExportLUNs(ctx, export.ISCSI, []lun.NAA{orig})
		if err != nil {
			t.Fatal(err)
		}
		if l := e.LUNs[0]; e.Target != o.Name() || len(e.Portals) != 1 || l.NAA != orig || l.Number != 1 || l.Size != 16<<20 || l.ReadOnly {
			t.Errorf("exported as %+v", e)
		}
		wantMaps(t, o, orig, "hosta#1:rw")
	}
	set := vss.NewID()
	copied := snapshot(t, a, set, transportable, orig)[0]
	ticket, err := a.IssueTicket(ctx, set, digest, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	at := client.Location{SetID: set, ImportID: vss.NewID(), Ticket: ticket, Digest: digest, LUNs: []lun.NAA{copied}}
	if _, err := b.LocateLUNs(ctx, at); err != nil {
		t.Fatal(err)
	}
	wantMaps(t, o, copied, "")
	if e, err := b.ExportLUNs(ctx, export.ISCSI, at.LUNs); err != nil || !e.LUNs[0].ReadOnly {
		t.Fatalf("a copy is exported as %+v, %v", e, err)
	}
	wantMaps(t, o, copied, "hostb#1:ro")

	// What is exported is attached, whatever would take it away.
	wantCode(t, b.MaskLUNs(ctx, at.LUNs), vss.VSS_E_VOLUME_IN_USE, "hostb")
	wantCode(t, b.DeleteLUNs(ctx, at.LUNs), vss.VSS_E_VOLUME_IN_USE)
	wantCode(t, b.ReleaseImport(ctx, set, at.ImportID), vss.VSS_E_VOLUME_IN_USE)
	_, err = r.admin.Mask(ctx, orig.String(), "hosta", false)
	wantCode(t, err, vss.VSS_E_VOLUME_IN_USE, "hosta")
	wantCode(t, r.admin.DeleteLUN(ctx, orig.String(), false), vss.VSS_E_VOLUME_IN_USE)
	wantCode(t, r.admin.RemoveHost(ctx, "hosta", false), vss.VSS_E_VOLUME_IN_USE)
	if ls, err := b.ReportLUNs(ctx, copied); err != nil || len(ls) != 1 || !slices.Equal(ls[0].AttachedBy, []string{"hostb"}) {
		t.Errorf("reported: %+v, %v", ls, err)
	}

	// A writable window opens and closes on the spot.
	for _, step := range []struct {
		to   client.Access
		want string
	}{{client.Recovery, "hostb#1:rw"}, {client.ReadOnly, "hostb#1:ro"}} {
		if err := b.SetLUNAccess(ctx, at.LUNs, step.to); err != nil {
			t.Fatal(err)
		}
		wantMaps(t, o, copied, step.want)
	}

	for range 2 { // closing is idempotent
		if err := b.CloseLUNs(ctx, at.LUNs); err != nil {
			t.Fatal(err)
		}
		wantMaps(t, o, copied, "")
	}
	if e, err := b.ExportLUNs(ctx, export.ISCSI, at.LUNs); err != nil || e.LUNs[0].Number != 2 {
		t.Fatalf("a number is given again at once: %+v, %v", e, err)
	}
	if err := b.CloseLUNs(ctx, at.LUNs); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteLUNs(ctx, at.LUNs); err != nil {
		t.Fatal(err)
	}
	// By force, live.
	if _, err := r.admin.Mask(ctx, orig.String(), "hosta", true); err != nil {
		t.Fatal(err)
	}
	wantMaps(t, o, orig, "")
}

// TestForcedDeleteEndsTheExport: the kernel would keep the file of a LUN that is
// no more.
func TestForcedDeleteEndsTheExport(t *testing.T) {
	r, o := networked(t)
	a := r.enroll("hosta", "")
	orig, _ := r.lun(16<<20, "hosta")
	if _, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{orig}); err != nil {
		t.Fatal(err)
	}
	if err := r.admin.DeleteLUN(t.Context(), orig.String(), true); err != nil {
		t.Fatal(err)
	}
	wantMaps(t, o, orig, "")
}

// TestRemovedHost has no session, no LUN and no secret any more.
func TestRemovedHost(t *testing.T) {
	r, o := networked(t)
	a := r.enroll("hosta", "")
	orig, _ := r.lun(16<<20, "hosta")
	if _, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{orig}); err != nil {
		t.Fatal(err)
	}
	o.live[iscsi.InitiatorName("hosta")] = true
	if err := r.admin.RemoveHost(t.Context(), "hosta", true); err != nil {
		t.Fatal(err)
	}
	if len(o.peers) > 0 || len(o.live) > 0 || o.maps(orig) != "" {
		t.Errorf("left: %v, %v, %q", o.peers, o.live, o.maps(orig))
	}
	if _, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{orig}); !errors.Is(err, vss.E_ACCESSDENIED) {
		t.Errorf("a removed host: %v", err)
	}
}

// TestEnrolledAgain: a host's session with the old secrets ends. What it has
// attached it finds again with the new ones, at the same number.
func TestEnrolledAgain(t *testing.T) {
	r, o := networked(t)
	a := r.enroll("hosta", "")
	orig, _ := r.lun(16<<20, "hosta")
	if _, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{orig}); err != nil {
		t.Fatal(err)
	}
	who := iscsi.InitiatorName("hosta")
	before := o.peers[who]
	o.live[who] = true
	r.enroll("hosta", "")
	if after := o.peers[who]; o.live[who] || after.Initiates == before.Initiates || after.Answers == before.Answers {
		t.Errorf("in: %v, as %v, before %v", o.live[who], after, before)
	}
	wantMaps(t, o, orig, "hosta#1:rw")
}

// TestExportsSurviveRestart: the same LUN at the same number; what was changed
// meanwhile is mended and told.
func TestExportsSurviveRestart(t *testing.T) {
	r, o := networked(t)
	a := r.enroll("hosta", "")
	one, _ := r.lun(16<<20, "hosta")
	two, _ := r.lun(16<<20, "hosta")
	if _, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{one, two}); err != nil {
		t.Fatal(err)
	}
	secret := o.peers[iscsi.InitiatorName("hosta")]
	r.shutdown()
	wantMaps(t, o, one, "hosta#1:rw") // it is served on
	delete(o.peers, iscsi.InitiatorName("hosta"))
	o.luns[two] = export.LUN{NAA: two}
	r.start()
	wantMaps(t, o, one, "hosta#1:rw")
	wantMaps(t, o, two, "hosta#2:rw")
	if o.peers[iscsi.InitiatorName("hosta")] != secret {
		t.Error("the host's secrets were lost")
	}
	info, err := r.admin.Info(t.Context())
	if err != nil || len(info.Differences) != 1 || !strings.Contains(info.Differences[0], two.String()) {
		t.Errorf("differences: %v, %v", info.Differences, err)
	}
	wantCode(t, r.admin.DeleteLUN(t.Context(), two.String(), false), vss.VSS_E_VOLUME_IN_USE)
}

// TestExportThatFails leaves nothing that counts as attached.
func TestExportThatFails(t *testing.T) {
	r, o := networked(t)
	a := r.enroll("hosta", "")
	one, _ := r.lun(16<<20, "hosta")
	o.fail = &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "export LUN", Reason: "the kernel says no", Remedy: "none"}
	_, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{one})
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO, "the kernel says no")
	o.fail = nil
	if err := r.admin.DeleteLUN(t.Context(), one.String(), false); err != nil {
		t.Errorf("it counts as attached: %v", err)
	}
}

// TestClusterGuardAndSessions: a member that went down has not detached.
func TestClusterGuardAndSessions(t *testing.T) {
	r, o := networked(t)
	a, b := r.enroll("hosta", "pair"), r.enroll("hostb", "pair")
	orig, _ := r.lun(16<<20, "hosta")
	if _, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{orig}); err != nil {
		t.Fatal(err)
	}
	set := vss.NewID()
	copied := snapshot(t, a, set, transportable, orig)[0]
	ticket, err := a.IssueTicket(t.Context(), set, digest, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	at := client.Location{SetID: set, ImportID: vss.NewID(), Ticket: ticket, Digest: digest, LUNs: []lun.NAA{copied}}
	o.live[iscsi.InitiatorName("hosta")] = true
	_, err = b.LocateLUNs(t.Context(), at)
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO, "hosta", "cluster")
	o.mu.Lock()
	delete(o.live, iscsi.InitiatorName("hosta"))
	o.mu.Unlock()
	if _, err := b.LocateLUNs(t.Context(), at); err != nil {
		t.Errorf("the member is down: %v", err)
	}
}

// TestNumbers go round and are never given twice.
func TestNumbers(t *testing.T) {
	s := &state{hosts: map[string]*hostRecord{}, luns: map[lun.NAA]*lunRecord{}}
	h := &hostRecord{Name: "h", LastNumber: 253}
	s.hosts["h"] = h
	tx := &txn{s: s, hosts: map[string]*hostRecord{}, luns: map[lun.NAA]*lunRecord{}, sets: map[vss.ID]*setRecord{}}
	take := func(i int) uint16 {
		t.Helper()
		n, err := tx.nextNumber(h)
		if err != nil {
			t.Fatal(err)
		}
		c := *tx.host("h")
		c.LastNumber = n
		tx.putHost(&c)
		l := &lunRecord{NAA: lun.NAA{byte(i >> 8), byte(i)}}
		s.luns[l.NAA] = l
		tx.putLUN(l.withExport(exported{Host: "h", Number: n}))
		return n
	}
	var got []uint16
	for i := range 300 {
		got = append(got, take(i))
	}
	if want := []uint16{254, 255, 1, 2}; !slices.Equal(got[:4], want) {
		t.Errorf("numbers begin with %v, not %v", got[:4], want)
	}
	if got[255] != 256 || got[299] != 300 {
		t.Errorf("beyond a byte: %d, %d", got[255], got[299])
	}
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != 300 || got[0] == 0 {
		t.Errorf("%d different numbers of 300, the first %d", n, got[0])
	}
}

// TestBundles: what an array without portals gives is what older hosts read;
// one with portals gives the iSCSI part, and hosts enrolled before must be
// enrolled again.
func TestBundles(t *testing.T) {
	r := newRig(t)
	raw, err := r.admin.EnrollHost(t.Context(), "hosta", "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.ParseBundle(raw)
	if err != nil || b.Version != 1 || b.ISCSI != nil {
		t.Errorf("without portals: version %d, %+v, %v", b.Version, b.ISCSI, err)
	}
	old := r.dial(raw)
	one, _ := r.lun(16<<20, "hosta")
	_, err = old.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{one})
	wantCode(t, err, vss.VSS_E_NOT_SUPPORTED, "--iscsi-portal")
	r.shutdown()
	o := newFakeExport()
	r.cfg.exporters = map[export.Kind]exporter{export.ISCSI: o}
	r.start()
	_, err = r.dial(raw).ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{one})
	wantCode(t, err, vss.VSS_E_NOT_SUPPORTED, "umbra array enroll hosta")
	raw, err = r.admin.EnrollHost(t.Context(), "hosta", "")
	if err != nil {
		t.Fatal(err)
	}
	b, err = client.ParseBundle(raw)
	if err != nil || b.Version != 2 || b.ISCSI == nil || b.ISCSI.Initiator != "iqn.2026-01.io.umbra:hosta" || b.ISCSI.Target != o.Name() {
		t.Fatalf("with portals: version %d, %+v, %v", b.Version, b.ISCSI, err)
	}
	p := o.peers[b.ISCSI.Initiator]
	if p.Initiates.Password != b.ISCSI.Secret || p.Answers.Password != b.ISCSI.TargetSecret || b.ISCSI.Secret == b.ISCSI.TargetSecret || len(b.ISCSI.Secret) < 16 {
		t.Error("the target and the bundle have different secrets")
	}
	if _, err := r.dial(raw).ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{one}); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*client.ISCSI){
		"an option for a portal": func(i *client.ISCSI) { i.Portals = []string{"-x"} },
		"a name for a portal":    func(i *client.ISCSI) { i.Portals = []string{"array:3260"} },
		"no portal":              func(i *client.ISCSI) { i.Portals = nil },
		"a line in a secret":     func(i *client.ISCSI) { i.Secret = "x\nnode.startup = automatic" },
		"a path for a target":    func(i *client.ISCSI) { i.Target = "../../etc" },
		"one secret for both":    func(i *client.ISCSI) { i.Secret = i.TargetSecret },
	} {
		c := *b.ISCSI
		spoil(&c)
		bad := b
		bad.ISCSI = &c
		raw, err := bad.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.ParseBundle(raw); !errors.Is(err, vss.E_INVALIDARG) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestWithoutTarget: an array that is to export where the kernel cannot says so.
func TestWithoutTarget(t *testing.T) {
	r := newRig(t)
	r.shutdown()
	cfg := r.cfg
	cfg.ISCSIPortals, cfg.configfs = []string{"192.0.2.1:3260"}, t.TempDir()
	a, err := Open(context.Background(), cfg)
	if err == nil {
		a.Close()
	}
	wantCode(t, err, vss.VSS_E_NOT_SUPPORTED, "modprobe")
}

// TestDeathInAnExport: the array dies at every state change of an export. Started
// again, what is exported is what is on record, and both agree with what the host
// asks next.
func TestDeathInAnExport(t *testing.T) {
	for point, exports := range map[string]bool{
		"array.export.before-record": false, "array.export.after-record": true, "array.export.after-map": true, "array.unexport.after-record": false,
	} {
		t.Run(point, func(t *testing.T) {
			r, o := networked(t)
			a := r.enroll("a", "")
			n, _ := r.lun(mib, "a")
			closing := strings.HasPrefix(point, "array.unexport")
			if closing {
				if _, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{n}); err != nil {
					t.Fatal(err)
				}
			}
			hit := stall(t, point)
			dying, cut := context.WithCancel(t.Context())
			defer cut()
			returned := make(chan struct{})
			go func() {
				defer close(returned)
				if closing {
					_ = a.CloseLUNs(dying, []lun.NAA{n})
				} else {
					_, _ = a.ExportLUNs(dying, export.ISCSI, []lun.NAA{n})
				}
			}()
			r.revive(hit(r), cut)
			<-returned
			a = r.redial("a")
			want := ""
			if exports {
				want = "a#1:rw"
			}
			wantMaps(t, o, n, want)
			ls, err := r.admin.ListLUNs(t.Context())
			if err != nil || len(ls) != 1 || (len(ls[0].AttachedBy) == 1) != exports {
				t.Errorf("on record: %+v, %v", ls, err)
			}
			if _, err := a.ExportLUNs(t.Context(), export.ISCSI, []lun.NAA{n}); err != nil || o.maps(n) == "" {
				t.Errorf("again: %q, %v", o.maps(n), err)
			}
			if err := a.CloseLUNs(t.Context(), []lun.NAA{n}); err != nil || o.maps(n) != "" {
				t.Errorf("closed: %q, %v", o.maps(n), err)
			}
			if err := r.admin.DeleteLUN(t.Context(), n.String(), false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTwoTransports: a host has a LUN one way at a time, with other secrets for
// each; what is taken away is taken away over all.
func TestTwoTransports(t *testing.T) {
	one, two := newFakeExport(), newFakeExport()
	over := overISCSI
	over.kind, over.initiator = "other", func(host string) string { return "other." + host }
	over.bundle = func(*client.Bundle, string, []string, export.Peer) {}
	kept := transports
	transports = append(slices.Clone(transports), over)
	t.Cleanup(func() { transports = kept })
	r := newRig(t, func(c *Config) { c.exporters = map[export.Kind]exporter{export.ISCSI: one, "other": two} })
	ctx := t.Context()
	a := r.enroll("hosta", "")
	r.enroll("hostb", "")
	if p, q := one.peers[iscsi.InitiatorName("hosta")], two.peers["other.hosta"]; p.Initiates.Password == q.Initiates.Password || q.Initiates.Password == "" || p.Lane != 1 || q.Lane != 1 || two.peers["other.hostb"].Lane != 2 {
		t.Errorf("admitted as %+v and %+v", p, q)
	}
	n, _ := r.lun(16<<20, "hosta")
	e, err := a.ExportLUNs(ctx, "other", []lun.NAA{n})
	if err != nil || e.Portals[0] != "192.0.2.1:3260" {
		t.Fatalf("%+v, %v", e, err)
	}
	_, err = a.ExportLUNs(ctx, export.ISCSI, []lun.NAA{n})
	wantCode(t, err, vss.VSS_E_VOLUME_IN_USE, "other")
	wantMaps(t, one, n, "")
	wantMaps(t, two, n, "other.hosta#1:rw")
	r.shutdown()
	r.start()
	a = r.redial("hosta")
	wantMaps(t, one, n, "")
	wantMaps(t, two, n, "other.hosta#1:rw")
	if err := a.CloseLUNs(ctx, []lun.NAA{n}); err != nil {
		t.Fatal(err)
	}
	wantMaps(t, two, n, "")
	if _, err := a.ExportLUNs(ctx, export.ISCSI, []lun.NAA{n}); err != nil {
		t.Fatal(err)
	}
	_, err = a.ExportLUNs(ctx, "nothing", []lun.NAA{n})
	wantCode(t, err, vss.VSS_E_NOT_SUPPORTED, "nothing")
	// An array that is to serve one no more, while a host uses it.
	r.shutdown()
	gone := r.cfg
	gone.exporters = map[export.Kind]exporter{"other": two}
	transports = slices.Clone(transports)
	transports[0].present = func(Config, arrayRecord) bool { return true }
	bad, err := Open(context.Background(), gone)
	if err == nil {
		bad.Close()
	}
	wantCode(t, err, vss.VSS_E_BAD_STATE, "--iscsi-portal", "hosta")
	r.start()
	one.live[iscsi.InitiatorName("hosta")], two.live["other.hosta"] = true, true
	if err := r.admin.RemoveHost(ctx, "hosta", true); err != nil {
		t.Fatal(err)
	}
	if len(one.live)+len(two.live) > 0 || one.maps(n) != "" || len(one.peers) != 1 || len(two.peers) != 1 {
		t.Errorf("left: %v %v %q", one.live, two.live, one.maps(n))
	}
	// Its number is free again.
	r.enroll("hostc", "")
	if got := two.peers["other.hostc"].Lane; got != 1 {
		t.Errorf("the new host has number %d", got)
	}
}

// TestHostsOfEarlierVersions keep the secrets they have.
func TestHostsOfEarlierVersions(t *testing.T) {
	h := &hostRecord{}
	if err := json.Unmarshal([]byte(`{"Name":"h","CHAP":{"Initiates":{"User":"h","Password":"x"},"Answers":{"User":"array","Password":"y"}}}`), h); err != nil {
		t.Fatal(err)
	}
	if p, ok := h.peer(overISCSI); !ok || p.Initiates.Password != "x" || p.Answers.Password != "y" {
		t.Errorf("%+v, %v", p, ok)
	}
	if e := (exported{Host: "h"}); e.kind() != export.ISCSI {
		t.Errorf("attached over %s", e.kind())
	}
}
