package async

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/vss"
)

// Outcome is what an operation ends with.
type Outcome struct {
	Code   vss.HResult // pHrResult: VSS_S_ASYNC_FINISHED or another terminal code; S_OK is read as FINISHED
	Err    error       // details of a failure
	Copies []catalog.CopyStatus
}

// Operation is one asynchronous operation. All methods are safe for
// concurrent use.
type Operation struct {
	ID       string
	Op       string
	Begun    time.Time
	Timeline *timeline.Recorder
	Progress *timeline.Progress

	cancel context.CancelCauseFunc
	base   context.Context // the service's life
	done   chan struct{}

	mu        sync.Mutex
	outcome   Outcome
	ended     time.Time
	cancelled bool // Cancel was asked for
}

// ErrCancelled is the cause of a context cancelled by IVssAsync::Cancel.
var ErrCancelled = errors.New("cancelled by the requester")

// Start runs fn in the background under a context of its own, derived from
// base (the service's life, not the caller's request). A panic in fn becomes
// VSS_E_UNEXPECTED. finish runs before the outcome becomes visible and may
// replace it.
func Start(base context.Context, id, op string, fn func(context.Context, *Operation) Outcome, finish func(Outcome) Outcome) *Operation {
	ctx, cancel := context.WithCancelCause(base)
	o := &Operation{ID: id, Op: op, Begun: time.Now(), Timeline: timeline.New(), Progress: timeline.NewProgress(), cancel: cancel, base: base, done: make(chan struct{})}
	go func() {
		out := run(ctx, o, fn)
		if out.Code == vss.S_OK {
			out.Code = vss.VSS_S_ASYNC_FINISHED
			if out.Err != nil {
				out.Code = vss.CodeOf(out.Err)
			}
		}
		// An operation that failed because it was cancelled is CANCELLED; one
		// that finished all the same is FINISHED: the Cancel lost.
		if out.Code.Failed() && errors.Is(context.Cause(ctx), ErrCancelled) {
			out.Code = vss.VSS_S_ASYNC_CANCELLED
		}
		if finish != nil {
			out = finish(out)
		}
		// Who sees the end by one way sees it by all: by Done, Status or the
		// last report of progress.
		o.mu.Lock()
		o.outcome, o.ended = out, time.Now()
		o.Progress.Close(out.Code)
		close(o.done)
		o.mu.Unlock()
		cancel(nil)
	}()
	return o
}

func run(ctx context.Context, o *Operation, fn func(context.Context, *Operation) Outcome) (out Outcome) {
	defer func() {
		if r := recover(); r != nil {
			out = Outcome{Code: vss.VSS_E_UNEXPECTED, Err: rpc.Panicked(o.Op, r)}
		}
	}()
	return fn(ctx, o)
}

// Status returns the outcome so far, with VSS_S_ASYNC_PENDING while it runs.
func (o *Operation) Status() Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.done:
		return o.outcome
	default:
		return Outcome{Code: vss.VSS_S_ASYNC_PENDING}
	}
}

// Ended is when it ended; zero while it runs.
func (o *Operation) Ended() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// Done is closed when the operation has ended.
func (o *Operation) Done() <-chan struct{} { return o.done }

// Cancel asks the operation to stop and waits until it has, or ctx ends. It
// returns S_OK if this call cancelled it, VSS_S_ASYNC_CANCELLED if it already
// was, VSS_S_ASYNC_FINISHED if it had completed, or the code it had ended with
// and, for a failure, why (requester.md 4.2).
func (o *Operation) Cancel(ctx context.Context) (vss.HResult, error) {
	o.mu.Lock()
	first := !o.cancelled
	select {
	case <-o.done:
		first = false
	default:
		o.cancelled = true
	}
	o.mu.Unlock()
	// A service that stops ends its sessions, which cancel what they run: the
	// cause is that the service stops, whoever is faster to say so.
	if o.base.Err() == nil {
		o.cancel(ErrCancelled)
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		return vss.VSS_E_UNEXPECTED, ctx.Err()
	}
	out := o.Status()
	switch {
	case out.Code == vss.VSS_S_ASYNC_CANCELLED && first:
		return vss.S_OK, nil
	case out.Code.Failed():
		return out.Code, out.Err
	}
	return out.Code, nil
}
