package vssapi

import "github.com/umbra-vss/umbra/vss"

// IVssBackupComponents is what a requester drives, in the order of its page.
type IVssBackupComponents interface {
	IUnknown
	GetWriterComponentsCount(pcComponents *uint32) vss.HResult
	GetWriterComponents(iWriter uint32, ppWriter *IVssWriterComponents) vss.HResult
	InitializeForBackup(bstrXML string) vss.HResult
	SetBackupState(bSelectComponents, bBackupBootableSystemState bool, backupType vss.BackupType, bPartialFileSupport bool) vss.HResult
	InitializeForRestore(bstrXML string) vss.HResult
	SetRestoreState(restoreType vss.RestoreType) vss.HResult
	GatherWriterMetadata(ppAsync *IVssAsync) vss.HResult
	GetWriterMetadataCount(pcWriters *uint32) vss.HResult
	GetWriterMetadata(iWriter uint32, pidInstance *vss.ID, ppMetadata *IVssExamineWriterMetadata) vss.HResult
	FreeWriterMetadata() vss.HResult
	AddComponent(instanceId, writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string) vss.HResult
	PrepareForBackup(ppAsync *IVssAsync) vss.HResult
	AbortBackup() vss.HResult
	GatherWriterStatus(ppAsync *IVssAsync) vss.HResult
	GetWriterStatusCount(pcWriters *uint32) vss.HResult
	FreeWriterStatus() vss.HResult
	GetWriterStatus(iWriter uint32, pidInstance, pidWriter *vss.ID, pbstrWriter *string, pnStatus *vss.WriterState, phResultFailure *vss.HResult) vss.HResult
	SetBackupSucceeded(instanceId, writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bSucceded bool) vss.HResult
	SetBackupOptions(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszBackupOptions string) vss.HResult
	SetSelectedForRestore(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bSelectedForRestore bool) vss.HResult
	SetRestoreOptions(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszRestoreOptions string) vss.HResult
	SetAdditionalRestores(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bAdditionalRestores bool) vss.HResult
	SetPreviousBackupStamp(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszPreviousBackupStamp string) vss.HResult
	SaveAsXML(pbstrXML *string) vss.HResult
	BackupComplete(ppAsync *IVssAsync) vss.HResult
	AddAlternativeLocationMapping(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszPath, wszFilespec string, bRecursive bool, wszDestination string) vss.HResult
	AddRestoreSubcomponent(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszSubComponentLogicalPath, wszSubComponentName string, bRepair bool) vss.HResult
	SetFileRestoreStatus(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, status vss.FileRestoreStatus) vss.HResult
	AddNewTarget(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszPath, wszFileName string, bRecursive bool, wszAlternatePath string) vss.HResult
	SetRangesFilePath(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, iPartialFile uint32, wszRangesFile string) vss.HResult
	PreRestore(ppAsync *IVssAsync) vss.HResult
	PostRestore(ppAsync *IVssAsync) vss.HResult
	SetContext(lContext vss.Context) vss.HResult
	StartSnapshotSet(pSnapshotSetId *vss.ID) vss.HResult
	AddToSnapshotSet(pwszVolumeName string, providerId vss.ID, pidSnapshot *vss.ID) vss.HResult
	DoSnapshotSet(ppAsync *IVssAsync) vss.HResult
	DeleteSnapshots(sourceObjectId vss.ID, eSourceObjectType vss.ObjectType, bForceDelete bool, plDeletedSnapshots *int32, pNondeletedSnapshotID *vss.ID) vss.HResult
	ImportSnapshots(ppAsync *IVssAsync) vss.HResult
	BreakSnapshotSet(snapshotSetId vss.ID) vss.HResult
	GetSnapshotProperties(snapshotId vss.ID, pProp *vss.SnapshotProp) vss.HResult
	Query(queriedObjectId vss.ID, eQueriedObjectType, eReturnedObjectsType vss.ObjectType, ppEnum *IVssEnumObject) vss.HResult
	IsVolumeSupported(providerId vss.ID, pwszVolumeName string, pbSupportedByThisProvider *bool) vss.HResult
	DisableWriterClasses(rgWriterClassId []vss.ID) vss.HResult
	EnableWriterClasses(rgWriterClassId []vss.ID) vss.HResult
	DisableWriterInstances(rgWriterInstanceId []vss.ID) vss.HResult
	ExposeSnapshot(snapshotId vss.ID, wszPathFromRoot string, lAttributes vss.Attributes, wszExpose string, pwszExposed *string) vss.HResult
	RevertToSnapshot(snapshotId vss.ID, bForceDismount bool) vss.HResult
	QueryRevertStatus(pwszVolume string, ppAsync *IVssAsync) vss.HResult
}

// IVssBackupComponentsEx adds instances of writers with names.
type IVssBackupComponentsEx interface {
	IVssBackupComponents
	GetWriterMetadataEx(iWriter uint32, pidInstance *vss.ID, ppMetadata *IVssExamineWriterMetadata) vss.HResult
	SetSelectedForRestoreEx(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bSelectedForRestore bool, instanceId vss.ID) vss.HResult
}

// IVssBackupComponentsEx2 adds unexposing, breaking with options, and kinds of
// restore.
type IVssBackupComponentsEx2 interface {
	IVssBackupComponentsEx
	UnexposeSnapshot(snapshotId vss.ID) vss.HResult
	SetAuthoritativeRestore(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bAuth bool) vss.HResult
	SetRollForward(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, rollType vss.RollForwardType, wszRollForwardPoint string) vss.HResult
	SetRestoreName(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszRestoreName string) vss.HResult
	BreakSnapshotSetEx(snapshotSetId vss.ID, dwBreakFlags vss.HardwareOptions, ppAsync *IVssAsync) vss.HResult
	PreFastRecovery(snapshotSetId vss.ID, dwPreFastRecoveryFlags uint32, ppAsync *IVssAsync) vss.HResult
	FastRecovery(snapshotSetId vss.ID, dwFastRecoveryFlags uint32, ppAsync *IVssAsync) vss.HResult
}

