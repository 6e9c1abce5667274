// Package wire is what the daemon and the freeze guard say to each other.
//
// Descriptors and commands go over a SOCK_SEQPACKET socket pair. Everything
// that changes while filesystems are held lives in one shared [Page] instead:
// the guard stores a state before and after each ioctl, so that the daemon
// knows how far every filesystem was even when the guard is killed in the
// middle and sends nothing more. A store to locked memory allocates nothing,
// cannot block and cannot be lost, which no message can promise.
//
// The package is compiled into the guard, so it imports next to nothing.
package wire
