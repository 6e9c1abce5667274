package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// TestListed: a call that is out is listed, with the array, the set and when it is
// given up, although its caller gives it no time; and an array that did not answer
// is known to be in trouble until it does.
func TestListed(t *testing.T) {
	hang := make(chan struct{})
	f := &fickle{drops: 3, onDrop: func() { <-hang }}
	c := join(t, f)
	t.Cleanup(func() { close(hang) })
	set := vss.NewID()
	ctx, cancel := context.WithCancel(t.Context())
	begin, ended := time.Now(), make(chan error, 1)
	go func() { ended <- c.PreCommitSet(underway.WithSession(ctx, set), set) }()
	var ws []underway.Wait
	for deadline := time.Now().Add(10 * time.Second); (len(ws) == 0 || f.requests("PreCommitSet") == 0) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		ws = underway.Waits()
	}
	if len(ws) != 1 || ws[0].Kind != underway.Array || ws[0].What != "PreCommitSet" || ws[0].Who != "fickle" || ws[0].Object != "set "+set.String() || ws[0].Session != set {
		t.Errorf("%+v", ws)
	} else if left := ws[0].Deadline.Sub(begin); left < 2*time.Minute || left > 2*time.Minute+10*time.Second {
		t.Errorf("it is given up after %s", left)
	}
	cancel()
	<-ended
	if ws := underway.Waits(); len(ws) != 0 || c.Trouble() != nil { // its caller gave up
		t.Errorf("%+v, %+v", ws, c.Trouble())
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin = time.Now()
	_, err := c.Describe(ctx, "")
	if tr := c.Trouble(); tr == nil || !errors.Is(tr.Err, err) && tr.Err.Error() != err.Error() || tr.Since.Before(begin) || tr.Since.After(begin.Add(5*time.Second)) {
		t.Errorf("%+v", tr)
	}
	if reason := vss.AsError("", err).Reason; !strings.Contains(reason, "(Describe, after ") {
		t.Errorf("%q", reason)
	}
	first := c.Trouble().Since
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Describe(ctx, ""); err == nil || !c.Trouble().Since.Equal(first) {
		t.Errorf("%v: since %s, was %s", err, c.Trouble().Since, first)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Describe(ctx, ""); err != nil || c.Trouble() != nil {
		t.Errorf("%v: an array that answers is in trouble: %+v", err, c.Trouble())
	}
}
