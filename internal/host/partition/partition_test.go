package partition_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/partition"
	"github.com/umbra-vss/umbra/internal/host/partition/partitiontest"
)

const (
	mib  = 1 << 20
	size = 8 * mib
)

// image is a disk in memory.
type image []byte

func (m image) WriteAt(b []byte, at int64) (int, error) { return copy(m[at:], b), nil }

func gpt(t testing.TB, sector int, parts ...partitiontest.Part) image {
	t.Helper()
	m := make(image, size)
	if err := partitiontest.GPT(m, size, sector, parts...); err != nil {
		t.Fatal(err)
	}
	return m
}

func mbr(t testing.TB, sector int, parts ...partitiontest.Part) image {
	t.Helper()
	m := make(image, size)
	if err := partitiontest.MBR(m, size, sector, parts...); err != nil {
		t.Fatal(err)
	}
	return m
}

func read(m image, sector int) (partition.Table, error) {
	return partition.Read(bytes.NewReader(m), uint64(len(m)), sector)
}

var two = []partitiontest.Part{{Start: 4 * mib, Length: 2 * mib, Name: "däta"}, {Start: mib, Length: 3 * mib, Name: "log"}}

func TestGPT(t *testing.T) {
	const linux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	want := []partition.Partition{
		{Number: 2, Start: mib, Length: 3 * mib, Type: linux, ID: "00007702-0000-0000-0000-000000000042", Name: "log"},
		{Number: 1, Start: 4 * mib, Length: 2 * mib, Type: linux, ID: "00007701-0000-0000-0000-000000000042", Name: "däta"},
	}
	for _, sector := range []int{512, 4096} {
		m := gpt(t, sector, two...)
		got, err := read(m, sector)
		if err != nil || got.Kind != partition.GPT || got.ID != "00000099-0000-0000-0000-000000000011" || !reflect.DeepEqual(got.Partitions, want) || len(got.Notes) != 0 {
			t.Errorf("%d: %+v, %v", sector, got, err)
		}
		// Its beginning damaged, and its entries.
		for _, at := range []int{sector + 40, 2*sector + 130} {
			m := bytes.Clone(m)
			m[at] ^= 1
			got, err := read(m, sector)
			if err != nil || !reflect.DeepEqual(got.Partitions, want) || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "backup") || !strings.Contains(got.Notes[0], "checksum") {
				t.Errorf("%d, damaged at %d: %+v, %v", sector, at, got, err)
			}
			m[size-sector] ^= 1
			if _, err := read(m, sector); err == nil || !strings.Contains(err.Error(), "checksum") || !strings.Contains(err.Error(), "backup") {
				t.Errorf("%d, both damaged: %v", sector, err)
			}
		}
		// Made on blocks of another size.
		other := 4096 + 512 - sector
		if _, err := read(m, other); err == nil || !strings.Contains(err.Error(), "blocks of") {
			t.Errorf("%d read as %d: %v", sector, other, err)
		}
	}
	hybrid := gpt(t, 512, two...)
	hybrid[446+16+4], hybrid[446+16+9], hybrid[446+16+13] = 0x83, 1, 1
	if got, err := read(hybrid, 512); err != nil || !reflect.DeepEqual(got.Partitions, want) || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "hybrid") {
		t.Errorf("hybrid: %+v, %v", got, err)
	}
	// A GPT without the MBR that protects it is none to Linux.
	bare := gpt(t, 512, two...)
	clear(bare[:512])
	if got, err := read(bare, 512); err != nil || got.Kind != partition.None {
		t.Errorf("no protective MBR: %+v, %v", got, err)
	}
}

// resum makes a changed GPT's checksums right, of both headers.
func resum(m image) {
	le := binary.LittleEndian
	for _, at := range []int{512, size - 512} {
		h := m[at:]
		table := int(le.Uint64(h[72:])) * 512
		n := int(le.Uint32(h[80:])) * int(le.Uint32(h[84:]))
		if table >= 0 && n > 0 && table+n <= len(m) {
			le.PutUint32(h[88:], crc32.ChecksumIEEE(m[table:table+n]))
		}
		le.PutUint32(h[16:], 0)
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	}
}

