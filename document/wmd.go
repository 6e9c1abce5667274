package document

import (
	"bytes"
	"encoding/xml"
	"fmt"

	"github.com/umbra-vss/umbra/vss"
)

// WriterSchema is the version of the writer metadata schema that this package
// writes and reads.
const WriterSchema = "1.0"

// WriterNamespace is the XML namespace of that schema's first major version.
const WriterNamespace = "urn:umbra-vss:writer-metadata:1"

// WriterMetadata is a Writer Metadata Document: what one running writer says
// of itself when it is asked to identify itself, and the only place that says
// which files a component is made of. It does not change afterwards. Whoever
// backs up a copy on another machine reads it, not the writers that run there.
//
// Like Documents, values of it are plain.
type WriterMetadata struct {
	WriterID     vss.ID // the class
	InstanceID   vss.ID // of this run of the writer
	Name         string
	InstanceName string // lasting and unique among the host's instances; "" for writers of which there is one
	Version      WriterVersion
	Usage        vss.UsageType
	Source       vss.SourceType
	Restore      RestorePlan
	BackupSchema vss.BackupSchema

	Include []FileSet // files that belong to the writer as a whole
	Exclude []FileSet // never backed up; they win over everything else
	// ExcludeFromSnapshot only declares: the writer deletes these from the copy
	// itself.
	ExcludeFromSnapshot []FileSet

	Components []MetadataComponent

	// Volumes are the mount points of the volumes that the files lie on, as the
	// writer's machine had them. They are how another machine can tell that a
	// folder of a copied volume was the place of a volume that was not copied.
	Volumes []string
}

// WriterVersion is the writer's own: a new major one cannot restore what an
// older one backed up.
type WriterVersion struct{ Major, Minor uint32 }

// RestorePlan is how the writer's files are restored.
type RestorePlan struct {
	Method         vss.RestoreMethod
	Service        string // to stop and start, with the two methods that do
	UserProcedure  string // reserved
	WriterRestore  vss.WriterRestore
	RebootRequired bool
	// AlternateLocations say where files go that cannot be restored to their
	// place. Each has the place of a component's file set.
	AlternateLocations []FileSet
}

// MetadataComponent is a component as its writer describes it.
type MetadataComponent struct {
	Type        vss.ComponentType
	LogicalPath string
	Name        string
	Caption     string
	Icon        []byte

	RestoreMetadata        bool // reserved
	NotifyOnBackupComplete bool // reserved
	Selectable             bool // may be left out of a backup
	SelectableForRestore   bool // may be restored by itself though it was included implicitly
	Flags                  vss.ComponentFlags

	Files         []FileSet // of CT_FILEGROUP
	DatabaseFiles []FileSet // of CT_DATABASE
	LogFiles      []FileSet // of CT_DATABASE
	Dependencies  []Dependency
}

// Dependency is another writer's component, without which this one is neither
// backed up nor restored.
type Dependency struct {
	WriterID    vss.ID // the class
	LogicalPath string // begins with \\computer\ if it is another machine's
	Name        string
}

// Component returns the component with this logical path and name, nil if the
// writer has none.
func (w *WriterMetadata) Component(path, name string) *MetadataComponent {
	for i := range w.Components {
		if c := &w.Components[i]; c.LogicalPath == path && c.Name == name {
			return c
		}
	}
	return nil
}

// Inclusion is how a component comes into a backup (writer.md 4.5).
type Inclusion int

// Values of Inclusion.
const (
	// InclusionMandatory: as soon as anything of the writer is backed up, and
	// explicitly, by AddComponent.
	InclusionMandatory Inclusion = iota + 1
	// InclusionOptional: if the requester likes, by AddComponent.
	InclusionOptional
	// InclusionImplicit: with a component above it and never by AddComponent.
	InclusionImplicit
	// InclusionEither: with a component above it if that is in the backup;
	// otherwise if the requester likes, by AddComponent.
	InclusionEither
)

// Inclusion tells how one of the writer's components comes into a backup.
func (w *WriterMetadata) Inclusion(c *MetadataComponent) Inclusion {
	ancestor := false
	for i := range w.Components {
		if a := &w.Components[i]; a.Selectable && below(c.LogicalPath, fullName(a.LogicalPath, a.Name)) {
			ancestor = true
		}
	}
	switch {
	case c.Selectable && ancestor:
		return InclusionEither
	case c.Selectable:
		return InclusionOptional
	case ancestor:
		return InclusionImplicit
	}
	return InclusionMandatory
}

// MarshalWriterMetadata writes the metadata as indented XML in WriterNamespace;
// equal metadata gives equal bytes. What is not valid gives
// VSS_E_INVALID_XML_DOCUMENT.
func MarshalWriterMetadata(m *WriterMetadata) ([]byte, error) {
	const op = "write writer metadata"
	if f := m.check(); f != nil {
		return nil, f.of(writerDocument).err(op)
	}
	var w writer
	w.b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	w.metadata(m)
	if w.b.Len() > MaxWriterMetadata {
		return nil, faultAt("", "the document has %d bytes, %d is the limit", w.b.Len(), MaxWriterMetadata).
			withRemedy("Have the writer describe its files with fewer file sets").of(writerDocument).err(op)
	}
	return w.b.Bytes(), nil
}

// writerDocument is the object of errors.
const writerDocument = "writer metadata document"

// UnmarshalWriterMetadata reads what MarshalWriterMetadata wrote, as strictly
// as Unmarshal reads documents. It is safe on any input; what it does not take
// gives VSS_E_INVALID_XML_DOCUMENT.
func UnmarshalWriterMetadata(b []byte) (*WriterMetadata, error) {
	m, f := unmarshalWriter(b)
	if f != nil {
		return nil, f.of(writerDocument).err("read writer metadata")
	}
	return m, nil
}

func unmarshalWriter(b []byte) (*WriterMetadata, *fault) {
	if len(b) > MaxWriterMetadata {
		return nil, faultAt("", "the document has %d bytes, %d is the limit", len(b), MaxWriterMetadata)
	}
	r := &xmlReader{d: xml.NewDecoder(bytes.NewReader(b)), ns: WriterNamespace, first: true}
	a, f := r.root("writerMetadata", "Give the writer's metadata that was saved when the set was created, not another XML file")
	if f != nil {
		return nil, f
	}
	if v := take(a, "schemaVersion", anyText); a.bad == nil && v != WriterSchema {
		return nil, r.fault("schema version %q is not %s", v, WriterSchema).withRemedy(remedyUpdate)
	}
	m := new(WriterMetadata)
	if f := r.metadata(a, m); f != nil {
		return nil, f
	}
	if f := r.end(); f != nil {
		return nil, f
	}
	if f := m.check(); f != nil {
		f.line, f.col = locate(b, f.path)
		return nil, f
	}
	return m, nil
}

// Validate checks all that the schema cannot say. The error is
// VSS_E_INVALID_XML_DOCUMENT and its object says where.
func (w *WriterMetadata) Validate() error {
	if f := w.check(); f != nil {
		return f.of(writerDocument).err("validate writer metadata")
	}
	return nil
}

// String is for lists and messages.
func (v WriterVersion) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
