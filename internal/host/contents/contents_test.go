package contents_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/contents"
	"github.com/umbra-vss/umbra/internal/host/partition"
	"github.com/umbra-vss/umbra/internal/host/partition/partitiontest"
)

const mib = 1 << 20

func TestRead(t *testing.T) {
	h := looptest.NewHost(t)
	read := func(d block.Device) contents.Contents {
		t.Helper()
		c, err := contents.Read(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	path := looptest.File(t, 64*mib)
	d := h.Attach(t, path, false)
	if c := read(d); c.Table != partition.None || len(c.Volumes) != 0 || c.Fault != "" {
		t.Errorf("nothing: %+v", c)
	}
	looptest.Mkfs(t, "ext4", d.Path, "-L", "whole")
	if c := read(d); c.Table != partition.None || len(c.Volumes) != 1 || c.Volumes[0].Number != 0 || c.Volumes[0].Filesystem.Label != "whole" || c.Volumes[0].Length != d.Size {
		t.Errorf("a filesystem: %+v", c)
	}

	// A filesystem made in a file, put where a partition is.
	small := looptest.File(t, 16*mib)
	looptest.Mkfs(t, "ext4", small, "-L", "part")
	b, err := os.ReadFile(small)
	if err != nil {
		t.Fatal(err)
	}
	f, err := block.Open(t.Context(), d, unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(b []byte, at int64) {
		t.Helper()
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	write(make([]byte, 64*mib), 0)
	parts := []partitiontest.Part{{Start: mib, Length: 16 * mib, Name: "one"}, {Start: 20 * mib, Length: 16 * mib, Name: "two"}, {Start: 40 * mib, Length: 16 * mib}}
	if err := partitiontest.GPT(f, d.Size, 512, parts...); err != nil {
		t.Fatal(err)
	}
	write(b, 20*mib)
	write(b, 40*mib)
	write(make([]byte, 16), 40*mib+1024) // its superblock is damaged
	c := read(d)
	if c.Table != partition.GPT || len(c.Volumes) != 3 || c.Volumes[0].Filesystem.Type != "" || c.Volumes[1].Filesystem.Label != "part" || c.Volumes[1].Name != "two" || c.Volumes[1].Offset != 20*mib {
		t.Errorf("GPT: %+v", c)
	}
	if v := c.Volumes[2]; v.Fault == "" || v.Filesystem.Type != "" {
		t.Errorf("damaged: %+v", v)
	}
	write(make([]byte, 4096), 512)
	write(make([]byte, 512), 64*mib-512)
	if c := read(d); !strings.Contains(c.Fault, "GPT is damaged") || len(c.Volumes) != 0 {
		t.Errorf("damaged table: %+v", c)
	}
	gone := d
	gone.DiskSeq++
	if _, err := contents.Read(t.Context(), gone); err == nil {
		t.Error("another disk was read")
	}
}
