package block

import (
	"golang.org/x/sys/unix"
)

// kernelGroup is the multicast group of the kernel's own events. Group 2 is
// what udev says after its rules have run, and only where udev runs.
const kernelGroup = 1

// watchNetlink subscribes to the kernel's events.
func watchNetlink() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, watchError("netlink", err)
	}
	// Room for a burst of arrivals; as root the limit of the machine does not
	// apply. Failing is no harm, overflow is answered by Again.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, watchError("netlink", err)
	}
	w := &Watcher{fd: fd}
	w.read = func(buf []byte) ([]Event, error) {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, err
		}
		// Only the kernel has port 0; whoever else writes to the group lies.
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
			return nil, nil
		}
		if e, ok := parseUevent(buf[:n]); ok {
			return []Event{e}, nil
		}
		return nil, nil
	}
	return w, nil
}
