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
	r, err := askHost(ctx, h, "IsVolumeSnapshotted", volume, vssv1connect.HostServiceClient.IsVolumeSnapshotted)
	if err != nil {
		return false, 0, err
	}
	return r.Snapshotted, vss.SnapshotCompatibility(r.Compatibility), nil
}

// ShouldBlockRevert says whether a writer objects to reverting a volume. It
// needs no object. VSS_E_OBJECT_NOT_FOUND for a volume that is not there.
func (h *Host) ShouldBlockRevert(ctx context.Context, volume string) (bool, error) {
	r, err := askHost(ctx, h, "ShouldBlockRevert", volume, vssv1connect.HostServiceClient.ShouldBlockRevert)
	if err != nil {
		return false, err
	}
	return r.Block, nil
}

func askHost[R any](ctx context.Context, h *Host, op, volume string,
	method func(vssv1connect.HostServiceClient, context.Context, *connect.Request[vssv1.HostVolumeRequest]) (*connect.Response[R], error)) (*R, error) {
	if h == nil || h.client == nil {
		return nil, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Reason: "there is no host", Remedy: "Make one with NewHost"}
	}
	if err := needContext(ctx, op); err != nil {
		return nil, err
	}
	if err := checkString(op, "volume", volume); err != nil {
		return nil, err
	}
	r, err := method(h.client, ctx, connect.NewRequest(&vssv1.HostVolumeRequest{Volume: volume}))
	if err != nil {
		return nil, h.fix(op, err)
	}
	return r.Msg, nil
}
