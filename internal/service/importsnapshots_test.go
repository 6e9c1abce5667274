package service_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/document"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// One test per code of the ImportSnapshots page, and one per remark; each begins
// with the sentence it shows. docs/api/importsnapshots.md refers to them.

// "Successfully returned a pointer to an instance of the IVssAsync interface.
// Refer to the reference page for IVssAsync::QueryStatus for the error codes
// returned in the pHrResult parameter."
func TestImportSnapshots_S_OK(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	gate := make(chan struct{})
	m.A.On("LocatedLUNs", func(ctx context.Context) error { <-gate; return nil })
	op, err := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)).ImportSnapshots(ctx)
	if err != nil || op == nil {
		t.Fatalf("the call: %v, %v", op, err)
	}
	if code, err := op.QueryStatus(ctx); code != vss.VSS_S_ASYNC_PENDING || err != nil {
		t.Errorf("while it runs pHrResult is %v, %v", code, err)
	}
	close(gate)
	if code, err := op.Wait(ctx); code != vss.VSS_S_ASYNC_FINISHED || err != nil {
		t.Errorf("then %v, %v", code, err)
	}
}

// QueryStatus carries what the page leaves to it (requester.md 3.4): the call
// itself has succeeded.
func TestImportSnapshots_QueryStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(m *machine) *document.Document
		want vss.HResult
	}{
		{"not transportable", func(m *machine) *document.Document {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
			d.Set.Attributes &^= vss.ATTR_TRANSPORTABLE
			for i := range d.Set.Snapshots {
				d.Set.Snapshots[i].Attributes &^= vss.ATTR_TRANSPORTABLE
			}
			return d
		}, vss.VSS_E_NONTRANSPORTABLE_BCD},
		{"software provider", func(m *machine) *document.Document {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
			d.Set.Snapshots[0].LUNs = nil
			return d
		}, vss.VSS_E_NONTRANSPORTABLE_BCD},
		{"provider not here", func(m *machine) *document.Document {
			return servicetest.NewSet(vss.CTX_APP_ROLLBACK, servicetest.NewArray(3, m.Journal))
		}, vss.VSS_E_PROVIDER_NOT_REGISTERED},
		{"provider refuses", func(m *machine) *document.Document {
			m.A.Fail("LocateLUNs", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "no", Remedy: "Ask the array"})
			return servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
		}, vss.VSS_E_PROVIDER_VETO},
		{"provider answers what it may not", func(m *machine) *document.Document {
			m.A.Fail("LocateLUNs", errors.New("boom"))
			return servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
		}, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR},
		{"one of two does not arrive", func(m *machine) *document.Document {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A, m.A)
			m.Host.Delay(d.Set.Snapshots[1].LUNs[0].Target.Name(), servicetest.Never)
			return d
		}, vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED},
		{"none arrives", func(m *machine) *document.Document {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
			m.Host.Delay(d.Set.Snapshots[0].LUNs[0].Target.Name(), servicetest.Never)
			return d
		}, vss.VSS_E_NO_SNAPSHOTS_IMPORTED},
		{"one of two providers refuses", func(m *machine) *document.Document {
			m.B.Fail("LocateLUNs", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "no", Remedy: "Ask the array"})
			return servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A, m.B)
		}, vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			d := c.set(m)
			servicetest.Sign(d)
			op, err := m.Loaded(d).ImportSnapshots(t.Context())
			if err != nil {
				t.Fatalf("the call: %v", err)
			}
			code, err := op.Wait(t.Context())
			if code != c.want {
				t.Fatalf("pHrResult %v, %v, want %v", code, err, c.want)
			}
			// The event for every failure: session, set, LUN or provider, remedy.
			is(t, "the details", err, c.want)
			e := vss.AsError("", err)
			evs := m.events("")
			var found bool
			for _, ev := range evs {
				found = found || ev.Id == e.EventID && vss.ID(ev.SetId) == d.Set.ID && ev.Session != "" && ev.Error != nil && ev.Error.Remedy != ""
			}
			if e.EventID == "" || !found {
				t.Errorf("no event %q with session, set and remedy: %+v", e.EventID, evs)
			}
			st, _ := op.Status(t.Context())
			for _, s := range st.Copies {
				if s.Code == vss.S_OK {
					continue
				}
				named := false
				for _, ev := range evs {
					named = named || ev.Name == "import.copy-failed" && ev.Object == s.LUN && strings.Contains(ev.Message, "array") && ev.Error != nil && ev.Error.Remedy != ""
				}
				if !named {
					t.Errorf("no event names LUN %s, provider and remedy: %+v", s.LUN, evs)
				}
			}
		})
	}
}

