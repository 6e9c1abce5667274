package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/test/lab/wire"
)

// serve carries out commands until the port is closed.
func serve(trouble string) error {
	port, err := openPort()
	if err != nil {
		return err
	}
	a := &agent{port: port, running: map[uint32]*command{}}
	if err := a.send(wire.Hello, 0, []byte(trouble)); err != nil {
		return err
	}
	for in := bufio.NewReaderSize(port, 64<<10); ; {
		f, err := wire.Read(in)
		if err != nil {
			return err
		}
		a.take(f)
	}
}

func openPort() (*os.File, error) {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == wire.Port {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no serial port is called %s", wire.Port)
}

type agent struct {
	port    *os.File
	writing sync.Mutex
	mu      sync.Mutex
	running map[uint32]*command
}

type command struct {
	cmd   *exec.Cmd
	stdin chan []byte // data in order; none is the end
	done  chan struct{}
}

func (a *agent) send(k wire.Kind, id uint32, data []byte) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	return wire.Write(a.port, wire.Frame{Kind: k, ID: id, Data: data})
}

func (a *agent) take(f wire.Frame) {
	a.mu.Lock()
	c := a.running[f.ID]
	a.mu.Unlock()
	switch {
	case f.Kind == wire.Run:
		a.run(f)
	case f.Kind == wire.Become:
		var m wire.Machine
		err := json.Unmarshal(f.Data, &m)
		if err == nil {
			err = become(m)
		}
		var r wire.Result
		if err != nil {
			r.Error = err.Error()
		}
		a.ended(f.ID, r)
	case c == nil: // it has ended meanwhile
	case f.Kind == wire.Stdin:
		select {
		case c.stdin <- f.Data:
		case <-c.done:
		}
	case f.Kind == wire.Signal && len(f.Data) == 1:
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.Signal(f.Data[0]))
	}
}

func (a *agent) run(f wire.Frame) {
	var c wire.Command
	err := json.Unmarshal(f.Data, &c)
	if err == nil {
		err = a.start(f.ID, c)
	}
	if err != nil {
		a.ended(f.ID, wire.Result{Code: 126, Error: err.Error()})
	}
}

// start runs a command in a session of its own, so that it and its children can
// be signalled together. The first step that fails is the last: a scenario that
// goes on after it would prove something else than it says.
func (a *agent) start(id uint32, c wire.Command) error {
	cmd := exec.Command("/bin/sh", "-ec", c.Shell)
	cmd.Dir, cmd.Env = "/root", append(os.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	// Pipes of our own: a child that is left in the background keeps them open,
	// and the command has ended all the same.
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outR.Close(), outW.Close())
	}
	cmd.Stdout, cmd.Stderr = outW, errW
	run := &command{cmd: cmd, stdin: make(chan []byte, 64), done: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	err = cmd.Start()
	outW.Close()
	errW.Close()
	if err != nil {
		return errors.Join(err, outR.Close(), errR.Close())
	}
	a.running[id] = run
	go func() {
		defer in.Close()
		for broken := false; ; {
			select {
			case data := <-run.stdin:
				if len(data) == 0 {
					return
				}
				if !broken {
					_, err := in.Write(data)
					broken = err != nil
				}
			case <-run.done:
				return
			}
		}
	}()
	var copies sync.WaitGroup
	copies.Go(func() { a.copy(wire.Stdout, id, outR) })
	copies.Go(func() { a.copy(wire.Stderr, id, errR) })
	go func() {
		r := result(cmd.Wait())
		close(run.done)
		finish(&copies, outR, errR)
		a.ended(id, r)
	}()
	return nil
}

func (a *agent) ended(id uint32, r wire.Result) {
	a.mu.Lock()
	delete(a.running, id)
	a.mu.Unlock()
	b, _ := json.Marshal(r)
	if err := a.send(wire.Exit, id, b); err != nil {
		say("agent: %v", err)
	}
}

func (a *agent) copy(k wire.Kind, id uint32, from *os.File) {
	defer from.Close()
	for buf := make([]byte, 64<<10); ; {
		n, err := from.Read(buf)
		if n > 0 {
			if err := a.send(k, id, buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func result(err error) wire.Result {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return wire.Result{}
	case errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return wire.Result{Code: 128 + int(s.Signal())}
		}
		return wire.Result{Code: exit.ExitCode()}
	}
	return wire.Result{Code: 126, Error: err.Error()}
}

// finish waits until all that a command wrote has been passed on. A child that
// it left behind may hold the pipes open: when they are empty they are done,
// and what it writes later is nobody's.
func finish(copies *sync.WaitGroup, pipes ...*os.File) {
	all := make(chan struct{})
	go func() { copies.Wait(); close(all) }()
	for {
		select {
		case <-all:
			return
		case <-time.After(20 * time.Millisecond):
		}
		for _, p := range pipes {
			if n, err := unread(p); err == nil && n == 0 {
				_ = p.SetReadDeadline(time.Now())
			}
		}
	}
}

func unread(p *os.File) (n int, err error) {
	raw, err := p.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n, errors.Join(err, cerr)
}
