package vss

// Result codes (requester.md 5.7). The comment gives the meaning in Umbra's
// words; the numbers are those of the public headers.
const (
	S_OK                                                              HResult = 0x00000000
	S_FALSE                                                           HResult = 0x00000001 // fewer items / empty
	VSS_S_ASYNC_PENDING                                               HResult = 0x00042309
	VSS_S_ASYNC_FINISHED                                              HResult = 0x0004230A
	VSS_S_ASYNC_CANCELLED                                             HResult = 0x0004230B
	VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED                                 HResult = 0x00042321 // partial import (success severity)
	E_NOTIMPL                                                         HResult = 0x80004001 // unsupported by provider/OS
	E_POINTER                                                         HResult = 0x80004003 // required pointer NULL
	E_ABORT                                                           HResult = 0x80004004
	E_FAIL                                                            HResult = 0x80004005 // internal error
	E_UNEXPECTED                                                      HResult = 0x8000FFFF // old form of VSS_E_UNEXPECTED
	VSS_E_BAD_STATE                                                   HResult = 0x80042301 // object in wrong state for the call
	VSS_E_UNEXPECTED                                                  HResult = 0x80042302 // unexpected, see Application log
	VSS_E_PROVIDER_ALREADY_REGISTERED                                 HResult = 0x80042303
	VSS_E_PROVIDER_NOT_REGISTERED                                     HResult = 0x80042304
	VSS_E_PROVIDER_VETO                                               HResult = 0x80042306 // provider refused, logged
	VSS_E_PROVIDER_IN_USE                                             HResult = 0x80042307 // cannot unregister
	VSS_E_OBJECT_NOT_FOUND                                            HResult = 0x80042308
	VSS_E_VOLUME_NOT_SUPPORTED                                        HResult = 0x8004230C // no provider / operation not possible on volume
	VSS_E_OBJECT_ALREADY_EXISTS                                       HResult = 0x8004230D
	VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER                            HResult = 0x8004230E // named provider refuses
	VSS_E_UNEXPECTED_PROVIDER_ERROR                                   HResult = 0x8004230F // provider returned unlisted code
	VSS_E_CORRUPT_XML_DOCUMENT                                        HResult = 0x80042310 // deprecated
	VSS_E_INVALID_XML_DOCUMENT                                        HResult = 0x80042311 // malformed or schema mismatch
	VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED                           HResult = 0x80042312 // set full
	VSS_E_FLUSH_WRITES_TIMEOUT                                        HResult = 0x80042313
	VSS_E_HOLD_WRITES_TIMEOUT                                         HResult = 0x80042314
	VSS_E_UNEXPECTED_WRITER_ERROR                                     HResult = 0x80042315 // trouble sending events to writers
	VSS_E_SNAPSHOT_SET_IN_PROGRESS                                    HResult = 0x80042316 // another creation runs
	VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED                         HResult = 0x80042317 // volume at its limit
	VSS_E_WRITER_INFRASTRUCTURE                                       HResult = 0x80042318 // event system broken
	VSS_E_WRITER_NOT_RESPONDING                                       HResult = 0x80042319
	VSS_E_WRITER_ALREADY_SUBSCRIBED                                   HResult = 0x8004231A
	VSS_E_UNSUPPORTED_CONTEXT                                         HResult = 0x8004231B // provider/operation lacks this copy type
	VSS_E_VOLUME_IN_USE                                               HResult = 0x8004231D // volume or storage association busy
	VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED                       HResult = 0x8004231E
	VSS_E_INSUFFICIENT_STORAGE                                        HResult = 0x8004231F
	VSS_E_NO_SNAPSHOTS_IMPORTED                                       HResult = 0x80042320 // none imported
	VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED                                 HResult = 0x80042321 // same text, error severity
	VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED                   HResult = 0x80042322
	VSS_E_REMOTE_SERVER_UNAVAILABLE                                   HResult = 0x80042323
	VSS_E_REMOTE_SERVER_UNSUPPORTED                                   HResult = 0x80042324 // remote VSS too old
	VSS_E_REVERT_IN_PROGRESS                                          HResult = 0x80042325
	VSS_E_REVERT_VOLUME_LOST                                          HResult = 0x80042326
	VSS_E_REBOOT_REQUIRED                                             HResult = 0x80042327
	VSS_E_TRANSACTION_FREEZE_TIMEOUT                                  HResult = 0x80042328
	VSS_E_TRANSACTION_THAW_TIMEOUT                                    HResult = 0x80042329
	VSS_E_UNSELECTED_VOLUME                                           HResult = 0x8004232A // would overwrite an unlisted volume
	VSS_E_SNAPSHOT_NOT_IN_SET                                         HResult = 0x8004232B // ID absent from BCD
	VSS_E_NESTED_VOLUME_LIMIT                                         HResult = 0x8004232C
	VSS_E_VOLUME_NOT_LOCAL                                            HResult = 0x8004232D // volume not mounted on this host
	VSS_E_CLUSTER_TIMEOUT                                             HResult = 0x8004232E // preparing CSV timed out
	VSS_E_NOT_SUPPORTED                                               HResult = 0x8004232F
	VSS_E_WRITERERROR_PARTIAL_FAILURE                                 HResult = 0x80042336 // see component errors
	VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT                            HResult = 0x800423F0
	VSS_E_WRITERERROR_OUTOFRESOURCES                                  HResult = 0x800423F1
	VSS_E_WRITERERROR_TIMEOUT                                         HResult = 0x800423F2 // Freeze→Thaw window exceeded
	VSS_E_WRITERERROR_RETRYABLE                                       HResult = 0x800423F3
	VSS_E_WRITERERROR_NONRETRYABLE                                    HResult = 0x800423F4
	VSS_E_WRITERERROR_RECOVERY_FAILED                                 HResult = 0x800423F5 // writer could not recover the copy
	VSS_E_BREAK_REVERT_ID_FAILED                                      HResult = 0x800423F6 // disk IDs not revertible, originals present
	VSS_E_LEGACY_PROVIDER                                             HResult = 0x800423F7 // provider too old
	VSS_E_MISSING_DISK                                                HResult = 0x800423F8
	VSS_E_MISSING_HIDDEN_VOLUME                                       HResult = 0x800423F9
	VSS_E_MISSING_VOLUME                                              HResult = 0x800423FA
	VSS_E_AUTORECOVERY_FAILED                                         HResult = 0x800423FB
	VSS_E_DYNAMIC_DISK_ERROR                                          HResult = 0x800423FC
	VSS_E_NONTRANSPORTABLE_BCD                                        HResult = 0x800423FD
	VSS_E_CANNOT_REVERT_DISKID                                        HResult = 0x800423FE
	VSS_E_RESYNC_IN_PROGRESS                                          HResult = 0x800423FF
	VSS_E_CLUSTER_ERROR                                               HResult = 0x80042400
	VSS_E_ASRERROR_DISK_ASSIGNMENT_FAILED                             HResult = 0x80042401 // system recovery; not used by Umbra
	VSS_E_ASRERROR_DISK_RECREATION_FAILED                             HResult = 0x80042402 // system recovery; not used by Umbra
	VSS_E_ASRERROR_NO_ARCPATH                                         HResult = 0x80042403 // system recovery; not used by Umbra
	VSS_E_ASRERROR_MISSING_DYNDISK                                    HResult = 0x80042404 // system recovery; not used by Umbra
	VSS_E_ASRERROR_SHARED_CRIDISK                                     HResult = 0x80042405 // system recovery; not used by Umbra
	VSS_E_ASRERROR_DATADISK_RDISK0                                    HResult = 0x80042406 // system recovery; not used by Umbra
	VSS_E_ASRERROR_RDISK0_TOOSMALL                                    HResult = 0x80042407 // system recovery; not used by Umbra
	VSS_E_ASRERROR_CRITICAL_DISKS_TOO_SMALL                           HResult = 0x80042408 // system recovery; not used by Umbra
	VSS_E_WRITER_STATUS_NOT_AVAILABLE                                 HResult = 0x80042409 // session slots exhausted
	VSS_E_ASRERROR_DYNAMIC_VHD_NOT_SUPPORTED                          HResult = 0x8004240A
	VSS_E_CRITICAL_VOLUME_ON_INVALID_DISK                             HResult = 0x80042411
	VSS_E_ASRERROR_RDISK_FOR_SYSTEM_DISK_NOT_FOUND                    HResult = 0x80042412
	VSS_E_ASRERROR_NO_PHYSICAL_DISK_AVAILABLE                         HResult = 0x80042413
	VSS_E_ASRERROR_FIXED_PHYSICAL_DISK_AVAILABLE_AFTER_DISK_EXCLUSION HResult = 0x80042414
	VSS_E_ASRERROR_CRITICAL_DISK_CANNOT_BE_EXCLUDED                   HResult = 0x80042415
	VSS_E_ASRERROR_SYSTEM_PARTITION_HIDDEN                            HResult = 0x80042416
	VSS_E_FSS_TIMEOUT                                                 HResult = 0x80042417 // file share copy preparation timed out
	E_ACCESSDENIED                                                    HResult = 0x80070005 // privilege
	E_OUTOFMEMORY                                                     HResult = 0x8007000E
	E_INVALIDARG                                                      HResult = 0x80070057
)

