package service

import (
	"context"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// ImportSnapshots starts the import of the loaded document. The call answers
// only the codes of its page; all else is the operation's status.
func (v Server) ImportSnapshots(ctx context.Context, req *connect.Request[vssv1.ImportRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	if v.S.NoImport {
		return nil, &vss.Error{Code: vss.E_NOTIMPL, Op: "ImportSnapshots", Object: v.S.HostName, Reason: "this machine is configured as a client, and only servers import",
			Remedy: `Import on a server, or set role = "server" in the daemon's configuration`}
	}
	res, err := v.importSnapshots(ctx, req)
	return res, onlyPublished(err)
}

// onlyPublished keeps the call to the codes of the page.
func onlyPublished(err error) error {
	switch vss.CodeOf(err) {
	case vss.S_OK, vss.E_ACCESSDENIED, vss.E_INVALIDARG, vss.E_OUTOFMEMORY, vss.VSS_E_BAD_STATE, vss.VSS_E_UNEXPECTED:
		return err
	}
	e := vss.AsError("ImportSnapshots", err)
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: e.Op, Object: e.Object, Reason: e.Why(), Remedy: e.Remedy, EventID: e.EventID, Err: err}
}

func (v Server) importSnapshots(ctx context.Context, req *connect.Request[vssv1.ImportRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	const m = session.ImportSnapshots
	o, step, err := v.enter(ctx, m, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	var release func()
	if !req.Msg.Queue {
		if release, err = v.S.Importer.Acquire(ctx, false); err != nil {
			o.machine.Undo(step)
			return nil, err
		}
	}
	o.mu.Lock()
	doc := o.doc
	o.mu.Unlock()
	// The place is given back before the outcome is visible, so that a client
	// that saw the end can import the next set at once.
	return v.handle(v.S.start(o, step, string(m), func(ctx context.Context, a *async.Operation) async.Outcome {
		if release == nil {
			a.Progress.Report("queue", "", 0, 1)
			end := a.Timeline.Start("queue", "")
			var err error
			if release, err = v.S.Importer.Acquire(ctx, true); err != nil {
				return async.Outcome{Code: vss.E_ABORT, Err: err}
			}
			end()
		}
		return v.S.Importer.Run(ctx, o.id, doc, a.Timeline, a.Progress)
	}, func() {
		if release != nil {
			release()
		}
	}))
}

// CheckImport verifies everything and changes nothing.
func (v Server) CheckImport(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.CheckImportResponse], error) {
	o, _, err := v.enter(ctx, session.CheckImport, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	doc := o.doc
	o.mu.Unlock()
	out := &vssv1.CheckImportResponse{}
	for _, i := range v.S.Importer.Check(ctx, doc) {
		out.Items = append(out.Items, &vssv1.CheckItem{Name: i.Name, Object: i.Object, Ok: i.Err == nil, Detail: i.Detail, Error: rpc.ErrorToProto(i.Err)})
	}
	return connect.NewResponse(out), nil
}

// CleanupImport removes what a failed import left.
func (v Server) CleanupImport(ctx context.Context, req *connect.Request[vssv1.CleanupImportRequest]) (*connect.Response[vssv1.CleanupImportResponse], error) {
	o, _, err := v.enter(ctx, session.CleanupImport, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	mode := importing.Mask
	if req.Msg.Reclaim {
		mode = importing.Reclaim
	}
	done, err := v.S.Importer.Cleanup(ctx, o.id, idOf(req.Msg.SetId), mode)
	if err != nil && len(done) == 0 {
		return nil, err
	}
	// What is gone is gone, whatever became of the rest.
	out := &vssv1.CleanupImportResponse{Error: rpc.ErrorToProto(err)}
	for _, c := range done {
		l := lunProto(c.LUN)
		l.Device, l.Action = c.Device, c.Action
		out.Luns = append(out.Luns, l)
	}
	return connect.NewResponse(out), nil
}
