package underway

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Late is the error of something that did not come back in time. It goes on, or
// hangs; nobody waits for it any more, and it stays in the list until it ends.
type Late struct {
	What, Object string
	After        time.Duration
	Err          error // the context's
}

func (l Late) Error() string {
	of := ""
	if l.Object != "" {
		of = " of " + l.Object
	}
	return fmt.Sprintf("%s%s has not come back after %s", l.What, of, l.After.Round(10*time.Millisecond))
}

func (l Late) Unwrap() error { return l.Err }

// Do does what the kernel may keep for as long as a disk or a server does not
// answer. It returns when f does, or with [Late] when ctx ends or the limit has
// passed; f is then left to itself, and what it returns is handed to drop, if
// that is not nil.
func Do[T any](ctx context.Context, limit time.Duration, w Wait, f func() (T, error), drop func(T)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type result struct {
		v   T
		err error
	}
	end := Begin(ctx, w)
	begin := time.Now()
	done, left := make(chan result), make(chan struct{})
	go func() {
		v, err := f()
		end() // before anybody hears of it
		select {
		case done <- result{v, err}:
		case <-left:
			if drop != nil && err == nil {
				drop(v)
			}
		}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		close(left)
		var none T
		return none, Late{w.What, w.Object, time.Since(begin), ctx.Err()}
	}
}

// dyingTime is how long a killed program may take to be gone. One that the
// kernel keeps is not waited for.
const dyingTime = time.Second

// Run runs a program and returns what it said. It is killed when ctx ends or the
// limit has passed, and left to itself if it does not die of that. prepare, if
// not nil, has the last word on how it is started.
func Run(ctx context.Context, limit time.Duration, prepare func(*exec.Cmd), name string, args ...string) (stdout, stderr string, err error) {
	kctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(kctx, name, args...)
	cmd.WaitDelay = dyingTime
	if prepare != nil {
		prepare(cmd)
	}
	type said struct{ out, errs string }
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin := time.Now()
	// By this thread, whose namespaces may be its own.
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	w := Wait{Kind: Program, What: strings.Join(append([]string{name}, args...), " "), PID: cmd.Process.Pid}
	w.Deadline, _ = kctx.Deadline()
	// The kill comes first, so that an ended context is not the program's word.
	s, err := Do(context.WithoutCancel(ctx), limit+2*dyingTime, w, func() (said, error) {
		err := cmd.Wait()
		if kctx.Err() != nil && err != nil {
			err = Late{w.What, "", time.Since(begin), kctx.Err()}
		}
		return said{out.String(), errs.String()}, err
	}, nil)
	return s.out, s.errs, err
}
