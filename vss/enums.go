package vss

import "fmt"

// Enumerations of the model (requester.md 5.4 to 5.6), in the order of the
// digest. Numbers are those of the public headers; prefixes are kept without
// their leading VSS_ where that stays unambiguous.

func enumName[T ~int32 | ~uint32](names map[T]string, v T) string {
	if n, ok := names[v]; ok {
		return n
	}
	return fmt.Sprint(int64(v))
}

// SnapshotState is VSS_SNAPSHOT_STATE. A requester only ever sees SS_CREATED.
type SnapshotState int32

// Values of SnapshotState.
const (
	SS_UNKNOWN                    SnapshotState = 0
	SS_PREPARING                  SnapshotState = 1
	SS_PROCESSING_PREPARE         SnapshotState = 2
	SS_PREPARED                   SnapshotState = 3
	SS_PROCESSING_PRECOMMIT       SnapshotState = 4
	SS_PRECOMMITTED               SnapshotState = 5
	SS_PROCESSING_COMMIT          SnapshotState = 6
	SS_COMMITTED                  SnapshotState = 7
	SS_PROCESSING_POSTCOMMIT      SnapshotState = 8
	SS_PROCESSING_PREFINALCOMMIT  SnapshotState = 9
	SS_PREFINALCOMMITTED          SnapshotState = 10
	SS_PROCESSING_POSTFINALCOMMIT SnapshotState = 11
	SS_CREATED                    SnapshotState = 12
	SS_ABORTED                    SnapshotState = 13
	SS_DELETED                    SnapshotState = 14
	SS_POSTCOMMITTED              SnapshotState = 15
	SS_COUNT                      SnapshotState = 16
)

var snapshotStateNames = map[SnapshotState]string{
	SS_UNKNOWN:                    "SS_UNKNOWN",
	SS_PREPARING:                  "SS_PREPARING",
	SS_PROCESSING_PREPARE:         "SS_PROCESSING_PREPARE",
	SS_PREPARED:                   "SS_PREPARED",
	SS_PROCESSING_PRECOMMIT:       "SS_PROCESSING_PRECOMMIT",
	SS_PRECOMMITTED:               "SS_PRECOMMITTED",
	SS_PROCESSING_COMMIT:          "SS_PROCESSING_COMMIT",
	SS_COMMITTED:                  "SS_COMMITTED",
	SS_PROCESSING_POSTCOMMIT:      "SS_PROCESSING_POSTCOMMIT",
	SS_PROCESSING_PREFINALCOMMIT:  "SS_PROCESSING_PREFINALCOMMIT",
	SS_PREFINALCOMMITTED:          "SS_PREFINALCOMMITTED",
	SS_PROCESSING_POSTFINALCOMMIT: "SS_PROCESSING_POSTFINALCOMMIT",
	SS_CREATED:                    "SS_CREATED",
	SS_ABORTED:                    "SS_ABORTED",
	SS_DELETED:                    "SS_DELETED",
	SS_POSTCOMMITTED:              "SS_POSTCOMMITTED",
	SS_COUNT:                      "SS_COUNT",
}

// String is the value's name, or its number.
func (v SnapshotState) String() string { return enumName(snapshotStateNames, v) }

// ObjectType is VSS_OBJECT_TYPE.
type ObjectType int32

// Values of ObjectType.
const (
	OBJECT_UNKNOWN      ObjectType = 0
	OBJECT_NONE         ObjectType = 1
	OBJECT_SNAPSHOT_SET ObjectType = 2
	OBJECT_SNAPSHOT     ObjectType = 3
	OBJECT_PROVIDER     ObjectType = 4
	OBJECT_TYPE_COUNT   ObjectType = 5
)

var objectTypeNames = map[ObjectType]string{
	OBJECT_UNKNOWN:      "OBJECT_UNKNOWN",
	OBJECT_NONE:         "OBJECT_NONE",
	OBJECT_SNAPSHOT_SET: "OBJECT_SNAPSHOT_SET",
	OBJECT_SNAPSHOT:     "OBJECT_SNAPSHOT",
	OBJECT_PROVIDER:     "OBJECT_PROVIDER",
	OBJECT_TYPE_COUNT:   "OBJECT_TYPE_COUNT",
}

