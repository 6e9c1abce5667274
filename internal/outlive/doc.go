// Package outlive starts programs that carry data between a host and an array,
// and that must live longer than whoever started them: a daemon that is killed
// or replaced under I/O must not take a disk with it.
//
// Such a program has a session and, where the kernel has cgroups of version 2, a
// cgroup of its own, so that neither a terminal nor the end of a systemd unit
// reaches it. It stands in the way of writeback: its memory allocations never
// wait for a filesystem (PR_SET_IO_FLUSHER), and it is the last to be killed
// when memory is short. What it may use is bounded.
//
// The starter keeps a [Process] on disk. The next one finds the program by it:
// by its number and the time it started, in this boot, so that a number that the
// kernel gave to another program is never taken for it.
package outlive
