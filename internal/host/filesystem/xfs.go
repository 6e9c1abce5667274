package filesystem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// XFS has its superblock in the first sector, big-endian but for the checksum.
const (
	xfsMagic  = "XFSB"
	xfsHeader = 264 // the fixed part, as far as we read
	xfsCRC    = 224
)

func parseXFS(head []byte) (Identity, bool, error) {
	sb := at(head, 0, xfsHeader)
	if sb == nil || string(sb[:4]) != xfsMagic {
		return Identity{}, false, nil
	}
	be := binary.BigEndian
	blockSize, blocks := be.Uint32(sb[4:]), be.Uint64(sb[8:])
	realtime, logStart := be.Uint64(sb[16:]), be.Uint64(sb[48:])
	version, sector := be.Uint16(sb[100:]), int(be.Uint16(sb[102:]))
	if blockSize < 512 || blockSize > 64<<10 || bits.OnesCount32(blockSize) != 1 {
		return Identity{}, true, fmt.Errorf("xfs block size %d", blockSize)
	}
	hi, size := bits.Mul64(blocks, uint64(blockSize))
	if blocks == 0 || hi != 0 {
		return Identity{}, true, fmt.Errorf("xfs has %d blocks of %d", blocks, blockSize)
	}
	id := Identity{
		Type: TypeXFS, UUID: uuidText(sb[32:48]), Label: text(sb[108:120]),
		Size: size, DeviceSize: size, Devices: 1,
		ExternalLog: logStart == 0, Realtime: realtime != 0,
		Features: fmt.Sprintf("version=%x", version),
	}
	switch version & 0xf {
	case 4:
		return id, true, nil
	case 5:
	default:
		return Identity{}, true, fmt.Errorf("xfs version %d", version&0xf)
	}
	whole := at(head, 0, sector)
	if sector < xfsHeader || whole == nil {
		return Identity{}, true, fmt.Errorf("xfs sector size %d", sector)
	}
	// The checksum is taken with its own field zero.
	sum := crc32.Update(0, castagnoli, whole[:xfsCRC])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	sum = crc32.Update(sum, castagnoli, whole[xfsCRC+4:])
	if sum != binary.LittleEndian.Uint32(sb[xfsCRC:]) {
		return Identity{}, true, errors.New("xfs checksum is wrong")
	}
	id.Features += fmt.Sprintf(" compat=%x incompat=%x ro_compat=%x", be.Uint32(sb[208:]), be.Uint32(sb[216:]), be.Uint32(sb[212:]))
	return id, true, nil
}
