// Package lun says what a LUN is, independent of the host that looks at it.
//
// [Info] is VDS_LUN_INFORMATION: what a SCSI disk says of itself in its INQUIRY
// data, its serial number page (0x80) and its device identification page
// (0x83). It travels in the Backup Components Document so that another machine
// can find the same LUN again, and [Match] decides whether an arrived disk is
// the one the document means. A device name or a LUN number never decides.
//
// Source: provider.md 6 and requester.md 6.3.
package lun
