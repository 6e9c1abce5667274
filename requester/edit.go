package requester

import (
	"context"
	"fmt"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// Component names a component of a writer, as AddComponent put it into the
// document.
type Component struct {
	WriterID    vss.ID
	InstanceID  vss.ID // where the method takes one
	Type        vss.ComponentType
	LogicalPath string // "" at the root
	Name        string
}

// edit changes a component in the document. All of these methods answer
// E_INVALIDARG for an incomplete or wrong name or value,
// VSS_E_INVALID_XML_DOCUMENT when the document cannot be read, and (but
// AddComponent) VSS_E_OBJECT_NOT_FOUND when the component is not in it.
func (b *BackupComponents) edit(ctx context.Context, op string, c Component, req *vssv1.EditComponentRequest) error {
	req.Token, req.InstanceId, req.WriterId = b.sessionToken(), c.InstanceID[:], c.WriterID[:]
	req.ComponentType, req.LogicalPath, req.Name = int32(c.Type), c.LogicalPath, c.Name
	_, err := call(ctx, b, op, rpcs.EditComponent, req)
	return err
}

// AddComponent includes a component explicitly, after GatherWriterMetadata and
// until PrepareForBackup. Instance and name must be given.
// VSS_E_OBJECT_ALREADY_EXISTS if the writer instance has it already;
// VSS_E_BAD_STATE also when SetBackupState did not choose component mode.
func (b *BackupComponents) AddComponent(ctx context.Context, c Component) error {
	return b.edit(ctx, "AddComponent", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_Add{Add: &vssv1.Empty{}}})
}

// SetBackupSucceeded records whether a component was backed up, after
// DoSnapshotSet has finished and before BackupComplete. The instance must be
// given.
func (b *BackupComponents) SetBackupSucceeded(ctx context.Context, c Component, succeeded bool) error {
	return b.edit(ctx, "SetBackupSucceeded", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_BackupSucceeded{BackupSucceeded: succeeded}})
}

// SetBackupOptions gives the writer options for a component's backup, before
// PrepareForBackup.
func (b *BackupComponents) SetBackupOptions(ctx context.Context, c Component, options string) error {
	return b.edit(ctx, "SetBackupOptions", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_BackupOptions{BackupOptions: options}})
}

// SetPreviousBackupStamp hands the writer the stamp of the backup this one
// builds on, before PrepareForBackup.
func (b *BackupComponents) SetPreviousBackupStamp(ctx context.Context, c Component, stamp string) error {
	return b.edit(ctx, "SetPreviousBackupStamp", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_PreviousBackupStamp{PreviousBackupStamp: stamp}})
}

// SetSelectedForRestore selects a component for the restore, or takes it back,
// before PreRestore. VSS_E_OBJECT_NOT_FOUND also when its writer does not run.
func (b *BackupComponents) SetSelectedForRestore(ctx context.Context, c Component, selected bool) error {
	return b.edit(ctx, "SetSelectedForRestore", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_SelectedForRestore{SelectedForRestore: selected}})
}

// SetSelectedForRestoreEx is SetSelectedForRestore for the writer instance
// that the component names.
func (b *BackupComponents) SetSelectedForRestoreEx(ctx context.Context, c Component, selected bool) error {
	return b.edit(ctx, "SetSelectedForRestoreEx", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_SelectedForRestoreEx{SelectedForRestoreEx: selected}})
}

// AddRestoreSubcomponent selects a part of a component that is selected for
// restore. path and name must be given, repair is reserved and false
// (E_INVALIDARG).
func (b *BackupComponents) AddRestoreSubcomponent(ctx context.Context, c Component, path, name string, repair bool) error {
	return b.edit(ctx, "AddRestoreSubcomponent", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_AddRestoreSubcomponent{
		AddRestoreSubcomponent: &vssv1.RestoreSubcomponent{LogicalPath: path, Name: name, Repair: repair}}})
}

// SetRestoreOptions gives the writer options for a component's restore.
func (b *BackupComponents) SetRestoreOptions(ctx context.Context, c Component, options string) error {
	return b.edit(ctx, "SetRestoreOptions", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_RestoreOptions{RestoreOptions: options}})
}

// SetAdditionalRestores says that more of a component will be restored later.
func (b *BackupComponents) SetAdditionalRestores(ctx context.Context, c Component, more bool) error {
	return b.edit(ctx, "SetAdditionalRestores", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_AdditionalRestores{AdditionalRestores: more}})
}

// SetFileRestoreStatus says how many of a component's files were restored,
// between PreRestore and PostRestore.
func (b *BackupComponents) SetFileRestoreStatus(ctx context.Context, c Component, s vss.FileRestoreStatus) error {
	return b.edit(ctx, "SetFileRestoreStatus", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_FileRestoreStatus{FileRestoreStatus: int32(s)}})
}

// AddNewTarget says that the files of a component's file set will be restored
// to another folder.
func (b *BackupComponents) AddNewTarget(ctx context.Context, c Component, path, fileSpec string, recursive bool, target string) error {
	return b.edit(ctx, "AddNewTarget", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_AddNewTarget{
		AddNewTarget: &vssv1.PathMapping{Path: path, FileName: fileSpec, Recursive: recursive, Destination: target}}})
}

// AddAlternativeLocationMapping records that files of a component were
// restored to the writer's alternate location, between PreRestore and
// PostRestore.
func (b *BackupComponents) AddAlternativeLocationMapping(ctx context.Context, c Component, path, fileSpec string, recursive bool, destination string) error {
	return b.edit(ctx, "AddAlternativeLocationMapping", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_AddAlternativeLocationMapping{
		AddAlternativeLocationMapping: &vssv1.PathMapping{Path: path, FileName: fileSpec, Recursive: recursive, Destination: destination}}})
}

// SetRangesFilePath says where the file of ranges of a component's partial
// file was restored to. VSS_E_OBJECT_NOT_FOUND if there is no such partial
// file, E_INVALIDARG for a negative index.
func (b *BackupComponents) SetRangesFilePath(ctx context.Context, c Component, partialFile int, rangesFile string) error {
	const op = "SetRangesFilePath"
	if err := b.usable(ctx, op); err != nil {
		return err
	}
	if partialFile < 0 || int64(partialFile) > 1<<32-1 {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: fmt.Sprintf("partial file %d", partialFile), Reason: "not an index", Remedy: "Count from 0"}
	}
	return b.edit(ctx, op, c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_RangesFilePath{
		RangesFilePath: &vssv1.PartialFile{Index: uint32(partialFile), RangesFile: rangesFile}}})
}

// SetAuthoritativeRestore says whether what is restored wins over its
// replicas.
func (b *BackupComponents) SetAuthoritativeRestore(ctx context.Context, c Component, authoritative bool) error {
	return b.edit(ctx, "SetAuthoritativeRestore", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_AuthoritativeRestore{AuthoritativeRestore: authoritative}})
}

// SetRollForward says how far to roll forward; the point is the writer's
// notation, and only for RF_PARTIAL.
func (b *BackupComponents) SetRollForward(ctx context.Context, c Component, t vss.RollForwardType, point string) error {
	return b.edit(ctx, "SetRollForward", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_RollForward{RollForward: &vssv1.RollForward{Type: int32(t), Point: point}}})
}

// SetRestoreName gives a restored component another name.
func (b *BackupComponents) SetRestoreName(ctx context.Context, c Component, name string) error {
	return b.edit(ctx, "SetRestoreName", c, &vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_RestoreName{RestoreName: name}})
}
