package devicemapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// The kernel's user interface, include/uapi/linux/dm-ioctl.h: a header of fixed
// size, and data after it, both in one buffer for the request and its answer.
const (
	headerSize = unix.SizeofDmIoctl
	specSize   = unix.SizeofDmTargetSpec

	nameSize, uuidSize, typeSize = unix.DM_NAME_LEN, unix.DM_UUID_LEN, unix.DM_MAX_TYPE_NAME

	// maxData is the most data that is taken from the kernel: the tables of
	// some ten thousand targets.
	maxData = 4 << 20
)

// Where the header's fields are.
const (
	offVersion     = 0
	offDataSize    = 12
	offDataStart   = 16
	offTargetCount = 20
	offOpenCount   = 24
	offFlags       = 28
	offEvent       = 32
	offDev         = 40
	offName        = 48
	offUUID        = offName + nameSize
)

var native = binary.NativeEndian

// errAnswer is data of the kernel that makes no sense.
var errAnswer = errors.New("the kernel's answer cannot be read")

// request is what is asked: about a device, and with data.
type request struct {
	ref     Ref
	uuid    string // a new device's, beside its name
	flags   uint32
	event   uint32 // on a resume or a removal: what udev's rules are told
	targets uint32
	data    []byte
	room    int // for the answer's data; 0 is none
}

func (r request) encode() ([]byte, error) {
	if err := fits(r.ref.Name, nameSize); err != nil {
		return nil, err
	}
	uuid := r.ref.UUID
	if r.uuid != "" {
		uuid = r.uuid
	}
	if err := fits(uuid, uuidSize); err != nil {
		return nil, err
	}
	b := make([]byte, headerSize+max(len(r.data), r.room))
	// Version 4.0.0 is what is asked for; the kernel answers with its own.
	native.PutUint32(b[offVersion:], 4)
	native.PutUint32(b[offDataSize:], uint32(len(b)))
	native.PutUint32(b[offDataStart:], headerSize)
	native.PutUint32(b[offTargetCount:], r.targets)
	native.PutUint32(b[offFlags:], r.flags)
	native.PutUint32(b[offEvent:], r.event)
	native.PutUint64(b[offDev:], r.ref.Dev)
	copy(b[offName:], r.ref.Name)
	copy(b[offUUID:], uuid)
	copy(b[headerSize:], r.data)
	return b, nil
}

// fits refuses what the kernel would cut, or a name it would read in another way.
func fits(s string, size int) error {
	if len(s) >= size {
		return fmt.Errorf("%q has more than %d characters", s, size-1)
	}
	if strings.ContainsAny(s, "/\x00") {
		return fmt.Errorf("%q has a slash or a zero", s)
	}
	return nil
}

// answer is the kernel's, over the request.
type answer []byte

func (a answer) version() Version {
	return Version{native.Uint32(a[offVersion:]), native.Uint32(a[offVersion+4:]), native.Uint32(a[offVersion+8:])}
}

func (a answer) flags() uint32   { return native.Uint32(a[offFlags:]) }
func (a answer) targets() uint32 { return native.Uint32(a[offTargetCount:]) }

func (a answer) device() Device {
	f := a.flags()
	return Device{
		Name: text(a[offName : offName+nameSize]), UUID: text(a[offUUID : offUUID+uuidSize]), Dev: native.Uint64(a[offDev:]),
		Opened: int(int32(native.Uint32(a[offOpenCount:]))), Event: native.Uint32(a[offEvent:]),
		Suspended: f&unix.DM_SUSPEND_FLAG != 0, ReadOnly: f&unix.DM_READONLY_FLAG != 0,
		Live: f&unix.DM_ACTIVE_PRESENT_FLAG != 0, Waiting: f&unix.DM_INACTIVE_PRESENT_FLAG != 0, Deferred: f&unix.DM_DEFERRED_REMOVE != 0,
	}
}

// data is what follows the header; the kernel says where.
func (a answer) data() ([]byte, error) {
	start, end := native.Uint32(a[offDataStart:]), native.Uint32(a[offDataSize:])
	if uint64(end) > uint64(len(a)) || start > end || start < headerSize {
		return nil, errAnswer
	}
	return a[start:end], nil
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// terminated is a text that must have its zero.
func terminated(b []byte) (string, error) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", errAnswer
	}
	return string(b[:i]), nil
}

