package document

import (
	"fmt"

	"github.com/umbra-vss/umbra/vss"
)

// ExaminedWriterMetadata reads a writer's metadata as
// IVssExamineWriterMetadata does. It cannot be changed: what it returns is a
// copy, and any number of goroutines may use it. An index out of range gives
// VSS_E_OBJECT_NOT_FOUND.
type ExaminedWriterMetadata struct {
	m   *WriterMetadata
	xml []byte
}

// ExamineWriterMetadata reads a saved Writer Metadata Document
// (CreateVssExamineWriterMetadata). Anything else gives
// VSS_E_INVALID_XML_DOCUMENT.
func ExamineWriterMetadata(xml []byte) (*ExaminedWriterMetadata, error) {
	m, err := UnmarshalWriterMetadata(xml)
	if err != nil {
		return nil, err
	}
	return &ExaminedWriterMetadata{m, clone(xml)}, nil
}

// Examine is ExamineWriterMetadata of metadata that was read already.
func (w *WriterMetadata) Examine() (*ExaminedWriterMetadata, error) {
	xml, err := MarshalWriterMetadata(w)
	if err != nil {
		return nil, err
	}
	return &ExaminedWriterMetadata{w.detached(), xml}, nil
}

// GetIdentity returns instance ID, class ID, name, usage and source.
func (e *ExaminedWriterMetadata) GetIdentity() (instance, writer vss.ID, name string, usage vss.UsageType, source vss.SourceType) {
	return e.m.InstanceID, e.m.WriterID, e.m.Name, e.m.Usage, e.m.Source
}

// GetIdentityEx is GetIdentity with the instance name.
func (e *ExaminedWriterMetadata) GetIdentityEx() (instance, writer vss.ID, name, instanceName string, usage vss.UsageType, source vss.SourceType) {
	return e.m.InstanceID, e.m.WriterID, e.m.Name, e.m.InstanceName, e.m.Usage, e.m.Source
}

// GetVersion returns the writer's version.
func (e *ExaminedWriterMetadata) GetVersion() (major, minor uint32) {
	return e.m.Version.Major, e.m.Version.Minor
}

// GetFileCounts returns how many files are included and excluded, and how many
// components there are.
func (e *ExaminedWriterMetadata) GetFileCounts() (include, exclude, components int) {
	return len(e.m.Include), len(e.m.Exclude), len(e.m.Components)
}

// GetIncludeFile returns one of the files that belong to the writer as a whole.
func (e *ExaminedWriterMetadata) GetIncludeFile(i int) (FileSet, error) {
	return at(e, "GetIncludeFile", e.m.Include, i)
}

// GetExcludeFile returns one of the files that are never backed up.
func (e *ExaminedWriterMetadata) GetExcludeFile(i int) (FileSet, error) {
	return at(e, "GetExcludeFile", e.m.Exclude, i)
}

// GetExcludeFromSnapshotCount returns how many file sets the writer deletes
// from copies.
func (e *ExaminedWriterMetadata) GetExcludeFromSnapshotCount() int {
	return len(e.m.ExcludeFromSnapshot)
}

// GetExcludeFromSnapshotFile returns one of them.
func (e *ExaminedWriterMetadata) GetExcludeFromSnapshotFile(i int) (FileSet, error) {
	return at(e, "GetExcludeFromSnapshotFile", e.m.ExcludeFromSnapshot, i)
}

// GetComponent returns one of the components.
func (e *ExaminedWriterMetadata) GetComponent(i int) (MetadataComponent, error) {
	c, err := at(e, "GetComponent", e.m.Components, i)
	return c.detached(), err
}

// GetRestoreMethod returns how the files are restored; mappings is the number
// of alternate locations.
func (e *ExaminedWriterMetadata) GetRestoreMethod() (method vss.RestoreMethod, service, userProcedure string, writerRestore vss.WriterRestore, rebootRequired bool, mappings int) {
	p := &e.m.Restore
	return p.Method, p.Service, p.UserProcedure, p.WriterRestore, p.RebootRequired, len(p.AlternateLocations)
}

// GetAlternateLocationMapping returns one of the alternate locations.
func (e *ExaminedWriterMetadata) GetAlternateLocationMapping(i int) (FileSet, error) {
	return at(e, "GetAlternateLocationMapping", e.m.Restore.AlternateLocations, i)
}

// GetBackupSchema returns which types of backup the writer supports.
func (e *ExaminedWriterMetadata) GetBackupSchema() vss.BackupSchema { return e.m.BackupSchema }

// GetDocument returns all of it.
func (e *ExaminedWriterMetadata) GetDocument() *WriterMetadata { return e.m.detached() }

// SaveAsXML returns the document as it was read.
func (e *ExaminedWriterMetadata) SaveAsXML() []byte { return clone(e.xml) }

func at[T any](e *ExaminedWriterMetadata, op string, list []T, i int) (T, error) {
	if i >= 0 && i < len(list) {
		return list[i], nil
	}
	var none T
	return none, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: "metadata of writer " + shown(e.m.Name),
		Reason: fmt.Sprintf("there are %d and none has index %d", len(list), i), Remedy: "Count from 0"}
}

func (w *WriterMetadata) detached() *WriterMetadata {
	c := *w
	c.Restore.AlternateLocations = clone(w.Restore.AlternateLocations)
	c.Include, c.Exclude, c.ExcludeFromSnapshot = clone(w.Include), clone(w.Exclude), clone(w.ExcludeFromSnapshot)
	c.Volumes = clone(w.Volumes)
	c.Components = clone(w.Components)
	for i := range c.Components {
		c.Components[i] = c.Components[i].detached()
	}
	return &c
}

func (c MetadataComponent) detached() MetadataComponent {
	c.Icon = clone(c.Icon)
	c.Files, c.DatabaseFiles, c.LogFiles = clone(c.Files), clone(c.DatabaseFiles), clone(c.LogFiles)
	c.Dependencies = clone(c.Dependencies)
	return c
}
