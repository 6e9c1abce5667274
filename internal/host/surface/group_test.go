package surface

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/vss"
)

// TestGroupTargets: a disk is its head, from the loop device, and then its extents,
// from the LUN.
func TestGroupTargets(t *testing.T) {
	disks := []GroupDisk{{HeadSize: mib, Offset: 3 * mib, Length: 8 * mib}, {HeadSize: 2 * mib, Offset: mib, Length: 4 * mib}}
	lun := block.Device{Major: 8, Minor: 16}
	for n, want := range [][]devicemapper.Target{
		{{Start: 0, Length: 2048, Type: "linear", Params: "7:5 2048"}, {Start: 2048, Length: 16384, Type: "linear", Params: "8:16 6144"}},
		{{Start: 0, Length: 4096, Type: "linear", Params: "7:5 4096"}, {Start: 4096, Length: 8192, Type: "linear", Params: "8:16 2048"}},
	} {
		if got := groupTargets(unix.Mkdev(7, 5), disks, n, lun); !slices.Equal(got, want) {
			t.Errorf("disk %d: %+v", n, got)
		}
	}
}

// TestGroupHeads: what LVM is to read is on a loop device, read-only, which goes
// when it is closed.
func TestGroupHeads(t *testing.T) {
	looptest.NeedRoot(t)
	head := slices.Concat(make([]byte, 5000), []byte("LABELONE"))
	f, err := loopOf(t.Context(), []GroupDisk{{Head: head, HeadSize: mib}, {Head: []byte("x"), HeadSize: 2 * mib}})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4*mib)
	if n, err := f.ReadAt(b, 0); n != len(b) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := f.ReadAt(make([]byte, 1), 4*mib); n != 0 || err == nil {
		t.Error("it is longer than pad and heads")
	}
	if !bytes.Equal(b[mib:mib+len(head)], head) || b[2*mib] != 'x' || slices.Max(b[:mib]) != 0 {
		t.Error("other bytes")
	}
	if _, err := f.WriteAt([]byte("y"), mib); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EIO) {
		t.Errorf("written: %v", err)
	}
	backing := filepath.Join("/sys/block", filepath.Base(f.Name()), "loop")
	if _, err := os.Stat(backing); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(backing); os.IsNotExist(err) {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the loop device stays")
		}
	}
}

// TestGroupRefuses: what does not fit is refused before anything is made.
func TestGroupRefuses(t *testing.T) {
	looptest.NeedRoot(t)
	h := looptest.NewHost(t)
	disk := h.Attach(t, looptest.File(t, 4*mib), true)
	s := &Surfacer{HostTag: looptest.NewHostTag(t)}
	for what, d := range map[string]GroupDisk{
		"more than the LUN has": {HeadSize: mib, LUN: disk, Offset: mib, Length: 4 * mib},
		"behind the LUN":        {HeadSize: mib, LUN: disk, Offset: 1 << 62, Length: mib},
		"nothing":               {HeadSize: mib, LUN: disk},
		"half a sector":         {HeadSize: mib, LUN: disk, Offset: 100, Length: mib},
		"a head that is longer": {Head: make([]byte, 2*mib), HeadSize: mib, LUN: disk, Length: mib},
	} {
		_, err := s.GroupDisks(t.Context(), "Umbra1-xxxx-xxxx-xxxx-xxxx-xxxx-xxxxxx", []GroupDisk{d})
		if code := vss.CodeOf(err); code != vss.VSS_E_MISSING_HIDDEN_VOLUME && code != vss.E_INVALIDARG {
			t.Errorf("%s: %v", what, err)
		}
	}
}