// events are the entries of the event log, or the one with an ID.
func (m *machine) events(id string) []*vssv1.Event {
	m.T.Helper()
	h := vssv1connect.NewHostServiceClient(rpc.UnixClient(m.Socket), "http://x", connect.WithInterceptors(rpc.Interceptor()))
	res, err := h.ListEvents(context.Background(), connect.NewRequest(&vssv1.ListEventsRequest{Id: id, Limit: 1000}))
	if err != nil {
		m.T.Fatal(err)
	}
	return res.Msg.Events
}

// "The caller does not have sufficient backup privileges or is not an
// administrator."
func TestImportSnapshots_E_ACCESSDENIED(t *testing.T) {
	m := newMachine(t)
	// An object that is ready to import: only who calls is wrong.
	c := vssv1connect.NewShadowCopyServiceClient(rpc.UnixClient(m.Socket), "http://x", connect.WithInterceptors(rpc.Interceptor()))
	lease, err := c.OpenSession(t.Context(), connect.NewRequest(&vssv1.OpenSessionRequest{}))
	if err != nil || !lease.Receive() {
		t.Fatal(err, lease.Err())
	}
	token := lease.Msg().Token
	xml, err := document.Marshal(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.InitializeForBackup(t.Context(), connect.NewRequest(&vssv1.InitializeRequest{Token: token, Document: xml})); err != nil {
		t.Fatal(err)
	}
	if got := importAs(t, m, 65534, token); got != vss.E_ACCESSDENIED {
		t.Errorf("user 65534: %v", got)
	}
	if n := m.Journal.Count("LocateLUNs"); n != 0 {
		t.Errorf("LocateLUNs was called %d times", n)
	}
	if got := importAs(t, m, 0, token); got != vss.S_OK {
		t.Errorf("root: %v", got)
	}
}

const importerEnv = "SERVICE_TEST_IMPORTER"

// init is the client of importAs: SOCKET TOKEN.
func init() {
	job := os.Getenv(importerEnv)
	if job == "" {
		return
	}
	socket, token, _ := strings.Cut(job, " ")
	c := vssv1connect.NewShadowCopyServiceClient(rpc.UnixClient(socket), "http://x", connect.WithInterceptors(rpc.Interceptor()))
	_, err := c.ImportSnapshots(context.Background(), connect.NewRequest(&vssv1.ImportRequest{Token: token}))
	fmt.Println(uint32(vss.CodeOf(err)))
	os.Exit(0)
}

// importAs calls ImportSnapshots of an object in a process of another user.
func importAs(t *testing.T, m *machine, uid uint32, token string) vss.HResult {
	t.Helper()
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(m.Dir, "importer")
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), importerEnv+"="+m.Socket+" "+token)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	var code uint32
	if _, serr := fmt.Sscan(string(out), &code); err != nil || serr != nil {
		t.Fatalf("the client as user %d: %q, %v", uid, out, err)
	}
	return vss.HResult(code)
}

// "The caller is out of memory or other system resources." Here a quota of one;
// a daemon out of descriptors is in test/e2e.
func TestImportSnapshots_E_OUTOFMEMORY(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	m.Service.Limits.Operations = 1
	first := m.Imported(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A), vss.VSS_S_ASYNC_FINISHED) // not released
	second := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	_, err := second.ImportSnapshots(ctx)
	is(t, "one more operation than the quota", err, vss.E_OUTOFMEMORY)
	// The service lives, and the refused call can be made again.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	op, err := second.ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if code, err := op.Wait(ctx); code != vss.VSS_S_ASYNC_FINISHED {
		t.Errorf("%v, %v", code, err)
	}

	m.Service.Limits.Sessions = 1
	_, err = requester.CreateBackupComponents(ctx, requester.Endpoint(m.Socket))
	is(t, "one more object than the quota", err, vss.E_OUTOFMEMORY)
}

