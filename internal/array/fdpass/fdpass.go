// Package fdpass carries LUNs from an array to a host on the same machine as
// open descriptors (SCM_RIGHTS), over a unix packet socket of its own.
//
// Who may have which LUN is decided over mutual TLS, where the array hands the
// host a token; here the token is exchanged for the descriptors it stands for,
// all of them in one round trip. Both ends are root, and check it. A descriptor
// is what the array opened: read-only for a copy, whatever the host does with
// it.
package fdpass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// TokenLen is the length of a token in bytes.
const TokenLen = 32

// Token stands for a list of LUNs, once.
type Token [TokenLen]byte

const (
	magic     = "umbralun"
	perPacket = 128     // descriptors; the kernel allows 253
	maxPacket = 1 << 16 // bytes
	ioTimeout = 10 * time.Second
)

// LUN is one open LUN on its way.
type LUN struct {
	NAA        lun.NAA `json:"naa"`
	Size       uint64  `json:"size"` // bytes
	Generation uint64  `json:"generation"`
	ReadOnly   bool    `json:"read_only"`
	Dev        uint64  `json:"dev"` // of the LUN's file
	Ino        uint64  `json:"ino"`

	File *os.File `json:"-"`
}

// reply is one packet of the answer; its descriptors are in the order of LUNs.
type reply struct {
	Error *refusal `json:"error,omitempty"`
	LUNs  []LUN    `json:"luns,omitempty"`
	More  bool     `json:"more,omitempty"`
}

type refusal struct {
	Code   vss.HResult `json:"code"`
	Op     string      `json:"op"`
	Object string      `json:"object"`
	Reason string      `json:"reason"`
	Remedy string      `json:"remedy"`
}

// Opener exchanges a token for open LUNs. The files are closed after sending.
type Opener func(ctx context.Context, t Token) ([]LUN, error)

// Serve answers on l until ctx ends, then closes it and waits for its
// connections.
func Serve(ctx context.Context, l *net.UnixListener, open Opener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			// Out of descriptors or memory: what is connected now will end.
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		wg.Go(func() { serveOne(ctx, c, open) })
	}
}

func serveOne(ctx context.Context, c *net.UnixConn, open Opener) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(ioTimeout))
	if uid, err := peerUID(c); err != nil || uid != 0 {
		send(c, reply{Error: &refusal{Code: vss.E_ACCESSDENIED, Op: "open LUN", Reason: "only root may fetch LUNs", Remedy: "Run the daemon as root"}})
		return
	}
	buf := make([]byte, len(magic)+TokenLen+1)
	n, err := c.Read(buf)
	if err != nil || n != len(magic)+TokenLen || string(buf[:len(magic)]) != magic {
		send(c, reply{Error: &refusal{Code: vss.E_INVALIDARG, Op: "open LUN", Reason: "not a request of this protocol", Remedy: "Use a daemon of the array's version"}})
		return
	}
	luns, err := open(ctx, Token(buf[len(magic):n]))
	defer func() {
		for _, l := range luns {
			l.File.Close()
		}
	}()
	if err != nil {
		e := vss.AsError("open LUN", err)
		r := refusal{Code: e.Code, Op: e.Op, Object: e.Object, Reason: e.Reason, Remedy: e.Remedy}
		if e.Err != nil && e.Err.Error() != r.Reason {
			r.Reason += ": " + e.Err.Error()
		}
		send(c, reply{Error: &r})
		return
	}
	for rest := luns; ; {
		part := rest[:min(len(rest), perPacket)]
		rest = rest[len(part):]
		if !send(c, reply{LUNs: part, More: len(rest) > 0}) || len(rest) == 0 {
			return
		}
	}
}

func send(c *net.UnixConn, r reply) bool {
	body, err := json.Marshal(r)
	if err != nil {
		return false
	}
	var oob []byte
	if len(r.LUNs) > 0 {
		fds := make([]int, len(r.LUNs))
		for i, l := range r.LUNs {
			fds[i] = int(l.File.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(body, oob, nil)
	return err == nil
}

// Fetch exchanges a token for its LUNs at the array's data socket. The caller
// owns the files. Errors are the array's own, VSS_E_PROVIDER_VETO if the socket
// cannot be reached or answers nonsense, or E_OUTOFMEMORY if this process has no
// room for the descriptors.
func Fetch(ctx context.Context, socket string, t Token) (luns []LUN, err error) {
	refuse := func(reason string, err error) error {
		if ctx.Err() != nil {
			return &vss.Error{Code: vss.E_ABORT, Op: "open LUN", Object: socket, Reason: "the call was given up", Remedy: "Repeat it with more time", Err: context.Cause(ctx)}
		}
		if vss.LacksResources(err) {
			return &vss.Error{Code: vss.E_OUTOFMEMORY, Op: "open LUN", Object: socket, Reason: reason,
				Remedy: "Raise the daemon's limit of open files (LimitNOFILE=), or wait until it needs fewer", Err: err}
		}
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "open LUN", Object: socket, Reason: reason,
			Remedy: "Check that the array runs on this machine and that its data socket is reachable from the daemon's mount namespace", Err: err}
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unixpacket", socket)
	if err != nil {
		return nil, refuse("the array's data socket does not answer", err)
	}
	c := nc.(*net.UnixConn)
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	if uid, err := peerUID(c); err != nil || uid != 0 {
		return nil, refuse("the data socket is not served by root", err)
	}
	defer func() {
		if err != nil {
			for _, l := range luns {
				l.File.Close()
			}
			luns = nil
		}
	}()
	if _, err := c.Write(append([]byte(magic), t[:]...)); err != nil {
		return nil, refuse("the array's data socket does not take the token", err)
	}
	body, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*perPacket))
	for {
		n, on, flags, _, err := c.ReadMsgUnix(body, oob)
		files, ferr := received(oob[:on])
		if err == nil {
			err = ferr
		}
		var r reply
		if err == nil {
			err = json.Unmarshal(body[:n], &r)
		}
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			// The kernel drops descriptors it has no room for in this process.
			err = fmt.Errorf("descriptors are missing, because of the limit of open files: %w", unix.EMFILE)
		}
		if err == nil && (flags&unix.MSG_TRUNC != 0 || len(files) != len(r.LUNs)) {
			err = errors.New("the answer is not whole")
		}
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return luns, refuse("the array's data socket did not answer in kind", err)
		}
		if e := r.Error; e != nil {
			return luns, &vss.Error{Code: e.Code, Op: e.Op, Object: e.Object, Reason: e.Reason, Remedy: e.Remedy}
		}
		for i := range r.LUNs {
			r.LUNs[i].File = files[i]
			luns = append(luns, r.LUNs[i])
		}
		// What came must be what was announced, not another file.
		for _, l := range luns {
			var st unix.Stat_t
			if err := unix.Fstat(int(l.File.Fd()), &st); err != nil || st.Dev != l.Dev || st.Ino != l.Ino {
				return luns, refuse("a descriptor is not the LUN's file", err)
			}
		}
		if !r.More {
			return luns, nil
		}
	}
}

// received takes ownership of the descriptors in a control message.
func received(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "lun"))
		}
	}
	return files, nil
}

func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
