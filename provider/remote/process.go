package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1/providerv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// endTime is how long a program gets to end by itself.
const endTime = 2 * time.Second

// start begins a life: it starts the program, or connects to one that runs.
func start(ctx context.Context, m Manifest, o Options) (*life, error) {
	if m.Socket != "" {
		return join(ctx, m)
	}
	if err := m.Check(); err != nil { // again: it may have changed since it was registered
		return nil, err
	}
	uid, gid, err := m.account()
	if err != nil {
		return nil, err
	}
	fail := func(object, reason string, err error) (*life, error) {
		remedy := "Check the provider's program, and its folders below the daemon's --run-dir and --state-dir"
		if uid != 0 && errors.Is(err, os.ErrPermission) {
			remedy = "The service may not start programs of other users unless its unit lets it: see docs/provider-guide.md, Users; or let the provider be a service of its own"
		}
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "start provider", Object: object, Reason: reason, Remedy: remedy, Err: err}
	}
	dir, state := filepath.Join(o.Dir, m.ID.Bare()), filepath.Join(o.StateDir, m.ID.Bare())
	for _, d := range []string{dir, state} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fail(d, "the folder cannot be made", err)
		}
	}
	if err := os.Chown(state, int(uid), int(gid)); err != nil {
		return fail(state, "the folder cannot be given to the provider", err)
	}
	if uid != 0 {
		if err := passable(o.StateDir); err != nil {
			return fail(o.StateDir, "the provider cannot get to its folder", err)
		}
	}
	// The mark is on disk before there is a process to find by it.
	sweep(dir)
	instance := vss.NewID().String()
	if err := os.WriteFile(filepath.Join(dir, "instance"), []byte(instance), 0o600); err != nil {
		return fail(dir, "the mark of the program cannot be written", err)
	}
	// The socket is ours and root's, and is handed over listening: there is
	// nothing a program of another user could put in its place.
	socket := filepath.Join(dir, "sock")
	_ = os.Remove(socket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return fail(socket, "the socket cannot be made", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(socket, 0o600); err != nil {
		return fail(socket, "the socket cannot be made", err)
	}
	listening, err := l.File()
	if err != nil {
		return fail(socket, "the socket cannot be handed over", err)
	}
	defer listening.Close()
	lifeEnd, ours, err := os.Pipe()
	if err != nil {
		return fail(m.Program, "no pipe can be made", err)
	}
	defer lifeEnd.Close()
	words, theirs, err := os.Pipe()
	if err != nil {
		ours.Close()
		return fail(m.Program, "no pipe can be made", err)
	}
	defer theirs.Close()

	cmd := exec.Command(m.Program, m.Args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "LISTEN_FDS=1",
		EnvInstance + "=" + instance, EnvHost + "=" + o.HostName, EnvHostTag + "=" + o.HostTag, EnvState + "=" + state}
	cmd.ExtraFiles = []*os.File{listening, lifeEnd}
	cmd.Stdout, cmd.Stderr = theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{gid}}
	}
	if err := cmd.Start(); err != nil {
		ours.Close()
		words.Close()
		return fail(m.Program, "the program cannot be started", err)
	}
	go relay(words, o, m.Name)
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	h := rpc.UnixClient(socket)
	return &life{client: dial(h), done: done, pid: cmd.Process.Pid, end: sync.OnceFunc(func() {
		h.CloseIdleConnections() // for which the program would wait
		_ = ours.Close()         // which asks it to end, and so does the signal
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-done:
		case <-time.After(endTime):
			_ = cmd.Process.Kill()
			select {
			case <-done:
			case <-time.After(endTime): // stuck in the kernel; it goes when that lets it
			}
		}
		killAll(instance) // and not whatever the folder's mark is by now
		h.CloseIdleConnections()
	})}, nil
}

// passable lets users through the folder of all providers and the service's own
// above it, on the way to what is theirs. They can read neither: what the service
// keeps there is readable by root alone.
func passable(dir string) error {
	for _, d := range []string{dir, filepath.Dir(dir)} {
		fi, err := os.Stat(d)
		if err == nil && fi.Mode()&0o001 == 0 {
			err = os.Chmod(d, fi.Mode().Perm()|0o001)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func dial(h *http.Client) providerv1connect.ProviderServiceClient {
	return providerv1connect.NewProviderServiceClient(h, "http://provider", connect.WithInterceptors(rpc.Interceptor()), rpc.Plain(), connect.WithReadMaxBytes(maxMessage))
}

// join connects to a provider that runs by itself.
func join(ctx context.Context, m Manifest) (*life, error) {
	uid, _, err := m.account()
	if err != nil {
		return nil, err
	}
	refuse := func(reason string, err error) error {
		return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "connect to provider", Object: m.Socket, Reason: reason, Remedy: "Start the provider's own service; its socket must be root's, or the manifest's user's", Err: err}
	}
	owned := func(u uint32) bool { return u == 0 || u == uid }
	connectTo := func(ctx context.Context) (net.Conn, error) {
		var st unix.Stat_t
		switch err := unix.Lstat(m.Socket, &st); {
		case err != nil:
			return nil, refuse("there is no socket", err)
		case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
			return nil, refuse("it is no socket", nil)
		case !owned(st.Uid):
			return nil, refuse(fmt.Sprintf("the socket belongs to user %d", st.Uid), nil)
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", m.Socket)
		if err != nil {
			return nil, refuse("nobody answers there", err)
		}
		raw, err := c.(*net.UnixConn).SyscallConn()
		var cred *unix.Ucred
		if err == nil {
			cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
			err = errors.Join(err, cerr)
		}
		if err != nil || !owned(cred.Uid) {
			c.Close()
			return nil, refuse("another user answers there", err)
		}
		return c, nil
	}
	c, err := connectTo(ctx) // says now what Connect would wrap later
	if err != nil {
		return nil, err
	}
	c.Close()
	h := rpc.UnixClient(m.Socket)
	h.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return connectTo(ctx) }
	return &life{client: dial(h), end: h.CloseIdleConnections}, nil
}

// relay passes on what a program writes, one line a message.
func relay(words *os.File, o Options, name string) {
	defer words.Close()
	r := bufio.NewReaderSize(words, 4096)
	for {
		line, err := r.ReadSlice('\n') // a longer line comes in pieces
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			o.Log.Info("provider", "name", name, "says", text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// Sweep ends all programs that an earlier life of the service started and that
// outlived it, each found by its mark.
func Sweep(dir string) {
	all, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, d := range all {
		sweep(d)
	}
}

// sweep ends what is left of a provider's last life: the program, and whatever
// it started. Each is found by the mark in its environment, which is on no other
// process, and ended through a descriptor of it, which cannot come to mean
// another.
func sweep(dir string) {
	mark, err := os.ReadFile(filepath.Join(dir, "instance"))
	if err != nil || len(mark) == 0 {
		return
	}
	killAll(string(mark))
}

func killAll(mark string) {
	for deadline := time.Now().Add(endTime); killMarked(mark) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// killMarked kills the processes with a mark and counts them.
func killMarked(mark string) (n int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !marked(pid, mark) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if marked(pid, mark) { // still, now that it cannot change under us
			n++
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
	return n
}

func marked(pid int, mark string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00"+EnvInstance+"="+mark+"\x00"))
}
