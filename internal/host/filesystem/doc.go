// Package filesystem knows the filesystems that Umbra copies: how to tell one
// from its first blocks, and how to mount a copy of one without changing a bit
// of it.
//
// [Probe] reads superblocks with parsers of its own (ext2/3/4, XFS, btrfs).
// They are fed by LUNs that came from elsewhere, so they bound everything,
// check the checksum where there is one, and are fuzzed. Nothing is executed.
//
// [MountClone] mounts a copy read-only. A copy has its original's UUID and, on
// a read-only LUN, a journal that nobody may replay; each filesystem needs to
// be told so in its own words:
//
//	xfs    nouuid,norecovery    the UUID may be mounted already; the log stays as it is
//	ext4   noload               the journal stays as it is
//	btrfs  (nothing)            the kernel makes a temporary identity, if it can
//
// Leaving a journal alone is right only for a copy that was taken while its
// filesystem was frozen: then everything is in its place. Others are refused,
// see [CloneMount].
//
// Every mount is verified before it becomes visible: it is made detached, the
// device of its superblock is compared with the one that was asked for, and
// only then is it attached to its target.
package filesystem