// String is the value's name, or its number.
func (v ObjectType) String() string { return enumName(objectTypeNames, v) }

// ProviderType is VSS_PROVIDER_TYPE.
type ProviderType int32

// Values of ProviderType.
const (
	PROV_UNKNOWN   ProviderType = 0
	PROV_SYSTEM    ProviderType = 1
	PROV_SOFTWARE  ProviderType = 2
	PROV_HARDWARE  ProviderType = 3
	PROV_FILESHARE ProviderType = 4
)

var providerTypeNames = map[ProviderType]string{
	PROV_UNKNOWN:   "PROV_UNKNOWN",
	PROV_SYSTEM:    "PROV_SYSTEM",
	PROV_SOFTWARE:  "PROV_SOFTWARE",
	PROV_HARDWARE:  "PROV_HARDWARE",
	PROV_FILESHARE: "PROV_FILESHARE",
}

// String is the value's name, or its number.
func (v ProviderType) String() string { return enumName(providerTypeNames, v) }

// BackupType is VSS_BACKUP_TYPE.
type BackupType int32

// Values of BackupType.
const (
	BT_UNDEFINED    BackupType = 0
	BT_FULL         BackupType = 1
	BT_INCREMENTAL  BackupType = 2
	BT_DIFFERENTIAL BackupType = 3
	BT_LOG          BackupType = 4
	BT_COPY         BackupType = 5
	BT_OTHER        BackupType = 6
)

var backupTypeNames = map[BackupType]string{
	BT_UNDEFINED:    "BT_UNDEFINED",
	BT_FULL:         "BT_FULL",
	BT_INCREMENTAL:  "BT_INCREMENTAL",
	BT_DIFFERENTIAL: "BT_DIFFERENTIAL",
	BT_LOG:          "BT_LOG",
	BT_COPY:         "BT_COPY",
	BT_OTHER:        "BT_OTHER",
}

// String is the value's name, or its number.
func (v BackupType) String() string { return enumName(backupTypeNames, v) }

// RestoreType is VSS_RESTORE_TYPE.
type RestoreType int32

// Values of RestoreType.
const (
	RTYPE_UNDEFINED RestoreType = 0
	RTYPE_BY_COPY   RestoreType = 1
	RTYPE_IMPORT    RestoreType = 2
	RTYPE_OTHER     RestoreType = 3
)

var restoreTypeNames = map[RestoreType]string{
	RTYPE_UNDEFINED: "RTYPE_UNDEFINED",
	RTYPE_BY_COPY:   "RTYPE_BY_COPY",
	RTYPE_IMPORT:    "RTYPE_IMPORT",
	RTYPE_OTHER:     "RTYPE_OTHER",
}

// String is the value's name, or its number.
func (v RestoreType) String() string { return enumName(restoreTypeNames, v) }

// FileRestoreStatus is VSS_FILE_RESTORE_STATUS.
type FileRestoreStatus int32

// Values of FileRestoreStatus.
const (
	RS_UNDEFINED FileRestoreStatus = 0
	RS_NONE      FileRestoreStatus = 1
	RS_ALL       FileRestoreStatus = 2
	RS_FAILED    FileRestoreStatus = 3
)

var fileRestoreStatusNames = map[FileRestoreStatus]string{
	RS_UNDEFINED: "RS_UNDEFINED",
	RS_NONE:      "RS_NONE",
	RS_ALL:       "RS_ALL",
	RS_FAILED:    "RS_FAILED",
}

// String is the value's name, or its number.
func (v FileRestoreStatus) String() string { return enumName(fileRestoreStatusNames, v) }

// ComponentType is VSS_COMPONENT_TYPE.
type ComponentType int32

// Values of ComponentType.
const (
	CT_UNDEFINED ComponentType = 0
	CT_DATABASE  ComponentType = 1
	CT_FILEGROUP ComponentType = 2
)

var componentTypeNames = map[ComponentType]string{
	CT_UNDEFINED: "CT_UNDEFINED",
	CT_DATABASE:  "CT_DATABASE",
	CT_FILEGROUP: "CT_FILEGROUP",
}

// String is the value's name, or its number.
func (v ComponentType) String() string { return enumName(componentTypeNames, v) }

