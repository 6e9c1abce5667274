package array

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/internal/array"
	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

const (
	mib           = 1 << 20
	transportable = vss.CTX_APP_ROLLBACK | vss.Context(vss.ATTR_TRANSPORTABLE)
)

var digest = [32]byte{7}

// site is an array that serves, with its administrator.
type site struct {
	t     testing.TB
	admin *client.AdminClient
	stop  func()
	store string
}

func newSite(t testing.TB) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the array mounts a store")
	}
	dir, err := os.MkdirTemp("", "umbra-prov")
	if err != nil {
		t.Fatal(err)
	}
	served := false
	t.Cleanup(func() {
		if !served {
			os.RemoveAll(dir)
		}
	})
	cfg := array.Config{Dir: filepath.Join(dir, "state"), AdminSocket: filepath.Join(dir, "admin.sock"), DataSocket: filepath.Join(dir, "data.sock"),
		Listen: []string{"unix://" + filepath.Join(dir, "hosts.sock")}, StoreSize: 1 << 30}
	a, err := array.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	served = true
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	s := &site{t: t, admin: client.Admin(cfg.AdminSocket), store: filepath.Join(cfg.Dir, "store")}
	s.stop = sync.OnceFunc(func() {
		s.admin.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		s.stop()
		var inner, outer unix.Stat_t
		for range 50 { // an open descriptor may have kept the store mounted
			if unix.Stat(s.store, &inner) == nil && unix.Stat(cfg.Dir, &outer) == nil && inner.Dev == outer.Dev {
				break
			}
			time.Sleep(20 * time.Millisecond)
			if a, err := array.Open(context.Background(), cfg); err == nil {
				a.Close()
			}
		}
		if inner.Dev != outer.Dev {
			t.Errorf("%s stays mounted", s.store)
			return
		}
		os.RemoveAll(dir)
	})
	return s
}

