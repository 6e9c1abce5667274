package providertest

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// Subject is a provider and what of it the suite may use.
type Subject struct {
	Provider provider.Hardware
	LUNs     []Disk // originals of the provider that may be copied; with two of them no case is skipped

	// Restart ends the provider and starts it again on the same storage.
	Restart func(ctx context.Context) (provider.Hardware, error)
	// Attach makes a located copy a device of this host, and Detach removes it.
	Attach func(ctx context.Context, copy lun.Info) (Disk, error)
	Detach func(ctx context.Context, d Disk) error
	// Scratch says that the content of the LUNs is nobody's: it is overwritten,
	// and a provider that destroys an original when it is asked to is found out.
	Scratch bool

	Patience time.Duration // the longest a call may take; 30 s if 0
	Quick    time.Duration // the longest for calls that must be quick; 10 s if 0
}

// Disk is a LUN as a device of this host.
type Disk struct {
	Info   lun.Info
	Device string
	Size   uint64
}

// Outcome of a case.
type Outcome string

// Outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Result is what became of one case.
type Result struct {
	Name    string        `json:"name"`
	Rule    string        `json:"rule"` // what the contract asks
	Outcome Outcome       `json:"outcome"`
	Words   string        `json:"words,omitempty"` // what was wrong, or what is missing
	Took    time.Duration `json:"took_ns"`
}

// Case is one rule of the contract, and the calls that show whether it is kept.
type Case struct {
	Name string
	Rule string
	run  func(*check)
}

// Cases are all there are, in the order in which they are run: what is asked of
// every volume first, what could do harm last.
func Cases() []Case {
	return slices.Concat(identityCases, selectionCases, beginCases, orderCases(), abortCases, targetCases, locateCases, importCases, fillCases,
		contentCases, optionalCases, lifeCases, reclaimCases)
}

// Run runs the cases of these names, or all, and reports each as it ends. It
// stops early when ctx ends.
func Run(ctx context.Context, s Subject, report func(Result), names ...string) []Result {
	if s.Patience == 0 {
		s.Patience = 30 * time.Second
	}
	if s.Quick == 0 {
		s.Quick = 10 * time.Second
	}
	var out []Result
	for _, k := range Cases() {
		if len(names) > 0 && !slices.Contains(names, k.Name) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		r := k.try(ctx, &s)
		out = append(out, r)
		if report != nil {
			report(r)
		}
	}
	return out
}

// Test runs the suite as subtests.
func Test(t *testing.T, s Subject) {
	t.Helper()
	for _, r := range Run(t.Context(), s, nil) {
		t.Run(r.Name, func(t *testing.T) {
			switch r.Outcome {
			case Failed:
				t.Errorf("%s\nrule: %s", r.Words, r.Rule)
			case Skipped:
				t.Skip(r.Words)
			}
		})
	}
}

// failure and skip end a case from inside.
type (
	failure string
	skip    string
)

// try runs one case. Whatever it made is removed in any case; what cannot be is
// a failure too.
func (k Case) try(ctx context.Context, s *Subject) (r Result) {
	r = Result{Name: k.Name, Rule: k.Rule, Outcome: Passed}
	begin := time.Now()
	defer func() { r.Took = time.Since(begin) }()
	c := &check{ctx: ctx, s: s, volumes: map[vss.ID]int{}}
	caught := func(f func()) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			switch v := v.(type) {
			case skip:
				r.Outcome, r.Words = Skipped, string(v)
			case failure:
				if r.Outcome != Failed {
					r.Outcome, r.Words = Failed, string(v)
				}
			default:
				if r.Outcome != Failed {
					r.Outcome, r.Words = Failed, fmt.Sprintf("the call panicked: %v\n%s", v, debug.Stack())
				}
			}
		}()
		f()
	}
	caught(func() { k.run(c) })
	for _, step := range c.tidy() {
		caught(step)
	}
	return r
}

// setContext is the context the suite's sets have unless a case says otherwise:
// persistent, and shown to this host.
const setContext = vss.CTX_APP_ROLLBACK

const travelling = vss.CTX_APP_ROLLBACK | vss.Context(vss.ATTR_TRANSPORTABLE)