// What runs out in the middle is pHrResult E_OUTOFMEMORY, and nothing is lost.
func TestImportSnapshots_OutOfResourcesOnTheWay(t *testing.T) {
	for _, step := range []string{"Hide", "Watch", "Enumerate", "Rescan", "SetReadOnly", "Probe"} {
		t.Run(step, func(t *testing.T) {
			m := newMachine(t)
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
			if step == "Enumerate" {
				m.Host.Fail("Rescan", errors.New("try enumerating"))
			}
			m.Host.Fail(step, &os.PathError{Op: "open", Path: "/dev/x", Err: syscall.EMFILE})
			op, err := m.Loaded(d).ImportSnapshots(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			code, err := op.Wait(t.Context())
			if code != vss.E_OUTOFMEMORY {
				t.Fatalf("pHrResult %v, %v", code, err)
			}
			is(t, "the details", err, vss.E_OUTOFMEMORY)
			if e := vss.AsError("", err); e.EventID == "" {
				t.Errorf("no event: %+v", e)
			}
		})
	}
}

// "The backup components object is not initialized, this method has been called
// during a restore operation, or this method has not been called from within
// the correct sequence."
func TestImportSnapshots_VSS_E_BAD_STATE(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	xml, err := document.Marshal(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	if err != nil {
		t.Fatal(err)
	}
	released := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	if err := released.Close(); err != nil {
		t.Fatal(err)
	}
	restoring := m.Open()
	if err := restoring.InitializeForRestore(ctx, xml); err != nil {
		t.Fatal(err)
	}
	m.Host.AddVolume("/srv/v", m.A.Add(servicetest.Size, servicetest.Ext4()))
	creating := m.Initialised(nasTransportable)
	if _, err := creating.StartSnapshotSet(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		bc   *requester.BackupComponents
	}{
		{"before InitializeForBackup", m.Open()},
		{"without a document", m.Initialised(vss.CTX_ALL)},
		{"during a restore", restoring},
		{"after a snapshot set was started", creating},
		{"a second time", m.Imported(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A), vss.VSS_S_ASYNC_FINISHED)},
		{"after its release", released},
	} {
		before := m.Journal.Count("LocateLUNs")
		_, err := c.bc.ImportSnapshots(ctx)
		is(t, c.name, err, vss.VSS_E_BAD_STATE)
		if n := m.Journal.Count("LocateLUNs"); n != before {
			t.Errorf("%s: LocateLUNs was called", c.name)
		}
	}
}

// "Unexpected error. The error code is logged in the error log file." The event
// exists before the client sees the code, and the error has its number.
func TestImportSnapshots_VSS_E_UNEXPECTED(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	bc := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	importer := m.Service.Importer
	m.Service.Importer = nil // a defect: the handler panics
	_, err := bc.ImportSnapshots(ctx)
	m.Service.Importer = importer
	m.logged("a panic in the call", err)

	m.A.On("LocatedLUNs", func(context.Context) error { panic("a defect in a provider") })
	op, err := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)).ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = op.Wait(ctx)
	m.logged("a panic in the operation", err)
	m.A.On("LocatedLUNs", nil)

	m.Host.Fail("Hide", errors.New("nobody thought of this"))
	op, err = m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)).ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = op.Wait(ctx)
	m.logged("an error nobody classified", err)
	m.Host.On("Hide", nil)
	m.Imported(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A), vss.VSS_S_ASYNC_FINISHED) // the service lives
}

// logged asserts that an error is VSS_E_UNEXPECTED and that its event is found
// by the number it carries.
func (m *machine) logged(what string, err error) {
	m.T.Helper()
	is(m.T, what, err, vss.VSS_E_UNEXPECTED)
	if !errors.Is(err, vss.E_UNEXPECTED) {
		m.T.Errorf("%s does not match the old code", what)
	}
	e := vss.AsError("", err)
	if e.EventID == "" || len(m.events(e.EventID)) != 1 {
		m.T.Errorf("%s: event %q: %v", what, e.EventID, m.events(e.EventID))
	}
}

