package session

import "slices"

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

	RestoreInit      State = "R_INIT"
	RestoreGathering State = "R_GATHERING"
	RestoreMeta      State = "R_META"
	PreRestoring     State = "R_PREPARING"
	PreRestored      State = "R_PRE"
	PostRestoring    State = "R_COMPLETING"
	PostRestored     State = "R_POST"
)

// BackupStates and RestoreStates are all states of an object that was
// initialised for the one or the other, in their order.
var (
	BackupStates = []State{BackupInit, BackupLoaded, Gathering, Meta, SetOpen, Preparing, Prepared, Creating, Created,
		CreateFailed, Completing, Complete, Aborted, Importing, Imported, ImportFailed}
	RestoreStates = []State{RestoreInit, RestoreGathering, RestoreMeta, PreRestoring, PreRestored, PostRestoring, PostRestored}

	// busy are the states in which an operation that moves the state runs.
	busy = []State{Gathering, Preparing, Creating, Completing, Importing, RestoreGathering, PreRestoring, PostRestoring}
)

// Step is what a legal call does to the state. To is entered when the call
// starts (the same state for calls that do not move it); OK and Fail are
// entered when an asynchronous operation ends, "" meaning To stays.
type Step struct {
	To, OK, Fail State

	// Needs are those of this state, beside the method's.
	Needs []Need

	method Method
	from   State // where Enter came from
}

// stay is the step of a call that moves nothing.
func stay(s State) Step { return Step{To: s} }

// administrative are the methods that need only an initialised backup object
// (requester.md 2.1, "Administrative use").
var administrative = []Method{Query, GetSnapshotProperties, DeleteSnapshots, ExposeSnapshot, UnexposeSnapshot, BreakSnapshotSet,
	BreakSnapshotSetEx, RevertToSnapshot, QueryRevertStatus, CleanupImport, IsVolumeSupported}

// writerwise are the methods about writers that are legal in every initialised
// object (requester.md 2.3): when there is something to answer is decided by
// their needs. Selecting writers after they were asked has no effect.
var writerwise = []Method{GetWriterMetadataCount, GetWriterMetadata, GetWriterMetadataEx, FreeWriterMetadata,
	GetWriterStatusCount, GetWriterStatus, GetWriterStatusEx, FreeWriterStatus, GetWriterComponentsCount, GetWriterComponents,
	EnableWriterClasses, DisableWriterClasses, DisableWriterInstances}

// selection are the calls that say what is to be restored, before PreRestore
// (requester.md 2.6).
var selection = []Method{SetSelectedForRestore, SetSelectedForRestoreEx, AddRestoreSubcomponent, SetRestoreOptions, SetAdditionalRestores,
	AddNewTarget, SetRangesFilePath, SetAuthoritativeRestore, SetRollForward, SetRestoreName}

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
	in := func(m Method, states ...State) {
		for _, s := range states {
			add(s, m, stay(s))
		}
	}
	every := slices.Concat([]State{New}, BackupStates, RestoreStates)
	initialised := every[1:]

	add(New, InitializeForBackup, Step{To: BackupInit}) // BackupLoaded with a document: see Machine.Initialize
	add(New, InitializeForRestore, Step{To: RestoreInit})

	// Any object.
	in(GetSessionId, every...)
	in(GetRootAndLogicalPrefixPaths, every...)
	for _, m := range writerwise {
		in(m, initialised...)
	}
	for _, s := range initialised {
		if !slices.Contains(busy, s) {
			add(s, GatherWriterStatus, stay(s))
		}
	}

	// A backup.
	in(SetContext, BackupInit, BackupLoaded)
	in(SetBackupState, BackupInit, BackupLoaded, Meta, SetOpen) // before PrepareForBackup
	add(BackupInit, GatherWriterMetadata, Step{To: Gathering, OK: Meta, Fail: BackupInit})
	for _, m := range []Method{AddComponent, SetBackupOptions, SetPreviousBackupStamp} {
		in(m, Meta, SetOpen) // accepted until PrepareForBackup (requester.md 8, row 9)
	}
	add(BackupInit, StartSnapshotSet, Step{To: SetOpen})
	add(Meta, StartSnapshotSet, Step{To: SetOpen})
	in(AddToSnapshotSet, SetOpen)
	add(SetOpen, PrepareForBackup, Step{To: Preparing, OK: Prepared, Fail: CreateFailed})
	add(SetOpen, DoSnapshotSet, Step{To: Creating, OK: Created, Fail: CreateFailed, Needs: []Need{NoWriters}})
	add(Prepared, DoSnapshotSet, Step{To: Creating, OK: Created, Fail: CreateFailed})
	in(SetBackupSucceeded, Created)
	add(Created, BackupComplete, Step{To: Completing, OK: Complete, Fail: Created})
	in(SaveAsXML, Prepared, Created, Completing, Complete, BackupLoaded, Importing, Imported, ImportFailed)

	// AbortBackup ends a set that is open; elsewhere it is ignored.
	for _, s := range []State{SetOpen, Preparing, Prepared, Creating, Created, CreateFailed, Completing} {
		add(s, AbortBackup, Step{To: Aborted})
	}
	in(AbortBackup, BackupInit, BackupLoaded, Gathering, Meta, Complete, Aborted, Importing, Imported, ImportFailed)

	add(BackupLoaded, ImportSnapshots, Step{To: Importing, OK: Imported, Fail: ImportFailed})
	in(CheckImport, BackupLoaded)
	for _, m := range administrative {
		in(m, BackupStates...)
	}

	// A restore.
	in(SetBackupState, RestoreInit, RestoreMeta) // the parameter text speaks of "backup or restore"
	add(RestoreInit, GatherWriterMetadata, Step{To: RestoreGathering, OK: RestoreMeta, Fail: RestoreInit})
	in(SetRestoreState, RestoreInit, RestoreMeta)
	for _, m := range selection {
		in(m, RestoreMeta)
	}
	add(RestoreMeta, PreRestore, Step{To: PreRestoring, OK: PreRestored, Fail: RestoreMeta})
	in(SetFileRestoreStatus, PreRestored)
	in(AddAlternativeLocationMapping, PreRestored)
	add(PreRestored, PostRestore, Step{To: PostRestoring, OK: PostRestored, Fail: PreRestored})
	in(AddSnapshotToRecoverySet, RestoreInit, RestoreMeta)
	in(RecoverSet, RestoreInit, RestoreMeta)
	return t
}
