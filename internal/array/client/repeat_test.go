package client_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/export"
	arrayv1 "github.com/umbra-vss/umbra/internal/gen/umbra/array/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/array/v1/arrayv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// fickle is an array's address whose connections break: it reads a request and
// is gone, with its connection, before it answers.
type fickle struct {
	arrayv1connect.UnimplementedHostServiceHandler
	listener net.Listener
	onDrop   func() // when a request was read that will not be answered
	keep     bool   // it drops the request only, and its connection looks healthy

	mu    sync.Mutex
	drops int            // requests it will not answer, -1 for all
	seen  map[string]int // requests by method
	conns map[string]bool
}

type connKey struct{}

func (f *fickle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn := r.Context().Value(connKey{}).(net.Conn)
	f.mu.Lock()
	f.seen[path.Base(r.URL.Path)]++
	f.conns[conn.RemoteAddr().String()] = true
	drop := f.drops != 0
	if f.drops > 0 {
		f.drops--
	}
	f.mu.Unlock()
	if drop {
		_, _ = io.ReadAll(r.Body)
		if f.onDrop != nil {
			f.onDrop()
		}
		if f.keep {
			panic(http.ErrAbortHandler)
		}
		conn.(*tls.Conn).NetConn().Close()
		return
	}
	_, h := arrayv1connect.NewHostServiceHandler(f, connect.WithInterceptors(rpc.Interceptor()))
	h.ServeHTTP(w, r)
}

func (f *fickle) Describe(context.Context, *connect.Request[arrayv1.DescribeRequest]) (*connect.Response[arrayv1.DescribeResponse], error) {
	return connect.NewResponse(&arrayv1.DescribeResponse{ArrayId: arrayID.String(), Name: "fickle"}), nil
}

func (f *fickle) MaskLUNs(context.Context, *connect.Request[arrayv1.LUNsRequest]) (*connect.Response[arrayv1.Empty], error) {
	return nil, &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "mask LUN", Reason: "it is attached", Remedy: "Detach it"}
}

func (f *fickle) requests(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[method]
}

var arrayID = vss.NewID()

// join makes addresses of one array, and the client that joined it.
func join(t *testing.T, addresses ...*fickle) *client.Client {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	issue := func(c *x509.Certificate) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, ca, public, private)
		must(err)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	must(err)
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	b := client.Bundle{Version: client.BundleVersion, ArrayID: arrayID, ArrayName: "fickle", Prefix: "00001", Host: "h", Key: string(key), CA: string(issue(ca)), TicketKey: public,
		Cert: string(issue(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "h"}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}))}
	server, err := tls.X509KeyPair(issue(&x509.Certificate{SerialNumber: big.NewInt(3), DNSNames: []string{client.ServerName(arrayID)}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), key)
	must(err)
	for _, f := range addresses {
		f.seen, f.conns = map[string]int{}, map[string]bool{}
		f.listener, err = net.Listen("tcp", "127.0.0.1:0")
		must(err)
		b.Endpoints = append(b.Endpoints, "tcp://"+f.listener.Addr().String())
		s := &http.Server{Handler: f, TLSConfig: &tls.Config{Certificates: []tls.Certificate{server}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13},
			ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }}
		go func() { _ = s.ServeTLS(f.listener, "", "") }()
		t.Cleanup(func() { s.Close() })
	}
	c, err := client.Dial(b)
	must(err)
	t.Cleanup(c.Close)
	return c
}