// IVssBackupComponentsEx3 adds LUN resynchronisation and what writers say.
type IVssBackupComponentsEx3 interface {
	IVssBackupComponentsEx2
	GetWriterStatusEx(iWriter uint32, pidInstance, pidWriter *vss.ID, pbstrWriter *string, pnStatus *vss.WriterState,
		phrFailureWriter, phrApplication *vss.HResult, pbstrApplicationMessage *string) vss.HResult
	AddSnapshotToRecoverySet(snapshotId vss.ID, dwFlags uint32, pwszDestinationVolume string) vss.HResult
	RecoverSet(dwFlags vss.RecoveryOptions, ppAsync *IVssAsync) vss.HResult
	GetSessionId(idSession *vss.ID) vss.HResult
}

// IVssBackupComponentsEx4 adds the normalisation of paths.
type IVssBackupComponentsEx4 interface {
	IVssBackupComponentsEx3
	GetRootAndLogicalPrefixPaths(pwszFilePath string, ppwszRootPath, ppwszLogicalPrefix *string, bNormalizeFQDNforRootPath bool) vss.HResult
}

// IVssWriterComponents is one writer's components in the document.
type IVssWriterComponents interface {
	IUnknown
	GetComponentCount(pcComponents *uint32) vss.HResult
	GetWriterInfo(pidInstance, pidWriter *vss.ID) vss.HResult
	GetComponent(iComponent uint32, ppComponent *IVssComponent) vss.HResult
}

// IVssComponent is a component in the document, as a requester reads it.
type IVssComponent interface {
	IUnknown
	GetLogicalPath(pbstrPath *string) vss.HResult
	GetComponentType(pct *vss.ComponentType) vss.HResult
	GetComponentName(pbstrName *string) vss.HResult
	GetBackupSucceeded(pbSucceeded *bool) vss.HResult
	GetBackupStamp(pbstrBackupStamp *string) vss.HResult
	GetBackupMetadata(pbstrData *string) vss.HResult
	GetRestoreMetadata(pbstrRestoreMetadata *string) vss.HResult
	IsSelectedForRestore(pbSelectedForRestore *bool) vss.HResult
	GetFileRestoreStatus(pStatus *vss.FileRestoreStatus) vss.HResult
}

// IVssExamineWriterMetadata reads a Writer Metadata Document.
type IVssExamineWriterMetadata interface {
	IUnknown
	GetIdentity(pidInstance, pidWriter *vss.ID, pbstrWriterName *string, pUsage *vss.UsageType, pSource *vss.SourceType) vss.HResult
	GetIdentityEx(pidInstance, pidWriter *vss.ID, pbstrWriterName, pbstrInstanceName *string, pUsage *vss.UsageType, pSource *vss.SourceType) vss.HResult
	GetVersion(pdwMajorVersion, pdwMinorVersion *uint32) vss.HResult
	GetFileCounts(pcIncludeFiles, pcExcludeFiles, pcComponents *uint32) vss.HResult
	GetIncludeFile(iFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult
	GetExcludeFile(iFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult
	GetExcludeFromSnapshotCount(pcExcludedFromSnapshot *uint32) vss.HResult
	GetExcludeFromSnapshotFile(iFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult
	GetComponent(iComponent uint32, ppComponent *IVssWMComponent) vss.HResult
	GetRestoreMethod(pMethod *vss.RestoreMethod, pbstrService, pbstrUserProcedure *string, pwriterRestore *vss.WriterRestore, pbRebootRequired *bool, pcMappings *uint32) vss.HResult
	GetAlternateLocationMapping(iMapping uint32, ppFiledesc *IVssWMFiledesc) vss.HResult
	GetBackupSchema(pdwSchemaMask *vss.BackupSchema) vss.HResult
	SaveAsXML(pbstrXML *string) vss.HResult
	LoadFromXML(bstrXML string) vss.HResult
}

// IVssWMFiledesc is a file set.
type IVssWMFiledesc interface {
	IUnknown
	GetPath(pbstrPath *string) vss.HResult
	GetFilespec(pbstrFilespec *string) vss.HResult
	GetRecursive(pbRecursive *bool) vss.HResult
	GetAlternateLocation(pbstrAlternateLocation *string) vss.HResult
	GetBackupTypeMask(pdwTypeMask *vss.FileSpecBackupType) vss.HResult
}

// VSS_COMPONENTINFO is what a writer says of a component.
type VSS_COMPONENTINFO struct {
	Type                                             vss.ComponentType
	BstrLogicalPath, BstrComponentName, BstrCaption  string
	PbIcon                                           []byte
	BRestoreMetadata, BNotifyOnBackupComplete        bool
	BSelectable, BSelectableForRestore               bool
	DwComponentFlags                                 vss.ComponentFlags
	CFileCount, CDatabases, CLogFiles, CDependencies uint32
}

// IVssWMComponent is a component as its writer describes it.
type IVssWMComponent interface {
	IUnknown
	GetComponentInfo(pInfo *VSS_COMPONENTINFO) vss.HResult
	GetFile(iFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult
	GetDatabaseFile(iDBFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult
	GetDatabaseLogFile(iDbLogFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult
	GetDependency(iDependency uint32, pWriterId *vss.ID, pbstrLogicalPath, pbstrComponentName *string) vss.HResult
}
