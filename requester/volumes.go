package requester

import (
	"context"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/vss"
)

// GetRootAndLogicalPrefixPaths normalises a path to the volume it lies on,
// before AddToSnapshotSet: root is where the volume is mounted, and so is
// prefix, since a mount point has no second name here. VSS_E_OBJECT_NOT_FOUND
// for a path that leads nowhere.
func (b *BackupComponents) GetRootAndLogicalPrefixPaths(ctx context.Context, path string, normalizeFQDN bool) (root, prefix string, err error) {
	r, err := call(ctx, b, "GetRootAndLogicalPrefixPaths", rpcs.GetRootAndLogicalPrefixPaths, &vssv1.PathRequest{Token: b.sessionToken(), Path: path, NormalizeFqdn: normalizeFQDN})
	if err != nil {
		return "", "", err
	}
	return r.Root, r.LogicalPrefix, nil
}

// IsVolumeSnapshotted says whether copies of a volume of this machine are
// here, and what they forbid on it. It needs no object. VSS_E_OBJECT_NOT_FOUND
// for a volume that is not there.
func (h *Host) IsVolumeSnapshotted(ctx context.Context, volume string) (bool, vss.SnapshotCompatibility, error) {
	r, err := askHost(ctx, h, "IsVolumeSnapshotted", hostRPCs.IsVolumeSnapshotted, &vssv1.HostVolumeRequest{Volume: volume})
	if err != nil {
		return false, 0, err
	}
	return r.Snapshotted, vss.SnapshotCompatibility(r.Compatibility), nil
}

// ShouldBlockRevert says whether a writer objects to reverting a volume. It
// needs no object. VSS_E_OBJECT_NOT_FOUND for a volume that is not there.
func (h *Host) ShouldBlockRevert(ctx context.Context, volume string) (bool, error) {
	r, err := askHost(ctx, h, "ShouldBlockRevert", hostRPCs.ShouldBlockRevert, &vssv1.HostVolumeRequest{Volume: volume})
	if err != nil {
		return false, err
	}
	return r.Block, nil
}

// askHost is call for a Host: VSS_E_BAD_STATE for one that is none,
// E_INVALIDARG without a context and for strings that cannot be sent.
func askHost[Q, R any](ctx context.Context, h *Host, op string,
	method func(hostRPCs, context.Context, *connect.Request[Q]) (*connect.Response[R], error), req *Q) (*R, error) {
	if h == nil || h.client == nil {
		return nil, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Reason: "there is no host", Remedy: "Make one with NewHost"}
	}
	if err := needContext(ctx, op); err != nil {
		return nil, err
	}
	if err := checkText(op, req); err != nil {
		return nil, err
	}
	r, err := method(h.client, ctx, connect.NewRequest(req))
	if err != nil {
		return nil, h.fix(op, err)
	}
	return r.Msg, nil
}

// hostRPCs are the calls that the service answers without an object.
type hostRPCs = vssv1connect.HostServiceClient
