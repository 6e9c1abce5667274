package regroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/vss"
)

const (
	disk0 = "r8grWr-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k"
	disk1 = "gu1eGk-w1S7-ACtV-SreD-OmQe-SVVT-TG54H5"
	db    = "dFavU5-ZI2i-jK7m-z2gO-hMHm-5CYa-3pQuHH"
	mib   = 1 << 20
)

// original is a group of two disks with a volume over both, as LVM would have it.
func original(t *testing.T) lvm.Group {
	t.Helper()
	r, err := lvm.ParseGroup(fmt.Sprintf(`data {
id = "aUt5mI-C6Ul-ejVp-w5FO-gTFk-a1y3-Zw45ZB"
seqno = 4
extent_size = 8192
physical_volumes {
pv0 { id = %q pe_start = 2048 pe_count = 15 }
pv1 { id = %q pe_start = 2048 pe_count = 15 } }
logical_volumes {
db { id = %q segment_count = 2
segment1 { start_extent = 0 extent_count = 3 type = "striped" stripe_count = 1 stripes = [ "pv0", 2 ] }
segment2 { start_extent = 3 extent_count = 1 type = "striped" stripe_count = 1 stripes = [ "pv1", 0 ] } } }
}`, disk0, disk1, db))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fakeLVM puts a program of LVM's name into the path.
func fakeLVM(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lvm"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

const someGroups = `echo '{"report":[{"vg":[{"vg_name":"data","vg_uuid":"x"},{"vg_name":"root","vg_uuid":"y"}]}]}'; echo WARNING >&2; exit 5`

func TestIdentify(t *testing.T) {
	g := original(t)
	segments := []lvm.Segment{{Kind: "striped", Length: 12 * mib, Areas: []lvm.Area{{Disk: disk0, Offset: 9 * mib}}}, {Kind: "striped", Length: 4 * mib, Areas: []lvm.Area{{Disk: disk1, Offset: mib}}}}
	want := Group{Disks: []Disk{{UUID: disk0, LUN: block.Device{Path: "/dev/a"}}, {UUID: disk1, LUN: block.Device{Path: "/dev/b"}, Offset: 7}}, Volumes: map[string][]lvm.Segment{db: segments}}
	read := func(_ context.Context, d block.Device, offset uint64) (lvm.Disk, error) {
		if d.Path == "/dev/a" {
			return lvm.Disk{UUID: disk0}, nil // keeps no text
		}
		if offset != 7 {
			return lvm.Disk{}, lvm.ErrNone
		}
		return lvm.Disk{UUID: disk1, Group: g}, nil
	}
	s := Shower{LVM: t.TempDir(), Read: read}
	fakeLVM(t, someGroups)
	id, err := s.Identify(t.Context(), "data_1", want)
	if err != nil || id.Name != "data_1" || !strings.HasPrefix(id.UUID, lvm.Mark) || len(id.Disks) != 2 || len(id.Volumes) != 1 {
		t.Fatalf("%+v, %v", id, err)
	}
	for what, c := range map[string]struct {
		name   string
		change func(*Group, *Shower)
		code   vss.HResult
		says   string
	}{
		"a name that LVM has":    {"data", nil, vss.VSS_E_OBJECT_ALREADY_EXISTS, "of this name"},
		"a name that /dev has":   {"null", nil, vss.VSS_E_OBJECT_ALREADY_EXISTS, "/dev/null"},
		"a name that is none":    {"-x", nil, vss.E_INVALIDARG, "letters"},
		"a name that is long":    {strings.Repeat("x", 126), nil, vss.E_INVALIDARG, "too long"},
		"a volume elsewhere":     {"new", func(g *Group, _ *Shower) { g.Volumes = map[string][]lvm.Segment{db: segments[:1]} }, vss.VSS_E_MISSING_HIDDEN_VOLUME, "elsewhere"},
		"a volume that is gone":  {"new", func(g *Group, _ *Shower) { g.Volumes = map[string][]lvm.Segment{disk0: segments} }, vss.VSS_E_MISSING_HIDDEN_VOLUME, "does not fit"},
		"a disk that is not its": {"new", func(g *Group, _ *Shower) { g.Disks = []Disk{{UUID: disk1, LUN: block.Device{Path: "/dev/a"}}} }, vss.VSS_E_MISSING_HIDDEN_VOLUME, "not the physical volume"},
		"a disk that is missing": {"new", func(g *Group, _ *Shower) { g.Disks = g.Disks[1:] }, vss.VSS_E_MISSING_HIDDEN_VOLUME, "not among those"},
		"no text on any":         {"new", func(g *Group, _ *Shower) { g.Disks = g.Disks[:1] }, vss.VSS_E_VOLUME_NOT_SUPPORTED, "metadataignore"},
		"a disk that fails": {"new", func(_ *Group, s *Shower) {
			s.Read = func(context.Context, block.Device, uint64) (lvm.Disk, error) {
				return lvm.Disk{}, errors.New("no")
			}
		}, vss.VSS_E_MISSING_HIDDEN_VOLUME, "no"},
	} {
		g, s := want, s
		if c.change != nil {
			c.change(&g, &s)
		}
		_, err := s.Identify(t.Context(), c.name, g)
		e := vss.AsError("", err)
		if vss.CodeOf(err) != c.code || e == nil || e.Remedy == "" || !strings.Contains(e.Error()+e.Remedy, c.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	fakeLVM(t, "echo broken; exit 5")
	if _, err := s.Identify(t.Context(), "new", want); vss.CodeOf(err) != vss.VSS_E_UNEXPECTED {
		t.Errorf("LVM that says nothing: %v", err)
	}
}

// TestNoLVM: on a machine without it, that is said.
func TestNoLVM(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := program(); err != nil && !errors.Is(err, vss.VSS_E_NOT_SUPPORTED) {
		t.Error(err)
	} else if err == nil {
		t.Skip("LVM is installed")
	}
	if err := (Shower{}).Show(t.Context(), Group{}); !errors.Is(err, vss.VSS_E_NOT_SUPPORTED) {
		t.Error(err)
	}
}

// TestDevicesFile: where LVM looks at listed devices only, ours are listed, and
// else LVM is not asked.
func TestDevicesFile(t *testing.T) {
	dir := t.TempDir()
	said := filepath.Join(dir, "said")
	fakeLVM(t, `echo "$@" >>`+said+`; test "$4" != bad`)
	s := Shower{LVM: dir}
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("lvm.conf", "devices { use_devicesfile = 1 }")
	if err := s.list(t.Context(), "--adddev", []string{"/dev/mapper/x"}); err != nil {
		t.Error(err)
	}
	put("devices/system.devices", "")
	if err := s.list(t.Context(), "--adddev", []string{"/dev/mapper/x"}); err != nil {
		t.Error(err)
	}
	if err := s.list(t.Context(), "--adddev", []string{"bad"}); vss.CodeOf(err) != vss.VSS_E_UNEXPECTED {
		t.Error(err)
	}
	if err := s.list(t.Context(), "--deldev", []string{"bad"}); err != nil {
		t.Error(err)
	}
	b, _ := os.ReadFile(said)
	if string(b) != "lvmdevices --yes --adddev /dev/mapper/x\nlvmdevices --yes --adddev bad\nlvmdevices --yes --deldev bad\n" {
		t.Errorf("LVM was asked\n%s", b)
	}

	// What LVM kept of the group goes, and of no other.
	id := lvm.Identity{Name: "data_1", UUID: "Umbra1-abcd"}
	put("backup/data_1", `id = "Umbra1-abcd"`)
	put("archive/data_1_00000-1.vg", `id = "Umbra1-abcd"`)
	put("archive/data_1_00001-1.vg", `id = "another"`)
	s.forget(id)
	left, _ := filepath.Glob(filepath.Join(dir, "*", "data_1*"))
	if len(left) != 1 || !strings.HasSuffix(left[0], "00001-1.vg") {
		t.Errorf("left: %v", left)
	}
}