// HardwareOptions is VSS_HARDWARE_OPTIONS: flags of BreakSnapshotSetEx and of OnLunStateChange.
type HardwareOptions uint32

// Values of HardwareOptions.
const (
	BREAKEX_FLAG_MASK_LUNS                    HardwareOptions = 0x001
	BREAKEX_FLAG_MAKE_READ_WRITE              HardwareOptions = 0x002
	BREAKEX_FLAG_REVERT_IDENTITY_ALL          HardwareOptions = 0x004
	BREAKEX_FLAG_REVERT_IDENTITY_NONE         HardwareOptions = 0x008
	ONLUNSTATECHANGE_NOTIFY_READ_WRITE        HardwareOptions = 0x100
	ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY  HardwareOptions = 0x200
	ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY HardwareOptions = 0x400
	ONLUNSTATECHANGE_DO_MASK_LUNS             HardwareOptions = 0x800
)

var hardwareOptionsNames = map[HardwareOptions]string{
	BREAKEX_FLAG_MASK_LUNS:                    "BREAKEX_FLAG_MASK_LUNS",
	BREAKEX_FLAG_MAKE_READ_WRITE:              "BREAKEX_FLAG_MAKE_READ_WRITE",
	BREAKEX_FLAG_REVERT_IDENTITY_ALL:          "BREAKEX_FLAG_REVERT_IDENTITY_ALL",
	BREAKEX_FLAG_REVERT_IDENTITY_NONE:         "BREAKEX_FLAG_REVERT_IDENTITY_NONE",
	ONLUNSTATECHANGE_NOTIFY_READ_WRITE:        "ONLUNSTATECHANGE_NOTIFY_READ_WRITE",
	ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY:  "ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY",
	ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY: "ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY",
	ONLUNSTATECHANGE_DO_MASK_LUNS:             "ONLUNSTATECHANGE_DO_MASK_LUNS",
}

// String is the value's name, or its number.
func (v HardwareOptions) String() string { return enumName(hardwareOptionsNames, v) }

// RecoveryOptions is VSS_RECOVERY_OPTIONS.
type RecoveryOptions uint32

// Values of RecoveryOptions.
const (
	RECOVERY_REVERT_IDENTITY_ALL RecoveryOptions = 0x100
	RECOVERY_NO_VOLUME_CHECK     RecoveryOptions = 0x200
)

var recoveryOptionsNames = map[RecoveryOptions]string{
	RECOVERY_REVERT_IDENTITY_ALL: "RECOVERY_REVERT_IDENTITY_ALL",
	RECOVERY_NO_VOLUME_CHECK:     "RECOVERY_NO_VOLUME_CHECK",
}

// String is the value's name, or its number.
func (v RecoveryOptions) String() string { return enumName(recoveryOptionsNames, v) }

// SnapshotCompatibility is VSS_SNAPSHOT_COMPATIBILITY.
type SnapshotCompatibility uint32

// Values of SnapshotCompatibility.
const (
	SC_DISABLE_DEFRAG       SnapshotCompatibility = 0x1
	SC_DISABLE_CONTENTINDEX SnapshotCompatibility = 0x2
)

var snapshotCompatibilityNames = map[SnapshotCompatibility]string{
	SC_DISABLE_DEFRAG:       "SC_DISABLE_DEFRAG",
	SC_DISABLE_CONTENTINDEX: "SC_DISABLE_CONTENTINDEX",
}

// String is the value's name, or its number.
func (v SnapshotCompatibility) String() string { return enumName(snapshotCompatibilityNames, v) }

// RollForwardType is VSS_ROLLFORWARD_TYPE.
type RollForwardType int32

// Values of RollForwardType.
const (
	RF_UNDEFINED RollForwardType = 0
	RF_NONE      RollForwardType = 1
	RF_ALL       RollForwardType = 2
	RF_PARTIAL   RollForwardType = 3
)

var rollForwardTypeNames = map[RollForwardType]string{
	RF_UNDEFINED: "RF_UNDEFINED",
	RF_NONE:      "RF_NONE",
	RF_ALL:       "RF_ALL",
	RF_PARTIAL:   "RF_PARTIAL",
}

