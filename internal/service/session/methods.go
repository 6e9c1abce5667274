package session

// Method is a method of IVssBackupComponents or its extensions, by its name
// there, or one of Umbra's own.
type Method string

// Interface is where a method was introduced.
type Interface string

// Interfaces. Each extends the one before.
const (
	Base     Interface = "IVssBackupComponents"
	Ex       Interface = "IVssBackupComponentsEx"
	Ex2      Interface = "IVssBackupComponentsEx2"
	Ex3      Interface = "IVssBackupComponentsEx3"
	Ex4      Interface = "IVssBackupComponentsEx4"
	OwnCalls Interface = "Umbra"
)

// Readiness is whether a method does its work.
type Readiness string

// Readiness of methods.
const (
	Works    Readiness = "works"
	Pending  Readiness = "not built yet" // E_NOTIMPL where the call is legal
	Reserved Readiness = "reserved"      // E_NOTIMPL always: Microsoft reserves it
)

// Description says what kind of method one is.
type Description struct {
	Method    Method
	Interface Interface
	Async     bool // answers an IVssAsync
	Readiness Readiness
	// Needs are what must have been called before, beside the state. The first
	// that is missing is the reason of VSS_E_BAD_STATE.
	Needs []Need
}

// Methods.
const (
	InitializeForBackup           Method = "InitializeForBackup"
	InitializeForRestore          Method = "InitializeForRestore"
	SetContext                    Method = "SetContext"
	SetBackupState                Method = "SetBackupState"
	SetRestoreState               Method = "SetRestoreState"
	EnableWriterClasses           Method = "EnableWriterClasses"
	DisableWriterClasses          Method = "DisableWriterClasses"
	DisableWriterInstances        Method = "DisableWriterInstances"
	GatherWriterMetadata          Method = "GatherWriterMetadata"
	GetWriterMetadataCount        Method = "GetWriterMetadataCount"
	GetWriterMetadata             Method = "GetWriterMetadata"
	GetWriterMetadataEx           Method = "GetWriterMetadataEx"
	FreeWriterMetadata            Method = "FreeWriterMetadata"
	GatherWriterStatus            Method = "GatherWriterStatus"
	GetWriterStatusCount          Method = "GetWriterStatusCount"
	GetWriterStatus               Method = "GetWriterStatus"
	GetWriterStatusEx             Method = "GetWriterStatusEx"
	FreeWriterStatus              Method = "FreeWriterStatus"
	GetWriterComponentsCount      Method = "GetWriterComponentsCount"
	GetWriterComponents           Method = "GetWriterComponents"
	AddComponent                  Method = "AddComponent"
	SetBackupOptions              Method = "SetBackupOptions"
	SetPreviousBackupStamp        Method = "SetPreviousBackupStamp"
	SetBackupSucceeded            Method = "SetBackupSucceeded"
	IsVolumeSupported             Method = "IsVolumeSupported"
	StartSnapshotSet              Method = "StartSnapshotSet"
	AddToSnapshotSet              Method = "AddToSnapshotSet"
	PrepareForBackup              Method = "PrepareForBackup"
	DoSnapshotSet                 Method = "DoSnapshotSet"
	BackupComplete                Method = "BackupComplete"
	AbortBackup                   Method = "AbortBackup"
	SaveAsXML                     Method = "SaveAsXML"
	ImportSnapshots               Method = "ImportSnapshots"
	Query                         Method = "Query"
	GetSnapshotProperties         Method = "GetSnapshotProperties"
	DeleteSnapshots               Method = "DeleteSnapshots"
	ExposeSnapshot                Method = "ExposeSnapshot"
	UnexposeSnapshot              Method = "UnexposeSnapshot"
	BreakSnapshotSet              Method = "BreakSnapshotSet"
	BreakSnapshotSetEx            Method = "BreakSnapshotSetEx"
	RevertToSnapshot              Method = "RevertToSnapshot"
	QueryRevertStatus             Method = "QueryRevertStatus"
	SetSelectedForRestore         Method = "SetSelectedForRestore"
	SetSelectedForRestoreEx       Method = "SetSelectedForRestoreEx"
	AddRestoreSubcomponent        Method = "AddRestoreSubcomponent"
	SetRestoreOptions             Method = "SetRestoreOptions"
	SetAdditionalRestores         Method = "SetAdditionalRestores"
	AddNewTarget                  Method = "AddNewTarget"
	SetRangesFilePath             Method = "SetRangesFilePath"
	SetAuthoritativeRestore       Method = "SetAuthoritativeRestore"
	SetRollForward                Method = "SetRollForward"
	SetRestoreName                Method = "SetRestoreName"
	PreRestore                    Method = "PreRestore"
	PostRestore                   Method = "PostRestore"
	SetFileRestoreStatus          Method = "SetFileRestoreStatus"
	AddAlternativeLocationMapping Method = "AddAlternativeLocationMapping"
	PreFastRecovery               Method = "PreFastRecovery"
	FastRecovery                  Method = "FastRecovery"
	AddSnapshotToRecoverySet      Method = "AddSnapshotToRecoverySet"
	RecoverSet                    Method = "RecoverSet"
	GetSessionId                  Method = "GetSessionId"
	GetRootAndLogicalPrefixPaths  Method = "GetRootAndLogicalPrefixPaths"
	CheckImport                   Method = "CheckImport"
	CleanupImport                 Method = "CleanupImport"
)

