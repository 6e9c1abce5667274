// Package partitiontest writes partition tables, for tests on machines that have
// no program for it.
package partitiontest

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Part is a partition to write, in bytes.
type Part struct {
	Start, Length uint64
	Name          string // GPT
	Logical       bool   // MBR: with its record one block before it
}

const entries = 128

// GPT writes a GPT with its backup and its protective MBR to a disk.
func GPT(w io.WriterAt, size uint64, sector int, parts ...Part) error {
	s, le := uint64(sector), binary.LittleEndian
	blocks := size / s
	table := make([]byte, entries*128)
	for i, p := range parts {
		e := table[i*128:]
		copy(e, linuxData)
		e[16], e[17], e[31] = byte(i)+1, 0x77, 0x42 // its GUID
		le.PutUint64(e[32:], p.Start/s)
		le.PutUint64(e[40:], (p.Start+p.Length)/s-1)
		for j, u := range utf16.Encode([]rune(p.Name)) {
			le.PutUint16(e[56+2*j:], u)
		}
	}
	room := (uint64(len(table)) + s - 1) / s
	header := func(at, other, tableAt uint64) []byte {
		h := make([]byte, s)
		copy(h, "EFI PART")
		le.PutUint32(h[8:], 0x10000)
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], at)
		le.PutUint64(h[32:], other)
		le.PutUint64(h[40:], 2+room)
		le.PutUint64(h[48:], blocks-room-2)
		h[56], h[71] = 0x99, 0x11
		le.PutUint64(h[72:], tableAt)
		le.PutUint32(h[80:], entries)
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		return h
	}
	mbr := record(s)
	entry(mbr, 0, 0xEE, 1, min(blocks-1, 1<<32-1))
	for at, b := range map[uint64][]byte{0: mbr, 1: header(1, blocks-1, 2), 2: table, blocks - 1 - room: table, blocks - 1: header(blocks-1, 1, blocks-1-room)} {
		if _, err := w.WriteAt(b, int64(at*s)); err != nil {
			return err
		}
	}
	return nil
}

// linuxData is the type of a Linux filesystem, 0fc63daf-8483-4772-8e79-3d69d8477de4.
const linuxData = "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4"

// MBR writes an MBR. Logical partitions come last; the extended one reaches from
// the record before the first of them to the end of the disk.
func MBR(w io.WriterAt, size uint64, sector int, parts ...Part) error {
	s := uint64(sector)
	first := record(s)
	copy(first[440:], "\x78\x56\x34\x12")
	put := func(at uint64, b []byte) error { _, err := w.WriteAt(b, int64(at*s)); return err }
	for i, p := range parts {
		if !p.Logical {
			entry(first, i, 0x83, p.Start/s, p.Length/s)
			continue
		}
		outer := p.Start/s - 1
		entry(first, i, 0x0F, outer, size/s-outer)
		for j, l := range parts[i:] {
			at := l.Start/s - 1
			b := record(s)
			entry(b, 0, 0x83, 1, l.Length/s)
			if j+1 < len(parts[i:]) {
				next := parts[i+j+1]
				entry(b, 1, 0x05, next.Start/s-1-outer, next.Length/s+1)
			}
			if err := put(at, b); err != nil {
				return err
			}
		}
		break
	}
	return put(0, first)
}

func record(sector uint64) []byte {
	b := make([]byte, sector)
	b[510], b[511] = 0x55, 0xAA
	return b
}

func entry(b []byte, i int, kind byte, start, length uint64) {
	e := b[446+16*i:]
	e[4] = kind
	binary.LittleEndian.PutUint32(e[8:], uint32(start))
	binary.LittleEndian.PutUint32(e[12:], uint32(length))
}
