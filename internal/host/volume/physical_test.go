package volume_test

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/contents"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/vss"
)

// TestContainersOnLUNs: what holds volumes is read, named and listed, wherever on
// a LUN it is, and is no volume itself.
func TestContainersOnLUNs(t *testing.T) {
	h := looptest.NewHost(t)
	z, err := os.Open("../lvm/testdata/disk0.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r, err := gzip.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	luks := append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 4088)...)
	copy(luks[168:], "0d9e8a4c-6d0c-4d7b-9d55-0d6a7a3c1a11")
	const at = 2 * mib
	for _, c := range []struct {
		name   string
		head   []byte
		offset int64
		kind   string
		says   string
	}{
		{"LVM", disk, 0, filesystem.TypeLVM, "volume group"},
		{"LVM on a part", disk, at, "", ""},
		{"LUKS", luks, 0, filesystem.TypeLUKS, "LUKS"},
	} {
		path := looptest.File(t, 64*mib)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(c.head, c.offset)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		d := h.Attach(t, path, false)
		got, err := volume.ReadPhysicalVolume(t.Context(), d, uint64(c.offset))
		if c.name == "LUKS" {
			if !errors.Is(err, volume.ErrNoPhysicalVolume) {
				t.Errorf("%s: %+v, %v", c.name, got, err)
			}
		} else if err != nil || got.UUID != "r8grWr-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k" || got.Group.Name != "data" {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if c.kind == "" {
			continue
		}
		refused(t, h, d.Path, vss.VSS_E_VOLUME_NOT_SUPPORTED, c.says)
		holds, err := contents.Read(t.Context(), d)
		if err != nil || len(holds.Volumes) != 1 || holds.Volumes[0].Filesystem.Type != c.kind {
			t.Errorf("%s: listed as %+v, %v", c.name, holds, err)
		}
	}
}
