package service

import (
	"context"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// What is here has its place in the order of calls and no work behind it: the
// table answers E_NOTIMPL (see session.Pending and session.Reserved).

func (v Server) pending(ctx context.Context, m session.Method, token string) error {
	_, _, err := v.enter(ctx, m, token)
	if err == nil {
		err = &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: string(m), Reason: "the order of calls says that it works, and it does not", Remedy: "Report this"}
	}
	return err
}

// BreakSnapshotSet is not built yet.
func (v Server) BreakSnapshotSet(ctx context.Context, req *connect.Request[vssv1.BreakSnapshotSetRequest]) (*connect.Response[vssv1.Empty], error) {
	return nil, v.pending(ctx, session.BreakSnapshotSet, req.Msg.Token)
}

// BreakSnapshotSetEx is not built yet.
func (v Server) BreakSnapshotSetEx(ctx context.Context, req *connect.Request[vssv1.BreakSnapshotSetRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return nil, v.pending(ctx, session.BreakSnapshotSetEx, req.Msg.Token)
}

// RevertToSnapshot is not built yet.
func (v Server) RevertToSnapshot(ctx context.Context, req *connect.Request[vssv1.RevertToSnapshotRequest]) (*connect.Response[vssv1.Empty], error) {
	return nil, v.pending(ctx, session.RevertToSnapshot, req.Msg.Token)
}

// AddSnapshotToRecoverySet is not built yet.
func (v Server) AddSnapshotToRecoverySet(ctx context.Context, req *connect.Request[vssv1.RecoverySnapshotRequest]) (*connect.Response[vssv1.Empty], error) {
	return nil, v.pending(ctx, session.AddSnapshotToRecoverySet, req.Msg.Token)
}

// RecoverSet is not built yet.
func (v Server) RecoverSet(ctx context.Context, req *connect.Request[vssv1.RecoverSetRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return nil, v.pending(ctx, session.RecoverSet, req.Msg.Token)
}

// PreFastRecovery is reserved.
func (v Server) PreFastRecovery(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return nil, v.pending(ctx, session.PreFastRecovery, req.Msg.Token)
}

// FastRecovery is reserved.
func (v Server) FastRecovery(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return nil, v.pending(ctx, session.FastRecovery, req.Msg.Token)
}
