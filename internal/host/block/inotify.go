package block

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchFolder watches the nodes in a folder. A node that comes, goes or is
// closed after writing (which is how a loop device is attached) may mean an
// arrival; which one cannot be told, so every event is Again. Readers are left
// out, or enumerating would cause the next event.
func watchFolder(dir string) (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, watchError("inotify", err)
	}
	const mask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE
	if _, err := unix.InotifyAddWatch(fd, dir, mask); err != nil {
		unix.Close(fd)
		return nil, watchError("inotify of "+dir, err)
	}
	w := &Watcher{fd: fd}
	w.read = func(buf []byte) ([]Event, error) {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return nil, err
		}
		if concernsBlock(dir, buf[:n]) {
			return []Event{{Again: true}}, nil
		}
		return nil, nil
	}
	return w, nil
}

// concernsBlock reports whether any of the inotify records is about a block
// device or about a node that is gone. Terminals and /dev/null are not.
func concernsBlock(dir string, records []byte) bool {
	const header = int(unsafe.Sizeof(unix.InotifyEvent{}))
	for len(records) >= header {
		mask := binary.NativeEndian.Uint32(records[4:])
		size := int(binary.NativeEndian.Uint32(records[12:]))
		if size > len(records)-header {
			return true
		}
		name, _, _ := bytes.Cut(records[header:header+size], []byte{0})
		records = records[header+size:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			return true
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, string(name)), &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFBLK {
			return true
		}
	}
	return false
}