func TestRefused(t *testing.T) {
	le := binary.LittleEndian
	both := func(f func(header, table []byte)) func(image) {
		return func(m image) { f(m[512:], m[1024:]); f(m[size-512:], m[size-512-128*128:]); resum(m) }
	}
	extended := func(f func(mbr, record []byte)) image {
		m := mbr(t, 512, partitiontest.Part{Start: mib, Length: mib}, partitiontest.Part{Start: 3 * mib, Length: mib, Logical: true}, partitiontest.Part{Start: 5 * mib, Length: mib, Logical: true})
		f(m[446:], m[3*mib-512+446:])
		return m
	}
	change := func(m image, f func(image)) image { f(m); return m }
	for name, c := range map[string]struct {
		disk image
		want string
	}{
		"overlap":              {gpt(t, 512, partitiontest.Part{Start: mib, Length: 2 * mib}, partitiontest.Part{Start: 2 * mib, Length: mib}), "1 and 2 overlap"},
		"beyond the end":       {gpt(t, 512, partitiontest.Part{Start: 7 * mib, Length: 2 * mib}), "partition 1 has blocks"},
		"over the table":       {gpt(t, 512, partitiontest.Part{Start: 1024, Length: mib}), "partition 1 has blocks"},
		"end before beginning": {change(gpt(t, 512, two...), both(func(_, table []byte) { le.PutUint64(table[40:], 1) })), "partition 1 has blocks"},
		"revision":             {change(gpt(t, 512, two...), both(func(h, _ []byte) { h[8] = 1 })), "revision"},
		"long header":          {change(gpt(t, 512, two...), both(func(h, _ []byte) { le.PutUint32(h[12:], 1<<20) })), "header of"},
		"small entries":        {change(gpt(t, 512, two...), both(func(h, _ []byte) { le.PutUint32(h[84:], 64) })), "entries of 64"},
		"too many entries":     {change(gpt(t, 512, two...), both(func(h, _ []byte) { le.PutUint32(h[80:], 1<<31) })), "entries"},
		"no entries":           {change(gpt(t, 512, two...), both(func(h, _ []byte) { le.PutUint32(h[80:], 0) })), "no entries"},
		"entries elsewhere":    {change(gpt(t, 512, two...), both(func(h, _ []byte) { le.PutUint64(h[72:], 1<<40) })), "not on a disk"},
		"entries in the data":  {change(gpt(t, 512, two...), both(func(h, _ []byte) { le.PutUint64(h[72:], 4096) })), "where partitions may be"},
		"another's place":      {change(gpt(t, 512, two...), both(func(h, _ []byte) { le.PutUint64(h[24:], 7) })), "says it is at block 7"},
		"room beyond the end":  {change(gpt(t, 512, two...), both(func(h, _ []byte) { le.PutUint64(h[48:], 1<<40) })), "may have blocks"},

		"MBR: overlap":              {mbr(t, 512, partitiontest.Part{Start: mib, Length: 2 * mib}, partitiontest.Part{Start: 2 * mib, Length: mib}), "1 and 2 overlap"},
		"MBR: beyond the end":       {mbr(t, 512, partitiontest.Part{Start: 7 * mib, Length: 2 * mib}), "not on a disk"},
		"MBR: at the beginning":     {mbr(t, 512, partitiontest.Part{Length: mib}), "from 0"},
		"MBR: two extended":         {extended(func(b, _ []byte) { b[4] = 5 }), "both extended"},
		"MBR: over the extended":    {extended(func(b, _ []byte) { le.PutUint32(b[12:], 6*2048) }), "overlaps the extended"},
		"MBR: chain without an end": {extended(func(_, r []byte) { le.PutUint32(r[16+8:], 0) }), "no end"},
		"MBR: chain that leads out": {extended(func(_, r []byte) { le.PutUint32(r[16+8:], 1<<30) }), "out of its extended"},
		"MBR: broken chain":         {extended(func(_, r []byte) { le.PutUint32(r[16+8:], 100) }), "is broken"},
		"MBR: chain that forks":     {extended(func(_, r []byte) { copy(r[32:], r[16:32]) }), "two that follow"},
		"MBR: logical out of it":    {extended(func(_, r []byte) { le.PutUint32(r[12:], 1<<30) }), "not in its extended"},
		"MBR: logical overlap":      {extended(func(_, r []byte) { le.PutUint32(r[12:], 5*2048) }), "overlap"},
	} {
		if got, err := read(c.disk, 512); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v, want %q", name, got, err, c.want)
		}
	}
	if _, err := partition.Read(bytes.NewReader(nil), size, 512); !errors.Is(err, partition.ErrUnreadable) {
		t.Errorf("cannot be read: %v", err)
	}
	if _, err := read(make(image, size), 500); err == nil {
		t.Error("blocks of 500 bytes")
	}
}

