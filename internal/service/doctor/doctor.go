// Package doctor finds who is stuck, since when, and what helps. It is a list of
// small checks, each of which looks at one thing and asks nobody who may hang:
//
//	what the service knows  operations, calls that are out, holds, arrays
//	what is on record       orphaned LUNs, broken imports, exposures, attachments
//	what can be seen        the processes of daemon, guard and array, hold intents
//
// The first two run in the daemon, which answers `umbra doctor` with what they
// found; the last in the command itself, and the second as well when the daemon
// does not answer. Nothing is ever asked of a filesystem that may be frozen, and
// nobody freezes or thaws here to find out: what is said of a freeze is what the
// guard wrote down, or what /proc shows.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Severity is how bad it is.
type Severity string

// Severities.
const (
	Warning Severity = "warning" // it may pass, or costs something
	Error   Severity = "error"   // somebody waits, or something is lost, until somebody acts
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Name     string // stable, of Kinds
	Severity Severity
	Object   string    // what
	Who      string    // process, thread, session: who is stuck, or has it
	Since    time.Time // zero if nobody knows
	Deadline time.Time // when it is given up by itself; zero: never
	What     string    // what is the matter
	Why      string    // why it matters, in a sentence
	Help     string    // the command that helps, or what to do
}

// find makes a finding of a kind.
func find(name, object string) Finding {
	k, ok := KindOf(name)
	if !ok {
		panic("doctor: no kind is called " + name)
	}
	return Finding{Name: name, Severity: k.Severity, Object: object, Why: k.Why}
}

// check looks at one thing of a source.
type check[S any] struct {
	name string
	run  func(ctx context.Context, s S) []Finding
}

// examine runs all checks side by side and waits for none beyond ctx: a check that
// does not come back is a finding itself.
func examine[S any](ctx context.Context, s S, checks []check[S]) []Finding {
	begin := time.Now()
	// Those who look with ctx get a little less than it, to say what they saw.
	look, cancel := ctx, context.CancelFunc(func() {})
	if d, ok := ctx.Deadline(); ok {
		look, cancel = context.WithTimeout(ctx, time.Until(d)*4/5)
	}
	defer cancel()
	var mu sync.Mutex
	out, open := []Finding{}, map[string]bool{}
	done := make(chan struct{}, len(checks))
	for _, c := range checks {
		open[c.name] = true
	}
	for _, c := range checks {
		go func() {
			fs := guarded(look, s, c)
			mu.Lock()
			delete(open, c.name)
			out = append(out, fs...)
			mu.Unlock()
			done <- struct{}{}
		}()
	}
	for range checks {
		select {
		case <-done:
			continue
		case <-ctx.Done():
		}
		break
	}
	mu.Lock()
	defer mu.Unlock()
	out = slices.Clone(out)
	for name := range open {
		f := find("check.late", name)
		f.Since, f.What = begin, "the doctor's own look at it has not come back"
		f.Help = "umbra doctor --timeout 30s"
		out = append(out, f)
	}
	Sort(out)
	return out
}

// guarded is a check whose defect is a finding: the others are needed.
func guarded[S any](ctx context.Context, s S, c check[S]) (fs []Finding) {
	defer func() {
		if r := recover(); r != nil {
			f := find("check.late", c.name)
			f.What, f.Help = fmt.Sprintf("the doctor's own look at it failed: %v", r), "report it"
			fs = []Finding{f}
		}
	}()
	return c.run(ctx, s)
}

// Sort puts the worst first, and of those the oldest.
func Sort(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		if a.Severity != b.Severity {
			if a.Severity == Error {
				return -1
			}
			return 1
		}
		if a.Since.IsZero() != b.Since.IsZero() {
			if a.Since.IsZero() {
				return 1
			}
			return -1
		}
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Object, b.Object))
	})
}
