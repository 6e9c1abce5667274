package service

import (
	"context"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/catalog"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// GetSessionId returns the ID that events and log lines of the object carry.
func (v Server) GetSessionId(ctx context.Context, req *connect.Request[vssv1.SessionRequest]) (*connect.Response[vssv1.IDResponse], error) {
	o, _, err := v.enter(ctx, session.GetSessionId, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.IDResponse{Id: o.id[:]}), nil
}

// GetRootAndLogicalPrefixPaths normalises a path to the volume it lies on. A
// mount point has no second name here, as a drive letter has, so root and
// logical prefix are the same.
func (v Server) GetRootAndLogicalPrefixPaths(ctx context.Context, req *connect.Request[vssv1.PathRequest]) (*connect.Response[vssv1.PathsResponse], error) {
	if _, _, err := v.enter(ctx, session.GetRootAndLogicalPrefixPaths, req.Msg.Token); err != nil {
		return nil, err
	}
	root, err := v.S.Host.Root(ctx, req.Msg.Path)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.PathsResponse{Root: root, LogicalPrefix: root}), nil
}

// QueryRevertStatus would follow a revert of the volume; none can run in this
// version, which is VSS_E_OBJECT_NOT_FOUND.
func (v Server) QueryRevertStatus(ctx context.Context, req *connect.Request[vssv1.VolumeRequest]) (*connect.Response[vssv1.AsyncHandle], error) {
	const m = session.QueryRevertStatus
	if _, _, err := v.enter(ctx, m, req.Msg.Token); err != nil {
		return nil, err
	}
	name, err := v.S.Host.Volume(ctx, req.Msg.Volume)
	if err != nil {
		return nil, err
	}
	return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: string(m), Object: name, Reason: "no revert of this volume is under way", Remedy: "Nothing has to be waited for"}
}

// IsVolumeSnapshotted says whether copies of a volume of this machine are here.
// They disable nothing: there is no defragmenter or indexer to be told.
func (v Server) IsVolumeSnapshotted(ctx context.Context, req *connect.Request[vssv1.HostVolumeRequest]) (*connect.Response[vssv1.IsVolumeSnapshottedResponse], error) {
	name, err := v.S.Host.Volume(ctx, req.Msg.Volume)
	if err != nil {
		return nil, err
	}
	out := &vssv1.IsVolumeSnapshottedResponse{}
	err = v.S.Keeper.Each(ctx, vss.CTX_ALL, catalog.CopyFilter{Volume: name}, vss.GUIDNull, func(c catalog.Copy) bool {
		out.Snapshotted = c.Prop.OriginatingMachine == v.S.HostName
		return !out.Snapshotted
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// ShouldBlockRevert says whether a writer whose components are on the volume
// objects to reverting it. There are no writers in this version.
func (v Server) ShouldBlockRevert(ctx context.Context, req *connect.Request[vssv1.HostVolumeRequest]) (*connect.Response[vssv1.ShouldBlockRevertResponse], error) {
	if _, err := v.S.Host.Volume(ctx, req.Msg.Volume); err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.ShouldBlockRevertResponse{}), nil
}
