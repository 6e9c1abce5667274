package catalog

import "golang.org/x/sys/unix"

// The file is mapped into memory, and what was once read stays mapped: after a
// look at every record of a large catalogue the process would hold all of it,
// for nobody. So the mapping is let go now and then. The pages are still in the
// kernel's cache, which the kernel takes back when it wants; reading one again
// costs less than a microsecond.
const (
	letGoSize  = 16 << 20 // a smaller file is not worth it
	letGoReads = 500      // records; the kernel maps 64 KiB around each
)

// looked counts a record that was read, and lets the mapping go after many. It
// does so in transactions that only read: for them the mapping stays where it
// is, as far as they see it.
func (t *Tx) looked() {
	if t.reads == nil || t.reads.Add(1) < letGoReads || t.tx.Writable() {
		return
	}
	t.reads.Store(0)
	if size := t.tx.Size(); size >= letGoSize {
		// The mapping is of a file and shared: what is let go is read from there
		// again. A failure costs memory only.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, t.tx.DB().Info().Data, uintptr(size), unix.MADV_DONTNEED)
	}
}
