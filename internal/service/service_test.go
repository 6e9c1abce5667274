package service_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

const nasTransportable = vss.CTX_NAS_ROLLBACK | vss.Context(vss.ATTR_TRANSPORTABLE)

// child starts the test binary as a client and waits for its first line.
func (m *machine) child(user uint32, job ...string) (*exec.Cmd, string) {
	m.T.Helper()
	exe := os.Args[0]
	if user != 0 { // who may not read where go test builds
		b, err := os.ReadFile(exe)
		if err != nil {
			m.T.Fatal(err)
		}
		exe = filepath.Join(m.Dir, "child")
		if err := os.WriteFile(exe, b, 0o755); err != nil {
			m.T.Fatal(err)
		}
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(job, " "))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.T.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.T.Fatal(err)
	}
	m.T.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var line string
	_, _ = fmt.Fscanln(out, &line)
	return cmd, line
}

// TestOrderOfCalls walks one object through creation, and asks in between for
// what is not its turn (requester.md 2.2, 2.3).
func TestOrderOfCalls(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	l := m.A.Add(servicetest.Size, servicetest.Ext4())
	m.Host.AddVolume("/srv/v", l)
	bc := m.Open()
	_, err := bc.StartSnapshotSet(ctx)
	is(t, "StartSnapshotSet of a new object", err, vss.VSS_E_BAD_STATE)
	is(t, "AbortBackup of a new object", bc.AbortBackup(ctx), vss.VSS_E_BAD_STATE)
	is(t, "InitializeForBackup", bc.InitializeForBackup(ctx, nil), vss.S_OK)
	is(t, "InitializeForBackup again", bc.InitializeForBackup(ctx, nil), vss.VSS_E_BAD_STATE)
	is(t, "InitializeForRestore after it", bc.InitializeForRestore(ctx, nil), vss.VSS_E_BAD_STATE)
	_, err = bc.ImportSnapshots(ctx)
	is(t, "ImportSnapshots without a document", err, vss.VSS_E_BAD_STATE)
	is(t, "SetContext of nonsense", bc.SetContext(ctx, 0x40000000), vss.E_INVALIDARG)
	is(t, "SetContext", bc.SetContext(ctx, vss.CTX_APP_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE)), vss.S_OK)
	is(t, "SetContext again", bc.SetContext(ctx, vss.CTX_NAS_ROLLBACK), vss.VSS_E_BAD_STATE)
	_, err = bc.AddToSnapshotSet(ctx, "/srv/v", vss.GUIDNull)
	is(t, "AddToSnapshotSet without a set", err, vss.VSS_E_BAD_STATE)
	is(t, "AbortBackup with nothing under way", bc.AbortBackup(ctx), vss.S_OK)
	ok, err := bc.IsVolumeSupported(ctx, vss.GUIDNull, "/srv/v")
	if is(t, "IsVolumeSupported", err, vss.S_OK); !ok {
		t.Error("not supported")
	}
	wait(t, "GatherWriterMetadata", vss.VSS_S_ASYNC_FINISHED)(bc.GatherWriterMetadata(ctx))
	_, err = bc.GatherWriterMetadata(ctx)
	is(t, "GatherWriterMetadata again", err, vss.VSS_E_BAD_STATE)
	_, err = bc.PrepareForBackup(ctx)
	is(t, "PrepareForBackup without a set", err, vss.VSS_E_BAD_STATE)
	if _, err = bc.StartSnapshotSet(ctx); err != nil {
		t.Fatal(err)
	}
	other := m.Initialised(nasTransportable)
	_, err = other.StartSnapshotSet(ctx)
	is(t, "a second set on the machine", err, vss.VSS_E_SNAPSHOT_SET_IN_PROGRESS)
	_, err = bc.AddToSnapshotSet(ctx, "/nowhere", vss.GUIDNull)
	is(t, "AddToSnapshotSet of no volume", err, vss.VSS_E_OBJECT_NOT_FOUND)
	_, err = bc.AddToSnapshotSet(ctx, "/srv/v", vss.NewID())
	is(t, "AddToSnapshotSet of an unknown provider", err, vss.VSS_E_PROVIDER_NOT_REGISTERED)
	_, err = bc.AddToSnapshotSet(ctx, "/srv/v", m.B.ID)
	is(t, "AddToSnapshotSet of a provider that cannot", err, vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER)
	if _, err = bc.AddToSnapshotSet(ctx, "/srv/v", vss.GUIDNull); err != nil {
		t.Fatal(err)
	}
	_, err = bc.PrepareForBackup(ctx)
	is(t, "PrepareForBackup without SetBackupState", err, vss.VSS_E_BAD_STATE)
	_, err = bc.DoSnapshotSet(ctx)
	is(t, "DoSnapshotSet without PrepareForBackup", err, vss.VSS_E_BAD_STATE)
	_, err = bc.SaveAsXML(ctx)
	is(t, "SaveAsXML before PrepareForBackup", err, vss.VSS_E_BAD_STATE)
	is(t, "SetBackupState of nonsense", bc.SetBackupState(ctx, true, false, 99, false), vss.E_INVALIDARG)
	is(t, "SetBackupState", bc.SetBackupState(ctx, true, false, vss.BT_FULL, false), vss.S_OK)
	wait(t, "PrepareForBackup", vss.VSS_S_ASYNC_FINISHED)(bc.PrepareForBackup(ctx))
	_, err = bc.AddToSnapshotSet(ctx, "/srv/v", vss.GUIDNull)
	is(t, "AddToSnapshotSet after PrepareForBackup", err, vss.VSS_E_BAD_STATE)
	_, err = bc.SaveAsXML(ctx)
	is(t, "SaveAsXML", err, vss.S_OK)
	m.A.Fail("EndPrepareSnapshots", &vss.Error{Code: vss.VSS_E_INSUFFICIENT_STORAGE, Op: "EndPrepareSnapshots", Object: m.A.Name, Reason: "it is full", Remedy: "Delete copies"})
	wait(t, "DoSnapshotSet that fails", vss.VSS_E_INSUFFICIENT_STORAGE)(bc.DoSnapshotSet(ctx))
	_, err = bc.BackupComplete(ctx)
	is(t, "BackupComplete after a failure", err, vss.VSS_E_BAD_STATE)
	_, err = bc.DoSnapshotSet(ctx)
	is(t, "DoSnapshotSet again", err, vss.VSS_E_BAD_STATE)
	is(t, "AbortBackup after a failure", bc.AbortBackup(ctx), vss.S_OK)
	is(t, "Close", bc.Close(), vss.S_OK)
	is(t, "Close again", bc.Close(), vss.S_OK)
	_, err = bc.QueryProviders(ctx)
	is(t, "a call after Close", err, vss.VSS_E_BAD_STATE)
	// The place for a set is free again.
	_, err = other.StartSnapshotSet(ctx)
	is(t, "StartSnapshotSet", err, vss.S_OK)
	_, err = other.PrepareForBackup(ctx)
	is(t, "PrepareForBackup without writers", err, vss.VSS_E_BAD_STATE)
	is(t, "AbortBackup", other.AbortBackup(ctx), vss.S_OK)
	_, err = other.StartSnapshotSet(ctx)
	is(t, "a second set of one object", err, vss.VSS_E_BAD_STATE)

	all := m.Initialised(vss.CTX_ALL)
	_, err = all.StartSnapshotSet(ctx)
	is(t, "StartSnapshotSet in context all", err, vss.VSS_E_BAD_STATE)
	ps, err := all.QueryProviders(ctx)
	if err != nil || len(ps) != 2 {
		t.Errorf("providers %v, %v", ps, err)
	}
	_, err = all.GetSnapshotProperties(ctx, vss.NewID())
	is(t, "properties of nothing", err, vss.VSS_E_OBJECT_NOT_FOUND)
	r := m.Open()
	xml, _ := document.Marshal(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	is(t, "InitializeForRestore", r.InitializeForRestore(ctx, xml), vss.S_OK)
	_, err = r.ImportSnapshots(ctx)
	is(t, "ImportSnapshots in a restore", err, vss.VSS_E_BAD_STATE)
	is(t, "a document that is none", m.Open().InitializeForBackup(ctx, []byte("<x/>")), vss.VSS_E_INVALID_XML_DOCUMENT)
}

