package conformance

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

var report = flag.Bool("report", false, "print the table of methods, the open points and the page's checklist")

// tally counts rows per method.
type tally struct{ passed, failed map[string]int }

func (t tally) rows() map[string]int {
	all := maps.Clone(t.passed)
	for m, n := range t.failed {
		all[m] += n
	}
	return all
}

var counted = tally{map[string]int{}, map[string]int{}}

// row counts one row, and fails the test on a difference.
func row(t testing.TB, f face, method, what string, got, want vss.HResult, source string) {
	t.Helper()
	if got == want {
		counted.passed[method]++
		return
	}
	counted.failed[method]++
	t.Errorf("%s: %s, %s: %v, want %v (%s)", f.name, method, what, got, want, source)
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if *report && os.Geteuid() == 0 {
		printReport(os.Stdout)
	}
	os.Exit(code)
}

func methods() []string {
	var out []string
	for _, a := range order {
		if !slices.Contains(out, a.method) {
			out = append(out, a.method)
		}
	}
	return out
}

// TestComplete: every method that the service knows is in this table and in
// both faces, and every state is.
func TestComplete(t *testing.T) {
	known := methods()
	for _, d := range session.Methods {
		name := string(d.Method)
		if !slices.Contains(known, name) {
			t.Errorf("%s is not in the table", name)
		}
		if _, ok := goMethods[name]; !ok {
			t.Errorf("requester has no %s", name)
		}
		if _, ok := comMethods[name]; !ok && d.Interface != session.OwnCalls {
			t.Errorf("vssapi has no %s", name)
		}
		known = slices.DeleteFunc(known, func(k string) bool { return k == name })
	}
	if len(known) != 0 {
		t.Errorf("the service does not know %v", known)
	}
	all := append([]session.State{session.New}, slices.Concat(session.BackupStates, session.RestoreStates)...)
	if len(all) != len(states) {
		t.Errorf("%d states, the service has %d", len(states), len(all))
	}
	for _, s := range all {
		if !slices.Contains(states, string(s)) {
			t.Errorf("state %s is not of this test", s)
		}
	}
}

// TestOrderOfCalls asks for every method in every state.
func TestOrderOfCalls(t *testing.T) {
	for _, f := range faces {
		w := newWorld(t, f)
		for _, state := range states {
			t.Run(f.name+"/"+state, func(t *testing.T) {
				w.t = t
				// Whatever changes nothing is asked of one object.
				shared := w.reach(state)
				var alone []string
				for _, method := range methods() {
					want, source := expected(method, state)
					if want == vss.S_OK && slices.Contains(changes, method) {
						alone = append(alone, method)
						continue
					}
					code, op, has := shared.call(method, w.good(method))
					if !has {
						continue
					}
					row(t, f, method, "in "+state, code, want, source)
					if op != nil {
						op.release()
					}
				}
				shared.leave()
				for _, method := range alone {
					want, source := expected(method, state)
					p := w.reach(state)
					code, op, has := p.call(method, w.good(method))
					if has {
						row(t, f, method, "in "+state, code, want, source)
					}
					if op != nil {
						op.release()
					}
					p.leave()
				}
			})
		}
	}
}

func printReport(out io.Writer) {
	fmt.Fprintf(out, "\n%-32s %7s %7s\n", "method", "passed", "failed")
	p, f := 0, 0
	names := methods()
	for _, m := range slices.Sorted(maps.Keys(counted.rows())) {
		if !slices.Contains(names, m) { // not of IVssBackupComponents
			names = append(names, m)
		}
	}
	for _, m := range names {
		fmt.Fprintf(out, "%-32s %7d %7d\n", m, counted.passed[m], counted.failed[m])
		p, f = p+counted.passed[m], f+counted.failed[m]
	}
	fmt.Fprintf(out, "%-32s %7d %7d\n", "all", p, f)
	printOpen(out)
	printChecklist(out)
}
