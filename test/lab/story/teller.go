package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/test/lab"
)

// Run tells the story, and removes everything that was made for it, also when
// ctx ends or a step fails. Not what is kept for the next time: Debian's
// packages, unpacked in the lab's cache.
func Run(ctx context.Context, out io.Writer) error {
	logs, err := os.MkdirTemp("", "umbra-story-")
	if err != nil {
		return err
	}
	begun := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &teller{ctx: ctx, out: out, logs: logs}
	done := make(chan struct{})
	go func() {
		// Fatal ends this goroutine, wherever it is.
		defer close(done)
		defer t.cleanUp()
		tell(t)
		t.told = true
	}()
	<-done
	if t.errs != nil {
		fmt.Fprintln(out)
	}
	err = errors.Join(t.errs, os.RemoveAll(logs))
	if ctx.Err() != nil {
		return errors.New("the demo was interrupted") // and whatever it was doing failed for that
	}
	if err == nil && !t.told {
		err = errors.New("the demo did not come to its end")
	}
	if err == nil {
		fmt.Fprintf(out, "\nDone in %s.\n", time.Since(begun).Round(100*time.Millisecond))
	}
	return err
}

// teller prints the story, and is who the lab serves.
type teller struct {
	ctx  context.Context
	out  io.Writer
	logs string
	n    int
	told bool

	mu       sync.Mutex
	errs     error
	cleanups []func()
}

func (t *teller) step(title string) {
	t.n++
	fmt.Fprintf(t.out, "\n%2d. %s\n", t.n, title)
}

func (t *teller) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintf(t.out, "    %s\n", strings.TrimRight(line, "\n"))
	}
}

var _ lab.T = (*teller)(nil)

func (t *teller) cleanUp() {
	t.step("Remove everything this demo made")
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
	t.fail(lab.Clean())
	if t.errs == nil {
		t.say("no machine, process or file is left")
	}
}

func (t *teller) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = errors.Join(t.errs, err)
}

func (t *teller) Helper()                      {}
func (t *teller) Log(...any)                   {} // of the lab's own doings
func (t *teller) Logf(string, ...any)          {}
func (t *teller) Error(args ...any)            { t.fail(errors.New(strings.TrimSpace(fmt.Sprintln(args...)))) }
func (t *teller) Errorf(f string, args ...any) { t.fail(fmt.Errorf(f, args...)) }
func (t *teller) Fatal(args ...any)            { t.Error(args...); runtime.Goexit() }
func (t *teller) Fatalf(f string, args ...any) { t.Errorf(f, args...); runtime.Goexit() }
func (t *teller) Skip(args ...any)             { t.Fatal(args...) }
func (t *teller) Skipf(f string, args ...any)  { t.Fatalf(f, args...) }
func (t *teller) Cleanup(f func())             { t.cleanups = append(t.cleanups, f) }
func (t *teller) Context() context.Context     { return t.ctx }
func (t *teller) ArtifactDir() string          { return t.logs }
func (t *teller) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.errs != nil
}
