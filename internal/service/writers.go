package service

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// No writers are registered in this version: who asks about them finds none.

// SelectWriters enables or disables writers for the GatherWriterMetadata to
// come.
func (v Server) SelectWriters(ctx context.Context, req *connect.Request[vssv1.SelectWritersRequest]) (*connect.Response[vssv1.Empty], error) {
	m, ok := map[vssv1.WriterSelection]session.Method{
		vssv1.WriterSelection_WRITER_SELECTION_ENABLE_CLASSES:    session.EnableWriterClasses,
		vssv1.WriterSelection_WRITER_SELECTION_DISABLE_CLASSES:   session.DisableWriterClasses,
		vssv1.WriterSelection_WRITER_SELECTION_DISABLE_INSTANCES: session.DisableWriterInstances,
	}[req.Msg.Selection]
	if !ok {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "SelectWriters", Object: req.Msg.Selection.String(), Reason: "not a selection", Remedy: "Enable or disable classes, or disable instances"}
	}
	if _, _, err := v.enter(ctx, m, req.Msg.Token); err != nil {
		return nil, err
	}
	for _, id := range req.Msg.Ids {
		if idOf(id).IsNull() {
			return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: string(m), Object: fmt.Sprintf("%x", id), Reason: "not a writer's ID", Remedy: "Give IDs that GetWriterMetadata shows"}
		}
	}
	return empty, nil
}

// GatherWriterMetadata asks the writers who they are.
func (v Server) GatherWriterMetadata(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return v.tell(ctx, session.GatherWriterMetadata, req.Msg.Token)
}

// GetWriterMetadataCount is how many answered.
func (v Server) GetWriterMetadataCount(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.CountResponse], error) {
	return v.none(ctx, session.GetWriterMetadataCount, req.Msg.Token)
}

func (v Server) none(ctx context.Context, m session.Method, token string) (*connect.Response[vssv1.CountResponse], error) {
	if _, _, err := v.enter(ctx, m, token); err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.CountResponse{}), nil
}

// GetWriterMetadata is one writer's answer.
func (v Server) GetWriterMetadata(ctx context.Context, req *connect.Request[vssv1.IndexRequest]) (*connect.Response[vssv1.WriterMetadata], error) {
	m := session.GetWriterMetadata
	if req.Msg.Extended {
		m = session.GetWriterMetadataEx
	}
	return nil, v.noWriter(ctx, m, req.Msg)
}

func (v Server) noWriter(ctx context.Context, m session.Method, req *vssv1.IndexRequest) error {
	if _, _, err := v.enter(ctx, m, req.Token); err != nil {
		return err
	}
	return noSuchIndex(m, req.Index)
}

func noSuchIndex(m session.Method, index uint32) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: string(m), Object: fmt.Sprintf("index %d", index), Reason: "there are fewer writers", Remedy: "Ask for their count first"}
}

// FreeWriterMetadata forgets the answers.
func (v Server) FreeWriterMetadata(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.Empty], error) {
	o, _, err := v.enter(ctx, session.FreeWriterMetadata, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	o.machine.Note(func(f *session.Facts) { f.Metadata = false })
	return empty, nil
}

// GatherWriterStatus asks the writers how they are.
func (v Server) GatherWriterStatus(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return v.tell(ctx, session.GatherWriterStatus, req.Msg.Token)
}

// GetWriterStatusCount is how many answered.
func (v Server) GetWriterStatusCount(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.CountResponse], error) {
	return v.none(ctx, session.GetWriterStatusCount, req.Msg.Token)
}

// GetWriterStatus is one writer's answer.
func (v Server) GetWriterStatus(ctx context.Context, req *connect.Request[vssv1.IndexRequest]) (*connect.Response[vssv1.WriterStatus], error) {
	m := session.GetWriterStatus
	if req.Msg.Extended {
		m = session.GetWriterStatusEx
	}
	return nil, v.noWriter(ctx, m, req.Msg)
}

// FreeWriterStatus forgets the answers.
func (v Server) FreeWriterStatus(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.Empty], error) {
	o, _, err := v.enter(ctx, session.FreeWriterStatus, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	o.machine.Note(func(f *session.Facts) { f.Status = false })
	return empty, nil
}
