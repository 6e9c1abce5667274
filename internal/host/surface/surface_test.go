package surface_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

// random attaches a read-only LUN of random bytes.
func random(t *testing.T, h *looptest.Host, mibs int) (block.Device, []byte) {
	t.Helper()
	content := make([]byte, mibs*mib)
	rand.Read(content)
	path := looptest.File(t, int64(len(content)))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return h.Attach(t, path, true), content
}

// crowded makes a LUN one that takes no partition more: one has all its bytes.
func crowded(t *testing.T, d block.Device) {
	t.Helper()
	looptest.Run(t, "addpart", d.Path, "9", "0", fmt.Sprint(d.Size/512))
}

func part(offset, length uint64) []lun.Segment {
	return []lun.Segment{{Extents: []lun.Extent{{Offset: offset, Length: length}}}}
}

func up(t *testing.T, s *surface.Surfacer, r surface.Request, kind surface.Kind) surface.Device {
	t.Helper()
	d, err := s.Surface(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, l := range r.LUNs {
			if err := s.Clear(context.Background(), l, false); err != nil {
				t.Errorf("Clear: %v", err)
			}
		}
	})
	if d.Kind != kind || !d.ReadOnly {
		t.Fatalf("a %s (read-only: %v), want a %s: %+v", d.Kind, d.ReadOnly, kind, d)
	}
	return d
}

