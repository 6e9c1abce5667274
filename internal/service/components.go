package service

import (
	"context"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/document"
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

// EditComponent changes a component in the document (requester.md 2.3, 2.6). A
// document that was loaded to import a set stays the original: no method here is
// legal then. Whether the writer runs on this machine, which selecting for a
// restore asks in VSS, is not asked: there are no writers in this version.
func (v Server) EditComponent(ctx context.Context, req *connect.Request[vssv1.EditComponentRequest]) (*connect.Response[vssv1.Empty], error) {
	r := req.Msg
	m := editOf(r)
	if m == "" {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "EditComponent", Reason: "the request says nothing to do", Remedy: "Use a client of this version"}
	}
	o, _, err := v.enter(ctx, m, r.Token)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := edit(o.doc, r); err != nil {
		return nil, err
	}
	return empty, nil
}

func edit(d *document.Document, r *vssv1.EditComponentRequest) error {
	instance, writer, t, path, name := idOf(r.InstanceId), idOf(r.WriterId), vss.ComponentType(r.ComponentType), r.LogicalPath, r.Name
	switch e := r.Edit.(type) {
	case *vssv1.EditComponentRequest_Add:
		return d.AddComponent(instance, writer, t, path, name)
	case *vssv1.EditComponentRequest_BackupSucceeded:
		return d.SetBackupSucceeded(instance, writer, t, path, name, e.BackupSucceeded)
	case *vssv1.EditComponentRequest_BackupOptions:
		return d.SetBackupOptions(writer, t, path, name, e.BackupOptions)
	case *vssv1.EditComponentRequest_PreviousBackupStamp:
		return d.SetPreviousBackupStamp(writer, t, path, name, e.PreviousBackupStamp)
	case *vssv1.EditComponentRequest_SelectedForRestore:
		return d.SetSelectedForRestore(writer, t, path, name, e.SelectedForRestore)
	case *vssv1.EditComponentRequest_SelectedForRestoreEx:
		return d.SetSelectedForRestoreEx(writer, t, path, name, e.SelectedForRestoreEx, instance)
	case *vssv1.EditComponentRequest_RestoreOptions:
		return d.SetRestoreOptions(writer, t, path, name, e.RestoreOptions)
	case *vssv1.EditComponentRequest_AdditionalRestores:
		return d.SetAdditionalRestores(writer, t, path, name, e.AdditionalRestores)
	case *vssv1.EditComponentRequest_AddRestoreSubcomponent:
		s := e.AddRestoreSubcomponent
		return d.AddRestoreSubcomponent(writer, t, path, name, s.GetLogicalPath(), s.GetName(), s.GetRepair())
	case *vssv1.EditComponentRequest_FileRestoreStatus:
		return d.SetFileRestoreStatus(writer, t, path, name, vss.FileRestoreStatus(e.FileRestoreStatus))
	case *vssv1.EditComponentRequest_AddNewTarget:
		p := e.AddNewTarget
		return d.AddNewTarget(writer, t, path, name, p.GetPath(), p.GetFileName(), p.GetRecursive(), p.GetDestination())
	case *vssv1.EditComponentRequest_AddAlternativeLocationMapping:
		p := e.AddAlternativeLocationMapping
		return d.AddAlternativeLocationMapping(writer, t, path, name, p.GetPath(), p.GetFileName(), p.GetRecursive(), p.GetDestination())
	case *vssv1.EditComponentRequest_RangesFilePath:
		return d.SetRangesFilePath(writer, t, path, name, int(e.RangesFilePath.GetIndex()), e.RangesFilePath.GetRangesFile())
	case *vssv1.EditComponentRequest_AuthoritativeRestore:
		return d.SetAuthoritativeRestore(writer, t, path, name, e.AuthoritativeRestore)
	case *vssv1.EditComponentRequest_RollForward:
		return d.SetRollForward(writer, t, path, name, vss.RollForwardType(e.RollForward.GetType()), e.RollForward.GetPoint())
	case *vssv1.EditComponentRequest_RestoreName:
		return d.SetRestoreName(writer, t, path, name, e.RestoreName)
	}
	return nil
}

// GetWriterComponentsCount is how many writers have components in the document.
func (v Server) GetWriterComponentsCount(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.CountResponse], error) {
	o, _, err := v.enter(ctx, session.GetWriterComponentsCount, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return connect.NewResponse(&vssv1.CountResponse{Count: uint32(len(o.doc.Components))}), nil
}

// GetWriterComponents are one writer's.
func (v Server) GetWriterComponents(ctx context.Context, req *connect.Request[vssv1.IndexRequest]) (*connect.Response[vssv1.WriterComponents], error) {
	const m = session.GetWriterComponents
	o, _, err := v.enter(ctx, m, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	i := req.Msg.Index
	if uint64(i) >= uint64(len(o.doc.Components)) {
		return nil, noSuchIndex(m, i)
	}
	w := o.doc.Components[i]
	xml, err := document.Marshal(&document.Document{Components: []document.WriterComponents{w}})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.WriterComponents{InstanceId: w.InstanceID[:], ClassId: w.WriterID[:], Document: xml}), nil
}

// SetRestoreState says what kind of restore this is.
func (v Server) SetRestoreState(ctx context.Context, req *connect.Request[vssv1.SetRestoreStateRequest]) (*connect.Response[vssv1.Empty], error) {
	o, _, err := v.enter(ctx, session.SetRestoreState, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.doc.SetRestoreState(vss.RestoreType(req.Msg.RestoreType)); err != nil {
		return nil, err
	}
	return empty, nil
}