// String is the value's name, or its number.
func (v RollForwardType) String() string { return enumName(rollForwardTypeNames, v) }

// RestoreTarget is VSS_RESTORE_TARGET.
type RestoreTarget int32

// Values of RestoreTarget.
const (
	RT_UNDEFINED         RestoreTarget = 0
	RT_ORIGINAL          RestoreTarget = 1
	RT_ALTERNATE         RestoreTarget = 2
	RT_DIRECTED          RestoreTarget = 3
	RT_ORIGINAL_LOCATION RestoreTarget = 4
)

var restoreTargetNames = map[RestoreTarget]string{
	RT_UNDEFINED:         "RT_UNDEFINED",
	RT_ORIGINAL:          "RT_ORIGINAL",
	RT_ALTERNATE:         "RT_ALTERNATE",
	RT_DIRECTED:          "RT_DIRECTED",
	RT_ORIGINAL_LOCATION: "RT_ORIGINAL_LOCATION",
}

// String is the value's name, or its number.
func (v RestoreTarget) String() string { return enumName(restoreTargetNames, v) }

// RestoreMethod is VSS_RESTOREMETHOD_ENUM.
type RestoreMethod int32

// Values of RestoreMethod.
const (
	RME_UNDEFINED                           RestoreMethod = 0
	RME_RESTORE_IF_NOT_THERE                RestoreMethod = 1
	RME_RESTORE_IF_CAN_REPLACE              RestoreMethod = 2
	RME_STOP_RESTORE_START                  RestoreMethod = 3
	RME_RESTORE_TO_ALTERNATE_LOCATION       RestoreMethod = 4
	RME_RESTORE_AT_REBOOT                   RestoreMethod = 5
	RME_RESTORE_AT_REBOOT_IF_CANNOT_REPLACE RestoreMethod = 6
	RME_CUSTOM                              RestoreMethod = 7
	RME_RESTORE_STOP_START                  RestoreMethod = 8
)

var restoreMethodNames = map[RestoreMethod]string{
	RME_UNDEFINED:                           "RME_UNDEFINED",
	RME_RESTORE_IF_NOT_THERE:                "RME_RESTORE_IF_NOT_THERE",
	RME_RESTORE_IF_CAN_REPLACE:              "RME_RESTORE_IF_CAN_REPLACE",
	RME_STOP_RESTORE_START:                  "RME_STOP_RESTORE_START",
	RME_RESTORE_TO_ALTERNATE_LOCATION:       "RME_RESTORE_TO_ALTERNATE_LOCATION",
	RME_RESTORE_AT_REBOOT:                   "RME_RESTORE_AT_REBOOT",
	RME_RESTORE_AT_REBOOT_IF_CANNOT_REPLACE: "RME_RESTORE_AT_REBOOT_IF_CANNOT_REPLACE",
	RME_CUSTOM:                              "RME_CUSTOM",
	RME_RESTORE_STOP_START:                  "RME_RESTORE_STOP_START",
}

// String is the value's name, or its number.
func (v RestoreMethod) String() string { return enumName(restoreMethodNames, v) }

// WriterRestore is VSS_WRITERRESTORE_ENUM.
type WriterRestore int32

// Values of WriterRestore.
const (
	WRE_UNDEFINED        WriterRestore = 0
	WRE_NEVER            WriterRestore = 1
	WRE_IF_REPLACE_FAILS WriterRestore = 2
	WRE_ALWAYS           WriterRestore = 3
)

var writerRestoreNames = map[WriterRestore]string{
	WRE_UNDEFINED:        "WRE_UNDEFINED",
	WRE_NEVER:            "WRE_NEVER",
	WRE_IF_REPLACE_FAILS: "WRE_IF_REPLACE_FAILS",
	WRE_ALWAYS:           "WRE_ALWAYS",
}

// String is the value's name, or its number.
func (v WriterRestore) String() string { return enumName(writerRestoreNames, v) }

// BackupSchema is VSS_BACKUP_SCHEMA.
type BackupSchema uint32

