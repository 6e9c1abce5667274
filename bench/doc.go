// Package bench measures Umbra beside the bare system calls and the script
// that people write today, all in one run on the same devices.
//
//	make bench
//	go test -run '^$' -bench . -benchtime 5x ./bench
//
// It builds a site (package site: an array and two hosts, real processes in
// namespaces of their own, real loop devices and filesystems) and takes turns:
// Umbra, the bare program, the script, and again. Every figure is the median
// of the rounds (-benchtime), and every limit is a ratio within the run, since
// absolute times say more about the machine than about Umbra. A limit that is
// missed is reported, in the table at the end, and fails nothing; an error
// does.
//
// # Hold
//
// The hold window is the time from the first FIFREEZE to the last FITHAW: what
// the applications on the volumes feel. Umbra's is the timeline's phase "held",
// which the freeze guard times itself. The bare program ([bareHold], this test
// binary started again) has its descriptors open and one thread per filesystem
// waiting, and does FIFREEZE in parallel, FICLONE and FITHAW in parallel; it is
// run with its clones in parallel and in series, and the better median counts.
// Umbra has the kernel's RCU grace periods expedited while it freezes, which
// is most of what it wins; so the bare program is also run with the same switch
// on ("bare expedited"), to show what the guard and the call to the array cost.
// The script runs `fsfreeze -f`, `cp --reflink` and `fsfreeze -u` as processes,
// one volume after the other. Before each turn 4 MiB are written to each
// volume, and each contender calls syncfs before it freezes.
//
// # Import
//
// An import is measured by a requester that is connected, at its API: the wall
// clock from the call of ImportSnapshots to the return of Wait, less the two
// phases of the timeline that come when the block nodes of all copies are
// attached, verified, read-only and recorded durably: "mount" of the device
// objects, which is reported apart, and "finish", which files the timeline. The
// budget is measured in the same round: one LOOP_CONFIGURE of the same LUN's
// file, 16 times an append of 4 KiB with fsync in the folder of the daemon's
// state, and 6 calls of HostService.Status on a connection that is open.
//
// # NBD
//
// A host reads a LUN over NBD, with direct I/O, through what Umbra has set up,
// and the same through what an administrator would: the LUN's file exported by
// qemu-nbd with the same kind of key, and nbdkit, nbdfuse and losetup by hand.
// Both are read in each round, after each was read once.
//
// # iSCSI
//
// With UMBRA_LAB=1 an import of LUNs over iSCSI is measured on virtual machines
// (package lab), beside the same by hand. See docs/performance.md.
//
// # Memory
//
// The daemon's resident memory (VmRSS) is read two seconds after it has
// imported and deleted a set; the guard's is its peak (VmHWM) in a hold of 16
// volumes.
package bench
