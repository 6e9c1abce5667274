package requester

import (
	"context"
	"fmt"

	"github.com/umbra-vss/umbra/document"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// MaxWriterIDs is how many writers one call may name.
const MaxWriterIDs = 4096

// EnableWriterClasses enables writers by class: the first call disables all
// others, further ones add. It has no effect after GatherWriterMetadata.
// E_INVALIDARG for GUID_NULL.
func (b *BackupComponents) EnableWriterClasses(ctx context.Context, classes ...vss.ID) error {
	return b.selectWriters(ctx, "EnableWriterClasses", vssv1.WriterSelection_WRITER_SELECTION_ENABLE_CLASSES, classes)
}

// DisableWriterClasses disables writers by class; all are enabled at first.
// Codes as for EnableWriterClasses.
func (b *BackupComponents) DisableWriterClasses(ctx context.Context, classes ...vss.ID) error {
	return b.selectWriters(ctx, "DisableWriterClasses", vssv1.WriterSelection_WRITER_SELECTION_DISABLE_CLASSES, classes)
}

// DisableWriterInstances disables single instances of writers. Codes as for
// EnableWriterClasses.
func (b *BackupComponents) DisableWriterInstances(ctx context.Context, instances ...vss.ID) error {
	return b.selectWriters(ctx, "DisableWriterInstances", vssv1.WriterSelection_WRITER_SELECTION_DISABLE_INSTANCES, instances)
}

func (b *BackupComponents) selectWriters(ctx context.Context, op string, how vssv1.WriterSelection, ids []vss.ID) error {
	if err := b.usable(ctx, op); err != nil {
		return err
	}
	if len(ids) > MaxWriterIDs {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: fmt.Sprintf("%d writers are named", len(ids)), Remedy: fmt.Sprintf("Name at most %d", MaxWriterIDs)}
	}
	req := &vssv1.SelectWritersRequest{Token: b.sessionToken(), Selection: how}
	for _, id := range ids {
		req.Ids = append(req.Ids, id[:])
	}
	_, err := call(ctx, b, op, rpcs.SelectWriters, req)
	return err
}

// GatherWriterMetadata asks all writers who they are. Asynchronous; once per
// object (VSS_E_BAD_STATE). VSS_E_WRITER_INFRASTRUCTURE when writers cannot be
// reached at all; one that does not answer is absent from the list. This
// version has no writers, so the list is empty.
func (b *BackupComponents) GatherWriterMetadata(ctx context.Context) (*Async, error) {
	return start(ctx, b, "GatherWriterMetadata", rpcs.GatherWriterMetadata, b.session())
}

// GetWriterMetadataCount is how many writers answered. VSS_E_BAD_STATE unless
// GatherWriterMetadata has finished and FreeWriterMetadata was not called.
func (b *BackupComponents) GetWriterMetadataCount(ctx context.Context) (int, error) {
	return count(call(ctx, b, "GetWriterMetadataCount", rpcs.GetWriterMetadataCount, b.session()))
}

func count(r *vssv1.CountResponse, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return int(r.Count), nil
}

// GetWriterMetadata is one writer's instance and its metadata, from index 0.
// VSS_E_OBJECT_NOT_FOUND when there are fewer, E_INVALIDARG for a negative
// index, VSS_E_INVALID_XML_DOCUMENT when it cannot be read.
func (b *BackupComponents) GetWriterMetadata(ctx context.Context, index int) (vss.ID, *document.ExaminedWriterMetadata, error) {
	return b.writerMetadata(ctx, "GetWriterMetadata", index, false)
}

// GetWriterMetadataEx is IVssBackupComponentsEx's form of the same: the
// metadata's GetIdentityEx has the instance's name.
func (b *BackupComponents) GetWriterMetadataEx(ctx context.Context, index int) (vss.ID, *document.ExaminedWriterMetadata, error) {
	return b.writerMetadata(ctx, "GetWriterMetadataEx", index, true)
}

func (b *BackupComponents) writerMetadata(ctx context.Context, op string, index int, extended bool) (vss.ID, *document.ExaminedWriterMetadata, error) {
	req, err := b.index(ctx, op, index, extended)
	if err != nil {
		return vss.GUIDNull, nil, err
	}
	r, err := call(ctx, b, op, rpcs.GetWriterMetadata, req)
	if err != nil {
		return vss.GUIDNull, nil, err
	}
	m, err := document.ExamineWriterMetadata(r.Document)
	if err != nil {
		return vss.GUIDNull, nil, err
	}
	return idOf(r.InstanceId), m, nil
}