// Values of BackupSchema.
const (
	BS_UNDEFINED                          BackupSchema = 0x0
	BS_DIFFERENTIAL                       BackupSchema = 0x1
	BS_INCREMENTAL                        BackupSchema = 0x2
	BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL BackupSchema = 0x4
	BS_LOG                                BackupSchema = 0x8
	BS_COPY                               BackupSchema = 0x10
	BS_TIMESTAMPED                        BackupSchema = 0x20
	BS_LAST_MODIFY                        BackupSchema = 0x40
	BS_LSN                                BackupSchema = 0x80
	BS_WRITER_SUPPORTS_NEW_TARGET         BackupSchema = 0x100
	BS_WRITER_SUPPORTS_RESTORE_WITH_MOVE  BackupSchema = 0x200
	BS_INDEPENDENT_SYSTEM_STATE           BackupSchema = 0x400
	BS_ROLLFORWARD_RESTORE                BackupSchema = 0x1000
	BS_RESTORE_RENAME                     BackupSchema = 0x2000
	BS_AUTHORITATIVE_RESTORE              BackupSchema = 0x4000
	BS_WRITER_SUPPORTS_PARALLEL_RESTORES  BackupSchema = 0x8000
)

var backupSchemaNames = map[BackupSchema]string{
	BS_UNDEFINED:                          "BS_UNDEFINED",
	BS_DIFFERENTIAL:                       "BS_DIFFERENTIAL",
	BS_INCREMENTAL:                        "BS_INCREMENTAL",
	BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL: "BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL",
	BS_LOG:                                "BS_LOG",
	BS_COPY:                               "BS_COPY",
	BS_TIMESTAMPED:                        "BS_TIMESTAMPED",
	BS_LAST_MODIFY:                        "BS_LAST_MODIFY",
	BS_LSN:                                "BS_LSN",
	BS_WRITER_SUPPORTS_NEW_TARGET:         "BS_WRITER_SUPPORTS_NEW_TARGET",
	BS_WRITER_SUPPORTS_RESTORE_WITH_MOVE:  "BS_WRITER_SUPPORTS_RESTORE_WITH_MOVE",
	BS_INDEPENDENT_SYSTEM_STATE:           "BS_INDEPENDENT_SYSTEM_STATE",
	BS_ROLLFORWARD_RESTORE:                "BS_ROLLFORWARD_RESTORE",
	BS_RESTORE_RENAME:                     "BS_RESTORE_RENAME",
	BS_AUTHORITATIVE_RESTORE:              "BS_AUTHORITATIVE_RESTORE",
	BS_WRITER_SUPPORTS_PARALLEL_RESTORES:  "BS_WRITER_SUPPORTS_PARALLEL_RESTORES",
}

// String is the value's name, or its number.
func (v BackupSchema) String() string { return enumName(backupSchemaNames, v) }

// FileSpecBackupType is VSS_FILE_SPEC_BACKUP_TYPE.
type FileSpecBackupType uint32

// Values of FileSpecBackupType.
const (
	FSBT_FULL_BACKUP_REQUIRED           FileSpecBackupType = 0x1
	FSBT_DIFFERENTIAL_BACKUP_REQUIRED   FileSpecBackupType = 0x2
	FSBT_INCREMENTAL_BACKUP_REQUIRED    FileSpecBackupType = 0x4
	FSBT_LOG_BACKUP_REQUIRED            FileSpecBackupType = 0x8
	FSBT_FULL_SNAPSHOT_REQUIRED         FileSpecBackupType = 0x100
	FSBT_DIFFERENTIAL_SNAPSHOT_REQUIRED FileSpecBackupType = 0x200
	FSBT_INCREMENTAL_SNAPSHOT_REQUIRED  FileSpecBackupType = 0x400
	FSBT_LOG_SNAPSHOT_REQUIRED          FileSpecBackupType = 0x800
	FSBT_CREATED_DURING_BACKUP          FileSpecBackupType = 0x10000
	FSBT_ALL_BACKUP_REQUIRED            FileSpecBackupType = 0xF
	FSBT_ALL_SNAPSHOT_REQUIRED          FileSpecBackupType = 0xF00
)