func content(t *testing.T, d block.Device) []byte {
	t.Helper()
	f, err := block.Open(t.Context(), d, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, d.Size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPartOfALUN(t *testing.T) {
	h := looptest.NewHost(t)
	s := &surface.Surfacer{HostTag: h.Tag}
	disk, bytesOf := random(t, h, 8)
	crowded(t, disk)
	r := surface.Request{Name: "test", LUNs: []block.Device{disk}}

	r.Segments = part(0, 8*mib)
	if d := up(t, s, r, surface.Disk); d.Path != disk.Path {
		t.Errorf("the whole LUN is %s, not %s", d.Path, disk.Path)
	}
	// Two that lie side by side are one run.
	r.Segments = append(part(mib, mib), part(2*mib, 3*mib)...)
	d := up(t, s, r, surface.Loop)
	if !bytes.Equal(content(t, d.Device), bytesOf[mib:5*mib]) {
		t.Error("other bytes")
	}
	for range 2 { // it is found again, also by who knows nothing of it
		again, err := (&surface.Surfacer{HostTag: h.Tag}).Surface(t.Context(), r)
		if err != nil || again.Path != d.Path || again.DiskSeq != d.DiskSeq {
			t.Errorf("again: %+v, %v", again, err)
		}
	}
	if d.Loop.BackingFile != "" && !strings.Contains(d.Loop.BackingFile, disk.LUN.Name()) {
		t.Errorf("udev's rules see %q, which is not %s", d.Loop.BackingFile, disk.LUN.Name())
	}
	if left, _ := filepath.Glob("/dev/.umbra-*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt(make([]byte, 512), 0)
		f.Close()
	}
	if err == nil {
		t.Error("it could be written to")
	}
	// Another part of the LUN is another device, and another host's is its own.
	r.Segments = part(6*mib, mib)
	if other := up(t, s, r, surface.Loop); other.Path == d.Path || !bytes.Equal(content(t, other.Device), bytesOf[6*mib:7*mib]) {
		t.Errorf("other part: %+v", other)
	}
	stranger := &surface.Surfacer{HostTag: looptest.NewHostTag(t)}
	if err := stranger.Clear(t.Context(), disk, false); err != nil {
		t.Error(err)
	}
	if err := stranger.TakeDown(t.Context(), d, false); err != nil || block.Verify(d.Device) != nil {
		t.Errorf("another host took it down: %v", err)
	}

	for range 2 {
		if err := s.TakeDown(t.Context(), d, false); err != nil {
			t.Fatal(err)
		}
	}
	if block.Verify(d.Device) == nil {
		t.Error("it is still there")
	}
	if err := s.Clear(t.Context(), disk, false); err != nil {
		t.Fatal(err)
	}
	if loops, err := block.Loops(t.Context(), ""); err != nil {
		t.Fatal(err)
	} else {
		for _, l := range loops {
			if l.Loop.Backing == disk.Dev() {
				t.Errorf("left: %+v", l)
			}
		}
	}
}

// TestInUse: what is mounted stays, and goes with its last user if it has to.
func TestInUse(t *testing.T) {
	h := looptest.NewHost(t)
	s := &surface.Surfacer{HostTag: h.Tag}
	disk, _ := random(t, h, 4)
	crowded(t, disk)
	d := up(t, s, surface.Request{LUNs: []block.Device{disk}, Segments: part(mib, mib)}, surface.Loop)
	claim, err := block.Open(t.Context(), d.Device, unix.O_RDONLY|unix.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Close()
	for name, err := range map[string]error{"TakeDown": s.TakeDown(t.Context(), d, false), "Clear": s.Clear(t.Context(), disk, false)} {
		if !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := claim.ReadAt(make([]byte, 512), 0); err != nil {
		t.Errorf("its user lost it: %v", err)
	}
	if err := s.TakeDown(t.Context(), d, true); err != nil {
		t.Fatal(err)
	}
	if _, err := claim.ReadAt(make([]byte, 512), 512); err != nil {
		t.Errorf("its user lost it: %v", err)
	}
	claim.Close()
	if err := s.Clear(t.Context(), disk, false); err != nil {
		t.Error(err)
	}
	for range 100 {
		if here, _ := block.Attached(d.Device); !here {
			return
		}
	}
	t.Error("it did not go with its last user")
}

// TestDiskThatTakesPartitions: one with these bytes is used, else one is added.
func TestDiskThatTakesPartitions(t *testing.T) {
	h := looptest.NewHost(t)
	s := &surface.Surfacer{HostTag: h.Tag}
	disk, bytesOf := random(t, h, 8)
	looptest.Run(t, "addpart", disk.Path, "3", "2048", "4096")
	r := surface.Request{LUNs: []block.Device{disk}, Segments: part(mib, 2*mib)}
	d := up(t, s, r, surface.Partition)
	if d.Path != disk.Path+"p3" || !bytes.Equal(content(t, d.Device), bytesOf[mib:3*mib]) {
		t.Errorf("the kernel's: %+v", d)
	}
	r.Segments = part(4*mib, mib)
	d = up(t, s, r, surface.Partition)
	if d.Path != disk.Path+"p1" || !bytes.Equal(content(t, d.Device), bytesOf[4*mib:5*mib]) {
		t.Errorf("added: %+v", d)
	}
	if again := up(t, s, r, surface.Partition); again.Path != d.Path {
		t.Errorf("again: %+v", again)
	}
	// Bytes that lie across the kernel's partitions.
	r.Segments = part(2*mib, 2*mib)
	if d = up(t, s, r, surface.Loop); !bytes.Equal(content(t, d.Device), bytesOf[2*mib:4*mib]) {
		t.Error("across partitions: other bytes")
	}
	// They go with their disk, unless one is in use.
	claim, err := block.Open(t.Context(), up(t, s, surface.Request{LUNs: r.LUNs, Segments: part(mib, 2*mib)}, surface.Partition).Device, unix.O_RDONLY|unix.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Close()
	if err := s.Clear(t.Context(), disk, false); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Errorf("in use: %v", err)
	}
	if left, _ := filepath.Glob(fmt.Sprintf("/sys/block/%s/%s*", disk.Name, disk.Name)); len(left) != 2 {
		t.Errorf("a disk that stays has lost partitions: %v", left)
	}
	if err := s.Clear(t.Context(), disk, true); err != nil {
		t.Errorf("in use, lazily: %v", err)
	}
	claim.Close()
	if err := s.Clear(t.Context(), disk, false); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(fmt.Sprintf("/sys/block/%s/%s*", disk.Name, disk.Name)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRefused(t *testing.T) {
	h := looptest.NewHost(t)
	s := &surface.Surfacer{HostTag: h.Tag}
	disk, _ := random(t, h, 4)
	for name, segments := range map[string][]lun.Segment{
		"none":                   nil,
		"no extent":              {{}},
		"empty":                  part(mib, 0),
		"beyond the end":         part(3*mib, 2*mib),
		"wraps":                  part(mib, 1<<64-mib),
		"half a block":           part(mib+256, mib),
		"half a block long":      part(mib, mib+256),
		"LUN that is not there":  {{Extents: []lun.Extent{{LUN: 1, Length: mib}}}},
		"negative LUN":           {{Extents: []lun.Extent{{LUN: -1, Length: mib}}}},
		"two that are no stripe": {{Extents: []lun.Extent{{Length: mib}, {Offset: mib, Length: mib}}}},
		"uneven stripes":         {{Chunk: 4096, Extents: []lun.Extent{{Length: mib}, {Offset: mib, Length: 2 * mib}}}},
		"half a chunk":           {{Chunk: mib, Extents: []lun.Extent{{Length: mib / 2}, {Offset: mib, Length: mib / 2}}}},
	} {
		_, err := s.Surface(t.Context(), surface.Request{Name: "x", LUNs: []block.Device{disk}, Segments: segments})
		if e := vss.AsError("", err); !errors.Is(err, vss.VSS_E_MISSING_HIDDEN_VOLUME) || e.Remedy == "" || e.Reason == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	replaced := disk
	replaced.DiskSeq++
	if _, err := s.Surface(t.Context(), surface.Request{LUNs: []block.Device{replaced}, Segments: part(mib, mib)}); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("another disk: %v", err)
	}
}