// encodeTable writes targets, one after the other, at multiples of 8. Each says
// how far it is to the next.
func encodeTable(targets []Target) ([]byte, error) {
	if len(targets) == 0 {
		return nil, errors.New("a table has at least one target")
	}
	var out []byte
	at := uint64(0)
	for _, t := range targets {
		switch {
		case t.Start != at:
			return nil, fmt.Errorf("the target at sector %d does not follow the one before, which ends at %d", t.Start, at)
		case t.Length == 0 || t.Length > 1<<54 || at+t.Length > 1<<54:
			return nil, fmt.Errorf("the target at sector %d has %d sectors", t.Start, t.Length)
		case strings.ContainsRune(t.Params, 0):
			return nil, fmt.Errorf("the target at sector %d has a zero among its parameters", t.Start)
		}
		if err := fits(t.Type, typeSize); err != nil || t.Type == "" {
			return nil, fmt.Errorf("the target at sector %d has no usable type: %q", t.Start, t.Type)
		}
		at += t.Length
		spec := make([]byte, (specSize+len(t.Params)+1+7)&^7)
		native.PutUint64(spec[0:], t.Start)
		native.PutUint64(spec[8:], t.Length)
		native.PutUint32(spec[20:], uint32(len(spec)))
		copy(spec[24:], t.Type)
		copy(spec[specSize:], t.Params)
		out = append(out, spec...)
	}
	if len(out) > maxData {
		return nil, errors.New("the table has too many targets")
	}
	return out, nil
}

// decodeTable reads what encodeTable writes, as the kernel answers it: there
// the way to the next target is counted from the first.
func decodeTable(count uint32, b []byte) ([]Target, error) {
	var out []Target
	for at := uint32(0); count > 0; count-- {
		if uint64(at)+specSize > uint64(len(b)) {
			return nil, errAnswer
		}
		spec := b[at:]
		next := native.Uint32(spec[20:])
		if next < at+specSize || uint64(next) > uint64(len(b))+7 {
			return nil, errAnswer
		}
		params, err := terminated(b[at+specSize : min(uint64(next), uint64(len(b)))])
		if err != nil {
			return nil, err
		}
		out = append(out, Target{Start: native.Uint64(spec), Length: native.Uint64(spec[8:]), Type: text(spec[24:specSize]), Params: strings.TrimSuffix(params, " ")})
		at = next
	}
	return out, nil
}

// decodeNames reads the list of all devices. An empty list is no data, or one
// entry with the number 0, by the kernel's age.
func decodeNames(b []byte) ([]Named, error) {
	const fixed = 12
	var out []Named
	if len(b) == 0 {
		return nil, nil
	}
	for {
		if len(b) < fixed {
			return nil, errAnswer
		}
		dev, next := native.Uint64(b), native.Uint32(b[8:])
		if dev == 0 {
			return out, nil
		}
		end := uint64(len(b))
		if next != 0 {
			if next <= fixed || uint64(next) > end {
				return nil, errAnswer
			}
			end = uint64(next)
		}
		name, err := terminated(b[fixed:end])
		if err != nil {
			return nil, err
		}
		out = append(out, Named{Name: name, Dev: dev})
		if next == 0 {
			return out, nil
		}
		b = b[next:]
	}
}

// decodeVersions reads the kinds of targets that the kernel knows.
func decodeVersions(b []byte) (map[string]Version, error) {
	const fixed = 16
	out := map[string]Version{}
	for {
		if len(b) < fixed {
			return nil, errAnswer
		}
		next := native.Uint32(b)
		end := uint64(len(b))
		if next != 0 {
			if next <= fixed || uint64(next) > end {
				return nil, errAnswer
			}
			end = uint64(next)
		}
		name, err := terminated(b[fixed:end])
		if err != nil {
			return nil, err
		}
		out[name] = Version{native.Uint32(b[4:]), native.Uint32(b[8:]), native.Uint32(b[12:])}
		if next == 0 {
			return out, nil
		}
		b = b[next:]
	}
}

// decodeDeps reads the numbers of the devices below one.
func decodeDeps(b []byte) ([]uint64, error) {
	if len(b) < 8 {
		return nil, errAnswer
	}
	n := native.Uint32(b)
	if uint64(n)*8+8 > uint64(len(b)) {
		return nil, errAnswer
	}
	out := make([]uint64, 0, n)
	for i := range n {
		out = append(out, native.Uint64(b[8+8*i:]))
	}
	return out, nil
}

// encodeMessage writes a message to the target at a sector.
func encodeMessage(sector uint64, message string) []byte {
	return append(append(native.AppendUint64(nil, sector), message...), 0)
}
