package nbd

import (
	"encoding/binary"
	"errors"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kernel's NBD client over generic netlink, see linux/nbd-netlink.h.
const (
	cmdConnect        = 1
	cmdDisconnect     = 2
	attrIndex         = 1
	attrSize          = 2
	attrBlockSize     = 3
	attrServerFlags   = 5
	attrClientFlags   = 6
	attrSockets       = 7
	attrBackend       = 10
	sockItem          = 1
	sockFD            = 1
	destroyWhenClosed = 1 << 0 // NBD_CFLAG_DESTROY_ON_DISCONNECT
	// blockSize is what disks have, see loop.WithBlockSize.
	blockSize = 512
)

func nbdFamily() (uint16, error) {
	f, err := netlink.GenlFamilyGet("nbd")
	if err != nil {
		return 0, err
	}
	return f.ID, nil
}

func request(command uint8, attrs ...*nl.RtAttr) error {
	id, err := nbdFamily()
	if err != nil {
		return err
	}
	r := nl.NewNetlinkRequest(int(id), unix.NLM_F_ACK)
	r.AddData(&nl.Genlmsg{Command: command, Version: 1})
	for _, a := range attrs {
		r.AddData(a)
	}
	_, err = r.Execute(unix.NETLINK_GENERIC, 0)
	return err
}

func u32(kind int, v uint32) *nl.RtAttr {
	return nl.NewRtAttr(kind, binary.NativeEndian.AppendUint32(nil, v))
}
func u64(kind int, v uint64) *nl.RtAttr {
	return nl.NewRtAttr(kind, binary.NativeEndian.AppendUint64(nil, v))
}

// connect gives the kernel a connection on which a handshake was made. It makes a
// device for it, which goes with it, and keeps the backend identifier. A request
// waits as long as the proxy does; without the proxy it is an error at once.
func connect(c *os.File, e exported, backend string) (int, error) {
	for _, index := range free() {
		sockets := nl.NewRtAttr(attrSockets|unix.NLA_F_NESTED, nil)
		sockets.AddRtAttr(sockItem|unix.NLA_F_NESTED, nil).AddChild(u32(sockFD, uint32(c.Fd())))
		err := request(cmdConnect, u32(attrIndex, uint32(index)), u64(attrSize, e.size), u64(attrBlockSize, blockSize),
			u64(attrServerFlags, uint64(e.flags)), u64(attrClientFlags, destroyWhenClosed), sockets,
			nl.NewRtAttr(attrBackend, nl.ZeroTerminated(backend)))
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			continue // somebody else was faster
		}
		return index, err
	}
	return 0, unix.ENOSPC
}

// disconnect takes a device back. Who still has it open gets errors.
func disconnect(index int) error {
	err := request(cmdDisconnect, u32(attrIndex, uint32(index)))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil // it is gone
	}
	return err
}
