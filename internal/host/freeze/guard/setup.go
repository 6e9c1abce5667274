package main

import (
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// receive takes the handshake: the shared page, the daemon's pidfd and stat,
// then each filesystem with the counters of its devices. Every filesystem is
// compared with the device and inode the daemon meant, for the last time
// before it is frozen.
func receive(sock int) (*control, bool) {
	m, fds, ok := next(sock)
	if !ok || m.Kind != wire.Hello || m.A != wire.Version || m.B == 0 || m.B > wire.MaxFilesystems || len(fds) != 3 {
		return nil, false
	}
	mem, err := unix.Mmap(fds[0], 0, wire.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, false
	}
	c := &control{sock: sock, page: wire.FromMemory(mem), parent: fds[1], parentStat: fds[2]}
	for range m.B {
		add, fds, ok := next(sock)
		if !ok || add.Kind != wire.Add || len(fds) == 0 {
			return nil, false
		}
		var st unix.Stat_t
		if unix.Fstat(fds[0], &st) != nil || uint64(st.Dev) != add.A || st.Ino != add.B {
			fail("a descriptor does not name the filesystem it should")
		}
		c.targets = append(c.targets, target{fd: fds[0], counters: fds[1:]})
	}
	return c, true
}

// next reads one message and its descriptors.
func next(sock int) (m wire.Message, fds []int, ok bool) {
	buf := make([]byte, wire.MessageSize+1)
	oob := make([]byte, unix.CmsgSpace(4*wire.MaxDescriptors))
	n, oobn, flags, _, err := unix.Recvmsg(sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 {
		return m, nil, false
	}
	m, ok = wire.Parse(buf[:n])
	if !ok {
		return m, nil, false
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return m, nil, false
	}
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return m, nil, false
		}
		fds = append(fds, got...)
	}
	return m, fds, true
}