func wait(t *testing.T, what string, want vss.HResult) func(*requester.Async, error) {
	return func(a *requester.Async, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if code, err := a.Wait(t.Context()); code != want {
			t.Errorf("%s: %v, %v, want %v", what, code, err, want)
		}
		if err := a.Release(t.Context()); err != nil {
			t.Error(err)
		}
		_, err = a.QueryStatus(t.Context())
		is(t, what+" after Release", err, vss.VSS_E_BAD_STATE)
	}
}

// TestImportOverTheWire: the document A wrote is all that B needs.
func TestImportOverTheWire(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A, m.B)
	bc := m.Loaded(d)
	is(t, "SetContext", bc.SetContext(ctx, vss.CTX_ALL), vss.S_OK)
	is(t, "SetBackupState", bc.SetBackupState(ctx, true, true, vss.BT_FULL, false), vss.S_OK)
	items, err := bc.CheckImport(ctx)
	for _, i := range items {
		if !i.OK {
			t.Errorf("check: %+v", i)
		}
	}
	if err != nil || len(items) < 5 {
		t.Errorf("check: %v, %v", items, err)
	}
	before, _ := document.Marshal(d)
	if after, err := bc.SaveAsXML(ctx); err != nil || string(after) != string(before) {
		t.Errorf("the loaded document is not the original any more: %v", err)
	}
	op, err := bc.ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = bc.ImportSnapshots(ctx)
	is(t, "ImportSnapshots twice", err, vss.VSS_E_BAD_STATE)
	last := requester.Progress{}
	if err := op.Follow(ctx, func(p requester.Progress) { last = p }); err != nil || last.Result != vss.VSS_S_ASYNC_FINISHED {
		t.Errorf("progress %+v, %v", last, err)
	}
	s, err := op.Status(ctx)
	if err != nil || s.Code != vss.VSS_S_ASYNC_FINISHED || len(s.Copies) != 2 || len(s.Timeline) == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	p, err := bc.GetSnapshotProperties(ctx, d.Set.Snapshots[0].ID)
	if err != nil || !p.Attributes.Has(vss.ATTR_IMPORTED) || p.DeviceObject == "" {
		t.Errorf("%+v, %v", p, err)
	}
	if ps, err := bc.QuerySnapshots(ctx); err != nil || len(ps) != 2 {
		t.Errorf("%v, %v", ps, err)
	}
	if ps, err := m.Initialised(vss.CTX_NAS_ROLLBACK).QuerySnapshots(ctx); err != nil || len(ps) != 0 {
		t.Errorf("another context sees %v, %v", ps, err)
	}
	is(t, "Close", bc.Close(), vss.S_OK)
	if n, _, _ := m.Count(); n != 2 {
		t.Errorf("%d persistent copies after Close", n)
	}
	adm := m.Initialised(vss.CTX_ALL)
	n, failed, err := adm.DeleteSnapshots(ctx, d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false)
	if n != 2 || !failed.IsNull() || err != nil {
		t.Errorf("%d, %v, %v", n, failed, err)
	}
}

