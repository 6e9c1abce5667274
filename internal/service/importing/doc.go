// Package importing is ImportSnapshots: it turns a Backup Components Document
// into readable copies on this machine without copying a byte
// (requester.md 3).
//
//	validate   document, ticket, once per set, one at a time
//	intent     the set and its LUNs are on disk before anything is unmasked
//	hide       udev rules per identifier, before the first event
//	locate     the providers unmask
//	arrive     this host's initiators rescan; disks are recognised by page
//	           0x83, never by name or number, until all are there or a deadline
//	verify     identity, size, generation, filesystem, read-only
//	record     copies with the diskseq of their devices
//	mount      the device object, privately and read-only
//
// Errors never undo anything. What an import that failed, was cancelled or
// was broken off has unmasked stays as it is and is listed as orphaned, until
// the requester calls [Importer.Cleanup] (requester.md 3.5 F0).
package importing