// index is a request for one of several.
func (b *BackupComponents) index(ctx context.Context, op string, i int, extended bool) (*vssv1.IndexRequest, error) {
	if err := b.usable(ctx, op); err != nil {
		return nil, err
	}
	if i < 0 || int64(i) > 1<<32-1 {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: fmt.Sprintf("index %d", i), Reason: "not an index", Remedy: "Count from 0"}
	}
	return &vssv1.IndexRequest{Token: b.sessionToken(), Index: uint32(i), Extended: extended}, nil
}

// FreeWriterMetadata lets the service forget what the writers answered.
func (b *BackupComponents) FreeWriterMetadata(ctx context.Context) error {
	_, err := call(ctx, b, "FreeWriterMetadata", rpcs.FreeWriterMetadata, b.session())
	return err
}

// GatherWriterStatus asks all writers how they are. Asynchronous; meaningful
// right after an event. Not while another operation of the object runs
// (VSS_E_BAD_STATE). VSS_E_WRITER_INFRASTRUCTURE when writers cannot be reached.
func (b *BackupComponents) GatherWriterStatus(ctx context.Context) (*Async, error) {
	return start(ctx, b, "GatherWriterStatus", rpcs.GatherWriterStatus, b.session())
}

// GetWriterStatusCount is how many writers answered. VSS_E_BAD_STATE unless
// GatherWriterStatus has finished and FreeWriterStatus was not called.
func (b *BackupComponents) GetWriterStatusCount(ctx context.Context) (int, error) {
	return count(call(ctx, b, "GetWriterStatusCount", rpcs.GetWriterStatusCount, b.session()))
}

// WriterStatus is how one writer is. That it could be asked for does not mean
// that the writer is well: see Failure (requester.md 5.6).
type WriterStatus struct {
	InstanceID         vss.ID          `json:"instance_id"`
	WriterID           vss.ID          `json:"writer_id"`
	Name               string          `json:"name"`
	State              vss.WriterState `json:"state"`
	Failure            vss.HResult     `json:"failure"`             // hrFailure
	ApplicationFailure vss.HResult     `json:"application_failure"` // of GetWriterStatusEx
	Message            string          `json:"message,omitempty"`   // of GetWriterStatusEx
}

// GetWriterStatus is one writer's status, from index 0. VSS_E_OBJECT_NOT_FOUND
// when there are fewer, E_INVALIDARG for a negative index.
func (b *BackupComponents) GetWriterStatus(ctx context.Context, index int) (WriterStatus, error) {
	s, err := b.writerStatus(ctx, "GetWriterStatus", index, false)
	s.ApplicationFailure, s.Message = vss.S_OK, ""
	return s, err
}

// GetWriterStatusEx is GetWriterStatus with the application's own code and
// message; it may say VSS_E_WRITERERROR_PARTIAL_FAILURE.
func (b *BackupComponents) GetWriterStatusEx(ctx context.Context, index int) (WriterStatus, error) {
	return b.writerStatus(ctx, "GetWriterStatusEx", index, true)
}

func (b *BackupComponents) writerStatus(ctx context.Context, op string, index int, extended bool) (WriterStatus, error) {
	req, err := b.index(ctx, op, index, extended)
	if err != nil {
		return WriterStatus{}, err
	}
	r, err := call(ctx, b, op, rpcs.GetWriterStatus, req)
	if err != nil {
		return WriterStatus{}, err
	}
	return WriterStatus{idOf(r.InstanceId), idOf(r.ClassId), r.Name, vss.WriterState(r.State), vss.HResult(r.Failure), vss.HResult(r.ApplicationFailure), r.Message}, nil
}

// FreeWriterStatus lets the service forget how the writers were.
func (b *BackupComponents) FreeWriterStatus(ctx context.Context) error {
	_, err := call(ctx, b, "FreeWriterStatus", rpcs.FreeWriterStatus, b.session())
	return err
}

// GetWriterComponentsCount is how many writers have components in the
// document.
func (b *BackupComponents) GetWriterComponentsCount(ctx context.Context) (int, error) {
	return count(call(ctx, b, "GetWriterComponentsCount", rpcs.GetWriterComponentsCount, b.session()))
}

// GetWriterComponents are the components of one writer in the document, from
// index 0. VSS_E_OBJECT_NOT_FOUND when there are fewer, E_INVALIDARG for a
// negative index.
func (b *BackupComponents) GetWriterComponents(ctx context.Context, index int) (*document.WriterComponents, error) {
	const op = "GetWriterComponents"
	req, err := b.index(ctx, op, index, false)
	if err != nil {
		return nil, err
	}
	r, err := call(ctx, b, op, rpcs.GetWriterComponents, req)
	if err != nil {
		return nil, err
	}
	d, err := document.Unmarshal(r.Document)
	if err != nil {
		return nil, err
	}
	w := d.Writer(idOf(r.InstanceId), idOf(r.ClassId))
	if w == nil {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: fmt.Sprintf("index %d", index), Reason: "the service answered for another writer", Remedy: "Report this"}
	}
	return w, nil
}