var fileSpecBackupTypeNames = map[FileSpecBackupType]string{
	FSBT_FULL_BACKUP_REQUIRED:           "FSBT_FULL_BACKUP_REQUIRED",
	FSBT_DIFFERENTIAL_BACKUP_REQUIRED:   "FSBT_DIFFERENTIAL_BACKUP_REQUIRED",
	FSBT_INCREMENTAL_BACKUP_REQUIRED:    "FSBT_INCREMENTAL_BACKUP_REQUIRED",
	FSBT_LOG_BACKUP_REQUIRED:            "FSBT_LOG_BACKUP_REQUIRED",
	FSBT_FULL_SNAPSHOT_REQUIRED:         "FSBT_FULL_SNAPSHOT_REQUIRED",
	FSBT_DIFFERENTIAL_SNAPSHOT_REQUIRED: "FSBT_DIFFERENTIAL_SNAPSHOT_REQUIRED",
	FSBT_INCREMENTAL_SNAPSHOT_REQUIRED:  "FSBT_INCREMENTAL_SNAPSHOT_REQUIRED",
	FSBT_LOG_SNAPSHOT_REQUIRED:          "FSBT_LOG_SNAPSHOT_REQUIRED",
	FSBT_CREATED_DURING_BACKUP:          "FSBT_CREATED_DURING_BACKUP",
	FSBT_ALL_BACKUP_REQUIRED:            "FSBT_ALL_BACKUP_REQUIRED",
	FSBT_ALL_SNAPSHOT_REQUIRED:          "FSBT_ALL_SNAPSHOT_REQUIRED",
}

// String is the value's name, or its number.
func (v FileSpecBackupType) String() string { return enumName(fileSpecBackupTypeNames, v) }

// ComponentFlags is VSS_COMPONENT_FLAGS.
type ComponentFlags uint32

// Values of ComponentFlags.
const (
	CF_BACKUP_RECOVERY       ComponentFlags = 1
	CF_APP_ROLLBACK_RECOVERY ComponentFlags = 2
	CF_NOT_SYSTEM_STATE      ComponentFlags = 4
)

var componentFlagsNames = map[ComponentFlags]string{
	CF_BACKUP_RECOVERY:       "CF_BACKUP_RECOVERY",
	CF_APP_ROLLBACK_RECOVERY: "CF_APP_ROLLBACK_RECOVERY",
	CF_NOT_SYSTEM_STATE:      "CF_NOT_SYSTEM_STATE",
}

// String is the value's name, or its number.
func (v ComponentFlags) String() string { return enumName(componentFlagsNames, v) }

// UsageType is VSS_USAGE_TYPE.
type UsageType int32

// Values of UsageType.
const (
	UT_UNDEFINED           UsageType = 0
	UT_BOOTABLESYSTEMSTATE UsageType = 1
	UT_SYSTEMSERVICE       UsageType = 2
	UT_USERDATA            UsageType = 3
	UT_OTHER               UsageType = 4
)

var usageTypeNames = map[UsageType]string{
	UT_UNDEFINED:           "UT_UNDEFINED",
	UT_BOOTABLESYSTEMSTATE: "UT_BOOTABLESYSTEMSTATE",
	UT_SYSTEMSERVICE:       "UT_SYSTEMSERVICE",
	UT_USERDATA:            "UT_USERDATA",
	UT_OTHER:               "UT_OTHER",
}

// String is the value's name, or its number.
func (v UsageType) String() string { return enumName(usageTypeNames, v) }

// SourceType is VSS_SOURCE_TYPE.
type SourceType int32

// Values of SourceType.
const (
	ST_UNDEFINED       SourceType = 0
	ST_TRANSACTEDDB    SourceType = 1
	ST_NONTRANSACTEDDB SourceType = 2
	ST_OTHER           SourceType = 3
)

var sourceTypeNames = map[SourceType]string{
	ST_UNDEFINED:       "ST_UNDEFINED",
	ST_TRANSACTEDDB:    "ST_TRANSACTEDDB",
	ST_NONTRANSACTEDDB: "ST_NONTRANSACTEDDB",
	ST_OTHER:           "ST_OTHER",
}

// String is the value's name, or its number.
func (v SourceType) String() string { return enumName(sourceTypeNames, v) }

// ApplicationLevel is VSS_APPLICATION_LEVEL.
type ApplicationLevel int32

