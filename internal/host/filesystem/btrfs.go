package filesystem

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The first btrfs superblock: 4 KiB at 64 KiB, little-endian. Numbers below
// are offsets into it.
const (
	btrfsOffset = 64 << 10
	btrfsLength = 4 << 10
	btrfsMagic  = "_BHRfS_M"

	btrfsFSID      = 0x20
	btrfsLogRoot   = 0x60
	btrfsTotal     = 0x70
	btrfsDevices   = 0x88
	btrfsCompatRO  = 0xB4
	btrfsIncompat  = 0xBC
	btrfsSumType   = 0xC4
	btrfsDevItem   = 0xC9 // id, total bytes, …
	btrfsDevUUID   = btrfsDevItem + 66
	btrfsLabel     = 0x12B
	btrfsLabelSize = 256
)

func parseBtrfs(head []byte) (Identity, bool, error) {
	sb := at(head, btrfsOffset, btrfsLength)
	if sb == nil || string(sb[0x40:0x48]) != btrfsMagic {
		return Identity{}, false, nil
	}
	le := binary.LittleEndian
	switch le.Uint16(sb[btrfsSumType:]) {
	case 0:
		if crc32.Checksum(sb[btrfsFSID:], castagnoli) != le.Uint32(sb) {
			return Identity{}, true, errors.New("btrfs checksum is wrong")
		}
	case 2:
		if sha256.Sum256(sb[btrfsFSID:]) != [32]byte(sb[:32]) {
			return Identity{}, true, errors.New("btrfs checksum is wrong")
		}
	case 1, 3: // xxhash, BLAKE2b: the kernel checks them when it mounts
	default:
		return Identity{}, true, fmt.Errorf("btrfs checksum type %d", le.Uint16(sb[btrfsSumType:]))
	}
	devices := le.Uint64(sb[btrfsDevices:])
	total, own := le.Uint64(sb[btrfsTotal:]), le.Uint64(sb[btrfsDevItem+8:])
	if devices == 0 || devices > 1<<16 || own == 0 || total < own {
		return Identity{}, true, fmt.Errorf("btrfs has %d bytes on %d devices, %d of them here", total, devices, own)
	}
	return Identity{
		Type: TypeBtrfs, UUID: uuidText(sb[btrfsFSID : btrfsFSID+16]), Label: text(sb[btrfsLabel : btrfsLabel+btrfsLabelSize]),
		Size: total, DeviceSize: own,
		DeviceUUID: uuidText(sb[btrfsDevUUID : btrfsDevUUID+16]), DeviceID: le.Uint64(sb[btrfsDevItem:]),
		Devices:     int(devices),
		NeedsReplay: le.Uint64(sb[btrfsLogRoot:]) != 0,
		Features:    fmt.Sprintf("incompat=%x ro_compat=%x", le.Uint64(sb[btrfsIncompat:]), le.Uint64(sb[btrfsCompatRO:])),
	}, true, nil
}