// calls makes each call of HostService once.
func calls(c *client.Client) map[string]func(context.Context) error {
	set, luns := vss.NewID(), []lun.NAA{{0x60, 1}}
	return map[string]func(context.Context) error{
		"Describe":         func(ctx context.Context) error { _, err := c.Describe(ctx, ""); return err },
		"ReportLUNs":       func(ctx context.Context) error { _, err := c.ReportLUNs(ctx); return err },
		"AreLUNsSupported": func(ctx context.Context) error { _, _, err := c.AreLUNsSupported(ctx, 0, luns); return err },
		"DescribeLUNs":     func(ctx context.Context) error { _, err := c.DescribeLUNs(ctx, luns); return err },
		"PrepareSet":       func(ctx context.Context) error { _, err := c.PrepareSet(ctx, set, 0, nil); return err },
		"PreCommitSet":     func(ctx context.Context) error { return c.PreCommitSet(ctx, set) },
		"CommitSet":        func(ctx context.Context) error { _, err := c.CommitSet(ctx, set); return err },
		"PostCommitSet":    func(ctx context.Context) error { _, err := c.PostCommitSet(ctx, set); return err },
		"AbortSet":         func(ctx context.Context) error { return c.AbortSet(ctx, set, true) },
		"TargetLUNs":       func(ctx context.Context) error { _, err := c.TargetLUNs(ctx, set, luns); return err },
		"IssueTicket":      func(ctx context.Context) error { _, err := c.IssueTicket(ctx, set, [32]byte{}, "", 0); return err },
		"LocateLUNs":       func(ctx context.Context) error { _, err := c.LocateLUNs(ctx, client.Location{LUNs: luns}); return err },
		"CheckImport":      func(ctx context.Context) error { _, err := c.CheckImport(ctx, client.Location{LUNs: luns}); return err },
		"ReleaseImport":    func(ctx context.Context) error { return c.ReleaseImport(ctx, set, set) },
		"OpenLUNs":         func(ctx context.Context) error { _, err := c.OpenLUNs(ctx, luns); return err },
		"ExportLUNs":       func(ctx context.Context) error { _, err := c.ExportLUNs(ctx, export.ISCSI, luns); return err },
		"CloseLUNs":        func(ctx context.Context) error { return c.CloseLUNs(ctx, luns) },
		"MaskLUNs":         func(ctx context.Context) error { return c.MaskLUNs(ctx, luns) },
		"DeleteLUNs":       func(ctx context.Context) error { return c.DeleteLUNs(ctx, luns) },
		"SetLUNAccess":     func(ctx context.Context) error { return c.SetLUNAccess(ctx, luns, client.ReadOnly) },
	}
}

