package requester

import (
	"context"

	"github.com/umbra-vss/umbra/document"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// InitializeForBackup makes the object one for backups: nil for a new backup,
// the saved document (XML or bundle) for an import. VSS_E_INVALID_XML_DOCUMENT
// when the document cannot be read or was altered.
func (b *BackupComponents) InitializeForBackup(ctx context.Context, xml []byte) error {
	if err := checkSize("InitializeForBackup", xml); err != nil {
		return err
	}
	_, err := call(ctx, b, "InitializeForBackup", rpcs.InitializeForBackup, &vssv1.InitializeRequest{Token: b.sessionToken(), Document: xml})
	return err
}

// checkSize refuses what the service would not read.
func checkSize(op string, xml []byte) error {
	if len(xml) <= document.MaxSize {
		return nil
	}
	return &vss.Error{Code: vss.VSS_E_INVALID_XML_DOCUMENT, Op: op, Object: "backup components document", Reason: "it is larger than any document", Remedy: "Give the document that umbra create saved"}
}

// InitializeForRestore makes the object one for a restore.
func (b *BackupComponents) InitializeForRestore(ctx context.Context, xml []byte) error {
	if err := checkSize("InitializeForRestore", xml); err != nil {
		return err
	}
	_, err := call(ctx, b, "InitializeForRestore", rpcs.InitializeForRestore, &vssv1.InitializeRequest{Token: b.sessionToken(), Document: xml})
	return err
}

// SetContext sets the context, once, before any snapshot call. E_INVALIDARG
// for a context that does not exist, VSS_E_UNSUPPORTED_CONTEXT for one that
// cannot be served, VSS_E_BAD_STATE the second time.
func (b *BackupComponents) SetContext(ctx context.Context, c vss.Context) error {
	_, err := call(ctx, b, "SetContext", rpcs.SetContext, &vssv1.SetContextRequest{Token: b.sessionToken(), Context: uint32(c)})
	return err
}

// SetBackupState records the kind of backup, before PrepareForBackup.
func (b *BackupComponents) SetBackupState(ctx context.Context, selectComponents, bootable bool, t vss.BackupType, partialFiles bool) error {
	_, err := call(ctx, b, "SetBackupState", rpcs.SetBackupState, &vssv1.SetBackupStateRequest{Token: b.sessionToken(),
		SelectComponents: selectComponents, BootableState: bootable, BackupType: int32(t), PartialFileSupport: partialFiles})
	return err
}

// IsVolumeSupported reports whether a provider (GUID_NULL for any) can copy
// the volume in this object's context. VSS_E_OBJECT_NOT_FOUND for a volume
// that is not there.
func (b *BackupComponents) IsVolumeSupported(ctx context.Context, provider vss.ID, volume string) (bool, error) {
	r, err := call(ctx, b, "IsVolumeSupported", rpcs.IsVolumeSupported, &vssv1.VolumeRequest{Token: b.sessionToken(), Volume: volume, ProviderId: provider[:]})
	if err != nil {
		return false, err
	}
	return r.Supported, nil
}

// StartSnapshotSet opens a set and returns its ID.
// VSS_E_SNAPSHOT_SET_IN_PROGRESS while another set is made on this machine.
func (b *BackupComponents) StartSnapshotSet(ctx context.Context) (vss.ID, error) {
	r, err := call(ctx, b, "StartSnapshotSet", rpcs.StartSnapshotSet, b.session())
	if err != nil {
		return vss.GUIDNull, err
	}
	return idOf(r.Id), nil
}

// AddToSnapshotSet adds a volume (mount point or block device) and returns the
// ID its copy will have. Codes: requester.md 2.3.
func (b *BackupComponents) AddToSnapshotSet(ctx context.Context, volume string, provider vss.ID) (vss.ID, error) {
	r, err := call(ctx, b, "AddToSnapshotSet", rpcs.AddToSnapshotSet, &vssv1.VolumeRequest{Token: b.sessionToken(), Volume: volume, ProviderId: provider[:]})
	if err != nil {
		return vss.GUIDNull, err
	}
	return idOf(r.Id), nil
}

// PrepareForBackup tells the writers that a backup is coming. Asynchronous.
func (b *BackupComponents) PrepareForBackup(ctx context.Context) (*Async, error) {
	return start(ctx, b, "PrepareForBackup", rpcs.PrepareForBackup, b.session())
}

// DoSnapshotSet makes the set. Asynchronous; codes: requester.md 2.3.1. After
// a failure nothing of the set is left.
func (b *BackupComponents) DoSnapshotSet(ctx context.Context) (*Async, error) {
	return start(ctx, b, "DoSnapshotSet", rpcs.DoSnapshotSet, b.session())
}

// BackupComplete tells the writers that the backup is done. Asynchronous.
func (b *BackupComponents) BackupComplete(ctx context.Context) (*Async, error) {
	return start(ctx, b, "BackupComplete", rpcs.BackupComplete, b.session())
}

// AbortBackup gives a set under way up; ignored when there is none.
func (b *BackupComponents) AbortBackup(ctx context.Context) error {
	_, err := call(ctx, b, "AbortBackup", rpcs.AbortBackup, b.session())
	return err
}

// SaveAsXML returns the Backup Components Document. For a transportable set
// call it right after DoSnapshotSet has finished.
func (b *BackupComponents) SaveAsXML(ctx context.Context) ([]byte, error) {
	r, err := call(ctx, b, "SaveAsXML", rpcs.SaveAsXML, b.session())
	if err != nil {
		return nil, err
	}
	return r.Document, nil
}
