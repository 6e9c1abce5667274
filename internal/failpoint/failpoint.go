// Package failpoint names every place where a process may die or fail, so
// that tests can make it happen there.
//
// A point is a package-level variable, New("import.after-locate"), hit by the
// code that passes it. When no point is armed a hit is one atomic load. Points
// are armed by the environment variable UMBRA_FAILPOINTS when the process
// starts:
//
//	import.after-locate=kill          SIGKILL this process
//	array.commit.clone=error          the hit returns an error
//	create.in-hold=sleep(2s)          the hit sleeps (or ends with its context)
//	create.in-hold=touch(/tmp/f)+sleep(2s)   actions in sequence; touch tells a test "I am here"
//
// Several are separated by semicolons. "name=2*kill" lets the first hit pass
// and acts on the second. An unknown name or action stops the process at
// start, because a test that arms nothing proves nothing.
package failpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Env is the variable that arms points.
const Env = "UMBRA_FAILPOINTS"

// ErrInjected is what an armed "error" action returns.
var ErrInjected = errors.New("failpoint: injected error")

// Point is one named place.
type Point struct {
	name  string
	armed atomic.Pointer[plan]
}

type plan struct {
	kills   bool         // one of the actions is "kill"
	skip    atomic.Int64 // hits left to let pass
	actions []func(ctx context.Context) error
}

var (
	mu     sync.Mutex
	points = map[string]*Point{}
)

// New registers a point. Names are dotted, <pipeline>.<place>, and unique; a
// duplicate is a programming error and panics at start.
func New(name string) *Point {
	mu.Lock()
	defer mu.Unlock()
	if points[name] != nil {
		panic("failpoint registered twice: " + name)
	}
	p := &Point{name: name}
	points[name] = p
	return p
}

// Name returns the point's name.
func (p *Point) Name() string { return p.name }

// Kills reports whether the point is armed to kill: for a process that asks
// for another one, which has no failpoints of its own.
func (p *Point) Kills() bool {
	pl := p.armed.Load()
	return pl != nil && pl.kills
}

// Hit does what the point is armed with; nothing, at no cost, when it is not.
// It is safe for concurrent use. Only an "error" action, or ctx ending during
// "sleep", makes it return an error.
func (p *Point) Hit(ctx context.Context) error {
	pl := p.armed.Load()
	if pl == nil {
		return nil
	}
	if pl.skip.Add(-1) >= 0 {
		return nil
	}
	for _, a := range pl.actions {
		if err := a(ctx); err != nil {
			return fmt.Errorf("%w at %s", err, p.name)
		}
	}
	return nil
}

// Names lists all registered points, sorted.
func Names() []string {
	mu.Lock()
	defer mu.Unlock()
	var out []string
	for n := range points {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// Arm arms points from a specification as in Env and returns a function that
// disarms them again, for tests within one process.
func Arm(spec string) (disarm func(), err error) {
	var undo []*Point
	disarm = func() {
		for _, p := range undo {
			p.armed.Store(nil)
		}
	}
	for part := range strings.SplitSeq(spec, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, what, ok := strings.Cut(part, "=")
		mu.Lock()
		p := points[name]
		mu.Unlock()
		if !ok || p == nil {
			disarm()
			return nil, fmt.Errorf("failpoint: no point %q", name)
		}
		pl := &plan{}
		if n, rest, ok := strings.Cut(what, "*"); ok {
			k, err := strconv.Atoi(n)
			if err != nil || k < 1 {
				disarm()
				return nil, fmt.Errorf("failpoint: bad count in %q", part)
			}
			pl.skip.Store(int64(k - 1))
			what = rest
		}
		for w := range strings.SplitSeq(what, "+") {
			a, err := parseAction(w)
			if err != nil {
				disarm()
				return nil, err
			}
			pl.actions = append(pl.actions, a)
			pl.kills = pl.kills || w == "kill"
		}
		p.armed.Store(pl)
		undo = append(undo, p)
	}
	return disarm, nil
}

// ArmFromEnv arms what Env says; main calls it once, before any work.
func ArmFromEnv() error {
	_, err := Arm(os.Getenv(Env))
	return err
}

func parseAction(s string) (func(context.Context) error, error) {
	verb, arg, hasArg := strings.Cut(s, "(")
	if hasArg {
		var closed bool
		if arg, closed = strings.CutSuffix(arg, ")"); !closed {
			return nil, fmt.Errorf("failpoint: no closing parenthesis in %q", s)
		}
	}
	if takes := verb == "sleep" || verb == "touch"; takes != hasArg {
		return nil, fmt.Errorf("failpoint: %q has an argument where none belongs, or none where one does, or is no action", s)
	}
	switch verb {
	case "kill":
		return func(context.Context) error {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal may take a moment; nothing after this line may run
		}, nil
	case "error":
		return func(context.Context) error { return ErrInjected }, nil
	case "panic":
		return func(context.Context) error { panic("failpoint") }, nil
	case "sleep":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return nil, fmt.Errorf("failpoint: %w", err)
		}
		return func(ctx context.Context) error {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, nil
	case "touch":
		if arg == "" {
			return nil, errors.New("failpoint: touch needs a path")
		}
		return func(context.Context) error { return os.WriteFile(arg, nil, 0o600) }, nil
	}
	return nil, fmt.Errorf("failpoint: no action %q", s)
}
