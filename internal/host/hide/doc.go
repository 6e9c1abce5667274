// Package hide keeps copies out of sight of everything on the machine that
// acts on new disks by itself: persistent-storage links (a copy has its
// original's UUID and label), systemd's device units and so fstab, udisks,
// multipath, btrfs's device scan, LVM and md activation.
//
// Hiding must hold at the first event of a disk, so rules are written, one file
// per LUN, before the storage system is asked to unmask it (LocateLUNs), and
// stay until the LUN is gone or broken out of its set. They are runtime rules
// of udev, gone after a reboot, after which the service writes them anew for
// every copy in its catalogue before it attaches anything.
//
// That covers what an import brings. A copy could also come in another way, say
// unmasked by hand on the array, and it would have its original's UUID just the
// same. So a joined array's LUNs are hidden altogether ([Rules.HideFamily]), and
// its originals, which an administrator lets through by name, are excepted
// ([Rules.Admit]).
//
// # Why the files are called 10-umbra-…
//
// udev runs rules in the order of their file names. What has to be prevented
// starts at 55 (sg3-utils) and 56 or 60 (multipath, persistent storage), so a
// low number is needed. At that point udev has not asked the disk for
// ID_SERIAL and ID_WWN yet; those come from the very rules that run later. The
// rules therefore match what the kernel itself says, which is there at any
// time: the attribute wwid of a SCSI disk or NVMe namespace, and a loop
// device's backing file, which arrays name after the LUN. ID_WWN_WITH_EXTENSION
// and ID_SERIAL are matched as well, for drivers whose events bring them.
//
// What hidden disks cost udev counts when many come at once, on top of what the
// kernel does: so each rule is cheap to pass by, and no program is started for
// them (inquiry.go).
//
// TestUdev shows it with the rules of the machine it runs on, udev 252 on Debian
// 12: a hidden loop device with a filesystem gets neither links nor ID_FS_
// properties, and SYSTEMD_READY is 0.
//
// Identifiers come out of documents, which are untrusted: whatever is not a
// plain character is matched by '?', so nothing in an identifier can end a
// rule's string or start another.
package hide