// TestLostCalls: what may be repeated is, once; a step of a set never.
func TestLostCalls(t *testing.T) {
	f := &fickle{drops: -1}
	c := join(t, f)
	all := calls(c)
	var methods []string
	for ms, i := arrayv1.File_umbra_array_v1_array_proto.Services().ByName("HostService").Methods(), 0; i < ms.Len(); i++ {
		methods = append(methods, string(ms.Get(i).Name()))
	}
	slices.Sort(methods)
	if known := slices.Sorted(maps.Keys(all)); !slices.Equal(methods, known) {
		t.Fatalf("methods %v, of which known here %v", methods, known)
	}
	steps := []string{"PrepareSet", "PreCommitSet", "CommitSet"}
	for name, call := range all {
		want := 2
		if slices.Contains(steps, name) {
			want = 1
		}
		err := call(t.Context())
		if got := f.requests(name); got != want {
			t.Errorf("%s was sent %d times, want %d", name, got, want)
		}
		// The error is the old one.
		if !errors.Is(err, rpc.ErrNoAnswer) || rpc.NeverSent(err) || vss.CodeOf(err) != vss.VSS_E_PROVIDER_VETO {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRepeatedCall: the second answer is the answer, be it yes or no, and comes
// over another connection.
func TestRepeatedCall(t *testing.T) {
	t.Run("connection lost", func(t *testing.T) { repeated(t, &fickle{drops: 1}) })
	t.Run("request lost", func(t *testing.T) { repeated(t, &fickle{drops: 1, keep: true}) })
}

func repeated(t *testing.T, f *fickle) {
	c := join(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if d, err := c.Describe(ctx, ""); err != nil || d.Name != "fickle" || f.requests("Describe") != 2 || len(f.conns) != 2 {
		t.Errorf("%+v %v, %d requests, connections %v", d, err, f.requests("Describe"), f.conns)
	}
	f.mu.Lock()
	f.drops = 1
	f.mu.Unlock()
	if err := c.MaskLUNs(ctx, []lun.NAA{{0x60}}); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) || errors.Is(err, rpc.ErrNoAnswer) || f.requests("MaskLUNs") != 2 {
		t.Errorf("%v, %d requests", err, f.requests("MaskLUNs"))
	}
	// An answer is an answer.
	if err := c.MaskLUNs(ctx, []lun.NAA{{0x60}}); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) || f.requests("MaskLUNs") != 3 {
		t.Errorf("%v, %d requests", err, f.requests("MaskLUNs"))
	}
}

// TestAddressMoves: the call is lost at one address and answered at another.
func TestAddressMoves(t *testing.T) {
	old, next := &fickle{drops: -1}, &fickle{}
	c := join(t, old, next)
	old.onDrop = func() { old.listener.Close() }
	d, err := c.Describe(t.Context(), "")
	if err != nil || d.Name != "fickle" || old.requests("Describe") != 1 || next.requests("Describe") != 1 {
		t.Errorf("%+v %v, %d and %d requests", d, err, old.requests("Describe"), next.requests("Describe"))
	}
}

// TestLostForGood: the array may have done what it was asked, though nobody
// answers when it is asked again.
func TestLostForGood(t *testing.T) {
	f := &fickle{drops: -1}
	c := join(t, f)
	f.onDrop = func() { f.listener.Close() }
	_, err := c.LocateLUNs(t.Context(), client.Location{LUNs: []lun.NAA{{0x60}}})
	if !errors.Is(err, rpc.ErrNoAnswer) || rpc.NeverSent(err) || f.requests("LocateLUNs") != 1 {
		t.Errorf("%v, %d requests", err, f.requests("LocateLUNs"))
	}
	// And now it is known that it has done nothing.
	if _, err := c.LocateLUNs(t.Context(), client.Location{LUNs: []lun.NAA{{0x60}}}); !rpc.NeverSent(err) {
		t.Error(err)
	}
}

// TestGivenUpCalls are not repeated, and say so.
func TestGivenUpCalls(t *testing.T) {
	for how, giveUp := range map[string]func(ctx context.Context) (context.Context, func(), func()){
		"cancelled": func(ctx context.Context) (context.Context, func(), func()) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel, cancel
		},
		"too late": func(ctx context.Context) (context.Context, func(), func()) {
			ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			return ctx, func() { <-ctx.Done() }, cancel
		},
	} {
		t.Run(how, func(t *testing.T) {
			f := &fickle{drops: -1}
			c := join(t, f)
			ctx, onDrop, done := giveUp(t.Context())
			defer done()
			f.onDrop = onDrop
			_, err := c.Describe(ctx, "")
			time.Sleep(100 * time.Millisecond) // for one that would still come
			want := vss.E_ABORT
			if how == "too late" { // which the array is to blame for
				want = vss.VSS_E_PROVIDER_VETO
			}
			if vss.CodeOf(err) != want || !errors.Is(err, ctx.Err()) || f.requests("Describe") != 1 {
				t.Errorf("%v, %d requests", err, f.requests("Describe"))
			}
		})
	}
}

// TestSilentArray: an array that does not answer in time is named, with where it
// should be; a call that its caller gave up is not the array's fault.
func TestSilentArray(t *testing.T) {
	hang := make(chan struct{})
	f := &fickle{drops: -1, onDrop: func() { <-hang }}
	c := join(t, f)
	t.Cleanup(func() { close(hang) })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := c.Describe(ctx, "")
	if e := vss.AsError("", err); !errors.Is(err, vss.VSS_E_PROVIDER_VETO) || !errors.Is(err, context.DeadlineExceeded) ||
		e.Object != "array fickle" || !strings.Contains(e.Remedy, f.listener.Addr().String()) {
		t.Errorf("silent: %+v", e)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, giveUp)
	if _, err := c.Describe(ctx, ""); !errors.Is(err, vss.E_ABORT) || !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}
