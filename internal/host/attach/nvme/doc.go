// Package nvme attaches LUNs of an array on another machine as NVMe namespaces,
// over TCP, through the kernel's own initiator: one write to /dev/nvme-fabrics
// connects, and no program is needed.
//
// The array shows this host a subsystem of its own. What it exports appears in it
// without being looked for: the array tells the kernel, the kernel makes a disk.
// This package asks the array to export a LUN, waits for the disk that has the
// LUN's name as NGUID and UUID, and asks the array over that very disk whose it
// is before it is used: what the kernel remembers of a namespace may be of the
// LUN that had its number before ([Initiator.Rescan]).
//
// A host cannot remove one namespace. So the order of a detach is another than
// over SCSI: the disk is claimed and flushed, and then it is the array that takes
// it away; the claim stays until it is gone.
//
// With the kernel's own multipath (nvme_core.multipath, which is usual) a disk is
// one whatever the number of portals it is reached by, and this package connects
// to all. Without it every connection would have a disk of its own, and one is
// made.
//
// A connection stays while a disk is on it and ends with the last. When the array
// is away, the kernel connects again by itself for a day ([lossTimeout]); I/O
// waits for two minutes and fails then, as over iSCSI ([failTimeout]).
package nvme
