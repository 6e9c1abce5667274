package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

const (
	sector       = 512 // whatever the disk's own sectors are
	labelSectors = 4   // among which the label is
	maxAreas     = 8   // of each kind on one disk; LVM itself makes two
	maxText      = 16 << 20
)

// ErrNone says that a disk is no physical volume.
var ErrNone = errors.New("no LVM physical volume")

// Disk is what a physical volume says of itself and of its group.
type Disk struct {
	UUID  string // of the physical volume, as LVM prints it
	Size  uint64 // bytes
	Group Group  // empty Name if the disk is of no group, or keeps no text of it
}

// area is a run of bytes of a disk.
type area struct{ offset, size uint64 }

// Read reads a disk. It is [ErrNone] if the disk is no physical volume, and
// another error if it is one that cannot be understood or is damaged.
func Read(r io.ReaderAt) (Disk, error) {
	head := make([]byte, labelSectors*sector)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Disk{}, err
	}
	d, areas, err := parseLabel(head[:n])
	if err != nil {
		return Disk{}, err
	}
	// All areas have the same text, but a crash may have left one behind.
	var damage []error
	for _, a := range areas {
		g, err := readArea(r, a)
		if err != nil {
			damage = append(damage, err)
		} else if g.Name != "" && g.Sequence >= d.Group.Sequence {
			d.Group = g
		}
	}
	if d.Group.Name == "" && len(damage) > 0 {
		return Disk{}, errors.Join(damage...)
	}
	if d.Group.Name != "" && d.Group.disk(d.UUID) == nil {
		return Disk{}, fmt.Errorf("the text of group %s does not name its own disk %s", d.Group.Name, d.UUID)
	}
	return d, nil
}

// parseLabel finds the label in a disk's first sectors.
func parseLabel(head []byte) (Disk, []area, error) {
	for n := 0; n+sector <= len(head) && n < labelSectors*sector; n += sector {
		s := head[n : n+sector]
		if !bytes.Equal(s[:8], []byte("LABELONE")) || !bytes.Equal(s[24:32], []byte("LVM2 001")) {
			continue
		}
		if at := binary.LittleEndian.Uint64(s[8:]); at != uint64(n/sector) {
			continue // a label that was copied to another place is none
		}
		if binary.LittleEndian.Uint32(s[16:]) != checksum(s[20:]) {
			return Disk{}, nil, errors.New("the label's checksum is wrong")
		}
		offset := binary.LittleEndian.Uint32(s[20:])
		if offset < 32 || offset > sector {
			return Disk{}, nil, fmt.Errorf("the label's header is at %d", offset)
		}
		return parseHeader(s[offset:])
	}
	return Disk{}, nil, ErrNone
}

// parseHeader reads what the label leads to: UUID, size, data areas, metadata
// areas.
func parseHeader(b []byte) (Disk, []area, error) {
	if len(b) < 40 {
		return Disk{}, nil, errors.New("the header ends early")
	}
	uuid, err := parseUUID(string(b[:32]))
	if err != nil {
		return Disk{}, nil, err
	}
	d := Disk{UUID: uuid, Size: binary.LittleEndian.Uint64(b[32:])}
	_, rest, err := parseAreas(b[40:])
	if err != nil {
		return Disk{}, nil, fmt.Errorf("data areas: %w", err)
	}
	metadata, _, err := parseAreas(rest)
	if err != nil {
		return Disk{}, nil, fmt.Errorf("metadata areas: %w", err)
	}
	return d, metadata, nil
}

