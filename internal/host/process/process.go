// Package process looks at processes from outside, in /proc: whether one is
// stopped, and which of its threads are in the kernel and where. It asks the
// process nothing, so it works on one that hangs, and it never waits.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one as it was a moment ago.
type Process struct {
	PID, Parent int
	Name        string // as the kernel cuts it
	Command     string // with its arguments; "" of a zombie
	State       byte   // as in proc(5): R, S, D, T, t, Z, X
	Started     time.Time
	Blocked     []Thread
}

// Thread is one that is in uninterruptible sleep.
type Thread struct {
	TID   int
	Where string // the kernel's function, "" if it does not say
}

func (t Thread) String() string {
	if t.Where == "" {
		return fmt.Sprintf("thread %d", t.TID)
	}
	return fmt.Sprintf("thread %d in %s", t.TID, t.Where)
}

// Stopped reports whether it was stopped by a signal or a debugger.
func (p Process) Stopped() bool { return p.State == 'T' || p.State == 't' }

// Dead reports whether nothing of it runs any more, but perhaps a thread that the
// kernel keeps.
func (p Process) Dead() bool { return p.State == 'Z' || p.State == 'X' }

// Look looks at a process; false if there is none.
func Look(pid int) (Process, bool) {
	f, ok := stat(fmt.Sprintf("/proc/%d/stat", pid))
	if !ok {
		return Process{}, false
	}
	p := Process{PID: pid, Name: f.name, State: f.state, Parent: f.parent, Started: f.started, Command: command(pid)}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	for _, t := range tasks {
		f, ok := stat(filepath.Join(t, "stat"))
		if !ok || f.state != 'D' {
			continue
		}
		where, _ := os.ReadFile(filepath.Join(t, "wchan"))
		th := Thread{Where: strings.TrimSpace(string(where))}
		if th.Where == "0" {
			th.Where = ""
		}
		th.TID, _ = strconv.Atoi(filepath.Base(t))
		p.Blocked = append(p.Blocked, th)
	}
	return p, true
}

// All looks at every process that choose wants: of the others no more than that is
// read.
func All(choose func(p Process) bool) (out []Process) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		f, ok := stat(filepath.Join(dir, "stat"))
		if !ok {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if !choose(Process{PID: pid, Name: f.name, State: f.state, Parent: f.parent, Started: f.started, Command: command(pid)}) {
			continue
		}
		if p, ok := Look(pid); ok {
			out = append(out, p)
		}
	}
	return out
}

func command(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(bytes.TrimSpace(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
}

type fields struct {
	name    string
	state   byte
	parent  int
	started time.Time
}

func stat(path string) (fields, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return fields{}, false
	}
	// The name, in brackets, may have anything in it.
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	rest := strings.Fields(string(b[shut+1:]))
	if open < 0 || shut < open || len(rest) < 20 {
		return fields{}, false
	}
	f := fields{name: string(b[open+1 : shut]), state: rest[0][0]}
	f.parent, _ = strconv.Atoi(rest[1])
	if ticks, err := strconv.ParseInt(rest[19], 10, 64); err == nil {
		var now unix.Timespec
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
			const perSecond = 100 // USER_HZ, which is the same on every Linux that Go runs on
			f.started = time.Now().Add(time.Duration(ticks)*time.Second/perSecond - time.Duration(now.Nano()))
		}
	}
	return f, true
}

// Listener is the process that listens on a unix socket, as the kernel recorded it:
// it need not accept anybody for that. ErrNobody if there is none.
func Listener(socket string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return 0, fmt.Errorf("%w: %w", ErrNobody, err)
	case errors.Is(err, unix.EAGAIN): // the queue of those it has not accepted is full
		return 0, ErrFull
	case err != nil:
		return 0, &net.OpError{Op: "dial", Net: "unix", Err: err}
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// ErrNobody: nobody listens. ErrFull: somebody does, and accepts nobody.
var (
	ErrNobody = errors.New("nobody listens on the socket")
	ErrFull   = errors.New("it accepts no connections")
)
