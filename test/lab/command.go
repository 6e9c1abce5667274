package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/umbra-vss/umbra/test/lab/wire"
)

// Result is what a command left.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Failed is the error of a command that ended with another code than 0.
type Failed struct {
	Machine, Command string
	Result
}

func (e *Failed) Error() string {
	return fmt.Sprintf("%s: exit code %d of: %s\n%s", e.Machine, e.Code, e.Command, strings.TrimSpace(e.Stdout+e.Stderr))
}

// patience is how long a command may take whose context has no deadline.
const patience = 2 * time.Minute

// Run runs a shell command (sh -e) on the machine and waits for it. The error is a
// *Failed if it ended with another code than 0. When the context ends, or after
// two minutes if it has no deadline, the command is killed with its children.
func (m *Machine) Run(ctx context.Context, format string, args ...any) (Result, error) {
	return m.run(ctx, nil, shell(format, args))
}

// Sh is Run for what must work: it returns what was printed, without the last
// line's end, and ends the test if the command fails.
func (m *Machine) Sh(format string, args ...any) string {
	m.lab.t.Helper()
	r, err := m.Run(m.lab.t.Context(), format, args...)
	if err != nil {
		m.lab.t.Fatal(err)
	}
	return strings.TrimRight(r.Stdout, "\n")
}

// Fails is Run for what must not work: it returns what was printed and ends the
// test if the command succeeds.
func (m *Machine) Fails(format string, args ...any) Result {
	m.lab.t.Helper()
	r, err := m.Run(m.lab.t.Context(), format, args...)
	var failed *Failed
	if err == nil {
		m.lab.t.Fatalf("%s: this should have failed: %s\n%s%s", m.Name, shell(format, args), r.Stdout, r.Stderr)
	} else if !errors.As(err, &failed) {
		m.lab.t.Fatal(err)
	}
	return r
}

// Push writes a file on the machine.
func (m *Machine) Push(ctx context.Context, data []byte, path string, mode os.FileMode) error {
	_, err := m.run(ctx, bytes.NewReader(data), fmt.Sprintf("umask 077 && cat >%[1]s.new && chmod %[2]o %[1]s.new && mv %[1]s.new %[1]s", quote(path), mode.Perm()))
	return err
}

// Install puts an archive of programs (image.Pack) on the machine. What it has
// already stays. They are in memory, of which there is little; with a folder on a
// disk they are there, and only links to them in their places.
func (m *Machine) Install(ctx context.Context, pack []byte, disk string) error {
	command := "cd / && cpio -idm 2>/dev/null"
	if disk != "" {
		command = "d=" + quote(disk) + "; mkdir -p $d && cd $d && cpio -idm 2>/dev/null; find . -type d | while read f; do mkdir -p /$f; done; find . ! -type d | while read f; do test -e /$f || ln -s $d/$f /$f; done"
	}
	_, err := m.run(ctx, bytes.NewReader(pack), command)
	return err
}

// Pull reads a file of the machine's.
func (m *Machine) Pull(ctx context.Context, path string) ([]byte, error) {
	r, err := m.run(ctx, nil, "cat "+quote(path))
	return []byte(r.Stdout), err
}

func (m *Machine) run(ctx context.Context, stdin io.Reader, command string) (Result, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	c, err := m.line()
	if err != nil {
		return Result{}, err
	}
	var stdout, stderr bytes.Buffer
	id, r, err := c.start(wire.Command{Shell: command}, stdin, &stdout, &stderr)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %s: %w", m.Name, command, err)
	}
	begin := time.Now()
	w, err := c.wait(ctx, id, r)
	m.note(command, w.Code, time.Since(begin))
	out := Result{Code: w.Code, Stdout: stdout.String(), Stderr: stderr.String()}
	switch {
	case err != nil:
		return out, fmt.Errorf("%s: %s: %w\n%s%s", m.Name, command, err, out.Stdout, out.Stderr)
	case w.Error != "":
		return out, fmt.Errorf("%s: %s: %s", m.Name, command, w.Error)
	case w.Code != 0:
		return out, &Failed{Machine: m.Name, Command: command, Result: out}
	}
	return out, nil
}

