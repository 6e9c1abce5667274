package wire

// Descriptors the guard starts with, beside the standard ones: its end of the
// socket pair, and the program it runs, which it closes.
const (
	Socket  = 3
	Program = 4
)

// Ioctl requests of linux/fs.h; the numbers are the same on every
// architecture.
const (
	FIFREEZE = 0xC0045877
	FITHAW   = 0xC0045878
)

// Kinds of message. Daemon to guard: Hello with the page, the daemon's pidfd
// and its /proc stat; one Add per filesystem with its descriptor and those of
// the devices' counters; then Freeze and Thaw. Guard to daemon: Wake, which
// means "look at the page".
const (
	Hello byte = iota + 1
	Add
	Freeze
	Thaw
	Wake
)

// MaxDescriptors is what one message can carry (SCM_MAX_FD).
const MaxDescriptors = 253

// MessageSize is the length of every message.
const MessageSize = 17

// Message is the payload of every packet. A and B are: of Hello, the version
// and the number of filesystems; of Add, st_dev and inode; of Freeze, the
// limit in nanoseconds.
type Message struct {
	Kind byte
	A, B uint64
}

// Put writes the message to b.
func (m Message) Put(b *[MessageSize]byte) {
	b[0] = m.Kind
	for i, v := range [2]uint64{m.A, m.B} {
		for j := range 8 {
			b[1+8*i+j] = byte(v >> (8 * j))
		}
	}
}

// Parse reads a message; ok is false when it has the wrong length.
func Parse(b []byte) (m Message, ok bool) {
	if len(b) != MessageSize {
		return m, false
	}
	var v [2]uint64
	for i := range v {
		for j := range 8 {
			v[i] |= uint64(b[1+8*i+j]) << (8 * j)
		}
	}
	return Message{Kind: b[0], A: v[0], B: v[1]}, true
}
