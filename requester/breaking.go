package requester

import (
	"context"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// BreakSnapshotSet makes the copies of an imported set ordinary volumes, which
// the service then forgets. VSS_E_OBJECT_NOT_FOUND for a set that is not here,
// VSS_E_PROVIDER_VETO for a software provider's. E_NOTIMPL in this version.
func (b *BackupComponents) BreakSnapshotSet(ctx context.Context, set vss.ID) error {
	_, err := call(ctx, b, "BreakSnapshotSet", rpcs.BreakSnapshotSet, &vssv1.BreakSnapshotSetRequest{Token: b.sessionToken(), SetId: set[:]})
	return err
}

// BreakSnapshotSetEx is BreakSnapshotSet with options. Asynchronous; codes as
// there, and VSS_E_BREAK_REVERT_ID_FAILED. E_NOTIMPL in this version.
func (b *BackupComponents) BreakSnapshotSetEx(ctx context.Context, set vss.ID, flags vss.HardwareOptions) (*Async, error) {
	return start(ctx, b, "BreakSnapshotSetEx", rpcs.BreakSnapshotSetEx, &vssv1.BreakSnapshotSetRequest{Token: b.sessionToken(), SetId: set[:], Flags: uint32(flags)})
}

// RevertToSnapshot makes a volume what its copy is. It cannot be cancelled or
// undone; see QueryRevertStatus. Codes: requester.md 2.5. E_NOTIMPL in this
// version.
func (b *BackupComponents) RevertToSnapshot(ctx context.Context, id vss.ID, forceDismount bool) error {
	_, err := call(ctx, b, "RevertToSnapshot", rpcs.RevertToSnapshot, &vssv1.RevertToSnapshotRequest{Token: b.sessionToken(), SnapshotId: id[:], ForceDismount: forceDismount})
	return err
}

// QueryRevertStatus follows the revert of a volume, which never is cancelled.
// VSS_E_OBJECT_NOT_FOUND when none is under way, or there is no such volume.
func (b *BackupComponents) QueryRevertStatus(ctx context.Context, volume string) (*Async, error) {
	return start(ctx, b, "QueryRevertStatus", rpcs.QueryRevertStatus, &vssv1.VolumeRequest{Token: b.sessionToken(), Volume: volume})
}

// PreFastRecovery is reserved: E_NOTIMPL.
func (b *BackupComponents) PreFastRecovery(ctx context.Context) (*Async, error) {
	return start(ctx, b, "PreFastRecovery", rpcs.PreFastRecovery, b.session())
}

// FastRecovery is reserved: E_NOTIMPL.
func (b *BackupComponents) FastRecovery(ctx context.Context) (*Async, error) {
	return start(ctx, b, "FastRecovery", rpcs.FastRecovery, b.session())
}
