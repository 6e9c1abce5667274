package conformance

import (
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// answer is what a method answers in some states, called with world.good on an
// object that world.reach brought there. In all others it is VSS_E_BAD_STATE.
type answer struct {
	method string
	code   vss.HResult
	in     []string
	source string // of requester.md
}

func in(names string) []string { return strings.Fields(names) }

var (
	backup    = states[1:17]
	anyObject = states[1:]
	gathered  = in("META SET_OPEN PREPARING PREPARED CREATING CREATED FAILED COMPLETING COMPLETE ABORTED R_META R_PREPARING R_PRE R_COMPLETING R_POST")
	idle      = in("B_INIT B_LOADED META SET_OPEN PREPARED CREATED FAILED COMPLETE ABORTED IMPORTED IMPORT_FAILED R_INIT R_META R_PRE R_POST")
	// The loaded objects have no context set, which Query needs.
	withContext = in("B_INIT GATHERING META SET_OPEN PREPARING PREPARED CREATING CREATED FAILED COMPLETING COMPLETE ABORTED")
	// Where the component is in the document, and where it is not.
	component   = slices.Concat(gathered, in("R_INIT R_GATHERING"))
	noComponent = in("B_INIT B_LOADED GATHERING IMPORTING IMPORTED IMPORT_FAILED")
)

// order is requester.md 2.0 to 2.8, by method.
var order = []answer{
	{"InitializeForBackup", vss.S_OK, in("NEW"), "2.0 G2"},
	{"InitializeForRestore", vss.S_OK, in("NEW"), "2.0 G2"},
	{"SetContext", vss.S_OK, in("B_LOADED"), "2.3: at most once, before snapshot functions; the others have one"},
	{"SetBackupState", vss.S_OK, in("B_INIT B_LOADED META SET_OPEN R_INIT R_META"), "2.3: before PrepareForBackup, in both modes"},
	{"SetRestoreState", vss.S_OK, in("R_INIT R_META"), "2.6: before PreRestore"},

	{"EnableWriterClasses", vss.S_OK, anyObject, "2.3: later calls have no effect"},
	{"DisableWriterClasses", vss.S_OK, anyObject, "2.3"},
	{"DisableWriterInstances", vss.S_OK, anyObject, "2.3"},
	{"GatherWriterMetadata", vss.S_OK, in("B_INIT R_INIT"), "2.3: once per object"},
	{"GetWriterMetadataCount", vss.S_OK, gathered, "2.3: after the async finished"},
	{"GetWriterMetadata", vss.VSS_E_OBJECT_NOT_FOUND, gathered, "2.3: no writer with that index"},
	{"GetWriterMetadataEx", vss.VSS_E_OBJECT_NOT_FOUND, gathered, "2.3"},
	{"FreeWriterMetadata", vss.S_OK, anyObject, "2.3"},
	{"GatherWriterStatus", vss.S_OK, idle, "2.3; not while an operation runs"},
	{"GetWriterStatusCount", vss.S_OK, nil, "2.3: after GatherWriterStatus finished, see inputs"},
	{"GetWriterStatus", vss.S_OK, nil, "2.3"},
	{"GetWriterStatusEx", vss.S_OK, nil, "2.3"},
	{"FreeWriterStatus", vss.S_OK, anyObject, "2.3"},
	{"GetWriterComponentsCount", vss.S_OK, anyObject, "6.1"},
	{"GetWriterComponents", vss.S_OK, component, "6.1"},
	{"GetWriterComponents", vss.VSS_E_OBJECT_NOT_FOUND, noComponent, "6.1"},

	{"AddComponent", vss.S_OK, in("META SET_OPEN"), "2.3, 8 row 9: until PrepareForBackup"},
	{"SetBackupOptions", vss.S_OK, in("META SET_OPEN"), "2.3: before PrepareForBackup"},
	{"SetPreviousBackupStamp", vss.S_OK, in("META SET_OPEN"), "2.3: before PrepareForBackup"},
	{"SetBackupSucceeded", vss.S_OK, in("CREATED"), "2.3: after DoSnapshotSet, before BackupComplete"},
	{"IsVolumeSupported", vss.S_OK, backup, "2.3: after InitializeForBackup"},
	{"StartSnapshotSet", vss.S_OK, in("B_INIT META"), "2.3"},
	{"AddToSnapshotSet", vss.S_OK, in("SET_OPEN"), "2.3"},
	{"PrepareForBackup", vss.S_OK, in("SET_OPEN"), "2.3"},
	{"DoSnapshotSet", vss.S_OK, in("PREPARED"), "2.3: with writers"},
	{"BackupComplete", vss.S_OK, in("CREATED"), "2.3"},
	{"AbortBackup", vss.S_OK, backup, "2.8: ignored where nothing is under way; not during a restore"},
	{"SaveAsXML", vss.S_OK, in("PREPARED CREATED COMPLETING COMPLETE B_LOADED IMPORTING IMPORTED IMPORT_FAILED"), "2.3, 6.4: never before PrepareForBackup"},

	{"ImportSnapshots", vss.S_OK, in("B_LOADED"), "3.2"},
	{"CheckImport", vss.S_OK, in("B_LOADED"), "Umbra's own"},
	{"CleanupImport", vss.VSS_E_OBJECT_NOT_FOUND, without(backup, "IMPORTING"), "Umbra's own; one import or clean-up at a time"},

	{"Query", vss.S_OK, withContext, "2.4: InitializeForBackup and SetContext first"},
	{"GetSnapshotProperties", vss.VSS_E_OBJECT_NOT_FOUND, backup, "2.4"},
	{"DeleteSnapshots", vss.VSS_E_OBJECT_NOT_FOUND, backup, "2.5"},
	{"ExposeSnapshot", vss.VSS_E_OBJECT_NOT_FOUND, backup, "2.5"},
	{"UnexposeSnapshot", vss.VSS_E_OBJECT_NOT_FOUND, backup, "2.5"},
	{"BreakSnapshotSet", vss.E_NOTIMPL, backup, "not built yet"},
	{"BreakSnapshotSetEx", vss.E_NOTIMPL, backup, "not built yet"},
	{"RevertToSnapshot", vss.E_NOTIMPL, backup, "not built yet"},
	{"QueryRevertStatus", vss.VSS_E_OBJECT_NOT_FOUND, backup, "2.5: no revert is under way"},

	{"SetSelectedForRestore", vss.S_OK, in("R_META"), "2.6: before PreRestore"},
	{"SetSelectedForRestoreEx", vss.S_OK, in("R_META"), "2.6"},
	{"AddRestoreSubcomponent", vss.S_OK, in("R_META"), "2.6"},
	{"SetRestoreOptions", vss.S_OK, in("R_META"), "2.6"},
	{"SetAdditionalRestores", vss.S_OK, in("R_META"), "2.6"},
	{"AddNewTarget", vss.S_OK, in("R_META"), "2.6"},
	{"SetRangesFilePath", vss.S_OK, in("R_META"), "2.6"},
	{"SetAuthoritativeRestore", vss.S_OK, in("R_META"), "2.6"},
	{"SetRollForward", vss.S_OK, in("R_META"), "2.6"},
	{"SetRestoreName", vss.S_OK, in("R_META"), "2.6"},
	{"PreRestore", vss.S_OK, in("R_META"), "2.6"},
	{"SetFileRestoreStatus", vss.S_OK, in("R_PRE"), "2.6: between Pre- and PostRestore"},
	{"AddAlternativeLocationMapping", vss.S_OK, in("R_PRE"), "2.6"},
	{"PostRestore", vss.S_OK, in("R_PRE"), "2.6"},
	{"AddSnapshotToRecoverySet", vss.E_NOTIMPL, in("R_INIT R_META"), "not built yet"},
	{"RecoverSet", vss.E_NOTIMPL, in("R_INIT R_META"), "not built yet"},

	{"GetSessionId", vss.S_OK, states, "2.3: any"},
	{"GetRootAndLogicalPrefixPaths", vss.S_OK, states, "2.3"},
	{"PreFastRecovery", vss.E_NOTIMPL, states, "reserved"},
	{"FastRecovery", vss.E_NOTIMPL, states, "reserved"},
}

func without(all []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one })
}

// expected is what a method answers in a state, and why.
func expected(method, state string) (vss.HResult, string) {
	source := "2.0 G3"
	for _, a := range order {
		if a.method == method && slices.Contains(a.in, state) {
			return a.code, a.source
		}
		if a.method == method {
			source = a.source
		}
	}
	return vss.VSS_E_BAD_STATE, source
}

// changes are methods that leave an object another than it was, where they are
// legal: each needs one of its own.
var changes = in(`InitializeForBackup InitializeForRestore SetContext GatherWriterMetadata FreeWriterMetadata GatherWriterStatus FreeWriterStatus
	AddComponent StartSnapshotSet AddToSnapshotSet PrepareForBackup DoSnapshotSet BackupComplete AbortBackup ImportSnapshots
	AddNewTarget AddAlternativeLocationMapping PreRestore PostRestore`)
