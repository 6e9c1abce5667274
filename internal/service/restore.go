package service

import (
	"context"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/document"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/service/session"
)

// InitializeForRestore loads a document for a restore.
func (v Server) InitializeForRestore(ctx context.Context, req *connect.Request[vssv1.InitializeRequest]) (*connect.Response[vssv1.Empty], error) {
	o, err := v.S.object(session.InitializeForRestore, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	if err := o.machine.Check(session.InitializeForRestore); err != nil {
		return nil, err
	}
	doc, err := document.Read(req.Msg.Document)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, err := o.machine.Enter(session.InitializeForRestore); err != nil {
		return nil, err
	}
	o.doc = doc
	return empty, nil
}

// PreRestore tells the writers that files are about to be restored.
func (v Server) PreRestore(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return v.tell(ctx, session.PreRestore, req.Msg.Token)
}

// PostRestore tells the writers that files were restored.
func (v Server) PostRestore(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return v.tell(ctx, session.PostRestore, req.Msg.Token)
}
