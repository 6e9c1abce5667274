package service

import (
	"context"
	"time"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/vss"
)

// infinite is IVssAsync::Wait's INFINITE.
const infinite = 0xFFFFFFFF

func statusProto(a *async.Operation) *vssv1.AsyncStatus {
	out := a.Status()
	p := &vssv1.AsyncStatus{Result: uint32(out.Code), Error: rpc.ErrorToProto(out.Err)}
	for _, c := range out.Copies {
		p.Copies = append(p.Copies, copyStatusProto(c))
	}
	if out.Code != vss.VSS_S_ASYNC_PENDING {
		for _, ph := range a.Timeline.Phases() {
			p.Timeline = append(p.Timeline, phaseProto(ph))
		}
	}
	return p
}

// AsyncQueryStatus answers at once.
func (v Server) AsyncQueryStatus(ctx context.Context, req *connect.Request[vssv1.AsyncRequest]) (*connect.Response[vssv1.AsyncStatus], error) {
	a, err := v.S.operation(req.Msg.AsyncId)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(statusProto(a)), nil
}

// AsyncWait waits for the end, the time-out or the caller.
func (v Server) AsyncWait(ctx context.Context, req *connect.Request[vssv1.AsyncWaitRequest]) (*connect.Response[vssv1.AsyncStatus], error) {
	a, err := v.S.operation(req.Msg.AsyncId)
	if err != nil {
		return nil, err
	}
	ended := false
	select {
	case <-a.Done():
		ended = true
	default:
		var timeout <-chan time.Time
		if req.Msg.TimeoutMs != infinite {
			t := time.NewTimer(time.Duration(req.Msg.TimeoutMs) * time.Millisecond)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-a.Done():
		case <-timeout:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p := statusProto(a)
	p.EndedBeforeCall = ended
	return connect.NewResponse(p), nil
}

// AsyncCancel cancels what can still be cancelled.
func (v Server) AsyncCancel(ctx context.Context, req *connect.Request[vssv1.AsyncRequest]) (*connect.Response[vssv1.AsyncCancelResponse], error) {
	a, err := v.S.operation(req.Msg.AsyncId)
	if err != nil {
		return nil, err
	}
	code, cerr := a.Cancel(ctx)
	return connect.NewResponse(&vssv1.AsyncCancelResponse{Result: uint32(code), Error: rpc.ErrorToProto(cerr)}), nil
}

// AsyncRelease frees the handle; the operation goes on.
func (v Server) AsyncRelease(ctx context.Context, req *connect.Request[vssv1.AsyncRequest]) (*connect.Response[vssv1.Empty], error) {
	if _, err := v.S.operation(req.Msg.AsyncId); err != nil {
		return nil, err
	}
	v.S.mu.Lock()
	delete(v.S.operations, req.Msg.AsyncId)
	v.S.mu.Unlock()
	return empty, nil
}

// AsyncProgress streams reports until the operation ends.
func (v Server) AsyncProgress(ctx context.Context, req *connect.Request[vssv1.AsyncRequest], stream *connect.ServerStream[vssv1.Progress]) error {
	a, err := v.S.operation(req.Msg.AsyncId)
	if err != nil {
		return err
	}
	for {
		u, changed := a.Progress.Next()
		err := stream.Send(&vssv1.Progress{Phase: u.Phase, Object: u.Object, Done: u.Done, Total: u.Total, Result: uint32(u.Result)})
		if err != nil || u.Result != vss.VSS_S_ASYNC_PENDING {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
