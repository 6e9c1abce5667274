package surface

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

func TestTargets(t *testing.T) {
	disks := []block.Device{{Major: 8, Minor: 0}, {Major: 8, Minor: 16}}
	segments := joined([]lun.Segment{
		{Extents: []lun.Extent{{LUN: 1, Offset: mib, Length: mib}}},
		{Extents: []lun.Extent{{LUN: 1, Offset: 2 * mib, Length: mib}}},
		{Chunk: 64 << 10, Extents: []lun.Extent{{Offset: 4 * mib, Length: mib}, {LUN: 1, Offset: 8 * mib, Length: mib}}},
		{Extents: []lun.Extent{{Offset: 5 * mib, Length: 512}}},
	})
	want := []devicemapper.Target{
		{Start: 0, Length: 4096, Type: "linear", Params: "8:16 2048"},
		{Start: 4096, Length: 4096, Type: "striped", Params: "2 128 8:0 8192 8:16 16384"},
		{Start: 8192, Length: 1, Type: "linear", Params: "8:0 10240"},
	}
	if got := targets(disks, segments); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// TestMapped needs a kernel with device-mapper; it is run in the lab as well.
func TestMapped(t *testing.T) {
	looptest.NeedRoot(t)
	s := &Surfacer{HostTag: looptest.NewHostTag(t)}
	h := looptest.NewHost(t)
	var disks []block.Device
	var contents [][]byte
	for range 2 {
		b := make([]byte, 4*mib)
		rand.Read(b)
		path := looptest.File(t, int64(len(b)))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		disks, contents = append(disks, h.Attach(t, path, true)), append(contents, b)
	}
	r := Request{Name: "test-0", LUNs: disks, Segments: []lun.Segment{
		{Chunk: mib, Extents: []lun.Extent{{Offset: mib, Length: 2 * mib}, {LUN: 1, Offset: 2 * mib, Length: 2 * mib}}},
		{Extents: []lun.Extent{{LUN: 1, Offset: mib, Length: mib}}},
	}}
	a, b := contents[0], contents[1]
	want := slices.Concat(a[mib:2*mib], b[2*mib:3*mib], a[2*mib:3*mib], b[3*mib:4*mib], b[mib:2*mib])

	if c, err := devicemapper.Open(); err != nil {
		_, err := s.Surface(t.Context(), r)
		if e := vss.AsError("", err); !errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) || e.Remedy == "" {
			t.Errorf("without device-mapper: %v", err)
		}
		t.Skip("this kernel has no device-mapper")
	} else {
		c.Close()
	}
	up := func() Device {
		t.Helper()
		d, err := s.Surface(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		f, err := block.Open(t.Context(), d.Device, unix.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := make([]byte, d.Size)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) || d.Kind != Mapped || !d.ReadOnly {
			t.Errorf("%+v: other bytes, or writable: %v", d, err)
		}
		return d
	}
	clear := func(lazily bool) {
		t.Helper()
		for _, l := range disks {
			if err := s.Clear(context.Background(), l, lazily); err != nil {
				t.Errorf("Clear: %v", err)
			}
		}
	}
	t.Cleanup(func() { clear(true) })
	d := up()
	if again := up(); again.DiskSeq != d.DiskSeq {
		t.Errorf("made twice: %+v, %+v", d, again)
	}
	claim, err := block.Open(t.Context(), d.Device, unix.O_RDONLY|unix.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Clear(t.Context(), disks[1], false); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Errorf("in use: %v", err)
	}
	claim.Close()
	stranger := &Surfacer{HostTag: looptest.NewHostTag(t)}
	if err := stranger.TakeDown(t.Context(), d, false); err != nil || block.Verify(d.Device) != nil {
		t.Errorf("another host took it down: %v", err)
	}
	for range 2 {
		if err := s.TakeDown(t.Context(), d, false); err != nil {
			t.Error(err)
		}
	}
	if block.Verify(d.Device) == nil {
		t.Error("it is still there")
	}

	// Beside a partition of a LUN that is in use.
	part, found, err := addPartition(t.Context(), disks[0], 0, mib)
	if err != nil || !found {
		t.Fatalf("no partition: %v", err)
	}
	if claim, err = block.Open(t.Context(), part, unix.O_RDONLY|unix.O_EXCL); err != nil {
		t.Fatal(err)
	}
	d = up()
	if again := up(); again.DiskSeq != d.DiskSeq {
		t.Errorf("made twice beside a partition: %+v, %+v", d, again)
	}
	claim.Close()
	clear(false)
	if block.Verify(d.Device) == nil {
		t.Error("it is still there")
	}
}