// TestWait is requester.md 4.2 and 8, rows 6 and 7.
func TestWait(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
	gate := make(chan struct{})
	m.A.On("LocatedLUNs", func(ctx context.Context) error {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "no", Remedy: "Ask"}
	})
	bc := m.Loaded(d)
	op, err := bc.ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := op.WaitFor(ctx, 10*time.Millisecond); err != nil || s.Code != vss.VSS_S_ASYNC_PENDING || s.EndedBeforeCall {
		t.Errorf("time-out: %+v, %v", s, err)
	}
	if code, err := op.QueryStatus(ctx); code != vss.VSS_S_ASYNC_PENDING || err != nil {
		t.Errorf("pending: %v, %v", code, err)
	}
	gone, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := op.Wait(gone); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("caller gave up: %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { close(gate) })
	if s, err := op.WaitFor(ctx, requester.Infinite); err != nil || s.Code != vss.VSS_E_PROVIDER_VETO || s.EndedBeforeCall {
		t.Errorf("failed while waited for: %+v, %v", s, err)
	}
	if s, err := op.WaitFor(ctx, requester.Infinite); err != nil || s.Code != vss.VSS_E_PROVIDER_VETO || !s.EndedBeforeCall || s.Err.EventID == "" {
		t.Errorf("ended before: %+v, %v", s, err)
	}
	if code, err := op.Cancel(ctx); code != vss.VSS_E_PROVIDER_VETO || vss.CodeOf(err) != code {
		t.Errorf("Cancel of a failure: %v, %v", code, err)
	}
}

