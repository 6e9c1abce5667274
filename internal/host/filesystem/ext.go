package filesystem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"
)

// Where things are in an ext superblock (1 KiB, little-endian, at 1 KiB), from
// the on-disk format's documentation in the kernel tree.
const (
	extOffset = 1024
	extLength = 1024
	extMagic  = 0xEF53

	extCompatJournal    = 0x4
	extIncompatRecover  = 0x4
	extIncompatJournal  = 0x8 // the device is a journal
	extIncompat64Bit    = 0x80
	extRoCompatChecksum = 0x400

	// What makes a filesystem ext4 and not ext3: any feature beyond these.
	ext3Incompat = 0x2 | 0x4 | 0x10 // filetype, recover, meta_bg
	ext3RoCompat = 0x1 | 0x2 | 0x4  // sparse_super, large_file, btree_dir
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func parseExt(head []byte) (Identity, bool, error) {
	sb := at(head, extOffset, extLength)
	le := binary.LittleEndian
	if sb == nil || le.Uint16(sb[0x38:]) != extMagic {
		return Identity{}, false, nil
	}
	compat, incompat, roCompat := le.Uint32(sb[0x5C:]), le.Uint32(sb[0x60:]), le.Uint32(sb[0x64:])
	if roCompat&extRoCompatChecksum != 0 {
		// The kernel's crc32c starts at ~0 and is not inverted at the end.
		if sum := ^crc32.Checksum(sb[:0x3FC], castagnoli); sum != le.Uint32(sb[0x3FC:]) {
			return Identity{}, true, errors.New("ext4 checksum is wrong")
		}
	}
	shift := le.Uint32(sb[0x18:])
	if shift > 6 { // blocks of 1 to 64 KiB
		return Identity{}, true, fmt.Errorf("ext block size 2^%d KiB", shift)
	}
	blocks := uint64(le.Uint32(sb[0x04:]))
	if incompat&extIncompat64Bit != 0 {
		blocks |= uint64(le.Uint32(sb[0x150:])) << 32
	}
	size := blocks << (10 + shift)
	if blocks == 0 || size>>(10+shift) != blocks {
		return Identity{}, true, fmt.Errorf("ext has %d blocks", blocks)
	}
	id := Identity{
		Type: TypeExt4, UUID: uuidText(sb[0x68:0x78]), Label: text(sb[0x78:0x88]),
		Size: size, DeviceSize: size, Devices: 1,
		NeedsReplay: incompat&extIncompatRecover != 0,
		Features:    fmt.Sprintf("compat=%x incompat=%x ro_compat=%x", compat, incompat&^extIncompatRecover, roCompat),
	}
	switch {
	case incompat&extIncompatJournal != 0:
		id.Type = TypeJournal
	case incompat&^uint32(ext3Incompat) != 0 || roCompat&^uint32(ext3RoCompat) != 0:
	case compat&extCompatJournal != 0:
		id.Type = TypeExt3
	default:
		id.Type = TypeExt2
	}
	inode := le.Uint32(sb[0xE0:])
	if id.Type != TypeJournal && compat&extCompatJournal != 0 && inode == 0 {
		id.ExternalJournal = uuidText(sb[0xD0:0xE0])
		if id.ExternalJournal == "" {
			return Identity{}, true, errors.New("ext has a journal neither inside nor outside")
		}
		id.JournalNumber = decodeDevice(le.Uint32(sb[0xE4:]))
	}
	return id, true, nil
}

// decodeDevice reads the kernel's 32-bit encoding of a device number.
func decodeDevice(n uint32) uint64 {
	return unix.Mkdev(n&0xfff00>>8, n&0xff|n>>12&0xfff00)
}