// parseAreas reads a list that ends with an empty entry.
func parseAreas(b []byte) (list []area, rest []byte, err error) {
	for {
		if len(b) < 16 {
			return nil, nil, errors.New("their list ends early")
		}
		a := area{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
		b = b[16:]
		if a.offset == 0 {
			return list, b, nil
		}
		if list = append(list, a); len(list) > maxAreas {
			return nil, nil, fmt.Errorf("more than %d", maxAreas)
		}
	}
}

const (
	areaMagic   = " LVM2 x[5A%r0N*>"
	areaHeader  = 512
	areaIgnored = 1
)

// readArea reads a metadata area's text of now. A group without a name says
// that the area has none: the disk is of no group, or the area is not used.
func readArea(r io.ReaderAt, a area) (Group, error) {
	head := make([]byte, areaHeader)
	if err := readAt(r, head, a.offset); err != nil {
		return Group{}, fmt.Errorf("metadata area at %d: %w", a.offset, err)
	}
	damaged := func(format string, args ...any) (Group, error) {
		return Group{}, fmt.Errorf("metadata area at %d: %s", a.offset, fmt.Sprintf(format, args...))
	}
	switch {
	case string(head[4:20]) != areaMagic:
		return damaged("it is none")
	case binary.LittleEndian.Uint32(head) != checksum(head[4:]):
		return damaged("its header's checksum is wrong")
	case binary.LittleEndian.Uint32(head[20:]) != 1:
		return damaged("version %d is not known", binary.LittleEndian.Uint32(head[20:]))
	case binary.LittleEndian.Uint64(head[24:]) != a.offset:
		return damaged("it says it is at %d", binary.LittleEndian.Uint64(head[24:]))
	}
	ring := binary.LittleEndian.Uint64(head[32:])
	offset, size := binary.LittleEndian.Uint64(head[40:]), binary.LittleEndian.Uint64(head[48:])
	sum, flags := binary.LittleEndian.Uint32(head[56:]), binary.LittleEndian.Uint32(head[60:])
	switch {
	case offset == 0 || flags&areaIgnored != 0:
		return Group{}, nil
	case size == 0 || size > maxText || ring <= areaHeader || size > ring-areaHeader || offset < areaHeader || offset >= ring:
		return damaged("%d bytes of text at %d do not fit a ring of %d", size, offset, ring)
	}
	text := make([]byte, size)
	first := min(size, ring-offset)
	err := readAt(r, text[:first], a.offset+offset)
	if err == nil && first < size { // round the end, behind the header
		err = readAt(r, text[first:], a.offset+areaHeader)
	}
	if err != nil {
		return damaged("%v", err)
	}
	if checksum(text) != sum {
		return damaged("its text's checksum is wrong")
	}
	g, err := ParseGroup(strings.TrimRight(string(text), "\x00"))
	if err != nil {
		return damaged("%v", err)
	}
	return g, nil
}

func readAt(r io.ReaderAt, b []byte, offset uint64) error {
	if offset > 1<<62 {
		return fmt.Errorf("offset %d", offset)
	}
	n, err := r.ReadAt(b, int64(offset))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// checksum is LVM's CRC-32: IEEE's polynomial, another start, no complement.
func checksum(b []byte) uint32 {
	const start = 0xf597a6cf
	return ^crc32.Update(^uint32(start), crc32.IEEETable, b)
}

// parseUUID writes LVM's 32 characters as LVM prints them.
func parseUUID(s string) (string, error) {
	s = strings.ReplaceAll(s, "-", "")
	if len(s) != 32 {
		return "", fmt.Errorf("%q is no LVM UUID", s)
	}
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '!', c == '#':
		default:
			return "", fmt.Errorf("%q is no LVM UUID", s)
		}
	}
	return strings.Join([]string{s[:6], s[6:10], s[10:14], s[14:18], s[18:22], s[22:26], s[26:]}, "-"), nil
}

// SplitUUID takes the UUIDs of group and logical volume out of the UUID that
// LVM gives a device-mapper device. It reports false for a device that is none
// of LVM's, or is inner machinery of one, with a suffix.
func SplitUUID(device string) (group, volume string, ok bool) {
	s, ok := strings.CutPrefix(device, "LVM-")
	if !ok || len(s) != 64 {
		return "", "", false
	}
	group, err := parseUUID(s[:32])
	if err != nil {
		return "", "", false
	}
	volume, err = parseUUID(s[32:])
	return group, volume, err == nil
}
