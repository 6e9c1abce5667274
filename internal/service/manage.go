package service

import (
	"context"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// GetSnapshotProperties returns one copy's properties.
func (v Server) GetSnapshotProperties(ctx context.Context, req *connect.Request[vssv1.SnapshotRequest]) (*connect.Response[vssv1.SnapshotProp], error) {
	if _, _, err := v.enter(ctx, session.GetSnapshotProperties, req.Msg.Token); err != nil {
		return nil, err
	}
	c, err := v.S.Keeper.Get("GetSnapshotProperties", idOf(req.Msg.SnapshotId))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(snapshotProto(c.Prop)), nil
}

// DeleteSnapshots deletes a copy or a set.
func (v Server) DeleteSnapshots(ctx context.Context, req *connect.Request[vssv1.DeleteSnapshotsRequest]) (*connect.Response[vssv1.DeleteSnapshotsResponse], error) {
	o, _, err := v.enter(ctx, session.DeleteSnapshots, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	d, err := v.S.Keeper.Delete(ctx, o.id, idOf(req.Msg.SourceId), vss.ObjectType(req.Msg.SourceType), req.Msg.Force)
	return connect.NewResponse(&vssv1.DeleteSnapshotsResponse{Deleted: int32(d.Count), FirstFailed: d.FirstFailed[:], Error: rpc.ErrorToProto(err)}), nil
}

// ExposeSnapshot mounts a copy on a folder, or shares a part of it.
func (v Server) ExposeSnapshot(ctx context.Context, req *connect.Request[vssv1.ExposeSnapshotRequest]) (*connect.Response[vssv1.ExposeSnapshotResponse], error) {
	o, _, err := v.enter(ctx, session.ExposeSnapshot, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	m := req.Msg
	var name string
	switch vss.Attributes(m.Attributes) {
	case vss.ATTR_EXPOSED_LOCALLY:
		if m.PathFromRoot != "" {
			return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "ExposeSnapshot", Object: m.PathFromRoot, Reason: "a local exposure takes no path from the root", Remedy: "Leave it empty"}
		}
		name, err = v.S.Keeper.Expose(ctx, o.id, idOf(m.SnapshotId), m.Name)
	case vss.ATTR_EXPOSED_REMOTELY:
		name, err = v.S.Keeper.Share(ctx, o.id, idOf(m.SnapshotId), m.PathFromRoot, m.Name)
	default:
		err = &vss.Error{Code: vss.E_INVALIDARG, Op: "ExposeSnapshot", Reason: "the attribute must be exposed-locally or exposed-remotely", Remedy: "Give exactly one of them"}
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.ExposeSnapshotResponse{Exposed: name}), nil
}

// UnexposeSnapshot takes the mount or the share away.
func (v Server) UnexposeSnapshot(ctx context.Context, req *connect.Request[vssv1.SnapshotRequest]) (*connect.Response[vssv1.Empty], error) {
	if _, _, err := v.enter(ctx, session.UnexposeSnapshot, req.Msg.Token); err != nil {
		return nil, err
	}
	if err := v.S.Keeper.Unexpose(ctx, idOf(req.Msg.SnapshotId)); err != nil {
		return nil, err
	}
	return empty, nil
}
