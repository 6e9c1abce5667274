package requester

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// DefaultEndpoint is the service's socket on a production machine.
const DefaultEndpoint = "unix:///run/umbra/umbra.sock"

// Option configures CreateBackupComponents and NewHost.
type Option func(*options)

type options struct{ socket string }

// Endpoint says where the service listens: "unix:///path" or a bare path.
func Endpoint(e string) Option {
	return func(o *options) { o.socket = strings.TrimPrefix(e, "unix://") }
}

func dial(opts []Option) (*http.Client, options) {
	o := options{}
	Endpoint(DefaultEndpoint)(&o)
	for _, f := range opts {
		f(&o)
	}
	return rpc.UnixClient(o.socket), o
}

// BackupComponents is IVssBackupComponents. Its methods may be called from
// several goroutines; the service serialises them.
type BackupComponents struct {
	client vssv1connect.ShadowCopyServiceClient
	http   *http.Client
	id     vss.ID
	token  string
	end    func() // ends the lease and hangs up
	closed atomic.Bool

	closeOnce sync.Once
	closeErr  error
}

// CreateBackupComponents opens an object. ctx bounds the opening only; the
// object lives until Close, or until this process or the service ends.
// E_ACCESSDENIED if the caller is no backup operator, E_OUTOFMEMORY if the
// service's session quota is used up.
func CreateBackupComponents(ctx context.Context, opts ...Option) (*BackupComponents, error) {
	const op = "CreateVssBackupComponents"
	if err := needContext(ctx, op); err != nil {
		return nil, err
	}
	hc, o := dial(opts)
	if t, ok := hc.Transport.(*http.Transport); ok {
		// The lease keeps its connection busy for as long as there is an object:
		// one that is idle is left over, from a hang-up that came a moment before
		// the stream was forgotten, or from an opening that failed.
		t.IdleConnTimeout = time.Second
	}
	c := vssv1connect.NewShadowCopyServiceClient(hc, "http://umbra", connect.WithInterceptors(rpc.Interceptor()), rpc.Plain())
	lease, end := context.WithCancel(context.WithoutCancel(ctx))
	opened := make(chan struct{})
	go func() { // ctx may give the opening up, but does not end the lease later
		select {
		case <-ctx.Done():
			select {
			case <-opened:
			default:
				end()
			}
		case <-opened:
		}
	}()
	fail := func(err error) (*BackupComponents, error) {
		end()
		if cerr := ctx.Err(); cerr != nil {
			err = cerr
		}
		if err == nil { // the stream ended before it said anything
			err = io.ErrUnexpectedEOF
		}
		return nil, unreachable(op, o.socket, rpc.StreamError(ctx, op, err))
	}
	stream, err := c.OpenSession(lease, connect.NewRequest(&vssv1.OpenSessionRequest{Client: fmt.Sprintf("%s[%d]", filepath.Base(os.Args[0]), os.Getpid())}))
	if err != nil {
		close(opened)
		return fail(err)
	}
	if !stream.Receive() {
		close(opened)
		return fail(stream.Err())
	}
	close(opened)
	msg := stream.Msg()
	ended := make(chan struct{})
	// Only when the lease's stream has ended is its connection idle.
	hangUp := func() { end(); <-ended; hc.CloseIdleConnections() }
	b := &BackupComponents{client: c, http: hc, token: msg.Token, end: hangUp}
	copy(b.id[:], msg.SessionId)
	go func() {
		for stream.Receive() { // drains heartbeats until the lease ends
		}
		_ = stream.Close()
		close(ended)
	}()
	return b, nil
}

// unreachable says plainly that no service listens, or may be asked.
func unreachable(op, socket string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: socket, Reason: "no shadow copy service answers on this socket",
			Remedy: "Start it with umbra daemon, or give its --socket", Err: err}
	case errors.Is(err, os.ErrPermission):
		return &vss.Error{Code: vss.E_ACCESSDENIED, Op: op, Object: socket, Reason: "the socket may not be opened", Remedy: "Run as root or as a member of group umbra", Err: err}
	}
	return err
}

// Close releases the object. Auto-release copies it made or imported are
// deleted before Close returns. It is idempotent; every other call answers
// VSS_E_BAD_STATE from then on.
func (b *BackupComponents) Close() error {
	if b == nil || b.client == nil {
		return b.usable(context.Background(), "Release")
	}
	b.closeOnce.Do(func() {
		b.closed.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, b.closeErr = b.client.CloseSession(ctx, connect.NewRequest(&vssv1.SessionRequest{Token: b.token}))
		b.end()
	})
	return b.closeErr
}

// SessionID is the ID that events and log lines of this object carry, also
// when it is closed.
func (b *BackupComponents) SessionID() vss.ID {
	if b == nil {
		return vss.GUIDNull
	}
	return b.id
}

// GetSessionID is IVssBackupComponentsEx3::GetSessionId: the same, asked of
// the service.
func (b *BackupComponents) GetSessionID(ctx context.Context) (vss.ID, error) {
	r, err := call(ctx, b, "GetSessionId", rpcs.GetSessionId, b.session())
	if err != nil {
		return vss.GUIDNull, err
	}
	return idOf(r.Id), nil
}

func (b *BackupComponents) session() *vssv1.SessionRequest {
	return &vssv1.SessionRequest{Token: b.sessionToken()}
}
