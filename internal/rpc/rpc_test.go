package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/vss"
)

const childEnv = "RPC_TEST_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(childEnv); socket != "" { // an unprivileged user asks who it is
		c := vssv1connect.NewHostServiceClient(UnixClient(socket), "http://x", connect.WithInterceptors(Interceptor()))
		r, err := c.Status(context.Background(), connect.NewRequest(&vssv1.Empty{}))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Print(r.Msg.HostName)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// answer serves whatever the test puts into its functions.
type answer struct {
	vssv1connect.UnimplementedShadowCopyServiceHandler
	vssv1connect.UnimplementedHostServiceHandler
	unary  func(context.Context) error
	stream func(context.Context, *connect.ServerStream[vssv1.Progress]) error
}

func (a *answer) SetContext(ctx context.Context, _ *connect.Request[vssv1.SetContextRequest]) (*connect.Response[vssv1.Empty], error) {
	if err := a.unary(ctx); err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.Empty{}), nil
}

func (a *answer) AsyncProgress(ctx context.Context, _ *connect.Request[vssv1.AsyncRequest], s *connect.ServerStream[vssv1.Progress]) error {
	return a.stream(ctx, s)
}

func (a *answer) Status(ctx context.Context, _ *connect.Request[vssv1.Empty]) (*connect.Response[vssv1.StatusResponse], error) {
	c, ok := Peer(ctx)
	return connect.NewResponse(&vssv1.StatusResponse{HostName: fmt.Sprint(c.UID, " ", c.GID, " ", c.PID, " ", c.Groups, " ", ok)}), nil
}

func serve(t *testing.T, a *answer) (string, vssv1connect.ShadowCopyServiceClient) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rpc") // short, and open to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := ListenUnix(socket, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(vssv1connect.NewShadowCopyServiceHandler(a, connect.WithInterceptors(Interceptor())))
	mux.Handle(vssv1connect.NewHostServiceHandler(a, connect.WithInterceptors(Interceptor())))
	s := NewUnixServer(mux)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return socket, vssv1connect.NewShadowCopyServiceClient(UnixClient(socket), "http://x", connect.WithInterceptors(Interceptor()))
}

// errorsToSend are errors of every kind, and what the other side must see.
func errorsToSend() map[string]struct {
	err  error
	want *vss.Error
} {
	full := &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "Öp: locate", Object: "naa.6001\n", Reason: "why", Remedy: "Do it", EventID: "17"}
	type row = struct {
		err  error
		want *vss.Error
	}
	peer := connect.NewError(connect.CodeUnavailable, errors.New("refused"))
	return map[string]row{
		"full":         {full, full},
		"in progress":  {vss.ErrImportInProgress, vss.ErrImportInProgress.(*vss.Error)},
		"wrapped":      {fmt.Errorf("more: %w", full), full},
		"with a cause": {&vss.Error{Code: vss.E_INVALIDARG, Reason: "r", Err: os.ErrNotExist}, &vss.Error{Code: vss.E_INVALIDARG, Reason: "r: file does not exist"}},
		"unclassified": {errors.New("boom"), &vss.Error{Code: vss.VSS_E_UNEXPECTED, Reason: "boom"}},
		"caused by another peer's answer": {&vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "the array does not answer", Remedy: "Check it", Err: peer},
			&vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "the array does not answer: " + peer.Error(), Remedy: "Check it"}},
		"bytes that are no text": {&vss.Error{Code: vss.E_INVALIDARG, Object: "/srv/\xff\xfe", Reason: "bad"}, &vss.Error{Code: vss.E_INVALIDARG, Object: "/srv/\uFFFD", Reason: "bad"}},
		"a success code":         {&vss.Error{Code: vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED, Reason: "some"}, &vss.Error{Code: vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED, Reason: "some"}},
		"very long":              {&vss.Error{Code: vss.VSS_E_UNEXPECTED, Reason: strings.Repeat("x", 30000)}, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Reason: strings.Repeat("x", 30000)}},
	}
}

func TestErrorsAreLossless(t *testing.T) {
	a := &answer{}
	_, c := serve(t, a)
	for name, tt := range errorsToSend() {
		t.Run(name, func(t *testing.T) {
			a.unary = func(context.Context) error { return tt.err }
			_, err := c.SetContext(t.Context(), connect.NewRequest(&vssv1.SetContextRequest{}))
			check(t, err, tt.want)
			a.stream = func(_ context.Context, s *connect.ServerStream[vssv1.Progress]) error {
				_ = s.Send(&vssv1.Progress{Phase: "p"})
				return tt.err
			}
			s, err := c.AsyncProgress(t.Context(), connect.NewRequest(&vssv1.AsyncRequest{}))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for s.Receive() {
				n++
			}
			if n != 1 {
				t.Errorf("%d messages before the error", n)
			}
			check(t, StreamError(t.Context(), "op", s.Err()), tt.want)
			s.Close()
		})
	}
	if ErrorToProto(nil) != nil || ErrorFromProto(nil) != nil || StreamError(t.Context(), "", nil) != nil {
		t.Error("nil does not stay nil")
	}
}

