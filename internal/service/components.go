package service

import (
	"context"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// editOf is the method an edit of a component is.
func editOf(r *vssv1.EditComponentRequest) session.Method {
	switch r.Edit.(type) {
	case *vssv1.EditComponentRequest_Add:
		return session.AddComponent
	case *vssv1.EditComponentRequest_BackupSucceeded:
		return session.SetBackupSucceeded
	case *vssv1.EditComponentRequest_BackupOptions:
		return session.SetBackupOptions
	case *vssv1.EditComponentRequest_PreviousBackupStamp:
		return session.SetPreviousBackupStamp
	case *vssv1.EditComponentRequest_SelectedForRestore:
		return session.SetSelectedForRestore
	case *vssv1.EditComponentRequest_SelectedForRestoreEx:
		return session.SetSelectedForRestoreEx
	case *vssv1.EditComponentRequest_RestoreOptions:
		return session.SetRestoreOptions
	case *vssv1.EditComponentRequest_AdditionalRestores:
		return session.SetAdditionalRestores
	case *vssv1.EditComponentRequest_AddRestoreSubcomponent:
		return session.AddRestoreSubcomponent
	case *vssv1.EditComponentRequest_FileRestoreStatus:
		return session.SetFileRestoreStatus
	case *vssv1.EditComponentRequest_AddNewTarget:
		return session.AddNewTarget
	case *vssv1.EditComponentRequest_AddAlternativeLocationMapping:
		return session.AddAlternativeLocationMapping
	case *vssv1.EditComponentRequest_RangesFilePath:
		return session.SetRangesFilePath
	case *vssv1.EditComponentRequest_AuthoritativeRestore:
		return session.SetAuthoritativeRestore
	case *vssv1.EditComponentRequest_RollForward:
		return session.SetRollForward
	case *vssv1.EditComponentRequest_RestoreName:
		return session.SetRestoreName
	}
	return ""
}

// EditComponent changes a component in the document.
func (v Server) EditComponent(ctx context.Context, req *connect.Request[vssv1.EditComponentRequest]) (*connect.Response[vssv1.Empty], error) {
	m := editOf(req.Msg)
	if m == "" {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "EditComponent", Reason: "the request says nothing to do", Remedy: "Use a client of this version"}
	}
	if _, _, err := v.enter(ctx, m, req.Msg.Token); err != nil {
		return nil, err
	}
	return nil, &vss.Error{Code: vss.E_NOTIMPL, Op: string(m), Reason: "components are not in documents yet", Remedy: "Use a later version"}
}

// GetWriterComponentsCount is how many writers have components in the document.
func (v Server) GetWriterComponentsCount(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.CountResponse], error) {
	return v.none(ctx, session.GetWriterComponentsCount, req.Msg.Token)
}

// GetWriterComponents are one writer's.
func (v Server) GetWriterComponents(ctx context.Context, req *connect.Request[vssv1.IndexRequest]) (*connect.Response[vssv1.WriterComponents], error) {
	return nil, v.noWriter(ctx, session.GetWriterComponents, req.Msg)
}

// SetRestoreState says what kind of restore this is.
func (v Server) SetRestoreState(ctx context.Context, req *connect.Request[vssv1.SetRestoreStateRequest]) (*connect.Response[vssv1.Empty], error) {
	const m = session.SetRestoreState
	if _, _, err := v.enter(ctx, m, req.Msg.Token); err != nil {
		return nil, err
	}
	return nil, &vss.Error{Code: vss.E_NOTIMPL, Op: string(m), Reason: "components are not in documents yet", Remedy: "Use a later version"}
}
