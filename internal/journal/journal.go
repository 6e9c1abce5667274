package journal

import (
	"errors"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Socket is where systemd's journal listens.
const Socket = "/run/systemd/journal/socket"

// Journal sends entries. It is safe for concurrent use.
type Journal struct {
	path string

	mu      sync.Mutex
	fd      int // -1 once closed
	dropped uint64
	told    uint64 // how many of dropped an entry has told of
}

// Open returns a journal whose socket is path. Whether somebody listens there
// is found out with every entry: the journal may be started later, and again.
func Open(path string) (*Journal, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &Journal{path: path, fd: fd}, nil
}

// Close ends it; entries that come later are ignored.
func (j *Journal) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fd >= 0 {
		unix.Close(j.fd)
		j.fd = -1
	}
}

// Dropped counts the entries that a journal that was there did not take.
func (j *Journal) Dropped() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.dropped
}

// Send writes an entry, or drops it. It does not wait.
func (j *Journal) Send(fields ...Field) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fd < 0 {
		return
	}
	switch err := j.send(encode(fields)); {
	case err == nil:
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return // there is no journal, which is no loss
	default:
		j.dropped++
		return
	}
	if j.told < j.dropped {
		missing := strconv.FormatUint(j.dropped-j.told, 10)
		note := []Field{{"MESSAGE", missing + " events before this one did not get to the journal; umbra list events has them"},
			{"PRIORITY", "4"}, {"SYSLOG_IDENTIFIER", identifier}, {"UMBRA_DROPPED", missing}}
		if j.send(encode(note)) == nil {
			j.told = j.dropped
		}
	}
}

func (j *Journal) send(entry []byte) error {
	to := &unix.SockaddrUnix{Name: j.path}
	err := unix.Sendto(j.fd, entry, unix.MSG_NOSIGNAL, to)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		return j.sendFile(entry, to)
	}
	return err
}

// sendFile sends an entry as the descriptor of a sealed file in memory.
func (j *Journal) sendFile(entry []byte, to unix.Sockaddr) error {
	fd, err := unix.MemfdCreate("umbra-journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for rest := entry; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	return unix.Sendmsg(j.fd, nil, unix.UnixRights(fd), to, unix.MSG_NOSIGNAL)
}