// Values of ApplicationLevel.
const (
	APP_UNKNOWN   ApplicationLevel = 0
	APP_SYSTEM    ApplicationLevel = 1
	APP_BACK_END  ApplicationLevel = 2
	APP_FRONT_END ApplicationLevel = 3
	APP_SYSTEM_RM ApplicationLevel = 4
	APP_AUTO      ApplicationLevel = -1
)

var applicationLevelNames = map[ApplicationLevel]string{
	APP_UNKNOWN:   "APP_UNKNOWN",
	APP_SYSTEM:    "APP_SYSTEM",
	APP_BACK_END:  "APP_BACK_END",
	APP_FRONT_END: "APP_FRONT_END",
	APP_SYSTEM_RM: "APP_SYSTEM_RM",
	APP_AUTO:      "APP_AUTO",
}

// String is the value's name, or its number.
func (v ApplicationLevel) String() string { return enumName(applicationLevelNames, v) }

// WriterState is VSS_WRITER_STATE (requester.md 5.6).
type WriterState int32

// Values of WriterState.
const (
	WS_UNKNOWN                     WriterState = 0
	WS_STABLE                      WriterState = 1
	WS_WAITING_FOR_FREEZE          WriterState = 2
	WS_WAITING_FOR_THAW            WriterState = 3
	WS_WAITING_FOR_POST_SNAPSHOT   WriterState = 4
	WS_WAITING_FOR_BACKUP_COMPLETE WriterState = 5
	WS_FAILED_AT_IDENTIFY          WriterState = 6
	WS_FAILED_AT_PREPARE_BACKUP    WriterState = 7
	WS_FAILED_AT_PREPARE_SNAPSHOT  WriterState = 8
	WS_FAILED_AT_FREEZE            WriterState = 9
	WS_FAILED_AT_THAW              WriterState = 10
	WS_FAILED_AT_POST_SNAPSHOT     WriterState = 11
	WS_FAILED_AT_BACKUP_COMPLETE   WriterState = 12
	WS_FAILED_AT_PRE_RESTORE       WriterState = 13
	WS_FAILED_AT_POST_RESTORE      WriterState = 14
	WS_FAILED_AT_BACKUPSHUTDOWN    WriterState = 15
	WS_COUNT                       WriterState = 16
)

var writerStateNames = map[WriterState]string{
	WS_UNKNOWN:                     "WS_UNKNOWN",
	WS_STABLE:                      "WS_STABLE",
	WS_WAITING_FOR_FREEZE:          "WS_WAITING_FOR_FREEZE",
	WS_WAITING_FOR_THAW:            "WS_WAITING_FOR_THAW",
	WS_WAITING_FOR_POST_SNAPSHOT:   "WS_WAITING_FOR_POST_SNAPSHOT",
	WS_WAITING_FOR_BACKUP_COMPLETE: "WS_WAITING_FOR_BACKUP_COMPLETE",
	WS_FAILED_AT_IDENTIFY:          "WS_FAILED_AT_IDENTIFY",
	WS_FAILED_AT_PREPARE_BACKUP:    "WS_FAILED_AT_PREPARE_BACKUP",
	WS_FAILED_AT_PREPARE_SNAPSHOT:  "WS_FAILED_AT_PREPARE_SNAPSHOT",
	WS_FAILED_AT_FREEZE:            "WS_FAILED_AT_FREEZE",
	WS_FAILED_AT_THAW:              "WS_FAILED_AT_THAW",
	WS_FAILED_AT_POST_SNAPSHOT:     "WS_FAILED_AT_POST_SNAPSHOT",
	WS_FAILED_AT_BACKUP_COMPLETE:   "WS_FAILED_AT_BACKUP_COMPLETE",
	WS_FAILED_AT_PRE_RESTORE:       "WS_FAILED_AT_PRE_RESTORE",
	WS_FAILED_AT_POST_RESTORE:      "WS_FAILED_AT_POST_RESTORE",
	WS_FAILED_AT_BACKUPSHUTDOWN:    "WS_FAILED_AT_BACKUPSHUTDOWN",
	WS_COUNT:                       "WS_COUNT",
}

// String is the value's name, or its number.
func (v WriterState) String() string { return enumName(writerStateNames, v) }
