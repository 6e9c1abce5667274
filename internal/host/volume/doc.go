// Package volume answers what a shadow copy of a volume must contain.
//
// A user names a mount point or a block device. What has to be frozen is the
// superblock behind it, which may be mounted in several places (bind mounts,
// btrfs subvolumes) and is one thing all the same: [Volume.SuperblockKey]. What
// has to be copied is every LUN its filesystem lives on, which the mount table
// does not show: btrfs spans devices behind a made-up device number, XFS may
// have its log and ext4 its journal elsewhere. [Resolve] finds all of them or
// refuses the volume, naming the one that is missing; a copy that lacks a
// member is no copy.
//
// [Backing] and [Stack] look the other way, at what lies below: a loop device's
// backing file is on a filesystem too, and freezing both in one set would block
// the inner thaw until the outer one. The service refuses such sets with what
// these functions tell it.
//
// The package never writes and never probes by writing, so it is safe to use
// while anything is frozen. Functions are safe for concurrent use.
package volume
