package nbd

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// exported is what a server says of the one thing it exports.
type exported struct {
	size  uint64
	flags uint16
}

const (
	magic        = 0x4e42444d41474943 // "NBDMAGIC"
	optionMagic  = 0x49484156454f5054 // "IHAVEOPT"
	replyMagic   = 0x3e889045565a9
	fixedNew     = 1 << 0
	noZeroes     = 1 << 1
	optionGo     = 7
	replyAck     = 1
	replyInfo    = 3
	infoExport   = 0
	flagReadOnly = 1 << 1
	maxReply     = 4096
)

// dial connects to the proxy in a folder, once it listens, and agrees with it, up
// to where the kernel takes over.
func dial(ctx context.Context, dir string) (*os.File, exported, error) {
	// By an open folder: a socket's path has 107 bytes at most.
	d, err := os.Open(dir)
	if err != nil {
		return nil, exported{}, err
	}
	defer d.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName)
	var c net.Conn
	for {
		if c, err = (&net.Dialer{}).DialContext(ctx, "unix", path); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil, exported{}, err
		case <-time.After(2 * time.Millisecond):
		}
	}
	defer c.Close() // the file is a duplicate
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	e, err := shake(c)
	if err != nil {
		return nil, e, err
	}
	f, err := c.(*net.UnixConn).File()
	return f, e, err
}

// shake is the client's side of the fixed newstyle handshake, for the export
// without a name.
func shake(c io.ReadWriter) (exported, error) {
	var e exported
	var greeting struct {
		Magic, Options uint64
		Flags          uint16
	}
	if err := binary.Read(c, binary.BigEndian, &greeting); err != nil {
		return e, err
	}
	if greeting.Magic != magic || greeting.Options != optionMagic || greeting.Flags&fixedNew == 0 {
		return e, fmt.Errorf("this is no NBD server that can be asked: % x", greeting)
	}
	// An empty name and no questions: what it exports is told in any case.
	hello := binary.BigEndian.AppendUint32(nil, uint32(greeting.Flags)&(fixedNew|noZeroes))
	hello = binary.BigEndian.AppendUint64(hello, optionMagic)
	hello = binary.BigEndian.AppendUint32(hello, optionGo)
	hello = binary.BigEndian.AppendUint32(hello, 6)
	hello = append(hello, 0, 0, 0, 0, 0, 0)
	if _, err := c.Write(hello); err != nil {
		return e, err
	}
	for {
		var reply struct {
			Magic                uint64
			Option, Kind, Length uint32
		}
		if err := binary.Read(c, binary.BigEndian, &reply); err != nil {
			return e, err
		}
		if reply.Magic != replyMagic || reply.Option != optionGo || reply.Length > maxReply {
			return e, fmt.Errorf("the NBD server's answer is none: %+v", reply)
		}
		body := make([]byte, reply.Length)
		if _, err := io.ReadFull(c, body); err != nil {
			return e, err
		}
		switch {
		case reply.Kind == replyAck && e.size > 0:
			return e, nil
		case reply.Kind == replyInfo && len(body) >= 12 && binary.BigEndian.Uint16(body) == infoExport:
			e = exported{binary.BigEndian.Uint64(body[2:]), binary.BigEndian.Uint16(body[10:])}
		case reply.Kind == replyInfo: // of other things
		default:
			return e, fmt.Errorf("the NBD server refused (%#x): %s", reply.Kind, body)
		}
	}
}
