package rpc

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// Credentials are a unix socket peer's, as the kernel recorded them when it
// connected.
type Credentials struct {
	UID, GID uint32
	PID      int32
	Groups   []uint32 // supplementary groups
}

type peerKey struct{}

// Peer returns who is on the other end of the unix socket this request came
// over; false for any other transport.
func Peer(ctx context.Context) (Credentials, bool) {
	c, ok := ctx.Value(peerKey{}).(Credentials)
	return c, ok
}

// MaxRequest is the largest request in bytes: a document with room to spare.
// Whoever may connect could otherwise fill this process's memory before being
// asked who they are.
const MaxRequest = 20 << 20

// NewUnixServer serves handler over HTTP/1 and unencrypted HTTP/2 (Connect's
// streams need the latter) without read or write time-outs, since a session's
// lease is one long response. Peer works in its handlers.
func NewUnixServer(handler http.Handler) *http.Server {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           http.MaxBytesHandler(handler, MaxRequest),
		Protocols:         &p,
		ReadHeaderTimeout: 10 * time.Second,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1000},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			uc, ok := c.(*net.UnixConn)
			if !ok {
				return ctx
			}
			raw, err := uc.SyscallConn()
			if err != nil {
				return ctx
			}
			var cred *unix.Ucred
			var groups []uint32
			if cerr := raw.Control(func(fd uintptr) {
				cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
				groups = peerGroups(fd)
			}); cerr != nil || err != nil {
				return ctx
			}
			return context.WithValue(ctx, peerKey{}, Credentials{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Groups: groups})
		},
	}
}

// peerGroups are the supplementary groups of a unix socket's peer; none if the
// kernel does not say.
func peerGroups(fd uintptr) []uint32 {
	groups := make([]uint32, 64)
	for {
		size := uint32(4 * len(groups))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS, uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch n := int(size / 4); {
		case errno == 0:
			return groups[:n:n]
		case errno == unix.ERANGE && n > len(groups) && n <= 65536:
			groups = make([]uint32, n)
		default:
			return nil
		}
	}
}

// ListenUnix listens on a unix socket with the given mode, replacing a socket
// nobody listens on. A socket that a live process serves, however busy it is,
// is refused with VSS_E_OBJECT_ALREADY_EXISTS.
func ListenUnix(path string, mode os.FileMode) (net.Listener, error) {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded): // its backlog is full
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: "listen", Object: path,
			Reason: "another process serves this socket", Remedy: "Stop it, or choose another socket", Err: err}
	case errors.Is(err, os.ErrPermission):
		return nil, listenError(path, err)
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "listen", Object: path,
				Reason: "a file that is not a socket is in the way", Remedy: "Choose another path"}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, listenError(path, err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, listenError(path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, listenError(path, err)
	}
	return l, nil
}

func listenError(path string, err error) error {
	code := vss.VSS_E_UNEXPECTED
	switch {
	case errors.Is(err, os.ErrPermission):
		code = vss.E_ACCESSDENIED
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		code = vss.E_OUTOFMEMORY
	}
	return &vss.Error{Code: code, Op: "listen", Object: path, Reason: "the socket cannot be made",
		Remedy: "Check that its folder exists, is writable, and that the path has fewer than 108 characters", Err: err}
}

// UnixClient is an HTTP client whose every connection goes to one unix socket.
func UnixClient(path string) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{
		Protocols: &p,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
}