func (s *site) enroll(name string) *client.Client {
	s.t.Helper()
	raw, err := s.admin.EnrollHost(context.Background(), name, "")
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := client.ParseBundle(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := client.Dial(b)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func (s *site) lun(host string) (lun.Info, []byte) {
	s.t.Helper()
	l, err := s.admin.CreateLUN(context.Background(), "", mib)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.admin.Unmask(context.Background(), l.NAA.String(), host); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, mib)
	rand.Read(b)
	if err := os.WriteFile(filepath.Join(s.store, "luns", l.NAA.String()), b, 0); err != nil {
		s.t.Fatal(err)
	}
	return identity.Info(l.NAA), b
}

func (s *site) sets() []client.Set {
	s.t.Helper()
	sets, err := s.admin.ListSets(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return sets
}

func (s *site) files() int {
	s.t.Helper()
	e, err := os.ReadDir(filepath.Join(s.store, "luns"))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(e)
}

func joined(cs ...*client.Client) *Provider { return New(func() []*client.Client { return cs }) }

func wantCode(t testing.TB, err error, code vss.HResult) {
	t.Helper()
	if vss.CodeOf(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	if err == nil {
		return
	}
	if e := vss.AsError("", err); e.Remedy == "" || e.Reason == "" || e.Op == "" {
		t.Fatalf("an error without operation, reason or remedy: %#v", err)
	}
}

// create runs a set through all its phases and returns the copies.
func create(t testing.TB, p *Provider, id vss.ID, c vss.Context, volumes ...[]lun.Info) []lun.Info {
	t.Helper()
	ctx := context.Background()
	var all []lun.Info
	for _, v := range volumes {
		if ok, err := p.AreLUNsSupported(ctx, c, nil, v); !ok || err != nil {
			t.Fatalf("not supported: %v", err)
		}
		if err := p.BeginPrepareSnapshot(ctx, id, vss.NewID(), c, nil, v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v...)
	}
	for _, f := range []func() error{
		func() error { return p.EndPrepareSnapshots(ctx, id) },
		func() error { return p.PreCommitSnapshots(ctx, id) },
		func() error { return p.CommitSnapshots(ctx, id) },
		func() error { return p.PostCommitSnapshots(ctx, id, len(volumes)) },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := p.GetTargetLUNs(ctx, id, nil, all)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []func(context.Context, vss.ID) error{p.PreFinalCommitSnapshots, p.PostFinalCommitSnapshots} {
		if err := f(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// A set over two arrays travels: one LUN under two volumes is copied once.
func TestSetOverTwoArrays(t *testing.T) {
	ctx := t.Context()
	s1, s2 := newSite(t), newSite(t)
	here := joined(s1.enroll("prod"), s2.enroll("prod"))
	b1, b2 := s1.enroll("backup"), s2.enroll("backup")
	there := joined(b1, b2)
	l1, c1 := s1.lun("prod")
	l2, c2 := s2.lun("prod")
	set := vss.NewID()
	copies := create(t, here, set, transportable, []lun.Info{l1}, []lun.Info{l1, l2})
	if d := cmp.Diff(copies[0], copies[1]); d != "" {
		t.Fatal("one LUN was copied twice:", d)
	}
	if s1.files() != 2 || s2.files() != 2 {
		t.Fatalf("%d and %d files", s1.files(), s2.files())
	}
	if got := s1.sets()[0].Targets[0].Snapshots; len(got) != 2 {
		t.Fatalf("the shared LUN belongs to snapshots %v", got)
	}
	// After a restart of the daemon the answer is the same.
	again, err := joined(here.arrays()...).GetTargetLUNs(ctx, set, nil, []lun.Info{l1, l1, l2})
	if err != nil || cmp.Diff(copies, again) != "" {
		t.Fatal(cmp.Diff(copies, again), err)
	}
	desc, err := here.DescribeLUNs(ctx, copies)
	if err != nil || desc[2].Size != mib || !desc[2].ReadOnly || desc[2].Generation == 0 {
		t.Fatalf("%+v, %v", desc, err)
	}
	tk, err := here.IssueTicket(ctx, set, digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := there.VerifyTicket(tk, set, digest); err != nil {
		t.Fatal(err)
	}
	wantCode(t, there.VerifyTicket(tk, vss.NewID(), digest), vss.VSS_E_INVALID_XML_DOCUMENT)
	wantCode(t, there.VerifyTicket(tk[:len(tk)-1], set, digest), vss.VSS_E_INVALID_XML_DOCUMENT)
	wantCode(t, joined(b1).VerifyTicket(tk, set, digest), vss.VSS_E_PROVIDER_NOT_REGISTERED)

	im := provider.Import{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies}
	if got, err := there.CheckImport(ctx, im); err != nil || cmp.Diff(desc, got) != "" {
		t.Fatal(cmp.Diff(desc, got), err)
	}
	if s1.sets()[0].BoundHost != "" {
		t.Fatal("a check bound the set")
	}
	wantCode(t, there.LocateLUNs(ctx, copies), vss.VSS_E_PROVIDER_VETO) // without BeginImport
	forged := im
	forged.Ticket = bytes.Clone(tk)
	forged.Ticket[60]++
	wantCode(t, there.BeginImport(ctx, forged), vss.VSS_E_PROVIDER_VETO)
	if err := there.BeginImport(ctx, im); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := there.LocateLUNs(ctx, copies); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []*client.Client{b1, b2} {
		n, _ := copies[i*2].NAA()
		open, err := c.OpenLUNs(ctx, []lun.NAA{n})
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, mib)
		if _, err := unix.Pread(open[0].FD, buf, 0); err != nil || !bytes.Equal(buf, [][]byte{c1, c2}[i]) {
			t.Fatalf("copy %d differs: %v", i, err)
		}
		if i == 0 {
			wantCode(t, there.OnLUNStateChange(ctx, copies[:1], copies[:1], vss.ONLUNSTATECHANGE_DO_MASK_LUNS), vss.VSS_E_PROVIDER_VETO)
			wantCode(t, there.OnLUNEmpty(ctx, "", copies[0]), vss.VSS_E_PROVIDER_VETO)
			wantCode(t, here.OnLUNEmptyForced(ctx, "", copies[0]), vss.VSS_E_PROVIDER_VETO)
			for range 2 {
				if err := there.OnLUNEmptyForced(ctx, "", copies[0]); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := unix.Pread(open[0].FD, buf, 0); err != nil || !bytes.Equal(buf, c1) {
				t.Fatalf("what is open cannot be read any more: %v", err)
			}
		}
		unix.Close(open[0].FD)
	}
	info := lun.Info{StorageIDs: copies[0].StorageIDs, SerialNumber: " padded ", Interconnects: []lun.Interconnect{{Port: []byte("p")}}}
	if ok, err := there.FillInLUNInfo(ctx, "", &info); !ok || err != nil || lun.Match(copies[0], info) != nil || len(info.Interconnects) != 1 {
		t.Fatalf("%+v, %v", info, err)
	}
	for range 2 {
		for _, c := range copies {
			if err := there.OnLUNEmpty(ctx, "", c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s1.files() != 1 || s2.files() != 1 {
		t.Fatal("copies are left")
	}
	stores, err := there.BackingStores(ctx)
	if err != nil || len(stores) < 2 {
		t.Fatalf("%v, %v", stores, err)
	}
	s2.stop() // an array that is down keeps its stores in the list
	down, err := there.BackingStores(ctx)
	if err != nil || len(down) != len(stores) {
		t.Fatalf("%v, %v", down, err)
	}
	wantCode(t, there.OnLUNEmpty(ctx, "", copies[2]), vss.VSS_E_PROVIDER_VETO)
}

// If one array of a set has it bound elsewhere, nothing is unmasked on any.
func TestBoundOnOneOfTwoArrays(t *testing.T) {
	ctx := t.Context()
	s1, s2 := newSite(t), newSite(t)
	here := joined(s1.enroll("prod"), s2.enroll("prod"))
	there := joined(s1.enroll("backup"), s2.enroll("backup"))
	other := joined(s2.enroll("other"))
	l1, _ := s1.lun("prod")
	l2, _ := s2.lun("prod")
	set := vss.NewID()
	copies := create(t, here, set, transportable, []lun.Info{l1}, []lun.Info{l2})
	tk, err := here.IssueTicket(ctx, set, digest)
	if err != nil {
		t.Fatal(err)
	}
	half := provider.Import{SetID: set, ImportID: vss.NewID(), Ticket: tk[len(tk)/2:], Digest: digest, LUNs: copies[1:]}
	if err := other.BeginImport(ctx, half); err != nil {
		t.Fatal(err)
	}
	if err := other.LocateLUNs(ctx, copies[1:]); err != nil {
		t.Fatal(err)
	}
	im := provider.Import{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies}
	if err := there.BeginImport(ctx, im); err != nil {
		t.Fatal(err)
	}
	wantCode(t, there.LocateLUNs(ctx, copies), vss.VSS_E_BAD_STATE)
	if b := s1.sets()[0].BoundHost; b != "" {
		t.Fatalf("the first array is bound to %q", b)
	}
	if err := other.ReleaseImport(ctx, set, half.ImportID); err != nil {
		t.Fatal(err)
	}
	if err := there.LocateLUNs(ctx, copies); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := there.ReleaseImport(ctx, set, im.ImportID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForeignLUNs(t *testing.T) {
	ctx := t.Context()
	p := joined()
	n, _ := identity.New("0123abcde")
	info := identity.Info(n)
	if ok, err := p.AreLUNsSupported(ctx, transportable, nil, []lun.Info{info}); ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := p.FillInLUNInfo(ctx, "", &info); ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := p.FillInLUNInfo(ctx, "", &lun.Info{}); ok || err != nil {
		t.Fatal(ok, err)
	}
	wantCode(t, p.BeginPrepareSnapshot(ctx, vss.NewID(), vss.NewID(), transportable, nil, []lun.Info{info}), vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER)
	wantCode(t, p.LocateLUNs(ctx, []lun.Info{info}), vss.VSS_E_PROVIDER_VETO)
	wantCode(t, p.OnLUNEmpty(ctx, "", info), vss.VSS_E_PROVIDER_VETO)
	_, err := p.IssueTicket(ctx, vss.NewID(), digest)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
	wantCode(t, p.AbortSnapshots(ctx, vss.NewID()), vss.S_OK)
	if pr := p.Properties(); pr.ProviderID != ProviderID || pr.Type != vss.PROV_HARDWARE {
		t.Fatalf("%+v", pr)
	}
}

// Every call at every state of provider.md 5 that the table does not allow is a
// veto, and leaves nothing behind unless the copies were durable.
func TestOrder(t *testing.T) {
	ctx := t.Context()
	s := newSite(t)
	c := s.enroll("prod")
	l, _ := s.lun("prod")
	type call struct {
		name string
		do   func(*Provider, vss.ID) error
	}
	path := []call{
		{"begin", func(p *Provider, id vss.ID) error {
			return p.BeginPrepareSnapshot(ctx, id, vss.NewID(), transportable, nil, []lun.Info{l})
		}},
		{"end", func(p *Provider, id vss.ID) error { return p.EndPrepareSnapshots(ctx, id) }},
		{"pre", func(p *Provider, id vss.ID) error { return p.PreCommitSnapshots(ctx, id) }},
		{"commit", func(p *Provider, id vss.ID) error { return p.CommitSnapshots(ctx, id) }},
		{"post", func(p *Provider, id vss.ID) error { return p.PostCommitSnapshots(ctx, id, 1) }},
		{"prefinal", func(p *Provider, id vss.ID) error { return p.PreFinalCommitSnapshots(ctx, id) }},
		{"postfinal", func(p *Provider, id vss.ID) error { return p.PostFinalCommitSnapshots(ctx, id) }},
	}
	for at := range len(path) + 1 {
		for next := 1; next < len(path); next++ {
			if next == at {
				continue
			}
			p, id := joined(c), vss.NewID()
			for i := range at {
				if err := path[i].do(p, id); err != nil {
					t.Fatal(err)
				}
			}
			wantCode(t, path[next].do(p, id), vss.VSS_E_PROVIDER_VETO)
			durable := at > 4
			if got := len(s.sets()) == 1; got != durable {
				t.Fatalf("after %s: %s: the set exists: %v", path[max(at-1, 0)].name, path[next].name, got)
			}
			if durable && at < len(path) {
				if err := path[at].do(p, id); err != nil {
					t.Fatalf("a stray call spoiled a set that is durable: %v", err)
				}
			}
			if err := c.AbortSet(ctx, id, true); err != nil {
				t.Fatal(err)
			}
		}
		// Abort, twice, at every state; a created set is left alone.
		p, id := joined(c), vss.NewID()
		for i := range at {
			if err := path[i].do(p, id); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := p.AbortSnapshots(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		if got, created := len(s.sets()) == 1, at == len(path); got != created {
			t.Fatalf("abort after %d calls: the set exists: %v", at, got)
		}
		_, state := p.State()
		if at > 0 && at < len(path) && state != vss.SS_ABORTED {
			t.Fatalf("aborted after %d calls it is %v", at, state)
		}
		if err := c.AbortSet(ctx, id, true); err != nil {
			t.Fatal(err)
		}
	}
	if s.files() != 1 {
		t.Fatalf("%d files are left", s.files())
	}
}

func TestNewSetReplacesUnfinished(t *testing.T) {
	ctx := t.Context()
	s := newSite(t)
	c := s.enroll("prod")
	l, _ := s.lun("prod")
	p := joined(c)
	begin := func(id vss.ID) {
		t.Helper()
		if err := p.BeginPrepareSnapshot(ctx, id, vss.NewID(), transportable, nil, []lun.Info{l}); err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := vss.NewID(), vss.NewID(), vss.NewID()
	begin(first)
	begin(second) // replaces a set the array never heard of
	wantCode(t, p.EndPrepareSnapshots(ctx, first), vss.VSS_E_PROVIDER_VETO)
	begin(second)
	if err := p.EndPrepareSnapshots(ctx, second); err != nil {
		t.Fatal(err)
	}
	begin(third) // replaces one that is prepared
	if len(s.sets()) != 0 || s.files() != 1 {
		t.Fatalf("the replaced set is there: %v", s.sets())
	}
	if err := p.AbortSnapshots(ctx, third); err != nil {
		t.Fatal(err)
	}
	// A durable set is not replaced: PostCommit, and no final commit.
	create1 := vss.NewID()
	begin(create1)
	for _, f := range []func(context.Context, vss.ID) error{p.EndPrepareSnapshots, p.PreCommitSnapshots, p.CommitSnapshots} {
		if err := f(ctx, create1); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.PostCommitSnapshots(ctx, create1, 1); err != nil {
		t.Fatal(err)
	}
	begin(vss.NewID())
	if len(s.sets()) != 1 {
		t.Fatal("a durable set was dropped by the next one")
	}
	// After a restart of the daemon, abort drops what is unfinished only.
	restarted := joined(c)
	if err := restarted.AbortSnapshots(ctx, create1); err != nil || len(s.sets()) != 1 {
		t.Fatal("a durable set was aborted after a restart", err)
	}
}

// An abort that arrives while EndPrepareSnapshots blocks ends it.
func TestAbortWhilePreparing(t *testing.T) {
	ctx := t.Context()
	s := newSite(t)
	p := joined(s.enroll("prod"))
	l, _ := s.lun("prod")
	id := vss.NewID()
	if err := p.BeginPrepareSnapshot(ctx, id, vss.NewID(), transportable, nil, []lun.Info{l}); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(t.TempDir(), "there")
	disarm, err := failpoint.Arm("array.prepare.after-intent=touch(" + mark + ")+sleep(30s)")
	if err != nil {
		t.Fatal(err)
	}
	defer disarm()
	ended := make(chan error, 1)
	go func() { ended <- p.EndPrepareSnapshots(ctx, id) }()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(mark); err == nil {
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Fatal("EndPrepareSnapshots does not reach the array")
		}
	}
	if err := p.AbortSnapshots(ctx, id); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-ended, vss.VSS_E_BAD_STATE)
	if len(s.sets()) != 0 || s.files() != 1 {
		t.Fatal("the aborted set is there")
	}
}

// A failure in any phase fails the set, in a code of the contract, and an abort
// leaves nothing.
func TestFailures(t *testing.T) {
	ctx := t.Context()
	s := newSite(t)
	c := s.enroll("prod")
	l, _ := s.lun("prod")
	for _, point := range []string{"array.prepare.before-intent", "array.prepare.after-targets", "array.precommit.before-count", "array.commit.after-clone",
		"array.postcommit.before-fsync", "array.postcommit.before-record", "array.postcommit.after-record"} {
		t.Run(point, func(t *testing.T) {
			p, id := joined(c), vss.NewID()
			disarm, err := failpoint.Arm(point + "=error")
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			err = p.BeginPrepareSnapshot(ctx, id, vss.NewID(), transportable, nil, []lun.Info{l})
			for _, f := range []func(context.Context, vss.ID) error{p.EndPrepareSnapshots, p.PreCommitSnapshots, p.CommitSnapshots,
				func(ctx context.Context, id vss.ID) error { return p.PostCommitSnapshots(ctx, id, 1) }} {
				if err == nil {
					err = f(ctx, id)
				}
			}
			if err == nil || !provider.Allowed(vss.CodeOf(err)) {
				t.Fatalf("got %v", err)
			}
			if err := p.AbortSnapshots(ctx, id); err != nil {
				t.Fatal(err)
			}
			if len(s.sets()) != 0 || s.files() != 1 {
				t.Fatalf("left: %v", s.sets())
			}
		})
	}
}

func TestStateChanges(t *testing.T) {
	ctx := t.Context()
	s := newSite(t)
	c := s.enroll("prod")
	p := joined(c)
	l, _ := s.lun("prod")
	copies := create(t, p, vss.NewID(), vss.CTX_BACKUP, []lun.Info{l})
	if err := p.LocateLUNs(ctx, copies); err != nil {
		t.Fatal(err)
	}
	change := func(f vss.HardwareOptions) {
		t.Helper()
		if err := p.OnLUNStateChange(ctx, copies, []lun.Info{l}, f); err != nil {
			t.Fatal(err)
		}
	}
	readOnly := func() bool {
		t.Helper()
		d, err := p.DescribeLUNs(ctx, copies)
		if err != nil {
			t.Fatal(err)
		}
		return d[0].ReadOnly
	}
	change(vss.ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY)
	if readOnly() {
		t.Fatal("no writable window")
	}
	change(vss.ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY)
	if !readOnly() {
		t.Fatal("the window stays open")
	}
	change(vss.ONLUNSTATECHANGE_NOTIFY_READ_WRITE)
	if readOnly() {
		t.Fatal("not broken")
	}
	wantCode(t, p.OnLUNEmpty(ctx, "", copies[0]), vss.E_ACCESSDENIED)
	change(vss.ONLUNSTATECHANGE_DO_MASK_LUNS)
	if luns, err := c.ReportLUNs(ctx); err != nil || len(luns) != 1 {
		t.Fatalf("%v, %v", luns, err)
	}
	wantCode(t, p.OnLUNStateChange(ctx, copies, []lun.Info{l, l}, vss.ONLUNSTATECHANGE_DO_MASK_LUNS), vss.E_INVALIDARG)
	wantCode(t, p.OnLUNStateChange(ctx, copies, nil, 1), vss.E_INVALIDARG)
}

// Calls from many goroutines in any order: no race, no deadlock, and after an
// abort nothing is left but what was finished.
func TestConcurrentCalls(t *testing.T) {
	s := newSite(t)
	c := s.enroll("prod")
	l, _ := s.lun("prod")
	p := joined(c)
	ids := []vss.ID{vss.NewID(), vss.NewID()}
	rapid.Check(t, func(rt *rapid.T) {
		calls := rapid.SliceOfN(rapid.IntRange(0, 11), 3, 8).Draw(rt, "calls")
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for _, k := range calls {
			id := ids[k%2]
			wg.Go(func() {
				var err error
				switch k / 2 {
				case 0, 1:
					err = p.BeginPrepareSnapshot(ctx, id, vss.NewID(), transportable, nil, []lun.Info{l})
				case 2:
					err = p.EndPrepareSnapshots(ctx, id)
				case 3:
					err = p.PreCommitSnapshots(ctx, id)
				case 4:
					err = p.CommitSnapshots(ctx, id)
				case 5:
					err = p.AbortSnapshots(ctx, id)
				}
				if err != nil && !provider.Allowed(vss.CodeOf(err)) {
					rt.Errorf("a code outside the contract: %v", err)
				}
			})
		}
		wg.Wait()
		if ctx.Err() != nil {
			rt.Fatal("deadlock")
		}
		for _, id := range ids {
			if err := p.AbortSnapshots(ctx, id); err != nil {
				rt.Fatal(err)
			}
		}
		if sets, err := s.admin.ListSets(ctx); err != nil || len(sets) != 0 {
			rt.Fatalf("left: %v, %v", sets, err)
		}
	})
}

func TestArrayDown(t *testing.T) {
	ctx := t.Context()
	s := newSite(t)
	p := joined(s.enroll("prod"))
	l, _ := s.lun("prod")
	id := vss.NewID()
	if err := p.BeginPrepareSnapshot(ctx, id, vss.NewID(), transportable, nil, []lun.Info{l}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	wantCode(t, p.EndPrepareSnapshots(ctx, id), vss.VSS_E_PROVIDER_VETO)
	_, err := p.AreLUNsSupported(ctx, transportable, nil, []lun.Info{l})
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO)
	wantCode(t, p.AbortSnapshots(ctx, id), vss.VSS_E_PROVIDER_VETO)
	wantCode(t, p.AbortSnapshots(ctx, vss.NewID()), vss.S_OK)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.AbortSnapshots(gone, vss.NewID()); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	wantCode(t, p.LocateLUNs(ctx, []lun.Info{l}), vss.VSS_E_PROVIDER_VETO)
}
