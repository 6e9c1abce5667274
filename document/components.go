package document

import "github.com/umbra-vss/umbra/vss"

// WriterComponents are the components of one writer that are in the document:
// those that were added explicitly. What comes with them implicitly, and every
// path, is in the writer's metadata only ([WriterMetadata]).
type WriterComponents struct {
	InstanceID vss.ID // of the writer that was there when the backup was made
	WriterID   vss.ID // the writer's class
	Components []Component
}

// Component is what requester and writer tell each other about one component,
// or about the component set it defines. Requesters change it with the setters
// of Document, writers with [Document.UpdateComponent]; both see all of it.
// Options, stamps and metadata are opaque to everybody but the writer.
type Component struct {
	Type        vss.ComponentType
	LogicalPath string // elements separated by backslashes, "" at the root
	Name        string // no backslash

	// Backup.
	BackupSucceeded     bool
	BackupOptions       string
	PreviousBackupStamp string
	BackupStamp         string // the writer's
	BackupMetadata      string // the writer's

	// Restore.
	SelectedForRestore bool
	// RestoreInstanceID is the running writer that gets it; GUID_NULL for
	// whichever has the component.
	RestoreInstanceID    vss.ID
	RestoreOptions       string
	AdditionalRestores   bool // more is to be restored: do not recover yet
	FileRestoreStatus    vss.FileRestoreStatus
	AuthoritativeRestore bool
	RollForward          RollForward
	RestoreName          string            // a new name for the restored component
	RestoreTarget        vss.RestoreTarget // the writer's
	RestoreMetadata      string            // the writer's

	RestoreSubcomponents      []Subcomponent
	NewTargets                []FileTarget
	AlternateLocationMappings []FileTarget       // those that were used
	PartialFiles              []PartialFile      // the writer's
	DifferencedFiles          []DifferencedFiles // the writer's
	DirectedTargets           []DirectedTarget   // the writer's

	Failures FailureMessages  // the writer's
	Failure  ComponentFailure // the writer's
}

// RollForward says how far a restore is to roll forward. Point is the writer's
// own notation, and given with RF_PARTIAL only.
type RollForward struct {
	Type  vss.RollForwardType
	Point string
}

// Subcomponent is one that was backed up with its component and is restored
// by itself.
type Subcomponent struct {
	LogicalPath string
	Name        string
}

// FileTarget sends the files of a file set elsewhere. The first three fields
// are those of the writer's file set, exactly.
type FileTarget struct {
	Path          string
	FileSpec      string
	Recursive     bool
	AlternatePath string
}

// PartialFile is a file of which parts were backed up.
type PartialFile struct {
	Path     string
	FileName string
	Ranges   string // "offset:length,offset:length", or the path of a file of ranges
	Metadata string
	// RangesFile is where the requester restored the file of ranges to; "" for
	// the place Ranges names.
	RangesFile string
}

// DifferencedFiles are files to back up if they changed since LastModify; 0
// leaves that to the requester.
type DifferencedFiles struct {
	Path       string
	FileSpec   string
	Recursive  bool
	LastModify vss.Timestamp
}

// DirectedTarget restores ranges of one file into ranges of another.
type DirectedTarget struct {
	SourcePath     string
	SourceFileName string
	SourceRanges   string
	TargetPath     string
	TargetFileName string
	TargetRanges   string
}

// FailureMessages are a writer's words on what failed, per event.
type FailureMessages struct {
	PrepareForBackup string
	PostSnapshot     string
	PreRestore       string
	PostRestore      string
}

// ComponentFailure is a writer's result for one component; S_OK if it did not
// fail by itself.
type ComponentFailure struct {
	Code            vss.HResult
	ApplicationCode vss.HResult
	Message         string
}

// Writer returns the components of a writer, nil if the document has none. It
// is good until the next AddComponent.
func (d *Document) Writer(instance, writer vss.ID) *WriterComponents {
	for i := range d.Components {
		if w := &d.Components[i]; w.InstanceID == instance && w.WriterID == writer {
			return w
		}
	}
	return nil
}

// Component returns the component with this logical path and name, nil if the
// writer has none in the document.
func (w *WriterComponents) Component(path, name string) *Component {
	for i := range w.Components {
		if c := &w.Components[i]; c.LogicalPath == path && c.Name == name {
			return c
		}
	}
	return nil
}

// Selected reports whether anything of the writer is to be restored; a writer
// of which nothing is gets no events after PreRestore.
func (w *WriterComponents) Selected() bool {
	for i := range w.Components {
		if w.Components[i].SelectedForRestore {
			return true
		}
	}
	return false
}

