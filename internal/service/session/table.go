package session

// State is where a BackupComponents object stands (requester.md 2.1).
type State string

// States. One object serves one operation: no path leads back.
const (
	New          State = "NEW"
	BackupInit   State = "B_INIT"
	BackupLoaded State = "B_LOADED"
	Gathering    State = "GATHERING"
	Meta         State = "META"
	SetOpen      State = "SET_OPEN"
	Preparing    State = "PREPARING"
	Prepared     State = "PREPARED"
	Creating     State = "CREATING"
	Created      State = "CREATED"
	CreateFailed State = "FAILED"
	Completing   State = "COMPLETING"
	Complete     State = "COMPLETE"
	Aborted      State = "ABORTED"
	Importing    State = "IMPORTING"
	Imported     State = "IMPORTED"
	ImportFailed State = "IMPORT_FAILED"
	RestoreInit  State = "R_INIT"

	RestoreGathering State = "R_GATHERING"
	RestoreMeta      State = "R_META"
)

// Method is a method of IVssBackupComponents, by its name there, or one of
// Umbra's own (CheckImport, CleanupImport).
type Method string

// Methods.
const (
	InitializeForBackup   Method = "InitializeForBackup"
	InitializeForRestore  Method = "InitializeForRestore"
	SetContext            Method = "SetContext"
	SetBackupState        Method = "SetBackupState"
	GatherWriterMetadata  Method = "GatherWriterMetadata"
	IsVolumeSupported     Method = "IsVolumeSupported"
	StartSnapshotSet      Method = "StartSnapshotSet"
	AddToSnapshotSet      Method = "AddToSnapshotSet"
	PrepareForBackup      Method = "PrepareForBackup"
	DoSnapshotSet         Method = "DoSnapshotSet"
	BackupComplete        Method = "BackupComplete"
	AbortBackup           Method = "AbortBackup"
	SaveAsXML             Method = "SaveAsXML"
	ImportSnapshots       Method = "ImportSnapshots"
	CheckImport           Method = "CheckImport"
	CleanupImport         Method = "CleanupImport"
	Query                 Method = "Query"
	GetSnapshotProperties Method = "GetSnapshotProperties"
	DeleteSnapshots       Method = "DeleteSnapshots"
	ExposeSnapshot        Method = "ExposeSnapshot"
	UnexposeSnapshot      Method = "UnexposeSnapshot"
)

// Step is what a legal call does to the state. To is entered when the call
// starts (the same state for calls that do not move it); OK and Fail are
// entered when an asynchronous operation ends, "" meaning To stays.
type Step struct {
	To, OK, Fail State

	from State // where Enter came from
}

// stay is the step of a call that moves nothing.
func stay(s State) Step { return Step{To: s} }

// administrative are the methods that need only an initialised backup object
// (requester.md 2.1, "Administrative use").
var administrative = []Method{Query, GetSnapshotProperties, DeleteSnapshots, ExposeSnapshot, UnexposeSnapshot, CleanupImport, IsVolumeSupported}

// Table is the whole order of calls: Table[state][method].
var Table = buildTable()

func buildTable() map[State]map[Method]Step {
	t := map[State]map[Method]Step{}
	add := func(s State, m Method, st Step) {
		if t[s] == nil {
			t[s] = map[Method]Step{}
		}
		t[s][m] = st
	}

	add(New, InitializeForBackup, Step{To: BackupInit}) // BackupLoaded with a document: see Machine.Initialize
	add(New, InitializeForRestore, Step{To: RestoreInit})

	for _, s := range []State{BackupInit, BackupLoaded} {
		add(s, SetContext, stay(s))
	}
	for _, s := range []State{BackupInit, BackupLoaded, Meta, SetOpen} {
		add(s, SetBackupState, stay(s)) // before PrepareForBackup
	}
	for _, s := range []State{RestoreInit, RestoreMeta} {
		add(s, SetBackupState, stay(s)) // the parameter text speaks of "backup or restore"
	}
	add(RestoreInit, GatherWriterMetadata, Step{To: RestoreGathering, OK: RestoreMeta, Fail: RestoreInit})

	add(BackupInit, GatherWriterMetadata, Step{To: Gathering, OK: Meta, Fail: BackupInit})
	add(BackupInit, StartSnapshotSet, Step{To: SetOpen})
	add(Meta, StartSnapshotSet, Step{To: SetOpen})
	add(SetOpen, AddToSnapshotSet, stay(SetOpen))
	add(SetOpen, PrepareForBackup, Step{To: Preparing, OK: Prepared, Fail: CreateFailed})
	add(SetOpen, DoSnapshotSet, Step{To: Creating, OK: Created, Fail: CreateFailed}) // writerless contexts
	add(Prepared, DoSnapshotSet, Step{To: Creating, OK: Created, Fail: CreateFailed})
	add(Created, BackupComplete, Step{To: Completing, OK: Complete, Fail: Created})
	for _, s := range []State{Created, Completing, Complete, BackupLoaded, Importing, Imported, ImportFailed} {
		add(s, SaveAsXML, stay(s))
	}
	add(Prepared, SaveAsXML, stay(Prepared))

	// AbortBackup ends a set that is open; elsewhere it is ignored.
	for _, s := range []State{SetOpen, Preparing, Prepared, Creating, Created, CreateFailed, Completing} {
		add(s, AbortBackup, Step{To: Aborted})
	}
	for _, s := range []State{BackupInit, BackupLoaded, Gathering, Meta, Complete, Aborted, Importing, Imported, ImportFailed} {
		add(s, AbortBackup, stay(s))
	}

	add(BackupLoaded, ImportSnapshots, Step{To: Importing, OK: Imported, Fail: ImportFailed})
	add(BackupLoaded, CheckImport, stay(BackupLoaded))

	for _, s := range []State{BackupInit, BackupLoaded, Gathering, Meta, SetOpen, Preparing, Prepared, Creating, Created,
		CreateFailed, Completing, Complete, Aborted, Importing, Imported, ImportFailed} {
		for _, m := range administrative {
			add(s, m, stay(s))
		}
	}
	return t
}
