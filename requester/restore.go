package requester

import (
	"context"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// SetRestoreState says what kind of restore this is, before PreRestore.
// Writers take RTYPE_UNDEFINED for RTYPE_BY_COPY. E_INVALIDARG for a type that
// does not exist, VSS_E_BAD_STATE in a backup.
func (b *BackupComponents) SetRestoreState(ctx context.Context, t vss.RestoreType) error {
	_, err := call(ctx, b, "SetRestoreState", rpcs.SetRestoreState, &vssv1.SetRestoreStateRequest{Token: b.sessionToken(), RestoreType: int32(t)})
	return err
}

// PreRestore tells the writers that files are about to be restored.
// Asynchronous; what writers make of it is in their status.
func (b *BackupComponents) PreRestore(ctx context.Context) (*Async, error) {
	return start(ctx, b, "PreRestore", rpcs.PreRestore, b.session())
}

// PostRestore tells the writers that files were restored. Asynchronous; keep
// the object until it has finished.
func (b *BackupComponents) PostRestore(ctx context.Context) (*Async, error) {
	return start(ctx, b, "PostRestore", rpcs.PostRestore, b.session())
}

// AddSnapshotToRecoverySet adds a copy to those whose LUNs RecoverSet will
// write back; volume "" is the original one. VSS_E_SNAPSHOT_NOT_IN_SET for a
// copy that is not in the document; other codes: requester.md 2.7. E_NOTIMPL
// in this version.
func (b *BackupComponents) AddSnapshotToRecoverySet(ctx context.Context, id vss.ID, flags uint32, volume string) error {
	_, err := call(ctx, b, "AddSnapshotToRecoverySet", rpcs.AddSnapshotToRecoverySet, &vssv1.RecoverySnapshotRequest{Token: b.sessionToken(), SnapshotId: id[:], Flags: flags, DestinationVolume: volume})
	return err
}

// RecoverSet writes the recovery set's copies back. Asynchronous; codes:
// requester.md 2.7. E_NOTIMPL in this version.
func (b *BackupComponents) RecoverSet(ctx context.Context, flags vss.RecoveryOptions) (*Async, error) {
	return start(ctx, b, "RecoverSet", rpcs.RecoverSet, &vssv1.RecoverSetRequest{Token: b.sessionToken(), Flags: uint32(flags)})
}
