package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	providerv1 "github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1/providerv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/provider/remote"
	"github.com/umbra-vss/umbra/vss"
)

// The wicked provider is the sample with somebody in between, who dies or lies
// in the middle of a call. It is this test's own program, called with
// [wickedArg]: a process of its own, as the service starts it, and the sample is
// a child of it.
//
// What it does is in a file, a line for each: the method on the wire, and
//
//	dies      SIGKILL, before the sample hears of the call
//	has died  SIGKILL, when the sample has done what it was asked
//	lies      an answer that is no message at all
//	E_FAIL    an error whose code no provider may answer, and any other code
//
// A line is done once, and removed before it is done; with an asterisk before
// it, every time. The version it says it has, if one is given, is not the sample's.
const wickedArg = "wicked-provider"

func init() {
	if len(os.Args) < 2 {
		return
	}
	var err error
	switch os.Args[1] {
	case wickedArg:
		err = wicked(os.Args[2], os.Args[3], os.Args[4], os.Args[5:])
	case plainArg:
		err = remote.Serve(context.Background(), plain{}, os.Args[2:]...)
	case callerArg:
		_, err := providerv1connect.NewProviderServiceClient(rpc.UnixClient(os.Args[2]), "http://provider", connect.WithInterceptors(rpc.Interceptor()), rpc.Plain()).
			AreLUNsSupported(context.Background(), connect.NewRequest(&providerv1.LUNsRequest{}))
		fmt.Print(vss.CodeOf(err).Name())
	default:
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(0)
}

func wicked(sample, store, faults string, version []string) error {
	socket := filepath.Join(os.Getenv(remote.EnvState), "inner.sock")
	_ = os.Remove(socket)
	inner, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	listening, err := inner.File()
	if err != nil {
		return err
	}
	life := os.NewFile(4, "life") // the sample ends when the service does, too
	child := exec.Command(sample, store)
	child.ExtraFiles = []*os.File{listening, life}
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	w := &between{client: rpc.UnixClient(socket), faults: faults, version: version}
	server := rpc.NewUnixServer(w)
	go func() {
		_ = child.Wait()
		_ = server.Close()
	}()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		w.client.CloseIdleConnections()
		_ = child.Process.Signal(syscall.SIGTERM)
	}()
	_ = server.Serve(l)
	return nil
}

type between struct {
	client *http.Client
	faults string
	mu     sync.Mutex

	version []string // its name and its ID
}

// fault is what is to be done in a call, or "".
func (b *between) fault(method string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, err := os.ReadFile(b.faults)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i, l := range lines {
		m, what, ok := strings.Cut(l, " ")
		if ok && m == "*"+method {
			return what
		}
		if ok && m == method {
			rest := strings.Join(slices.Delete(lines, i, i+1), "\n")
			if err := os.WriteFile(b.faults, []byte(rest), 0o600); err != nil {
				log.Fatal(err)
			}
			return what
		}
	}
	return ""
}

func (b *between) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := b.fault(path.Base(r.URL.Path))
	if what == "dies" {
		die()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if code, ok := codes[what]; ok {
		_ = connect.NewErrorWriter().Write(w, r, rpc.WireError(&vss.Error{Code: code, Op: path.Base(r.URL.Path), Object: "wicked", Reason: "it is wicked", Remedy: "Be good"}))
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://sample"+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return
	}
	req.Header = r.Header.Clone()
	resp, err := b.client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return
	case what == "has died":
		die()
	case path.Base(r.URL.Path) == "Load" && len(b.version) == 2 && resp.StatusCode == http.StatusOK:
		var m providerv1.LoadResponse
		if proto.Unmarshal(answer, &m) != nil {
			return
		}
		id, _ := vss.ParseID(b.version[1])
		m.Properties.Version, m.Properties.VersionId = b.version[0], id[:]
		answer, _ = proto.Marshal(&m)
	case what == "lies":
		answer = bytes.Repeat([]byte{0xff}, 100)
	}
	for k, v := range resp.Header {
		if k != "Content-Length" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

var codes = map[string]vss.HResult{"E_FAIL": vss.E_FAIL, "VETO": vss.VSS_E_PROVIDER_VETO, "S_FALSE": vss.S_FALSE}

// die does not return.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// The plain provider has no LUNs, and needs no rights: what is shown with it is
// how a program is started, or reached.
const plainArg = "plain-provider"

// The caller asks a provider's socket itself.
const callerArg = "provider-caller"

type plain struct{ provider.Hardware } // no other method is called

func (plain) Properties() vss.ProviderProp {
	id, _ := vss.ParseID("{0d3a3a5e-6a34-4b25-9d0e-1f9f2f5b7a10}")
	return vss.ProviderProp{ProviderID: id, Name: "Plain", Type: vss.PROV_HARDWARE, Version: "1", VersionID: id}
}

// OnLoad leaves a word in the provider's folder.
func (plain) OnLoad(ctx context.Context) error {
	dir, host := os.Getenv(remote.EnvState), remote.HostOf(ctx)
	if dir == "" { // it runs by itself
		return os.WriteFile(filepath.Join(filepath.Dir(os.Args[0]), "host"), []byte(host.Name+" "+host.Tag), 0o600)
	}
	return os.WriteFile(filepath.Join(dir, "loaded"), fmt.Appendf(nil, "%d %v", os.Getuid(), os.Getpid()), 0o600)
}

func (plain) OnUnload(context.Context, bool) (bool, error) { return true, nil }

func (plain) AreLUNsSupported(context.Context, vss.Context, []string, []lun.Info) (bool, error) {
	return false, nil
}

// BackingStores are the folders that are named in a file beside the program.
func (plain) BackingStores(context.Context) (out []provider.BackingStore, err error) {
	text, _ := os.ReadFile(filepath.Join(filepath.Dir(os.Args[0]), "stores"))
	for _, path := range strings.Fields(string(text)) {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return nil, &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "BackingStores", Object: path, Reason: err.Error(), Remedy: "Mount it"}
		}
		out = append(out, provider.BackingStore{Device: st.Dev, Path: path})
	}
	return out, nil
}
