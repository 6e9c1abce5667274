package async

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

const finished = vss.VSS_S_ASYNC_FINISHED

func ended(code vss.HResult, err error) func(context.Context, *Operation) Outcome {
	return func(context.Context, *Operation) Outcome { return Outcome{Code: code, Err: err} }
}

func untilCancelled(ctx context.Context, _ *Operation) Outcome {
	<-ctx.Done()
	return Outcome{Code: vss.VSS_E_UNEXPECTED, Err: context.Cause(ctx)}
}

func TestOutcomes(t *testing.T) {
	veto := &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Reason: "no"}
	for name, tt := range map[string]struct {
		fn   func(context.Context, *Operation) Outcome
		code vss.HResult
		err  error
	}{
		"finished":         {ended(finished, nil), finished, nil},
		"S_OK is finished": {ended(vss.S_OK, nil), finished, nil},
		"error alone":      {ended(vss.S_OK, veto), vss.VSS_E_PROVIDER_VETO, veto},
		"failed":           {ended(vss.VSS_E_PROVIDER_VETO, veto), vss.VSS_E_PROVIDER_VETO, veto},
		"partial":          {ended(vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED, nil), vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := Start(t.Context(), "id", "op", tt.fn, nil)
			<-o.Done()
			if s := o.Status(); s.Code != tt.code || s.Err != tt.err {
				t.Errorf("%+v", s)
			}
			// A Cancel that comes too late changes nothing and tells the end.
			code, err := o.Cancel(t.Context())
			if code != tt.code || (tt.code.Failed() && err != tt.err) || (!tt.code.Failed() && err != nil) {
				t.Errorf("Cancel: %v, %v", code, err)
			}
			if s := o.Status(); s.Code != tt.code {
				t.Errorf("after Cancel: %+v", s)
			}
			if u, _ := o.Progress.Next(); u.Result != tt.code {
				t.Errorf("last report %+v", u)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Start(t.Context(), "id", "op", untilCancelled, nil)
		synctest.Wait()
		if s := o.Status(); s.Code != vss.VSS_S_ASYNC_PENDING {
			t.Errorf("%+v", s)
		}
		if code, err := o.Cancel(t.Context()); code != vss.S_OK || err != nil {
			t.Errorf("first: %v, %v", code, err)
		}
		if code, err := o.Cancel(t.Context()); code != vss.VSS_S_ASYNC_CANCELLED || err != nil {
			t.Errorf("second: %v, %v", code, err)
		}
		if s := o.Status(); s.Code != vss.VSS_S_ASYNC_CANCELLED {
			t.Errorf("%+v", s)
		}
		// One that goes on regardless: the Cancel lost.
		o = Start(t.Context(), "id", "op", func(context.Context, *Operation) Outcome { time.Sleep(time.Minute); return Outcome{Code: finished} }, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := o.Cancel(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up: %v", err)
		}
		if code, err := o.Cancel(t.Context()); code != finished || err != nil {
			t.Errorf("lost: %v, %v", code, err)
		}
	})
}

// TestCancelAmidTheEnd: the state is what it was decided to be before finish.
func TestCancelAmidTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		veto := errors.New("veto")
		for want, fn := range map[vss.HResult]func(context.Context, *Operation) Outcome{finished: ended(finished, nil), vss.VSS_E_PROVIDER_VETO: ended(vss.VSS_E_PROVIDER_VETO, veto)} {
			o := Start(t.Context(), "id", "op", fn, func(out Outcome) Outcome { time.Sleep(time.Minute); return out })
			synctest.Wait()
			code, err := o.Cancel(t.Context())
			if code != want || (err == nil) != (want == finished) {
				t.Errorf("%v, %v, want %v", code, err, want)
			}
		}
	})
}

// TestRace: whatever the order of end and Cancels, one state, written once;
// at most one Cancel claims it.
func TestRace(t *testing.T) {
	for i := range 300 {
		var finishes atomic.Int32
		o := Start(t.Context(), fmt.Sprint(i), "op", func(ctx context.Context, _ *Operation) Outcome {
			if i%2 == 0 {
				time.Sleep(time.Duration(i%7) * 10 * time.Microsecond)
				if ctx.Err() == nil {
					return Outcome{Code: finished}
				}
			}
			return untilCancelled(ctx, nil)
		}, func(out Outcome) Outcome { finishes.Add(1); return out })
		var claims atomic.Int32
		var wg sync.WaitGroup
		codes := make([]vss.HResult, 4)
		for j := range codes {
			wg.Go(func() {
				codes[j], _ = o.Cancel(t.Context())
				if codes[j] == vss.S_OK {
					claims.Add(1)
				}
			})
		}
		wg.Wait()
		end := o.Status().Code
		switch {
		case finishes.Load() != 1:
			t.Fatalf("finished %d times", finishes.Load())
		case end == finished && claims.Load() != 0, end == vss.VSS_S_ASYNC_CANCELLED && claims.Load() > 1:
			t.Fatalf("ended %v, codes %v", end, codes)
		}
		for _, c := range codes {
			if c != end && c != vss.S_OK {
				t.Fatalf("ended %v, codes %v", end, codes)
			}
		}
	}
}

func TestPanic(t *testing.T) {
	rpc.PanicHook = func(string, any, []byte) string { return "42" }
	defer func() { rpc.PanicHook = nil }()
	o := Start(t.Context(), "id", "op", func(context.Context, *Operation) Outcome { panic("boom") }, nil)
	<-o.Done()
	s := o.Status()
	if e := vss.AsError("", s.Err); s.Code != vss.VSS_E_UNEXPECTED || e.EventID != "42" {
		t.Errorf("%+v", s)
	}
}

// TestBaseEnds: the service's end is not the requester's Cancel.
func TestBaseEnds(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	o := Start(ctx, "id", "op", untilCancelled, nil)
	stop()
	<-o.Done()
	if s := o.Status(); s.Code != vss.VSS_E_UNEXPECTED {
		t.Errorf("%+v", s)
	}
}

// stopping is a context whose children learn a moment later that it has ended.
type stopping struct {
	context.Context
	done chan struct{}
}

func (s stopping) Done() <-chan struct{} { return s.done }

func (s stopping) Err() error {
	select {
	case <-s.done:
		return context.Canceled
	default:
		return nil
	}
}

// TestStopIsNoCancel: an operation that ends because the service stops is not
// CANCELLED, though its session, which ends with the service, cancels it as well
// and may be faster.
func TestStopIsNoCancel(t *testing.T) {
	for range 50 {
		base := stopping{t.Context(), make(chan struct{})}
		o := Start(base, "id", "op", untilCancelled, nil)
		close(base.done)
		if code, _ := o.Cancel(t.Context()); code != vss.VSS_E_UNEXPECTED {
			t.Fatal(code)
		}
	}
}
