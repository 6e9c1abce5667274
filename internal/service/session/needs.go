package session

// Need is something a call needs beside the state: that another call was made
// before, or a property of the context.
type Need string

// Needs.
const (
	NoContext            Need = "the context was not set before"
	ContextSet           Need = "SetContext was called"
	NotForAdministration Need = "the context is not VSS_CTX_ALL"
	Writers              Need = "the context has writers"
	NoWriters            Need = "the context has no writers"
	BackupStateSet       Need = "SetBackupState was called"
	ComponentMode        Need = "SetBackupState chose component mode"
	Gathered             Need = "GatherWriterMetadata has finished"
	Metadata             Need = "GatherWriterMetadata has finished and FreeWriterMetadata was not called"
	Status               Need = "GatherWriterStatus has finished and FreeWriterStatus was not called"
)

// lack is what VSS_E_BAD_STATE says when a need is not met.
var lack = map[Need]struct{ reason, remedy string }{
	NoContext:            {"the context was set before", "Make a new object for another context"},
	ContextSet:           {"SetContext was not called", "Call it after InitializeForBackup; VSS_CTX_ALL shows every copy"},
	NotForAdministration: {"context all is for administration; no set can be made in it", "Set a context such as app-rollback"},
	Writers:              {"the context has no writers", "Leave the call out"},
	NoWriters:            {"PrepareForBackup was not called", "Call it first: the context has writers"},
	BackupStateSet:       {"SetBackupState was not called", "Call it before PrepareForBackup"},
	ComponentMode:        {"components are not selected one by one", "Call SetBackupState with component mode"},
	Gathered:             {"GatherWriterMetadata was not called, or has not finished", "Call it before StartSnapshotSet and wait for it"},
	Metadata:             {"there is no writer metadata", "Call GatherWriterMetadata and wait for it; it is gone after FreeWriterMetadata"},
	Status:               {"there is no writer status", "Call GatherWriterStatus and wait for it; it is gone after FreeWriterStatus"},
}

// Facts are what the needs of later calls are decided by.
type Facts struct {
	ContextSet     bool
	Administration bool // VSS_CTX_ALL
	Writers        bool // the context has writers
	BackupStateSet bool
	ComponentMode  bool
	Gathered       bool
	Metadata       bool
	Status         bool
}

func (f Facts) meet(n Need) bool {
	switch n {
	case NoContext:
		return !f.ContextSet
	case ContextSet:
		return f.ContextSet
	case NotForAdministration:
		return !f.Administration
	case Writers:
		return f.Writers
	case NoWriters:
		return !f.Writers
	case BackupStateSet:
		return f.BackupStateSet
	case ComponentMode:
		return f.ComponentMode
	case Gathered:
		return f.Gathered
	case Metadata:
		return f.Metadata
	case Status:
		return f.Status
	}
	return false
}
