package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/umbra-vss/umbra/test/lab/wire"
)

// control is the line to a machine.
type control struct {
	line    net.Conn
	writing sync.Mutex

	mu      sync.Mutex
	last    uint32
	running map[uint32]*running
	broken  error
}

// running is a command that has not ended.
type running struct {
	stdout, stderr io.Writer
	result         wire.Result
	err            error // the machine is gone
	done           chan struct{}
}

// dial waits for the machine to say that it is up.
func dial(ctx context.Context, line net.Conn) (*control, error) {
	stop := context.AfterFunc(ctx, func() { line.Close() })
	defer stop()
	in := bufio.NewReaderSize(line, 64<<10)
	f, err := wire.Read(in)
	if err == nil && f.Kind != wire.Hello {
		err = fmt.Errorf("frame %d instead of a greeting", f.Kind)
	}
	if err == nil && len(f.Data) > 0 {
		err = fmt.Errorf("it came up with trouble:\n%s", f.Data)
	}
	if err != nil {
		line.Close()
		return nil, errors.Join(err, context.Cause(ctx))
	}
	return controlFrom(line, in, 0, map[uint32]*running{}), nil
}

// controlOf is the line to a machine that is up already, and on which commands
// run already.
func controlOf(line net.Conn, last uint32, running map[uint32]*running) *control {
	return controlFrom(line, bufio.NewReaderSize(line, 64<<10), last, running)
}

func controlFrom(line net.Conn, in io.Reader, last uint32, running map[uint32]*running) *control {
	c := &control{line: line, last: last, running: running}
	go c.listen(in)
	return c
}

// become tells a machine who it is, and waits until it is that.
func (c *control) become(ctx context.Context, m wire.Machine) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	id, r, err := c.ask(wire.Become, b, nil, nil)
	if err != nil {
		return err
	}
	w, err := c.wait(ctx, id, r)
	if err == nil && w.Error != "" {
		err = errors.New(w.Error)
	}
	return err
}

func (c *control) listen(in io.Reader) {
	for {
		f, err := wire.Read(in)
		if err != nil {
			c.close(fmt.Errorf("the machine no longer answers: %w", err))
			return
		}
		c.mu.Lock()
		r := c.running[f.ID]
		c.mu.Unlock()
		if r == nil {
			continue
		}
		switch f.Kind {
		case wire.Stdout:
			_, _ = r.stdout.Write(f.Data)
		case wire.Stderr:
			_, _ = r.stderr.Write(f.Data)
		case wire.Exit:
			c.end(f.ID, func() { r.err = json.Unmarshal(f.Data, &r.result) })
		}
	}
}

func (c *control) end(id uint32, say func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.running[id]; r != nil {
		delete(c.running, id)
		say()
		close(r.done)
	}
}

// close ends all that runs with an error.
func (c *control) close(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = why
	}
	c.line.Close()
	for id, r := range c.running {
		delete(c.running, id)
		r.err = c.broken
		close(r.done)
	}
}

func (c *control) send(k wire.Kind, id uint32, data []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return wire.Write(c.line, wire.Frame{Kind: k, ID: id, Data: data})
}

// start runs a command; its output goes to the writers, one write at a time.
func (c *control) start(cmd wire.Command, stdin io.Reader, stdout, stderr io.Writer) (uint32, *running, error) {
	b, err := json.Marshal(cmd)
	if err != nil {
		return 0, nil, err
	}
	id, r, err := c.ask(wire.Run, b, stdout, stderr)
	if err != nil {
		return 0, nil, err
	}
	buf := make([]byte, 64<<10)
	for stdin != nil {
		n, err := stdin.Read(buf)
		if n > 0 {
			if err := c.send(wire.Stdin, id, buf[:n]); err != nil {
				return 0, nil, err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			_ = c.signal(id, syscall.SIGKILL)
			return 0, nil, err
		}
	}
	return id, r, c.send(wire.Stdin, id, nil)
}

// ask sends something that the machine will answer with Exit.
func (c *control) ask(kind wire.Kind, what []byte, stdout, stderr io.Writer) (uint32, *running, error) {
	r := &running{stdout: stdout, stderr: stderr, done: make(chan struct{})}
	c.mu.Lock()
	if c.broken != nil {
		c.mu.Unlock()
		return 0, nil, c.broken
	}
	c.last++
	id := c.last
	c.running[id] = r
	c.mu.Unlock()
	return id, r, c.send(kind, id, what)
}

func (c *control) signal(id uint32, s syscall.Signal) error {
	return c.send(wire.Signal, id, []byte{byte(s)})
}

// wait returns when the command has ended. If the context ends before, the
// command and its children are killed.
func (c *control) wait(ctx context.Context, id uint32, r *running) (wire.Result, error) {
	select {
	case <-r.done:
		return r.result, r.err
	case <-ctx.Done():
	}
	err := fmt.Errorf("not done in time: %w", context.Cause(ctx))
	_ = c.signal(id, syscall.SIGKILL)
	select {
	case <-r.done:
	case <-time.After(10 * time.Second):
		c.end(id, func() {}) // in the kernel, and not to be killed
		err = fmt.Errorf("%w; and it cannot be killed", err)
	}
	return wire.Result{}, err
}
