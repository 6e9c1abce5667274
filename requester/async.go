package requester

import (
	"context"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// Async is IVssAsync: an operation that runs in the service. Letting go of it
// does not stop the operation; Release frees the service's memory of it.
// E_INVALIDARG for an Async that is none, VSS_E_BAD_STATE for one that was
// released or whose object was closed.
type Async struct {
	b        *BackupComponents
	id       string
	released atomic.Bool
}

// ask is call for an operation.
func ask[Q, R any](ctx context.Context, a *Async, op string,
	method func(rpcs, context.Context, *connect.Request[Q]) (*connect.Response[R], error), req *Q) (*R, error) {
	if err := a.usable(ctx, op); err != nil {
		return nil, err
	}
	return call(ctx, a.b, op, method, req)
}

func (a *Async) usable(ctx context.Context, op string) error {
	switch {
	case a == nil || a.b == nil:
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: "there is no operation", Remedy: "Use the Async that a call returned without an error"}
	case a.released.Load():
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Reason: "the Async was released", Remedy: "Keep it until its status was read"}
	}
	return a.b.usable(ctx, op)
}

func (a *Async) request() *vssv1.AsyncRequest {
	if a == nil {
		return nil
	}
	return &vssv1.AsyncRequest{AsyncId: a.id}
}

// Infinite makes WaitFor wait without limit.
const Infinite = time.Duration(-1)

// Phase is one timed step of an operation.
type Phase struct {
	Name     string        `json:"name"`
	Object   string        `json:"object,omitempty"`
	Start    time.Duration `json:"start_ns"`
	Duration time.Duration `json:"duration_ns"`
}

// CopyStatus is what an import came to for one copy; Code is S_OK if it is there.
type CopyStatus struct {
	SnapshotID vss.ID      `json:"snapshot_id"`
	LUN        string      `json:"lun"`
	Code       vss.HResult `json:"code"`
	Err        *vss.Error  `json:"error,omitempty"`
}

// Status is everything known of an operation.
type Status struct {
	Code     vss.HResult  `json:"code"` // pHrResult
	Err      *vss.Error   `json:"error,omitempty"`
	Copies   []CopyStatus `json:"copies,omitempty"`
	Timeline []Phase      `json:"timeline,omitempty"` // empty while it runs

	// EndedBeforeCall is set by WaitFor when the operation had ended before it
	// was asked: IVssAsync::Wait answers S_OK then, and the operation's error if
	// it failed while it was waited for (requester.md 8, row 6).
	EndedBeforeCall bool `json:"-"`
}

// Status returns the status now, without waiting.
func (a *Async) Status(ctx context.Context) (Status, error) {
	r, err := ask(ctx, a, "IVssAsync::QueryStatus", rpcs.AsyncQueryStatus, a.request())
	if err != nil {
		return Status{}, err
	}
	return statusOf(r), nil
}

// QueryStatus returns pHrResult: VSS_S_ASYNC_PENDING, VSS_S_ASYNC_FINISHED,
// VSS_S_ASYNC_CANCELLED or the operation's own code, with the details of a
// failure as err's *vss.Error. An err whose code differs from the returned
// code means that the question itself failed.
func (a *Async) QueryStatus(ctx context.Context) (vss.HResult, error) {
	s, err := a.Status(ctx)
	if err != nil {
		return vss.CodeOf(err), err
	}
	return s.Code, s.err()
}

func (s Status) err() error {
	if s.Err == nil {
		return nil
	}
	return s.Err
}

// Wait waits until the operation has ended or ctx does, and returns what
// QueryStatus would.
func (a *Async) Wait(ctx context.Context) (vss.HResult, error) {
	s, err := a.WaitFor(ctx, Infinite)
	if err != nil {
		return vss.CodeOf(err), err
	}
	return s.Code, s.err()
}

// WaitFor waits until the operation has ended, the time-out has passed (the
// status is then VSS_S_ASYNC_PENDING and the error nil) or ctx has ended.
func (a *Async) WaitFor(ctx context.Context, timeout time.Duration) (Status, error) {
	ms := uint32(0xFFFFFFFF)
	if timeout >= 0 {
		ms = uint32(min(timeout.Milliseconds(), 0xFFFFFFFE))
	}
	r, err := ask(ctx, a, "IVssAsync::Wait", rpcs.AsyncWait, &vssv1.AsyncWaitRequest{AsyncId: a.request().GetAsyncId(), TimeoutMs: ms})
	if err != nil {
		return Status{}, err
	}
	return statusOf(r), nil
}

// Cancel asks the operation to stop, waits until it has, and returns S_OK if
// this call cancelled it, VSS_S_ASYNC_CANCELLED if it was cancelled before,
// VSS_S_ASYNC_FINISHED if it had completed, or the code it had failed with.
// A cancelled import may leave LUNs behind: see CleanupImport.
func (a *Async) Cancel(ctx context.Context) (vss.HResult, error) {
	r, err := ask(ctx, a, "IVssAsync::Cancel", rpcs.AsyncCancel, a.request())
	if err != nil {
		return vss.CodeOf(err), err
	}
	if e := rpc.ErrorFromProto(r.Error); e != nil {
		return vss.HResult(r.Result), e
	}
	return vss.HResult(r.Result), nil
}

// Release frees the handle.
func (a *Async) Release(ctx context.Context) error {
	_, err := ask(ctx, a, "IVssAsync::Release", rpcs.AsyncRelease, a.request())
	if err == nil {
		a.released.Store(true)
	}
	return err
}

// Progress is one report: so much of a phase is done.
type Progress struct {
	Phase  string      `json:"phase"`
	Object string      `json:"object,omitempty"`
	Done   int64       `json:"done"`
	Total  int64       `json:"total"`
	Result vss.HResult `json:"result"`
}

// Follow calls fn with each report of progress until the operation ends or ctx
// does. A slow fn misses reports, never the last one.
func (a *Async) Follow(ctx context.Context, fn func(Progress)) error {
	const op = "IVssAsync"
	if err := a.usable(ctx, op); err != nil {
		return err
	}
	if fn == nil {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: "there is nobody to tell", Remedy: "Give a function"}
	}
	s, err := a.b.client.AsyncProgress(ctx, connect.NewRequest(a.request()))
	if err != nil {
		return rpc.StreamError(ctx, op, err)
	}
	defer s.Close()
	for s.Receive() {
		m := s.Msg()
		fn(Progress{m.Phase, m.Object, m.Done, m.Total, vss.HResult(m.Result)})
	}
	if err := s.Err(); err != nil {
		return rpc.StreamError(ctx, op, err)
	}
	return nil
}
