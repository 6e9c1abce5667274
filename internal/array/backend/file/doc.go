// Package file keeps LUNs as sparse files on one reflink-capable filesystem and
// copies them with FICLONE.
//
// A [Store] is a directory. If the filesystem under it cannot reflink, the
// store makes one: a sparse image with XFS on it, on a loop device of its own
// (see image.go). A copy of any number of LUNs at one point in time is a
// [Batch]:
//
//	Begin, Count   open and flush the sources, count their extents; Predict says how long Commit will take
//	MakeTargets    make the empty target files
//	Count          again, right before writes stop
//	Commit         FICLONE, nothing else: no fsync, no log, no allocation of files
//	Persist        fsync the clones and their folder
//	Discard        remove the targets
//
// What is different on btrfs is in btrfs.go.
//
// FICLONE is linear in the extents of the source, so how long a batch will
// hold writes is known before it starts, from a rate the store measures on
// itself when it opens and refines with every batch ([Rate]). Whether clones
// run faster in parallel is measured as well; on one XFS they do not.
//
// A LUN is handed out as an open descriptor. The store takes an open file
// description lock on each one, at an offset that encodes who got it: the
// kernel keeps the lock exactly as long as anybody (a process, a loop device)
// holds that description, so [Store.Holders] tells who uses a LUN without any
// record that could be lost or stale, across a crash of the array and across a
// reboot.
package file
