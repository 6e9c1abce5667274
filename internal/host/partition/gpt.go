package partition

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

// A GPT header: little-endian, at block 1 and at the last.
const (
	gptSignature  = "EFI PART"
	gptHeaderSize = 92
	gptEntrySize  = 128
	mostEntries   = 16384 // of 128 bytes
)

type gptHeader struct {
	at, other   uint64 // blocks of this header and of the other
	first, last uint64 // blocks that partitions may have
	id          string
	entries     uint64 // block
	count, size uint64 // of the entries
	sum         uint32 // of the entries
}

func readGPT(d disk) (Table, error) {
	t, err := d.gptAt(1)
	if err == nil {
		return t, nil
	}
	backup, berr := d.gptAt(d.blocks - 1)
	if berr != nil {
		return Table{}, fmt.Errorf("its GPT is damaged: %w; and so is the backup: %w%s", err, berr, d.otherSector())
	}
	backup.Notes = append(backup.Notes, "read from the backup at the end of the disk: "+err.Error())
	return backup, nil
}

// otherSector guesses why there is no GPT: one that was made on blocks of
// another size is at another place.
func (d disk) otherSector() string {
	for _, other := range []uint64{512, 4096} {
		b := make([]byte, len(gptSignature))
		if other == d.sector {
			continue
		}
		if n, _ := d.r.ReadAt(b, int64(other)); n == len(b) && string(b) == gptSignature {
			return fmt.Sprintf(" (there is one of blocks of %d bytes, and the disk has blocks of %d)", other, d.sector)
		}
	}
	return ""
}

func (d disk) gptAt(block uint64) (Table, error) {
	h, err := d.gptHeader(block)
	if err != nil {
		return Table{}, err
	}
	n := (h.count*h.size + d.sector - 1) / d.sector
	raw, err := d.read(h.entries, n)
	if err != nil {
		return Table{}, err
	}
	raw = raw[:h.count*h.size]
	if crc32.ChecksumIEEE(raw) != h.sum {
		return Table{}, fmt.Errorf("the checksum of the entries at block %d is wrong", h.entries)
	}
	t := Table{Kind: GPT, ID: h.id}
	for i := range h.count {
		e := raw[i*h.size:][:gptEntrySize]
		if zero(e[:16]) {
			continue
		}
		start, last := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if start < h.first || last > h.last || last < start {
			return Table{}, fmt.Errorf("partition %d has blocks %d to %d, and partitions may have %d to %d", i+1, start, last, h.first, h.last)
		}
		t.Partitions = append(t.Partitions, Partition{Number: int(i) + 1, Start: start * d.sector, Length: (last - start + 1) * d.sector,
			Type: guid(e), ID: guid(e[16:]), Name: gptName(e[56:gptEntrySize])})
	}
	return t, nil
}

func (d disk) gptHeader(block uint64) (gptHeader, error) {
	b, err := d.read(block, 1)
	if err != nil {
		return gptHeader{}, err
	}
	bad := func(format string, args ...any) (gptHeader, error) {
		return gptHeader{}, fmt.Errorf("block %d is no GPT header: %s", block, fmt.Sprintf(format, args...))
	}
	le := binary.LittleEndian
	if string(b[:8]) != gptSignature {
		return bad("it has not the signature")
	}
	if v := le.Uint32(b[8:]); v != 0x10000 {
		return bad("revision %x", v)
	}
	size := uint64(le.Uint32(b[12:]))
	if size < gptHeaderSize || size > d.sector {
		return bad("a header of %d bytes", size)
	}
	summed := bytes.Clone(b[:size])
	clear(summed[16:20])
	if crc32.ChecksumIEEE(summed) != le.Uint32(b[16:]) {
		return bad("its checksum is wrong")
	}
	h := gptHeader{at: le.Uint64(b[24:]), other: le.Uint64(b[32:]), first: le.Uint64(b[40:]), last: le.Uint64(b[48:]), id: guid(b[56:]),
		entries: le.Uint64(b[72:]), count: uint64(le.Uint32(b[80:])), size: uint64(le.Uint32(b[84:])), sum: le.Uint32(b[88:])}
	switch {
	case h.at != block:
		return bad("it says it is at block %d", h.at)
	case h.last >= d.blocks || h.first > h.last || h.first < 2:
		return bad("partitions may have blocks %d to %d of %d", h.first, h.last, d.blocks)
	case h.size < gptEntrySize || h.size%gptEntrySize != 0 || h.size > d.sector*8:
		return bad("entries of %d bytes", h.size)
	case h.count*h.size > mostEntries*gptEntrySize:
		return bad("%d entries", h.count)
	case h.count == 0:
		return bad("no entries")
	case h.entries >= h.first && h.entries <= h.last:
		return bad("its entries at block %d are where partitions may be", h.entries)
	}
	return h, nil
}

// guid writes 16 bytes as a GUID: the first three parts are little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func gptName(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
