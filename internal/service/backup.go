package service

import (
	"context"
	"maps"
	"slices"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/failpoint"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// Server is the RPC face of a Service (ShadowCopyService and HostService).
type Server struct{ S *Service }

var empty = connect.NewResponse(&vssv1.Empty{})

// enter finds the session and walks the table for a synchronous call.
func (v Server) enter(_ context.Context, m session.Method, token string) (*object, session.Step, error) {
	o, err := v.S.object(m, token)
	if err != nil {
		return nil, session.Step{}, err
	}
	step, err := o.machine.Enter(m)
	return o, step, err
}

// OpenSession opens an object and holds its lease until the stream ends.
func (v Server) OpenSession(ctx context.Context, req *connect.Request[vssv1.OpenSessionRequest], stream *connect.ServerStream[vssv1.OpenSessionResponse]) error {
	peer, _ := rpc.Peer(ctx)
	o, err := v.S.openObject(req.Msg.Client, int(peer.PID))
	if err != nil {
		return err
	}
	defer v.S.releaseObject(o)
	if err := stream.Send(&vssv1.OpenSessionResponse{SessionId: o.id[:], Token: o.token}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-v.S.base.Done():
	}
	return nil
}

// CloseSession releases an object. It answers when auto-release copies are
// gone, so that "closed" means "released".
func (v Server) CloseSession(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.Empty], error) {
	o, err := v.S.object("Release", req.Msg.Token)
	if err != nil {
		return nil, err
	}
	v.S.releaseObject(o)
	select {
	case <-o.gone:
	case <-ctx.Done():
	}
	return empty, nil
}