// textField is one string of a component: every one has a limit, is escaped in
// JSON, and counts towards maxComponentText.
type textField struct {
	at          string // the element below the component
	what        string
	s           *string
	least, most int
}

// texts are all strings of a component.
func (c *Component) texts() []textField {
	out := []textField{
		{"", "logical path", &c.LogicalPath, 0, maxText},
		{"", "name", &c.Name, 1, maxText},
		{"/backup", "backup options", &c.BackupOptions, 0, maxOpaque},
		{"/backup", "previous backup stamp", &c.PreviousBackupStamp, 0, maxOpaque},
		{"/backup", "backup stamp", &c.BackupStamp, 0, maxOpaque},
		{"/backup", "backup metadata", &c.BackupMetadata, 0, maxOpaque},
		{"/restore", "restore options", &c.RestoreOptions, 0, maxOpaque},
		{"/restore", "roll-forward point", &c.RollForward.Point, 0, maxOpaque},
		{"/restore", "restore name", &c.RestoreName, 0, maxText},
		{"/restore", "restore metadata", &c.RestoreMetadata, 0, maxOpaque},
		{"/failures", "failure message of PrepareForBackup", &c.Failures.PrepareForBackup, 0, maxOpaque},
		{"/failures", "failure message of PostSnapshot", &c.Failures.PostSnapshot, 0, maxOpaque},
		{"/failures", "failure message of PreRestore", &c.Failures.PreRestore, 0, maxOpaque},
		{"/failures", "failure message of PostRestore", &c.Failures.PostRestore, 0, maxOpaque},
		{"/failure", "failure message", &c.Failure.Message, 0, maxOpaque},
	}
	for i := range c.RestoreSubcomponents {
		s, at := &c.RestoreSubcomponents[i], "/"+step("subcomponent", i+1, true)
		out = append(out, textField{at, "logical path", &s.LogicalPath, 1, maxText}, textField{at, "name", &s.Name, 1, maxText})
	}
	for _, list := range []struct {
		name    string
		targets []FileTarget
	}{{"newTarget", c.NewTargets}, {"alternateLocationMapping", c.AlternateLocationMappings}} {
		for i := range list.targets {
			t, at := &list.targets[i], "/"+step(list.name, i+1, true)
			out = append(out, textField{at, "path", &t.Path, 1, maxText}, textField{at, "file specification", &t.FileSpec, 1, maxText},
				textField{at, "alternate path", &t.AlternatePath, 1, maxText})
		}
	}
	for i := range c.PartialFiles {
		p, at := &c.PartialFiles[i], "/"+step("partialFile", i+1, true)
		out = append(out, textField{at, "path", &p.Path, 1, maxText}, textField{at, "file name", &p.FileName, 1, maxText},
			textField{at, "ranges", &p.Ranges, 1, maxOpaque}, textField{at, "metadata", &p.Metadata, 0, maxOpaque},
			textField{at, "ranges file", &p.RangesFile, 0, maxText})
	}
	for i := range c.DifferencedFiles {
		x, at := &c.DifferencedFiles[i], "/"+step("differencedFiles", i+1, true)
		out = append(out, textField{at, "path", &x.Path, 1, maxText}, textField{at, "file specification", &x.FileSpec, 1, maxText})
	}
	for i := range c.DirectedTargets {
		x, at := &c.DirectedTargets[i], "/"+step("directedTarget", i+1, true)
		out = append(out, textField{at, "source path", &x.SourcePath, 1, maxText}, textField{at, "source file name", &x.SourceFileName, 1, maxText},
			textField{at, "source ranges", &x.SourceRanges, 1, maxOpaque}, textField{at, "target path", &x.TargetPath, 1, maxText},
			textField{at, "target file name", &x.TargetFileName, 1, maxText}, textField{at, "target ranges", &x.TargetRanges, 1, maxOpaque})
	}
	return out
}

// items is how many list entries a component has.
func (c *Component) items() int {
	return len(c.RestoreSubcomponents) + len(c.NewTargets) + len(c.AlternateLocationMappings) + len(c.PartialFiles) +
		len(c.DifferencedFiles) + len(c.DirectedTargets)
}

// detached is a copy whose lists are its own.
func (c Component) detached() Component {
	c.RestoreSubcomponents = clone(c.RestoreSubcomponents)
	c.NewTargets = clone(c.NewTargets)
	c.AlternateLocationMappings = clone(c.AlternateLocationMappings)
	c.PartialFiles = clone(c.PartialFiles)
	c.DifferencedFiles = clone(c.DifferencedFiles)
	c.DirectedTargets = clone(c.DirectedTargets)
	return c
}

// clone copies a list; an empty one is no list.
func clone[T any](s []T) []T { return append([]T(nil), s...) }