func TestMBR(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		got, err := read(mbr(t, sector, partitiontest.Part{Start: mib, Length: mib}, partitiontest.Part{Start: 3 * mib, Length: mib, Logical: true},
			partitiontest.Part{Start: 5 * mib, Length: mib, Logical: true}), sector)
		want := []partition.Partition{
			{Number: 1, Start: mib, Length: mib, Type: "83"},
			{Number: 5, Start: 3 * mib, Length: mib, Type: "83", Logical: true},
			{Number: 6, Start: 5 * mib, Length: mib, Type: "83", Logical: true},
		}
		if err != nil || got.Kind != partition.MBR || got.ID != "12345678" || !reflect.DeepEqual(got.Partitions, want) {
			t.Errorf("%d: %+v, %v", sector, got, err)
		}
	}
	// An extended partition in which nothing was made yet.
	m := mbr(t, 512, partitiontest.Part{Start: mib, Length: mib}, partitiontest.Part{Start: 3 * mib, Length: mib, Logical: true})
	clear(m[3*mib-512 : 3*mib])
	if got, err := read(m, 512); err != nil || len(got.Partitions) != 1 {
		t.Errorf("empty extended partition: %+v, %v", got, err)
	}
}

// TestNone: disks without a table, some of which look as if they had one.
func TestNone(t *testing.T) {
	boot := make(image, size) // of a filesystem: the signature, and code where entries would be
	copy(boot[446:], "NTLDR is missing, press any key to restart the computer and so on and on.....")
	boot[510], boot[511] = 0x55, 0xAA
	for name, m := range map[string]image{"zeros": make(image, size), "boot block": boot, "signature alone": mbr(t, 512), "tiny": make(image, 512), "nothing": {}} {
		if got, err := read(m, 512); err != nil || got.Kind != partition.None || got.Partitions != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// sparse is a large disk of which the ends are given.
type sparse struct {
	head, tail []byte
	size       int64
}

func (s sparse) ReadAt(b []byte, at int64) (int, error) {
	clear(b)
	for i := range b {
		switch x := at + int64(i); {
		case x < int64(len(s.head)):
			b[i] = s.head[x]
		case x >= s.size-int64(len(s.tail)) && x < s.size:
			b[i] = s.tail[x-(s.size-int64(len(s.tail)))]
		}
	}
	return len(b), nil
}

func FuzzRead(f *testing.F) {
	for _, sector := range []int{512, 4096} {
		for _, m := range []image{gpt(f, sector, two...), mbr(f, sector, partitiontest.Part{Start: mib, Length: mib}, partitiontest.Part{Start: 9*uint64(sector) + mib*2, Length: mib, Logical: true})} {
			f.Add([]byte(m[:40*sector]), []byte(m[size-34*sector:]), uint32(size>>10), sector == 512)
		}
	}
	f.Fuzz(func(t *testing.T, head, tail []byte, kib uint32, small bool) {
		s := sparse{head, tail, int64(kib) << 10}
		sector := 4096
		if small {
			sector = 512
		}
		table, err := partition.Read(s, uint64(s.size), sector)
		if err != nil {
			return
		}
		var end uint64
		for _, p := range table.Partitions {
			if p.Start < end || p.Length == 0 || p.Start+p.Length < p.Start || p.Start+p.Length > uint64(s.size) || p.Start%uint64(sector) != 0 {
				t.Fatalf("%+v", table.Partitions)
			}
			end = p.Start + p.Length
		}
	})
}