// Methods is every method, in the order of the interface.
var Methods = []Description{
	{GetWriterComponentsCount, Base, false, Works, nil},
	{GetWriterComponents, Base, false, Works, nil},
	{InitializeForBackup, Base, false, Works, nil},
	{SetBackupState, Base, false, Works, nil},
	{InitializeForRestore, Base, false, Works, nil},
	{SetRestoreState, Base, false, Works, nil},
	{GatherWriterMetadata, Base, true, Works, nil},
	{GetWriterMetadataCount, Base, false, Works, []Need{Metadata}},
	{GetWriterMetadata, Base, false, Works, []Need{Metadata}},
	{FreeWriterMetadata, Base, false, Works, nil},
	{AddComponent, Base, false, Works, []Need{Writers, ComponentMode, Gathered}},
	{PrepareForBackup, Base, true, Works, []Need{Writers, BackupStateSet, Gathered}},
	{AbortBackup, Base, false, Works, nil},
	{GatherWriterStatus, Base, true, Works, nil},
	{GetWriterStatusCount, Base, false, Works, []Need{Status}},
	{FreeWriterStatus, Base, false, Works, nil},
	{GetWriterStatus, Base, false, Works, []Need{Status}},
	{SetBackupSucceeded, Base, false, Works, []Need{Writers, ComponentMode}},
	{SetBackupOptions, Base, false, Works, []Need{Writers, ComponentMode}},
	{SetSelectedForRestore, Base, false, Works, nil},
	{SetRestoreOptions, Base, false, Works, nil},
	{SetAdditionalRestores, Base, false, Works, nil},
	{SetPreviousBackupStamp, Base, false, Works, []Need{Writers, ComponentMode}},
	{SaveAsXML, Base, false, Works, nil},
	{BackupComplete, Base, true, Works, []Need{Writers}},
	{AddAlternativeLocationMapping, Base, false, Works, nil},
	{AddRestoreSubcomponent, Base, false, Works, nil},
	{SetFileRestoreStatus, Base, false, Works, nil},
	{AddNewTarget, Base, false, Works, nil},
	{SetRangesFilePath, Base, false, Works, nil},
	{PreRestore, Base, true, Works, nil},
	{PostRestore, Base, true, Works, nil},
	{SetContext, Base, false, Works, []Need{NoContext}},
	{StartSnapshotSet, Base, false, Works, []Need{NotForAdministration}},
	{AddToSnapshotSet, Base, false, Works, nil},
	{DoSnapshotSet, Base, true, Works, nil},
	{DeleteSnapshots, Base, false, Works, nil},
	{ImportSnapshots, Base, true, Works, nil},
	{BreakSnapshotSet, Base, false, Pending, nil},
	{GetSnapshotProperties, Base, false, Works, nil},
	{Query, Base, false, Works, []Need{ContextSet}},
	{IsVolumeSupported, Base, false, Works, nil},
	{DisableWriterClasses, Base, false, Works, nil},
	{EnableWriterClasses, Base, false, Works, nil},
	{DisableWriterInstances, Base, false, Works, nil},
	{ExposeSnapshot, Base, false, Works, nil},
	{RevertToSnapshot, Base, false, Pending, nil},
	{QueryRevertStatus, Base, true, Works, nil},

	{GetWriterMetadataEx, Ex, false, Works, []Need{Metadata}},
	{SetSelectedForRestoreEx, Ex, false, Works, nil},

	{UnexposeSnapshot, Ex2, false, Works, nil},
	{SetAuthoritativeRestore, Ex2, false, Works, nil},
	{SetRollForward, Ex2, false, Works, nil},
	{SetRestoreName, Ex2, false, Works, nil},
	{BreakSnapshotSetEx, Ex2, true, Pending, nil},
	{PreFastRecovery, Ex2, true, Reserved, nil},
	{FastRecovery, Ex2, true, Reserved, nil},

	{AddSnapshotToRecoverySet, Ex3, false, Pending, nil},
	{RecoverSet, Ex3, true, Pending, nil},
	{GetSessionId, Ex3, false, Works, nil},
	{GetWriterStatusEx, Ex3, false, Works, []Need{Status}},

	{GetRootAndLogicalPrefixPaths, Ex4, false, Works, nil},

	{CheckImport, OwnCalls, false, Works, nil},
	{CleanupImport, OwnCalls, false, Works, nil},
}

// Describe returns a method's description; ok is false for a name that is none.
func Describe(m Method) (d Description, ok bool) {
	d, ok = byName[m]
	return d, ok
}

var byName = func() map[Method]Description {
	out := make(map[Method]Description, len(Methods))
	for _, d := range Methods {
		out[d.Method] = d
	}
	return out
}()