var hresultNames = map[HResult]string{
	S_OK:                                            "S_OK",
	S_FALSE:                                         "S_FALSE",
	VSS_S_ASYNC_PENDING:                             "VSS_S_ASYNC_PENDING",
	VSS_S_ASYNC_FINISHED:                            "VSS_S_ASYNC_FINISHED",
	VSS_S_ASYNC_CANCELLED:                           "VSS_S_ASYNC_CANCELLED",
	VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED:               "VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED",
	E_NOTIMPL:                                       "E_NOTIMPL",
	E_POINTER:                                       "E_POINTER",
	E_ABORT:                                         "E_ABORT",
	E_FAIL:                                          "E_FAIL",
	E_UNEXPECTED:                                    "E_UNEXPECTED",
	VSS_E_BAD_STATE:                                 "VSS_E_BAD_STATE",
	VSS_E_UNEXPECTED:                                "VSS_E_UNEXPECTED",
	VSS_E_PROVIDER_ALREADY_REGISTERED:               "VSS_E_PROVIDER_ALREADY_REGISTERED",
	VSS_E_PROVIDER_NOT_REGISTERED:                   "VSS_E_PROVIDER_NOT_REGISTERED",
	VSS_E_PROVIDER_VETO:                             "VSS_E_PROVIDER_VETO",
	VSS_E_PROVIDER_IN_USE:                           "VSS_E_PROVIDER_IN_USE",
	VSS_E_OBJECT_NOT_FOUND:                          "VSS_E_OBJECT_NOT_FOUND",
	VSS_E_VOLUME_NOT_SUPPORTED:                      "VSS_E_VOLUME_NOT_SUPPORTED",
	VSS_E_OBJECT_ALREADY_EXISTS:                     "VSS_E_OBJECT_ALREADY_EXISTS",
	VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER:          "VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER",
	VSS_E_UNEXPECTED_PROVIDER_ERROR:                 "VSS_E_UNEXPECTED_PROVIDER_ERROR",
	VSS_E_CORRUPT_XML_DOCUMENT:                      "VSS_E_CORRUPT_XML_DOCUMENT",
	VSS_E_INVALID_XML_DOCUMENT:                      "VSS_E_INVALID_XML_DOCUMENT",
	VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED:         "VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED",
	VSS_E_FLUSH_WRITES_TIMEOUT:                      "VSS_E_FLUSH_WRITES_TIMEOUT",
	VSS_E_HOLD_WRITES_TIMEOUT:                       "VSS_E_HOLD_WRITES_TIMEOUT",
	VSS_E_UNEXPECTED_WRITER_ERROR:                   "VSS_E_UNEXPECTED_WRITER_ERROR",
	VSS_E_SNAPSHOT_SET_IN_PROGRESS:                  "VSS_E_SNAPSHOT_SET_IN_PROGRESS",
	VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED:       "VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED",
	VSS_E_WRITER_INFRASTRUCTURE:                     "VSS_E_WRITER_INFRASTRUCTURE",
	VSS_E_WRITER_NOT_RESPONDING:                     "VSS_E_WRITER_NOT_RESPONDING",
	VSS_E_WRITER_ALREADY_SUBSCRIBED:                 "VSS_E_WRITER_ALREADY_SUBSCRIBED",
	VSS_E_UNSUPPORTED_CONTEXT:                       "VSS_E_UNSUPPORTED_CONTEXT",
	VSS_E_VOLUME_IN_USE:                             "VSS_E_VOLUME_IN_USE",
	VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED:     "VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED",
	VSS_E_INSUFFICIENT_STORAGE:                      "VSS_E_INSUFFICIENT_STORAGE",
	VSS_E_NO_SNAPSHOTS_IMPORTED:                     "VSS_E_NO_SNAPSHOTS_IMPORTED",
	VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED:               "VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED",
	VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED: "VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED",
	VSS_E_REMOTE_SERVER_UNAVAILABLE:                 "VSS_E_REMOTE_SERVER_UNAVAILABLE",
	VSS_E_REMOTE_SERVER_UNSUPPORTED:                 "VSS_E_REMOTE_SERVER_UNSUPPORTED",
	VSS_E_REVERT_IN_PROGRESS:                        "VSS_E_REVERT_IN_PROGRESS",
	VSS_E_REVERT_VOLUME_LOST:                        "VSS_E_REVERT_VOLUME_LOST",
	VSS_E_REBOOT_REQUIRED:                           "VSS_E_REBOOT_REQUIRED",
	VSS_E_TRANSACTION_FREEZE_TIMEOUT:                "VSS_E_TRANSACTION_FREEZE_TIMEOUT",
	VSS_E_TRANSACTION_THAW_TIMEOUT:                  "VSS_E_TRANSACTION_THAW_TIMEOUT",
	VSS_E_UNSELECTED_VOLUME:                         "VSS_E_UNSELECTED_VOLUME",
	VSS_E_SNAPSHOT_NOT_IN_SET:                       "VSS_E_SNAPSHOT_NOT_IN_SET",
	VSS_E_NESTED_VOLUME_LIMIT:                       "VSS_E_NESTED_VOLUME_LIMIT",
	VSS_E_VOLUME_NOT_LOCAL:                          "VSS_E_VOLUME_NOT_LOCAL",
	VSS_E_CLUSTER_TIMEOUT:                           "VSS_E_CLUSTER_TIMEOUT",
	VSS_E_NOT_SUPPORTED:                             "VSS_E_NOT_SUPPORTED",
	VSS_E_WRITERERROR_PARTIAL_FAILURE:               "VSS_E_WRITERERROR_PARTIAL_FAILURE",
	VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT:          "VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT",
	VSS_E_WRITERERROR_OUTOFRESOURCES:                "VSS_E_WRITERERROR_OUTOFRESOURCES",
	VSS_E_WRITERERROR_TIMEOUT:                       "VSS_E_WRITERERROR_TIMEOUT",
	VSS_E_WRITERERROR_RETRYABLE:                     "VSS_E_WRITERERROR_RETRYABLE",
	VSS_E_WRITERERROR_NONRETRYABLE:                  "VSS_E_WRITERERROR_NONRETRYABLE",
	VSS_E_WRITERERROR_RECOVERY_FAILED:               "VSS_E_WRITERERROR_RECOVERY_FAILED",
	VSS_E_BREAK_REVERT_ID_FAILED:                    "VSS_E_BREAK_REVERT_ID_FAILED",
	VSS_E_LEGACY_PROVIDER:                           "VSS_E_LEGACY_PROVIDER",
	VSS_E_MISSING_DISK:                              "VSS_E_MISSING_DISK",
	VSS_E_MISSING_HIDDEN_VOLUME:                     "VSS_E_MISSING_HIDDEN_VOLUME",
	VSS_E_MISSING_VOLUME:                            "VSS_E_MISSING_VOLUME",
	VSS_E_AUTORECOVERY_FAILED:                       "VSS_E_AUTORECOVERY_FAILED",
	VSS_E_DYNAMIC_DISK_ERROR:                        "VSS_E_DYNAMIC_DISK_ERROR",
	VSS_E_NONTRANSPORTABLE_BCD:                      "VSS_E_NONTRANSPORTABLE_BCD",
	VSS_E_CANNOT_REVERT_DISKID:                      "VSS_E_CANNOT_REVERT_DISKID",
	VSS_E_RESYNC_IN_PROGRESS:                        "VSS_E_RESYNC_IN_PROGRESS",
	VSS_E_CLUSTER_ERROR:                             "VSS_E_CLUSTER_ERROR",
	VSS_E_ASRERROR_DISK_ASSIGNMENT_FAILED:           "VSS_E_ASRERROR_DISK_ASSIGNMENT_FAILED",
	VSS_E_ASRERROR_DISK_RECREATION_FAILED:           "VSS_E_ASRERROR_DISK_RECREATION_FAILED",
	VSS_E_ASRERROR_NO_ARCPATH:                       "VSS_E_ASRERROR_NO_ARCPATH",
	VSS_E_ASRERROR_MISSING_DYNDISK:                  "VSS_E_ASRERROR_MISSING_DYNDISK",
	VSS_E_ASRERROR_SHARED_CRIDISK:                   "VSS_E_ASRERROR_SHARED_CRIDISK",
	VSS_E_ASRERROR_DATADISK_RDISK0:                  "VSS_E_ASRERROR_DATADISK_RDISK0",
	VSS_E_ASRERROR_RDISK0_TOOSMALL:                  "VSS_E_ASRERROR_RDISK0_TOOSMALL",
	VSS_E_ASRERROR_CRITICAL_DISKS_TOO_SMALL:         "VSS_E_ASRERROR_CRITICAL_DISKS_TOO_SMALL",
	VSS_E_WRITER_STATUS_NOT_AVAILABLE:               "VSS_E_WRITER_STATUS_NOT_AVAILABLE",
	VSS_E_ASRERROR_DYNAMIC_VHD_NOT_SUPPORTED:        "VSS_E_ASRERROR_DYNAMIC_VHD_NOT_SUPPORTED",
	VSS_E_CRITICAL_VOLUME_ON_INVALID_DISK:           "VSS_E_CRITICAL_VOLUME_ON_INVALID_DISK",
	VSS_E_ASRERROR_RDISK_FOR_SYSTEM_DISK_NOT_FOUND:  "VSS_E_ASRERROR_RDISK_FOR_SYSTEM_DISK_NOT_FOUND",
	VSS_E_ASRERROR_NO_PHYSICAL_DISK_AVAILABLE:       "VSS_E_ASRERROR_NO_PHYSICAL_DISK_AVAILABLE",
	VSS_E_ASRERROR_FIXED_PHYSICAL_DISK_AVAILABLE_AFTER_DISK_EXCLUSION: "VSS_E_ASRERROR_FIXED_PHYSICAL_DISK_AVAILABLE_AFTER_DISK_EXCLUSION",
	VSS_E_ASRERROR_CRITICAL_DISK_CANNOT_BE_EXCLUDED:                   "VSS_E_ASRERROR_CRITICAL_DISK_CANNOT_BE_EXCLUDED",
	VSS_E_ASRERROR_SYSTEM_PARTITION_HIDDEN:                            "VSS_E_ASRERROR_SYSTEM_PARTITION_HIDDEN",
	VSS_E_FSS_TIMEOUT:                                                 "VSS_E_FSS_TIMEOUT",
	E_ACCESSDENIED:                                                    "E_ACCESSDENIED",
	E_OUTOFMEMORY:                                                     "E_OUTOFMEMORY",
	E_INVALIDARG:                                                      "E_INVALIDARG",
}