// TestReleaseDoesNotStop: letting go of the handle lets the operation go on.
func TestReleaseDoesNotStop(t *testing.T) {
	m := newMachine(t)
	gate := make(chan struct{})
	m.A.On("LocatedLUNs", func(context.Context) error { <-gate; return nil })
	bc := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	op, err := bc.ImportSnapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	is(t, "Release", op.Release(t.Context()), vss.S_OK)
	// A second import meets it, and another queues.
	d2 := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.B)
	bc2 := m.Loaded(d2)
	_, err = bc2.ImportSnapshots(t.Context())
	if is(t, "import beside an import", err, vss.VSS_E_BAD_STATE); !errors.Is(err, vss.ErrImportInProgress) {
		t.Errorf("%v is not ErrImportInProgress", err)
	}
	op2, err := bc2.ImportSnapshotsQueued(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := op2.WaitFor(t.Context(), 20*time.Millisecond); s.Code != vss.VSS_S_ASYNC_PENDING {
		t.Errorf("queued: %+v", s)
	}
	close(gate)
	if code, err := op2.Wait(t.Context()); code != vss.VSS_S_ASYNC_FINISHED {
		t.Errorf("queued: %v, %v", code, err)
	}
	if n, _, _ := m.Count(); n != 2 {
		t.Errorf("%d copies", n)
	}
}

// TestAutoRelease: copies go with their session, not with another.
func TestAutoRelease(t *testing.T) {
	m := newMachine(t)
	bc := m.Imported(servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.A, m.B), vss.VSS_S_ASYNC_FINISHED)
	is(t, "Close of another", m.Open().Close(), vss.S_OK)
	if n, _, _ := m.Count(); n != 2 {
		t.Fatalf("%d copies", n)
	}
	is(t, "Close", bc.Close(), vss.S_OK)
	if c, l, i := m.Count(); c+l+i != 0 || len(m.A.Names())+len(m.B.Names())+len(m.Host.Attached())+len(m.Host.Hidden()) != 0 {
		t.Errorf("%d copies, %d LUNs, %d intents left", c, l, i)
	}
}

// TestCloseWaitsForItsOwn: another session's release, which waits for an
// import, is not waited for.
func TestCloseWaitsForItsOwn(t *testing.T) {
	m := newMachine(t)
	gate := make(chan struct{})
	m.A.On("LocatedLUNs", func(context.Context) error { <-gate; return nil })
	slow := m.Loaded(servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.A))
	if _, err := slow.ImportSnapshots(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- slow.Close() }()
	m.Eventually("the slow release", func() bool {
		s, err := requester.NewHost(requester.Endpoint(m.Socket)).Status(t.Context())
		return err == nil && s.Sessions == 0
	})
	begin := time.Now()
	is(t, "Close", m.Open().Close(), vss.S_OK)
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
	select {
	case err := <-closed:
		t.Errorf("the import was not waited for: %v", err)
	default:
	}
	close(gate)
	is(t, "slow Close", <-closed, vss.S_OK)
	if n, _, _ := m.Count(); n != 0 {
		t.Errorf("%d auto-release copies left", n)
	}
}

// TestClientKilled: the lease ends with the process. A set is aborted; an
// import goes on, and what it maps is released after.
func TestClientKilled(t *testing.T) {
	m := newMachine(t)
	m.Host.AddVolume("/srv/v", m.A.Add(servicetest.Size, servicetest.Ext4()))
	cmd, line := m.child(0, "create", m.Socket, "/srv/v")
	if line != "ready" {
		t.Fatal(line)
	}
	_ = cmd.Process.Kill()
	m.Eventually("AbortSnapshots", func() bool { return m.Journal.Count("AbortSnapshots") == 1 })
	bc := m.Initialised(nasTransportable)
	m.Eventually("the place for a set", func() bool { _, err := bc.StartSnapshotSet(t.Context()); return err == nil })

	gate := make(chan struct{})
	m.A.On("LocatedLUNs", func(context.Context) error { <-gate; return nil })
	d := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.A)
	xml, _ := document.Marshal(d)
	path := filepath.Join(m.Dir, "set.umbra")
	if err := os.WriteFile(path, xml, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, line = m.child(0, "import", m.Socket, path)
	if line != "ready" {
		t.Fatal(line)
	}
	_ = cmd.Process.Kill()
	time.Sleep(50 * time.Millisecond)
	close(gate)
	m.Eventually("import.done", func() bool { return m.HasEvent("import.done") })
	m.Eventually("the release", func() bool { n, l, _ := m.Count(); return n+l == 0 })
}

func TestAccessDenied(t *testing.T) {
	m := newMachine(t)
	_, line := m.child(65534, "open", m.Socket)
	if line != fmt.Sprint(uint32(vss.E_ACCESSDENIED)) {
		t.Errorf("answer to an unprivileged user: %q", line)
	}
}

