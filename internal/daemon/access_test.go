package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/access"
	"github.com/umbra-vss/umbra/vss"
)

const childEnv = "DAEMON_TEST_CHILD"

// TestMain is also the program that other users run: it calls every method, or
// only Status, and says what each answered.
func TestMain(m *testing.M) {
	which, socket, child := strings.Cut(os.Getenv(childEnv), " ")
	if !child {
		os.Exit(m.Run())
	}
	out := map[string]answer{}
	for _, method := range methods() {
		if name := procedure(method); which == "all" || name == which {
			out[name] = call(socket, method)
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
}

type answer struct {
	Code       vss.HResult
	Op, Object string
	Complete   bool // it has reason and remedy
}

// methods are all that the service's protocol has, read from its description.
func methods() []protoreflect.MethodDescriptor {
	var out []protoreflect.MethodDescriptor
	services := vssv1.File_umbra_vss_v1_service_proto.Services()
	for i := range services.Len() {
		ms := services.Get(i).Methods()
		for j := range ms.Len() {
			out = append(out, ms.Get(j))
		}
	}
	return out
}

func procedure(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// call calls a method with an empty request, which every one of them can read.
func call(socket string, m protoreflect.MethodDescriptor) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := connect.NewClient[vssv1.Empty, vssv1.Empty](rpc.UnixClient(socket), "http://x"+procedure(m), connect.WithInterceptors(rpc.Interceptor()))
	var err error
	if m.IsStreamingServer() {
		var s *connect.ServerStreamForClient[vssv1.Empty]
		if s, err = c.CallServerStream(ctx, connect.NewRequest(&vssv1.Empty{})); err == nil {
			if s.Receive() {
				return answer{}
			}
			err = rpc.StreamError(ctx, procedure(m), s.Err())
		}
	} else {
		_, err = c.CallUnary(ctx, connect.NewRequest(&vssv1.Empty{}))
	}
	e := vss.AsError("", err)
	if e == nil {
		return answer{}
	}
	return answer{e.Code, e.Op, e.Object, e.Reason != "" && e.Remedy != ""}
}

// live runs a daemon until the test's end, or says why it does not run.
func live(t *testing.T, c access.Config, journal string) (socket string, err error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the daemon needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "daemon") // short, and open to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.StateDir, cfg.RunDir, cfg.UdevRulesDir = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "rules")
	cfg.HostName, cfg.Journal = "t"+strconv.Itoa(os.Getpid()), journal
	cfg.Access = c
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, cfg, "test", slog.New(slog.NewTextHandler(io.Discard, nil)), func() { close(ready) })
	}()
	select {
	case err := <-ended:
		cancel()
		return "", err
	case <-ready:
	case <-time.After(time.Minute):
		t.Error("the daemon does not get ready")
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(cfg.RunDir, "umbra.sock"), nil
}

// as calls the methods as another user, with these supplementary groups.
func as(t *testing.T, socket, which string, uid, gid uint32, groups ...uint32) map[string]answer {
	t.Helper()
	self, err := os.ReadFile(os.Args[0]) // which that user may not read where it is
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "caller")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	exe := filepath.Join(dir, "caller")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+which+" "+socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}, Pdeathsig: syscall.SIGKILL}
	var out, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &trouble
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &trouble)
	}
	var answers map[string]answer
	if err := json.Unmarshal(out.Bytes(), &answers); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	return answers
}

// TestEveryMethodIsDenied walks all methods of all services as an ordinary user.
func TestEveryMethodIsDenied(t *testing.T) {
	socket, err := live(t, Default().Access, "")
	if err != nil {
		t.Fatal(err)
	}
	answers := as(t, socket, "all", 65534, 65534)
	if len(answers) != len(methods()) || len(answers) < 35 {
		t.Errorf("%d of %d methods were called", len(answers), len(methods()))
	}
	for name, a := range answers {
		if a.Code != vss.E_ACCESSDENIED || a.Op != filepath.Base(name) || a.Object != "user 65534" || !a.Complete {
			t.Errorf("%s answers an ordinary user %+v", name, a)
		}
	}
	// What does not exist, and what is no call, is not answered either.
	for _, path := range []string{"/", "/umbra.vss.v1.HostService/None"} {
		r, err := rpc.UnixClient(socket).Get("http://x" + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode == 200 {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
}

// TestAccounts: those the configuration lets in, and those it keeps out.
func TestAccounts(t *testing.T) {
	number := func(s string, err error) uint32 {
		if err != nil {
			t.Skip("this machine lacks an account of Debian's: ", err)
		}
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	uid := func(name string) uint32 {
		u, err := user.Lookup(name)
		if err != nil {
			return number("", err)
		}
		return number(u.Uid, nil)
	}
	g, err := user.LookupGroup("operator")
	if err != nil {
		number("", err)
	}
	operators := number(g.Gid, nil)
	socket, err := live(t, access.Config{OperatorsGroup: "operator",
		Accounts: map[string]access.Role{"backup": access.Requester, "games": access.Writer, "nobody": access.None, "@4711": access.Both}}, "")
	if err != nil {
		t.Fatal(err)
	}
	const status = "/umbra.vss.v1.HostService/Status"
	for _, tt := range []struct {
		name     string
		uid, gid uint32
		groups   []uint32
		want     vss.HResult
	}{
		{"root", 0, 0, nil, vss.S_OK},
		{"a member of the operators group", 5001, 5001, []uint32{20, operators}, vss.S_OK},
		{"one who runs as the operators group", 5001, operators, nil, vss.S_OK},
		{"a user allowed by name", uid("backup"), 5001, nil, vss.S_OK},
		{"a member of a group allowed by number", 5001, 4711, nil, vss.S_OK},
		{"nobody in particular", 5001, 5001, nil, vss.E_ACCESSDENIED},
		{"a writer", uid("games"), 5001, []uint32{operators}, vss.E_ACCESSDENIED},
		{"an operator who is denied", uid("nobody"), operators, []uint32{4711}, vss.E_ACCESSDENIED},
	} {
		if a := as(t, socket, status, tt.uid, tt.gid, tt.groups...)[status]; a.Code != tt.want {
			t.Errorf("%s: %+v, want %v", tt.name, a, tt.want)
		}
	}
}

// TestAccessThatIsNotUnderstood: the daemon does not start, and says why.
func TestAccessThatIsNotUnderstood(t *testing.T) {
	for name, c := range map[string]access.Config{
		"a user":  {OperatorsGroup: "umbra", Accounts: map[string]access.Role{"no-such-user": access.None}},
		"a group": {OperatorsGroup: "no-such-group"},
	} {
		_, err := live(t, c, "")
		if e := vss.AsError("", err); e == nil || e.Code != vss.E_INVALIDARG || !strings.Contains(e.Object, "no-such-") || e.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "umbra.toml")
	for text, why := range map[string]string{
		"[access.accounts]\nroot2 = \"admin\"\n": "no role",
		"[access.accounts]\nroot2 = 300\n":       "",
		"[access]\ngroup = \"x\"\n":              "group",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file); vss.CodeOf(err) != vss.E_INVALIDARG || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", text, err)
		}
	}
	text := "[access]\noperators_group = \"ops\"\n[access.accounts]\na = \"writer\"\n\"@b\" = 2\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil || c.Access.OperatorsGroup != "ops" || c.Access.Accounts["a"] != access.Writer || c.Access.Accounts["@b"] != access.Requester {
		t.Errorf("%+v, %v", c.Access, err)
	}
}
