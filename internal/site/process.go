package site

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is one umbra service (array or daemon) in a namespace.
type process struct {
	name string
	cmd  *exec.Cmd
	pipe io.Closer // closing it asks the process to end
	log  *logBuffer
	done chan struct{}
	err  error
}

// logBuffer keeps what a process wrote and passes it on.
type logBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	also  io.Writer
	ready chan struct{}
	once  sync.Once
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if l.also != nil {
		_, _ = l.also.Write(p)
	}
	if strings.Contains(l.buf.String(), "umbra: ready") {
		l.once.Do(func() { close(l.ready) })
	}
	return len(p), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs a service and waits until it says that it is ready.
func start(ctx context.Context, ns *namespace, also io.Writer, env []string, binary string, args ...string) (*process, error) {
	p := &process{name: ns.name, log: &logBuffer{also: also, ready: make(chan struct{})}, done: make(chan struct{})}
	p.cmd = ns.command(context.WithoutCancel(ctx), binary, append(args, "--exit-with-stdin")...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr, p.cmd.Stdout = p.log, p.log
	pipe, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.pipe = pipe
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	select {
	case <-p.log.ready:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("%s of %s ended: %v\n%s", args[0], ns.name, p.err, p.log)
	case <-time.After(30 * time.Second):
		p.kill()
		return nil, fmt.Errorf("%s of %s is not ready after 30 s\n%s", args[0], ns.name, p.log)
	case <-ctx.Done():
		p.stop()
		return nil, ctx.Err()
	}
}

// stop ends it as its unit would, and kills it after 20 s.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.pipe.Close()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.kill()
	}
}

// kill is SIGKILL.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	_ = p.pipe.Close()
}

// running reports whether the process lives.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}
