package array

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// TestRepeatedCalls holds the protocol's marks to the array: made twice, a
// marked call gives the same answer, and the array is as after the first.
func TestRepeatedCalls(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b := r.enroll("a", ""), r.enroll("b", "")
	n, _ := r.lun(mib, "a")
	twice := func(what string, call func() (any, error)) any {
		t.Helper()
		var answers [2]any
		var states [2]any
		for i := range answers {
			var err error
			if answers[i], err = call(); err != nil {
				t.Fatalf("%s, call %d: %v", what, i+1, err)
			}
			luns, err := r.admin.ListLUNs(ctx)
			if err != nil {
				t.Fatal(err)
			}
			sets, err := r.admin.ListSets(ctx)
			if err != nil {
				t.Fatal(err)
			}
			states[i] = []any{luns, sets, r.files()}
		}
		if !reflect.DeepEqual(answers[0], answers[1]) {
			t.Errorf("%s: first %+v, then %+v", what, answers[0], answers[1])
		}
		if !reflect.DeepEqual(states[0], states[1]) {
			t.Errorf("%s: the array was %+v, then %+v", what, states[0], states[1])
		}
		return answers[0]
	}

	set, id := vss.NewID(), vss.NewID()
	p, err := a.PrepareSet(ctx, set, transportable, []client.Source{{NAA: n}})
	if err != nil {
		t.Fatal(err)
	}
	copies := []lun.NAA{p.Targets[n]}
	if err := a.PreCommitSet(ctx, set); err != nil {
		t.Fatal(err)
	}
	if _, err := a.CommitSet(ctx, set); err != nil {
		t.Fatal(err)
	}
	twice("PostCommitSet", func() (any, error) { return a.PostCommitSet(ctx, set) })
	twice("TargetLUNs", func() (any, error) { return a.TargetLUNs(ctx, set, []lun.NAA{n}) })
	var tickets [][]byte
	twice("IssueTicket", func() (any, error) {
		tk, err := a.IssueTicket(ctx, set, digest, "", 0)
		tickets = append(tickets, tk)
		return len(tk), err
	})
	// The lost ticket is as good as the other.
	for _, tk := range tickets {
		im := client.Location{SetID: set, ImportID: id, Ticket: tk, Digest: digest, LUNs: copies}
		twice("CheckImport", func() (any, error) { return b.CheckImport(ctx, im) })
		twice("LocateLUNs", func() (any, error) { return b.LocateLUNs(ctx, im) })
		twice("CloseLUNs", func() (any, error) { return nil, b.CloseLUNs(ctx, copies) })
		twice("ReleaseImport", func() (any, error) { return nil, b.ReleaseImport(ctx, set, id) })
	}
	im := client.Location{SetID: set, ImportID: id, Ticket: tickets[0], Digest: digest, LUNs: copies}
	if _, err := b.LocateLUNs(ctx, im); err != nil {
		t.Fatal(err)
	}
	twice("SetLUNAccess", func() (any, error) { return nil, b.SetLUNAccess(ctx, copies, client.Recovery) })
	twice("SetLUNAccess", func() (any, error) { return nil, b.SetLUNAccess(ctx, copies, client.ReadOnly) })
	if err := b.CloseLUNs(ctx, copies); err != nil {
		t.Fatal(err)
	}
	var open []client.Opened
	twice("OpenLUNs", func() (any, error) {
		o, err := b.OpenLUNs(ctx, copies)
		open = append(open, o...)
		answer := slices.Clone(o)
		for i := range answer {
			answer[i].FD = 0
		}
		return answer, err
	})
	closeOpened(open)
	twice("MaskLUNs", func() (any, error) { return nil, b.MaskLUNs(ctx, copies) })
	twice("DeleteLUNs", func() (any, error) { return nil, b.DeleteLUNs(ctx, copies) })

	for _, committed := range []bool{false, true} {
		set := vss.NewID()
		if committed {
			snapshot(t, a, set, transportable, n)
		} else if _, err := a.PrepareSet(ctx, set, transportable, []client.Source{{NAA: n}}); err != nil {
			t.Fatal(err)
		}
		twice("AbortSet", func() (any, error) { return nil, a.AbortSet(ctx, set, true) })
		if r.files() != 1 {
			t.Errorf("%d files", r.files())
		}
	}
	own := vss.NewID()
	copies = snapshot(t, a, own, transportable, n)
	if tickets[0], err = a.IssueTicket(ctx, own, digest, "", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.LocateLUNs(ctx, client.Location{SetID: own, ImportID: id, Ticket: tickets[0], Digest: digest, LUNs: copies}); err != nil {
		t.Fatal(err)
	}
	twice("SetLUNAccess", func() (any, error) { return nil, b.SetLUNAccess(ctx, copies, client.ReadWrite) })
}

// TestRepeatBesideTheFirst: the first call still runs, because the array has not
// noticed that nobody waits for it.
func TestRepeatBesideTheFirst(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a := r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	set := vss.NewID()
	if _, err := a.PrepareSet(ctx, set, transportable, []client.Source{{NAA: n}}); err != nil {
		t.Fatal(err)
	}
	if err := a.PreCommitSet(ctx, set); err != nil {
		t.Fatal(err)
	}
	if _, err := a.CommitSet(ctx, set); err != nil {
		t.Fatal(err)
	}
	disarm, err := failpoint.Arm("array.postcommit.before-record=sleep(500ms)")
	if err != nil {
		t.Fatal(err)
	}
	defer disarm()
	type answer struct {
		generation uint64
		err        error
	}
	answers := make(chan answer, 2)
	for range 2 {
		go func() {
			g, err := a.PostCommitSet(context.WithoutCancel(ctx), set)
			answers <- answer{g, err}
		}()
		time.Sleep(100 * time.Millisecond)
	}
	first, second := <-answers, <-answers
	if first.err != nil || first.generation == 0 || first != second {
		t.Errorf("first %+v, then %+v", first, second)
	}
}