// "Only one shadow copy can be imported at a time. The requester is responsible
// for serializing the import shadow copy operation." A second import is refused
// with the page's own code, and can be told from other bad states; the umbra
// command queues instead.
func TestImportSnapshots_OneAtATime(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	gate := make(chan struct{})
	m.A.On("LocatedLUNs", func(context.Context) error { <-gate; return nil })
	first, err := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)).ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	second := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.B))
	_, err = second.ImportSnapshots(ctx)
	is(t, "a second import", err, vss.VSS_E_BAD_STATE)
	if !errors.Is(err, vss.ErrImportInProgress) {
		t.Errorf("not to be told from other bad states: %v", err)
	}
	close(gate)
	if code, err := first.Wait(ctx); code != vss.VSS_S_ASYNC_FINISHED {
		t.Errorf("the first: %v, %v", code, err)
	}
	op, err := second.ImportSnapshots(ctx) // refused, not used up
	if err != nil {
		t.Fatal(err)
	}
	if code, err := op.Wait(ctx); code != vss.VSS_S_ASYNC_FINISHED {
		t.Errorf("the second, once the first is done: %v, %v", code, err)
	}
}

// "The caller is responsible for releasing the IVssAsync interface." Letting go
// of it does not stop the import.
func TestImportSnapshots_Release(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	gate := make(chan struct{})
	m.A.On("LocatedLUNs", func(context.Context) error { <-gate; return nil })
	bc := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	op, err := bc.ImportSnapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Release(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = op.QueryStatus(ctx)
	is(t, "QueryStatus after Release", err, vss.VSS_E_BAD_STATE)
	close(gate)
	m.Eventually("the import's end", func() bool { return m.HasEvent("import.done") })
}

// "If the shadow copy import fails, the Volume Shadow Copy Service won't clean
// up LUNs on it's own. The requester has to initiate the cleanup of LUNs."
func TestImportSnapshots_LeavesLUNs(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.A)
	lun := d.Set.Snapshots[0].LUNs[0].Target.Name()
	m.Host.Delay(lun, servicetest.Never)
	bc := m.Imported(d, vss.VSS_E_NO_SNAPSHOTS_IMPORTED)
	if err := bc.Close(); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	m.Boot("boot2")
	time.Sleep(50 * time.Millisecond)
	orphans := func() int {
		h := requester.NewHost(requester.Endpoint(m.Socket))
		defer h.Close()
		ls, err := h.LUNs(ctx, true)
		if err != nil {
			t.Fatal(err)
		}
		return len(ls)
	}
	if l, ok := m.A.LUN(lun); !ok || !l.Unmasked || orphans() != 1 {
		t.Errorf("after release and restart: LUN %+v, %d listed", l, orphans())
	}
	cleaner := m.Initialised(vss.CTX_ALL)
	if _, err := cleaner.CleanupImport(ctx, d.Set.ID, requester.Mask); err != nil {
		t.Fatal(err)
	}
	if l, ok := m.A.LUN(lun); !ok || l.Unmasked || orphans() != 0 {
		t.Errorf("after the clean-up: LUN %+v there %v, %d listed", l, ok, orphans())
	}
}

// "This method is supported only on Windows Server operating systems": a machine
// whose role is client does not import.
func TestImportSnapshots_ServersOnly(t *testing.T) {
	m := newMachine(t)
	m.Service.NoImport = true
	_, err := m.Loaded(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)).ImportSnapshots(t.Context())
	is(t, "on a client", err, vss.E_NOTIMPL)
}

// No writer event is raised by an import (requester.md 3.2 P3), and nothing is
// asked of writers: there is none in the journal of what was called.
func TestImportSnapshots_NoWriters(t *testing.T) {
	m := newMachine(t)
	m.Imported(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A), vss.VSS_S_ASYNC_FINISHED)
	for _, name := range []string{"BeginPrepareSnapshot", "PrepareForBackup", "Freeze", "Thaw", "PostSnapshot", "BackupComplete"} {
		if n := m.Journal.Count(name); n != 0 {
			t.Errorf("%s was called %d times", name, n)
		}
	}
}