func check(t *testing.T, err error, want *vss.Error) {
	t.Helper()
	var got *vss.Error
	if !errors.As(err, &got) {
		t.Fatalf("%v is no *vss.Error", err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if !errors.Is(err, want) {
		t.Error("errors.Is does not know it again")
	}
}

func TestPanicIsAnError(t *testing.T) {
	var told string
	PanicHook = func(op string, value any, stack []byte) string {
		told = fmt.Sprint(op, " ", value, " ", strings.Contains(string(stack), "TestPanicIsAnError"))
		return "99"
	}
	defer func() { PanicHook = nil }()
	a := &answer{unary: func(context.Context) error { panic("boom") }, stream: func(context.Context, *connect.ServerStream[vssv1.Progress]) error { panic("boom") }}
	_, c := serve(t, a)
	_, err := c.SetContext(t.Context(), connect.NewRequest(&vssv1.SetContextRequest{}))
	if e := vss.AsError("", err); e.Code != vss.VSS_E_UNEXPECTED || e.EventID != "99" || told != "/umbra.vss.v1.ShadowCopyService/SetContext boom true" {
		t.Errorf("%+v, told %q", e, told)
	}
	s, err := c.AsyncProgress(t.Context(), connect.NewRequest(&vssv1.AsyncRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for s.Receive() {
	}
	if e := vss.AsError("", StreamError(t.Context(), "op", s.Err())); e.Code != vss.VSS_E_UNEXPECTED || e.EventID != "99" {
		t.Errorf("stream: %+v", e)
	}
	a.unary = func(context.Context) error { return nil }
	if _, err := c.SetContext(t.Context(), connect.NewRequest(&vssv1.SetContextRequest{})); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}

// TestGivenUp: a caller that gives up sees its own context's error.
func TestGivenUp(t *testing.T) {
	a := &answer{unary: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	socket, c := serve(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := c.SetContext(ctx, connect.NewRequest(&vssv1.SetContextRequest{}))
	if !errors.Is(err, context.DeadlineExceeded) || vss.CodeOf(err) != vss.E_ABORT {
		t.Errorf("deadline: %v", err)
	}
	why := errors.New("why")
	cctx, ccancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { ccancel(why) })
	if _, err = c.SetContext(cctx, connect.NewRequest(&vssv1.SetContextRequest{})); !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("cause: %v", err)
	}
	if _, err := vssv1connect.NewHostServiceClient(UnixClient(socket+"x"), "http://x", connect.WithInterceptors(Interceptor())).Status(t.Context(), connect.NewRequest(&vssv1.Empty{})); !errors.Is(err, os.ErrNotExist) || vss.CodeOf(err) != vss.VSS_E_UNEXPECTED {
		t.Errorf("nobody there: %v", err)
	}
}

// TestRequestLimit: a request bigger than any document is not read.
func TestRequestLimit(t *testing.T) {
	a := &answer{unary: func(context.Context) error { return nil }}
	_, c := serve(t, a)
	_, err := c.SetContext(t.Context(), connect.NewRequest(&vssv1.SetContextRequest{Token: strings.Repeat("x", MaxRequest)}))
	if err == nil {
		t.Error("it was read")
	}
	if _, err := c.SetContext(t.Context(), connect.NewRequest(&vssv1.SetContextRequest{})); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestPeer: a real other user, told by the kernel.
func TestPeer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	socket, _ := serve(t, &answer{})
	exe := filepath.Join(filepath.Dir(socket), "child")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	var many []uint32 // more than are asked for at first
	for g := range uint32(100) {
		many = append(many, 70000+g)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65533, Groups: many}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := fmt.Sprintf("65534 65533 %d %v true", cmd.Process.Pid, many); string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
	if _, ok := Peer(t.Context()); ok {
		t.Error("a peer without a connection")
	}
}

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := ListenUnix(path, 0o600); !errors.Is(err, vss.VSS_E_OBJECT_ALREADY_EXISTS) {
		t.Errorf("live: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a process that was killed
	l.Close()
	l, err = ListenUnix(path, 0o600)
	if err != nil {
		t.Fatalf("dead: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(path, 0o600); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("file: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file was taken away")
	}
	if _, err := ListenUnix(filepath.Join(dir, "no", "s"), 0o600); err == nil {
		t.Error("no folder")
	}
	if _, err := ListenUnix(filepath.Join(dir, strings.Repeat("x", 120)), 0o600); err == nil || vss.AsError("", err).Remedy == "" {
		t.Errorf("long: %v", err)
	}
}

// TestListenUnixBusy: a process that does not get round to accepting is alive.
func TestListenUnixBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 4 { // fill its backlog
		if c, err := net.DialTimeout("unix", path, 100*time.Millisecond); err == nil {
			defer c.Close()
		}
	}
	if _, err := ListenUnix(path, 0o600); !errors.Is(err, vss.VSS_E_OBJECT_ALREADY_EXISTS) {
		t.Errorf("busy: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("its socket was taken away: %v", err)
	}
}