// note keeps what was run, how it ended and how long it took, in
// <machine>-commands.log.
func (m *Machine) note(command string, code int, took time.Duration) {
	f, err := os.OpenFile(filepath.Join(m.lab.logs, m.Name+"-commands.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s %6d ms, code %d, processor %5d ms: %s\n", time.Now().Format("15:04:05.000"), took.Milliseconds(), code, m.spent().Milliseconds(), command)
}

// spent is the time of this machine's processors that the other has had since it
// is on.
func (m *Machine) spent() time.Duration {
	m.mu.Lock()
	pid := m.pid
	m.mu.Unlock()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	var ticks time.Duration
	if f := strings.Fields(rest); len(f) > 12 {
		for _, n := range f[11:13] { // user and system
			t, _ := strconv.ParseInt(n, 10, 64)
			ticks += time.Duration(t)
		}
	}
	return ticks * 10 * time.Millisecond
}

func (m *Machine) line() (*control, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.control == nil {
		return nil, fmt.Errorf("%s is off", m.Name)
	}
	return m.control, nil
}

func shell(format string, args []any) string {
	if len(args) == 0 {
		return format // a % in it means itself
	}
	return fmt.Sprintf(format, args...)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Process is a command in the background.
type Process struct {
	m    *Machine
	name string
	c    *control
	id   uint32
	r    *running
	log  *log
}

// Start runs a shell command in the background. What it prints goes to the log
// <machine>-<name>.log, which is shown when the test fails.
func (m *Machine) Start(name, format string, args ...any) *Process {
	m.lab.t.Helper()
	c, err := m.line()
	if err != nil {
		m.lab.t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(m.lab.logs, m.Name+"-"+name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		m.lab.t.Fatal(err)
	}
	p := &Process{m: m, name: name, c: c, log: &log{file: f}}
	if p.id, p.r, err = c.start(wire.Command{Shell: shell(format, args)}, nil, p.log, p.log); err != nil {
		m.lab.t.Fatal(err)
	}
	go func() { <-p.r.done; f.Close() }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.processes[name] = p
	return p
}

// Process is what Start returned, for a machine that began with a scene in which
// it was started.
func (m *Machine) Process(name string) *Process {
	m.lab.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.processes[name]
	if p == nil {
		m.lab.t.Fatalf("nothing was started on %s that is called %s", m.Name, name)
	}
	return p
}

// Signal sends a signal to the command and its children.
func (p *Process) Signal(s syscall.Signal) error { return p.c.signal(p.id, s) }

// Wait returns the command's exit code when it has ended.
func (p *Process) Wait(ctx context.Context) (int, error) {
	w, err := p.c.wait(ctx, p.id, p.r)
	return w.Code, err
}

// Stop asks the command to end, with SIGTERM, and waits; after half a minute it
// is killed and the test has failed.
func (p *Process) Stop() {
	p.m.lab.t.Helper()
	_ = p.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(p.m.lab.t.Context(), 30*time.Second)
	defer cancel()
	if _, err := p.Wait(ctx); err != nil {
		p.m.lab.t.Errorf("%s on %s: %v", p.name, p.m.Name, err)
	}
}

// Log is what the command has printed.
func (p *Process) Log() string { return p.log.String() }

// WaitFor waits until the command has printed a text, and ends the test if it
// ends before or takes more than a minute.
func (p *Process) WaitFor(text string) {
	p.m.lab.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(p.Log(), text); {
		select {
		case <-p.r.done:
			p.m.lab.t.Fatalf("%s on %s ended before it said %q:\n%s", p.name, p.m.Name, text, p.Log())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.m.lab.t.Fatalf("%s on %s has not said %q:\n%s", p.name, p.m.Name, text, p.Log())
		}
	}
}

// log is what a command prints, in memory and on disk.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
	file *os.File
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	return l.file.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
