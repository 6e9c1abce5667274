package partition

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Kind is the form of a table.
type Kind string

// Kinds. A disk without a table has none.
const (
	None Kind = ""
	GPT  Kind = "gpt"
	MBR  Kind = "mbr"
)

// Table is what a disk says of its partitions.
type Table struct {
	Kind       Kind
	ID         string      // GPT: the disk's GUID; MBR: its signature, eight digits
	Partitions []Partition // by where they begin
	Notes      []string    // what is unusual about a table that can be used all the same
}

// Partition is a run of bytes of a disk.
type Partition struct {
	Number  int
	Start   uint64 // bytes from the beginning of the disk
	Length  uint64 // bytes
	Type    string // GPT: a GUID in lower case; MBR: two digits
	ID      string // GPT: the partition's GUID
	Name    string // GPT
	Logical bool   // MBR: within an extended partition
}

// disk reads whole blocks.
type disk struct {
	r      io.ReaderAt
	sector uint64
	blocks uint64
}

// ErrUnreadable is wrapped by errors that say nothing about the table.
var ErrUnreadable = errors.New("the disk cannot be read")

// Read reads the table of a disk of size bytes in logical blocks of sector bytes.
// A disk without a table is a Table of kind None. An error says why a table that
// is there must not be used, or wraps ErrUnreadable.
func Read(r io.ReaderAt, size uint64, sector int) (Table, error) {
	if sector < 512 || sector > 64<<10 || sector&(sector-1) != 0 {
		return Table{}, fmt.Errorf("blocks of %d bytes", sector)
	}
	d := disk{r: r, sector: uint64(sector), blocks: size / uint64(sector)}
	if d.blocks < 2 {
		return Table{}, nil
	}
	first, err := d.read(0, 1)
	if err != nil {
		return Table{}, err
	}
	entries, ok := mbrEntries(first)
	if !ok {
		return Table{}, nil
	}
	var t Table
	switch {
	case slices.ContainsFunc(entries, func(e mbrEntry) bool { return e.kind == typeProtective }):
		t, err = readGPT(d)
		if err == nil && slices.ContainsFunc(entries, func(e mbrEntry) bool { return e.kind != 0 && e.kind != typeProtective }) {
			t.Notes = append(t.Notes, "a hybrid: its MBR has partitions as well, which Linux does not use")
		}
	default:
		t, err = readMBR(d, first, entries)
	}
	if err != nil {
		return Table{}, err
	}
	return t, t.check(d)
}

// check refuses what lies on the same bytes, or not on the disk.
func (t *Table) check(d disk) error {
	slices.SortFunc(t.Partitions, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Number, b.Number))
	})
	end := d.blocks * d.sector
	for i, p := range t.Partitions {
		if p.Length == 0 || p.Start == 0 || p.Start >= end || p.Length > end-p.Start {
			return fmt.Errorf("partition %d has %d bytes from %d, which are not on a disk of %d", p.Number, p.Length, p.Start, end)
		}
		if i > 0 {
			if before := t.Partitions[i-1]; before.Start+before.Length > p.Start {
				return fmt.Errorf("partitions %d and %d overlap", before.Number, p.Number)
			}
		}
	}
	return nil
}

// read reads blocks.
func (d disk) read(block, n uint64) ([]byte, error) {
	if block >= d.blocks || n > d.blocks-block {
		return nil, fmt.Errorf("block %d is not on a disk of %d", block, d.blocks)
	}
	b := make([]byte, n*d.sector)
	if m, err := d.r.ReadAt(b, int64(block*d.sector)); m < len(b) {
		return nil, fmt.Errorf("%w: %d bytes at block %d: %w", ErrUnreadable, len(b), block, cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return b, nil
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
