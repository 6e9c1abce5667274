package nbd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// qmp is a conversation with a server over its control socket.
type qmp struct {
	conn net.Conn
	in   *bufio.Reader
}

const (
	maxReply = 4 << 20
	// The server answers at once, or its disk does not.
	qmpTimeout = 20 * time.Second
)

// dial opens the control socket in dir. By the folder's descriptor: a path may
// be longer than a socket's may be.
func dial(ctx context.Context, dir string) (*qmp, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join("/proc/self/fd", strconv.Itoa(fd), socketName))
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	_ = conn.SetDeadline(time.Now().Add(qmpTimeout))
	if _, err := q.line(); err != nil { // the greeting
		conn.Close()
		return nil, err
	}
	if err := q.do("qmp_capabilities", nil, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) close() { q.conn.Close() }

func (q *qmp) line() ([]byte, error) {
	var out []byte
	for {
		part, err := q.in.ReadSlice('\n')
		out = append(out, part...)
		if err == nil || !errors.Is(err, bufio.ErrBufferFull) {
			return out, err
		}
		if len(out) > maxReply {
			return nil, errors.New("the server's answer is too long")
		}
	}
}

// refused is an answer of the server's that is an error.
type refused struct{ what, why string }

func (r refused) Error() string { return r.what + ": " + r.why }

// do gives a command and waits for its answer.
func (q *qmp) do(command string, arguments, result any) error {
	type request struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}
	b, err := json.Marshal(request{command, arguments})
	if err != nil {
		return err
	}
	_ = q.conn.SetDeadline(time.Now().Add(qmpTimeout))
	if _, err := q.conn.Write(append(b, '\n')); err != nil {
		return err
	}
	for {
		l, err := q.line()
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		var reply struct {
			Event  string          `json:"event"`
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal(l, &reply); err != nil {
			return err
		}
		switch {
		case reply.Event != "":
			continue
		case reply.Error != nil:
			return refused{command, reply.Error.Desc}
		case result != nil:
			return json.Unmarshal(reply.Return, result)
		}
		return nil
	}
}

// awaitSocket waits until a server that was just started answers.
func awaitSocket(ctx context.Context, dir string, alive func() bool) (*qmp, error) {
	deadline := time.Now().Add(10 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		q, err := dial(ctx, dir)
		if err == nil {
			return q, nil
		}
		if !alive() {
			b, _ := os.ReadFile(filepath.Join(dir, logName))
			return nil, fmt.Errorf("it ended: %s", lastLine(b))
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}