// TestQuotas: beyond them calls answer E_OUTOFMEMORY, give everything back,
// and the service goes on.
func TestQuotas(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
	imp := m.Loaded(d)

	// Operations nobody releases. The raw client makes them cheaply.
	c := vssv1connect.NewShadowCopyServiceClient(rpc.UnixClient(m.Socket), "http://x", connect.WithInterceptors(rpc.Interceptor()))
	var mu sync.Mutex
	var tokens []string
	lease, end := context.WithCancel(ctx)
	defer end()
	openRaw := func() error {
		s, err := c.OpenSession(lease, connect.NewRequest(&vssv1.OpenSessionRequest{}))
		if err == nil && !s.Receive() {
			err = rpc.StreamError(ctx, "open", s.Err())
		}
		if err == nil {
			mu.Lock()
			tokens = append(tokens, s.Msg().Token)
			mu.Unlock()
		}
		return err
	}
	var err error
	for len(tokens) < service.MaxSessions && err == nil {
		err = openRaw()
	}
	is(t, "one session too many", err, vss.E_OUTOFMEMORY)
	if len(tokens) != service.MaxSessions-1 {
		t.Errorf("%d sessions", len(tokens))
	}
	m.Service.FillOperations(service.MaxOperations)
	_, err = imp.ImportSnapshots(ctx)
	is(t, "one operation too many", err, vss.E_OUTOFMEMORY)
	m.Service.FillOperations(-service.MaxOperations)
	// The refused call gave its state and its place back.
	op, err := imp.ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if code, err := op.Wait(ctx); code != vss.VSS_S_ASYNC_FINISHED {
		t.Errorf("%v, %v", code, err)
	}
	end()
	m.Eventually("sessions to end", func() bool {
		bc, err := requester.CreateBackupComponents(ctx, requester.Endpoint(m.Socket))
		_ = closeIf(bc)
		return err == nil
	})
	is(t, "Close", imp.Close(), vss.S_OK)
	if n := m.Service.Operations(); n != 0 {
		t.Errorf("%d operations of sessions that are gone", n)
	}
}

func closeIf(bc *requester.BackupComponents) error {
	if bc == nil {
		return nil
	}
	return bc.Close()
}

// TestStop: the service releases its sessions before it ends, and serves on in
// its next life.
func TestStop(t *testing.T) {
	m := newMachine(t)
	m.Imported(servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.A), vss.VSS_S_ASYNC_FINISHED)
	kept := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.B)
	m.Imported(kept, vss.VSS_S_ASYNC_FINISHED)
	m.Stop()
	if len(m.A.Names()) != 0 || len(m.B.Names()) != 1 {
		t.Errorf("LUNs %v %v", m.A.Names(), m.B.Names())
	}
	m.Boot("boot1")
	if p, err := m.Initialised(vss.CTX_ALL).GetSnapshotProperties(t.Context(), kept.Set.Snapshots[0].ID); err != nil || p.BlockDevice == "" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestDocumentAgain: a lost document is not a lost set.
func TestDocumentAgain(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
	err := m.Catalog.Update(ctx, func(t *catalog.Tx) error {
		return t.PutSet(catalog.Set{ID: d.Set.ID, Role: catalog.Created, State: catalog.SetCreated, Description: d.Set})
	})
	if err != nil {
		t.Fatal(err)
	}
	h := requester.NewHost(requester.Endpoint(m.Socket))
	defer h.Close()
	xml, err := h.Document(ctx, d.Set.ID)
	if err != nil {
		t.Fatal(err)
	}
	again, err := document.Read(xml)
	if err != nil || again.Set.Digest() != d.Set.Digest() || again.Context != d.Context {
		t.Fatalf("%+v, %v", again, err)
	}
	m.Imported(again, vss.VSS_S_ASYNC_FINISHED)
	_, err = h.Document(ctx, vss.NewID())
	is(t, "of an unknown set", err, vss.VSS_E_OBJECT_NOT_FOUND)
	_ = m.Catalog.Update(ctx, func(t *catalog.Tx) error {
		return t.PutSet(catalog.Set{ID: d.Set.ID, Role: catalog.Created, State: catalog.SetDeleted, Description: d.Set})
	})
	_, err = h.Document(ctx, d.Set.ID)
	is(t, "of a deleted set", err, vss.VSS_E_OBJECT_NOT_FOUND)
}
