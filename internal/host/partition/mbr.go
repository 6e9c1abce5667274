package partition

import (
	"encoding/binary"
	"fmt"
)

// A master boot record, and the record before each logical partition: four
// entries of 16 bytes from 446, then a signature.
const (
	mbrID        = 440
	mbrTable     = 446
	mbrSignature = 510

	typeProtective = 0xEE
	mostLogical    = 128
)

type mbrEntry struct {
	boot, kind    byte
	start, length uint64 // blocks
}

func (e mbrEntry) extended() bool { return e.kind == 0x05 || e.kind == 0x0F || e.kind == 0x85 }
func (e mbrEntry) used() bool     { return e.kind != 0 && e.length != 0 }

// mbrEntries reads the entries of a block that is a boot record. Many filesystems
// begin with a block of the same signature: its entries are no partitions.
func mbrEntries(block []byte) ([]mbrEntry, bool) {
	if block[mbrSignature] != 0x55 || block[mbrSignature+1] != 0xAA {
		return nil, false
	}
	entries := make([]mbrEntry, 4)
	used := false
	for i := range entries {
		b := block[mbrTable+16*i:][:16]
		e := mbrEntry{boot: b[0], kind: b[4], start: uint64(binary.LittleEndian.Uint32(b[8:])), length: uint64(binary.LittleEndian.Uint32(b[12:]))}
		if e.boot != 0 && e.boot != 0x80 {
			return nil, false
		}
		used = used || e.used()
		entries[i] = e
	}
	return entries, used
}

func readMBR(d disk, first []byte, entries []mbrEntry) (Table, error) {
	t := Table{Kind: MBR, ID: fmt.Sprintf("%08x", binary.LittleEndian.Uint32(first[mbrID:]))}
	extended := -1
	for i, e := range entries {
		switch {
		case !e.used():
		case e.start >= d.blocks || e.length > d.blocks-e.start:
			return t, fmt.Errorf("partition %d has %d blocks from %d, which are not on a disk of %d", i+1, e.length, e.start, d.blocks)
		case e.extended() && extended >= 0:
			return t, fmt.Errorf("partitions %d and %d are both extended", extended+1, i+1)
		case e.extended():
			extended = i
		default:
			t.Partitions = append(t.Partitions, d.partition(i+1, e, 0))
		}
	}
	if extended < 0 {
		return t, nil
	}
	outer := entries[extended]
	for i, e := range entries {
		if i != extended && e.used() && e.start < outer.start+outer.length && outer.start < e.start+e.length {
			return t, fmt.Errorf("partition %d overlaps the extended partition %d", i+1, extended+1)
		}
	}
	logical, err := d.logical(outer)
	t.Partitions = append(t.Partitions, logical...)
	return t, err
}

// logical follows the chain of records in an extended partition. Each has a
// partition behind it, counted from the record, and the next record, counted
// from the beginning of the extended partition.
func (d disk) logical(outer mbrEntry) ([]Partition, error) {
	var all []Partition
	seen := map[uint64]bool{}
	for at := outer.start; ; {
		if seen[at] || len(seen) >= mostLogical {
			return nil, fmt.Errorf("the chain of logical partitions has no end: it comes to block %d again, or has more than %d", at, mostLogical)
		}
		seen[at] = true
		block, err := d.read(at, 1)
		if err != nil {
			return nil, err
		}
		if zero(block) && at == outer.start {
			return nil, nil // nothing was made in it yet
		}
		entries, _ := mbrEntries(block)
		if entries == nil {
			return nil, fmt.Errorf("the chain of logical partitions is broken: block %d is no record of one", at)
		}
		var next mbrEntry
		for _, e := range entries {
			switch {
			case !e.used():
			case e.extended():
				if next.used() {
					return nil, fmt.Errorf("the record of logical partitions at block %d names two that follow", at)
				}
				next = e
			default:
				if e.start == 0 || !within(outer, at+e.start, e.length) {
					return nil, fmt.Errorf("logical partition %d has %d blocks from %d, which are not in its extended partition", len(all)+5, e.length, at+e.start)
				}
				p := d.partition(len(all)+5, e, at)
				p.Logical = true
				all = append(all, p)
			}
		}
		if !next.used() {
			return all, nil
		}
		if at = outer.start + next.start; !within(outer, at, 1) {
			return nil, fmt.Errorf("the chain of logical partitions leads to block %d, out of its extended partition", at)
		}
	}
}

func within(outer mbrEntry, start, length uint64) bool {
	return start >= outer.start && length <= outer.length && start-outer.start <= outer.length-length
}

func (d disk) partition(number int, e mbrEntry, from uint64) Partition {
	return Partition{Number: number, Start: (from + e.start) * d.sector, Length: e.length * d.sector, Type: fmt.Sprintf("%02x", e.kind)}
}
