// Package iscsi attaches LUNs of an array on another machine as SCSI disks,
// through open-iscsi and the kernel's iSCSI initiator.
//
// The array exports a LUN to this host's initiator when it is asked to, and
// says at which LUN number; this package logs in to the array's target if there
// is no session yet, has the kernel look at that one number, and takes what
// appears for the LUN only if its page 0x83 says so. A LUN number is a place.
// What the kernel remembers of a place may be of the LUN that was there before:
// a disk that was here already is asked again, and one that is not the LUN is
// deleted, not used ([Initiator.Rescan]).
//
// open-iscsi keeps what it knows of targets in files of its own. Ours are made
// by iscsiadm and completed here (record.go): secrets do not belong on a
// command line, where everybody on the machine can read them. The host has an
// iSCSI name of its own for Umbra's arrays, by an interface record; the
// machine's name in initiatorname.iscsi is not used, and other targets of the
// machine are left alone. Sessions are not started at boot: the service brings
// back what it knows, after it has hidden it.
//
// Sessions stay while a disk is on them and end with the last. There is one at
// each portal of the array that answers, so a LUN has several paths, each a disk
// of its own (paths.go). A copy is used by one of them, chosen by block.Best, and
// the next attaching chooses again; the paths of an original are multipathd's if
// it runs and wants them, and its map is the LUN.
package iscsi
