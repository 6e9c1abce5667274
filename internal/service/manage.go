package service

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
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
	if m.NewIdentity {
		return v.exposeGroups(ctx, o.id, m)
	}
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
	unexpose := v.S.Keeper.Unexpose
	if req.Msg.NewIdentity {
		unexpose = v.S.Keeper.UnexposeGroups
	}
	if err := unexpose(ctx, idOf(req.Msg.SnapshotId)); err != nil {
		return nil, err
	}
	return empty, nil
}

// exposeGroups shows the volume groups of a copy or a set to LVM.
func (v Server) exposeGroups(ctx context.Context, session vss.ID, m *vssv1.ExposeSnapshotRequest) (*connect.Response[vssv1.ExposeSnapshotResponse], error) {
	if m.Attributes != 0 || m.PathFromRoot != "" {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "ExposeSnapshot", Reason: "a volume group is exposed neither as a folder nor as a share, and whole", Remedy: "Give no attribute and no path"}
	}
	set, groups, err := v.S.Keeper.ExposeGroups(ctx, session, idOf(m.SnapshotId), m.Name)
	if err != nil {
		return nil, err
	}
	out := &vssv1.ExposeSnapshotResponse{}
	err = v.S.Catalog.View(func(t *catalog.Tx) error {
		d, cs, err := described(t, set)
		for _, l := range logicalProto(d, cs) {
			if slices.ContainsFunc(groups, func(g catalog.Group) bool { return g.Identity.UUID == l.NewGroupUuid }) {
				out.LogicalVolumes = append(out.LogicalVolumes, l)
			}
		}
		return err
	})
	return connect.NewResponse(out), err
}

// described is a set, as it was imported or made here, with its copies.
func described(t *catalog.Tx, id vss.ID) (*document.SnapshotSet, []catalog.Copy, error) {
	cs, err := t.CopiesOf(id)
	for _, role := range []catalog.Role{catalog.Imported, catalog.Created} {
		if err != nil {
			return nil, nil, err
		}
		var s catalog.Set
		if s, _, err = t.Set(role, id); err == nil && s.Description != nil {
			return s.Description, cs, nil
		}
	}
	return nil, cs, err
}