// InitializeForBackup: with a document the object is ready to import.
func (v Server) InitializeForBackup(ctx context.Context, req *connect.Request[vssv1.InitializeRequest]) (*connect.Response[vssv1.Empty], error) {
	o, err := v.S.object(session.InitializeForBackup, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	if err := o.machine.Check(session.InitializeForBackup); err != nil {
		return nil, err
	}
	doc, loaded := &document.Document{}, len(req.Msg.Document) > 0
	if loaded {
		if doc, err = document.Read(req.Msg.Document); err != nil {
			return nil, err
		}
		if err := v.S.Importer.Validate(doc); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.machine.Initialize(loaded); err != nil {
		return nil, err
	}
	o.doc = doc
	return empty, nil
}

// SetContext sets the context, once.
func (v Server) SetContext(ctx context.Context, req *connect.Request[vssv1.SetContextRequest]) (*connect.Response[vssv1.Empty], error) {
	o, _, err := v.enter(ctx, session.SetContext, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	c := vss.Context(req.Msg.Context)
	if err := c.Validate(); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.context = c
	o.machine.Note(func(f *session.Facts) {
		f.ContextSet, f.Administration, f.Writers = true, c == vss.CTX_ALL, c.Writers()
	})
	if o.doc.Set == nil { // a loaded document stays the original
		o.doc.Context = c
	}
	return empty, nil
}

// SetBackupState records what kind of backup this is.
func (v Server) SetBackupState(ctx context.Context, req *connect.Request[vssv1.SetBackupStateRequest]) (*connect.Response[vssv1.Empty], error) {
	o, _, err := v.enter(ctx, session.SetBackupState, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	t := vss.BackupType(req.Msg.BackupType)
	if t <= vss.BT_UNDEFINED || t > vss.BT_OTHER {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "SetBackupState", Object: t.String(), Reason: "not a backup type", Remedy: "Use BT_FULL to BT_OTHER"}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.machine.Note(func(f *session.Facts) { f.BackupStateSet, f.ComponentMode = true, req.Msg.SelectComponents })
	if o.doc.Set == nil { // a loaded document stays the original
		o.doc.State = document.BackupState{SelectComponents: req.Msg.SelectComponents, Bootable: req.Msg.BootableState, Type: t, PartialFiles: req.Msg.PartialFileSupport}
	}
	return empty, nil
}

// fpTell is while writers are being told of an event.
var fpTell = failpoint.New("writers.tell")

// told is the end of an event that no writer waits for.
func told(ctx context.Context, _ *async.Operation) async.Outcome {
	if err := fpTell.Hit(ctx); err != nil {
		return async.Outcome{Code: vss.CodeOf(err), Err: err}
	}
	return async.Outcome{Code: vss.VSS_S_ASYNC_FINISHED}
}

func (v Server) handle(a *async.Operation, err error) (*connect.Response[vssv1.AsyncHandle], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.AsyncHandle{AsyncId: a.ID}), nil
}

// IsVolumeSupported asks the providers about a volume.
func (v Server) IsVolumeSupported(ctx context.Context, req *connect.Request[vssv1.VolumeRequest]) (*connect.Response[vssv1.IsVolumeSupportedResponse], error) {
	o, _, err := v.enter(ctx, session.IsVolumeSupported, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	ok, err := v.S.Creator.Supported(ctx, req.Msg.Volume, idOf(req.Msg.ProviderId), o.currentContext())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.IsVolumeSupportedResponse{Supported: ok}), nil
}

func (o *object) currentContext() vss.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.context
}

// StartSnapshotSet opens the set.
func (v Server) StartSnapshotSet(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.IDResponse], error) {
	const m = session.StartSnapshotSet
	o, err := v.S.object(m, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	if err := o.machine.Check(m); err != nil {
		return nil, err
	}
	set, err := v.S.Creator.Start(o.id, o.currentContext())
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.released { // while the set was opened
		err = closed(m)
	} else {
		_, err = o.machine.Enter(m)
	}
	if err != nil {
		set.Abort(ctx)
		return nil, err
	}
	o.set = set
	return connect.NewResponse(&vssv1.IDResponse{Id: set.ID[:]}), nil
}

// AddToSnapshotSet adds a volume.
func (v Server) AddToSnapshotSet(ctx context.Context, req *connect.Request[vssv1.VolumeRequest]) (*connect.Response[vssv1.IDResponse], error) {
	o, _, err := v.enter(ctx, session.AddToSnapshotSet, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.released {
		return nil, closed(session.AddToSnapshotSet)
	}
	id, err := o.set.Add(ctx, req.Msg.Volume, idOf(req.Msg.ProviderId))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.IDResponse{Id: id[:]}), nil
}

// PrepareForBackup tells the writers; only in contexts with writers.
func (v Server) PrepareForBackup(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return v.tell(ctx, session.PrepareForBackup, req.Msg.Token)
}

// tell raises an event to the writers of this machine. There are none in this
// version, so it has finished as soon as it begins.
func (v Server) tell(ctx context.Context, m session.Method, token string) (*connect.Response[vssv1.AsyncHandle], error) {
	o, step, err := v.enter(ctx, m, token)
	if err != nil {
		return nil, err
	}
	return v.handle(v.S.start(o, step, string(m), told, nil))
}

// DoSnapshotSet makes the set.
func (v Server) DoSnapshotSet(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	const m = session.DoSnapshotSet
	o, err := v.S.object(m, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	step, err := o.machine.Enter(m)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	set := o.set
	o.mu.Unlock()
	return v.handle(v.S.start(o, step, string(m), func(ctx context.Context, a *async.Operation) async.Outcome {
		desc, err := set.Do(ctx, a.Timeline, a.Progress)
		if err != nil {
			return async.Outcome{Code: vss.CodeOf(err), Err: err}
		}
		o.mu.Lock()
		o.doc.Set = desc
		o.mu.Unlock()
		return async.Outcome{Code: vss.VSS_S_ASYNC_FINISHED}
	}, nil))
}

// BackupComplete tells the writers that the backup is done.
func (v Server) BackupComplete(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	return v.tell(ctx, session.BackupComplete, req.Msg.Token)
}

// AbortBackup drops a set under way; elsewhere it is ignored.
func (v Server) AbortBackup(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.Empty], error) {
	o, step, err := v.enter(ctx, session.AbortBackup, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	if step.To != session.Aborted {
		return empty, nil
	}
	o.mu.Lock()
	set, ops := o.set, slices.Collect(maps.Keys(o.running))
	o.mu.Unlock()
	for _, op := range ops {
		_, _ = op.Cancel(ctx)
	}
	if set != nil {
		set.Abort(ctx)
	}
	return empty, nil
}

// SaveAsXML returns the document.
func (v Server) SaveAsXML(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.DocumentResponse], error) {
	o, _, err := v.enter(ctx, session.SaveAsXML, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := document.Marshal(o.doc)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.DocumentResponse{Document: b}), nil
}
