// Package freeze holds writes: it flushes and freezes a set of filesystems,
// keeps them frozen for at most ten seconds, thaws them and says whether the
// hold was whole.
//
// # Why it is not three ioctls
//
// FIFREEZE has no owner. A filesystem stays frozen when the process that froze
// it dies; a process blocked in FIFREEZE cannot be killed, and when it comes
// through the filesystem is frozen with nobody left to thaw it. A path may name
// another filesystem than it did a moment ago. And anybody may thaw, write and
// freeze again without the first owner hearing of it. So:
//
//   - [Open] takes a descriptor while everything is quiet and compares it with
//     the device, inode and mount that were meant. From then on no path is used.
//   - [StartGuard] starts the guard, a small process locked in memory, with a
//     copy of every descriptor. It freezes, and it thaws when told to, when its
//     limit passes, or when the daemon dies. The daemon keeps descriptors too,
//     watches the guard, and thaws when the guard dies or does not answer.
//   - Each filesystem has its own thread. Whatever a FIFREEZE that was given up
//     does later, the thread that issued it thaws it.
//   - FIFREEZE answering EBUSY means somebody else froze the filesystem. It is
//     not ours, so it is never thawed.
//   - [Guard.Thaw] reports success only if every FITHAW said "was frozen" and
//     no watched block device had a sector written or discarded meanwhile. A
//     filesystem mounted with discard may discard: ext4 sends what it had freed
//     from a worker that freezing does not wait for.
//   - [WriteIntent] records what is about to be held, before it is. If daemon
//     and guard both die, [RecoverIntents] thaws by that record.
//
// # Order of calls
//
//	f, err := freeze.Open(target)             one per filesystem; nothing frozen
//	err = f.Sync(ctx)                         take the bulk of the flush first
//	remove, err := freeze.WriteIntent(dir, freeze.NewIntent(id, fss))
//	g, err := freeze.StartGuard(ctx, fss, o)  a process, some milliseconds
//	err = g.Freeze(ctx)                       from here: no fsync, no log, no exec
//	...                                       the point in time is taken
//	report := g.Thaw()                        report.Err == nil: the hold was whole
//	err = g.Close(); err = remove(); f.Close()
//
// # What it cannot do
//
// Nothing thaws while guard and daemon are both stopped (SIGSTOP). Who owns a
// freeze cannot be asked of the kernel: when the guard is killed inside
// FIFREEZE, and in recovery after both died, a freeze that somebody else made
// on the same filesystem in that moment is thawed with ours. While a killed
// guard still has a thread in the kernel its filesystems are [Quarantined].
//
// # Memory
//
// While a filesystem is frozen a page of memory may be had only by writing another
// one to it. So the guard asks for none from the moment it is ready until all is
// thawed: it has rehearsed the hold, has threads to spare for the runtime, which
// would start one, and has fetched its whole program, the shared page and its
// stacks, all locked. TestGuardNeedsNoMemory counts its page faults, which are
// none; in TestMemoryExhausted there really is no memory left. The daemon may die
// of that, or wait for ever, and cannot prevent the thaw.
//
// # The guard's surroundings
//
// The guard runs from a memfd, so no filesystem of the set can hold its code.
// Given CAP_SYS_RESOURCE, which the daemon's unit should leave it, it has an
// out-of-memory score of -1000 and a flag by which its memory allocations never
// wait for a filesystem (PR_SET_IO_FLUSHER). It runs in a cgroup of its own
// at the top of the version 2 hierarchy, where that is writable, so that a kill
// of the daemon's unit leaves it alive to thaw. Where it is not writable, or
// only version 1 is mounted, it stays in the daemon's cgroup; then a unit
// should not kill its whole control group (KillMode=mixed).
package freeze
