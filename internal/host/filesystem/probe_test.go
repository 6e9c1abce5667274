package filesystem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// made runs mkfs on a sparse file; no root needed.
func made(t testing.TB, size int64, mkfs string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	sparse(t, path, size)
	run(t, mkfs, append(args, path)...)
	return path
}

func sparse(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

const (
	mib  = 1 << 20
	uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
)

func TestProbe(t *testing.T) {
	ext := []string{"-q", "-F", "-U", uuid, "-L", "data"}
	for name, c := range map[string]struct {
		size int64
		mkfs string
		args []string
		want Identity
	}{
		"ext2":         {16 * mib, "mkfs.ext2", ext, Identity{Type: TypeExt2, UUID: uuid, Label: "data", Size: 16 * mib, DeviceSize: 16 * mib, Devices: 1}},
		"ext3":         {16 * mib, "mkfs.ext3", ext, Identity{Type: TypeExt3, UUID: uuid, Label: "data", Size: 16 * mib, DeviceSize: 16 * mib, Devices: 1}},
		"ext4":         {16 * mib, "mkfs.ext4", ext, Identity{Type: TypeExt4, UUID: uuid, Label: "data", Size: 16 * mib, DeviceSize: 16 * mib, Devices: 1}},
		"ext4 1k":      {16 * mib, "mkfs.ext4", append([]string{"-b", "1024"}, ext...), Identity{Type: TypeExt4, UUID: uuid, Label: "data", Size: 16 * mib, DeviceSize: 16 * mib, Devices: 1}},
		"ext4 no csum": {16 * mib, "mkfs.ext4", append([]string{"-O", "^metadata_csum"}, ext...), Identity{Type: TypeExt4, UUID: uuid, Label: "data", Size: 16 * mib, DeviceSize: 16 * mib, Devices: 1}},
		"journal":      {16 * mib, "mkfs.ext4", append([]string{"-O", "journal_dev", "-b", "4096"}, ext...), Identity{Type: TypeJournal, UUID: uuid, Label: "data", Size: 16 * mib, DeviceSize: 16 * mib, Devices: 1}},
		"xfs":          {320 * mib, "mkfs.xfs", []string{"-q", "-m", "uuid=" + uuid, "-L", "data"}, Identity{Type: TypeXFS, UUID: uuid, Label: "data", Size: 320 * mib, DeviceSize: 320 * mib, Devices: 1}},
		"xfs 4k":       {320 * mib, "mkfs.xfs", []string{"-q", "-m", "uuid=" + uuid, "-s", "size=4096", "-L", "twelve-bytes"}, Identity{Type: TypeXFS, UUID: uuid, Label: "twelve-bytes", Size: 320 * mib, DeviceSize: 320 * mib, Devices: 1}},
		"xfs 16k":      {320 * mib, "mkfs.xfs", []string{"-q", "-m", "uuid=" + uuid, "-b", "size=16384", "-s", "size=16384"}, Identity{Type: TypeXFS, UUID: uuid, Size: 320 * mib, DeviceSize: 320 * mib, Devices: 1}},
		"xfs v4":       {320 * mib, "mkfs.xfs", []string{"-q", "-m", "crc=0,finobt=0,rmapbt=0,reflink=0,bigtime=0,inobtcount=0", "-L", "old"}, Identity{Type: TypeXFS, Label: "old", Size: 320 * mib, DeviceSize: 320 * mib, Devices: 1}},
		"btrfs":        {128 * mib, "mkfs.btrfs", []string{"-q", "-U", uuid, "-L", "data"}, Identity{Type: TypeBtrfs, UUID: uuid, Label: "data", Size: 128 * mib, DeviceSize: 128 * mib, DeviceID: 1, Devices: 1}},
		"btrfs sha256": {128 * mib, "mkfs.btrfs", []string{"-q", "-U", uuid, "--csum", "sha256"}, Identity{Type: TypeBtrfs, UUID: uuid, Size: 128 * mib, DeviceSize: 128 * mib, DeviceID: 1, Devices: 1}},
		"btrfs xxhash": {128 * mib, "mkfs.btrfs", []string{"-q", "-U", uuid, "--csum", "xxhash"}, Identity{Type: TypeBtrfs, UUID: uuid, Size: 128 * mib, DeviceSize: 128 * mib, DeviceID: 1, Devices: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			path := made(t, c.size, c.mkfs, c.args...)
			got, err := Probe(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if got.Features == "" || (got.Type == TypeBtrfs) != (got.DeviceUUID != "") {
				t.Errorf("features %q, device %q", got.Features, got.DeviceUUID)
			}
			got.Features, got.DeviceUUID = "", ""
			if c.want.UUID == "" { // made up by mkfs
				got.UUID = ""
			}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			damage(t, path, got.Type, name)
		})
	}
}

// damage flips a bit that only the checksum can tell.
func damage(t *testing.T, path, fstype, name string) {
	t.Helper()
	for _, without := range []string{"ext2", "ext3", "no csum", "journal", "v4", "xxhash"} {
		if strings.Contains(name, without) {
			return
		}
	}
	label := map[string]int64{TypeExt4: extOffset + 0x78, TypeXFS: 108, TypeBtrfs: btrfsOffset + btrfsLabel}[fstype]
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{'X'}, label); err != nil {
		t.Fatal(err)
	}
	if _, err := Probe(t.Context(), path); !errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("after damage: %v", err)
	}
}

func TestProbeExternalLogAndJournal(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	sparse(t, log, 64*mib)
	path := made(t, 320*mib, "mkfs.xfs", "-q", "-l", "logdev="+log+",size=64m")
	if got, err := Probe(t.Context(), path); err != nil || !got.ExternalLog || got.Realtime {
		t.Errorf("xfs: %+v, %v", got, err)
	}
}

func TestProbeNothing(t *testing.T) {
	for _, size := range []int64{0, 1, 512, 1500, 64 << 10, mib} {
		path := filepath.Join(t.TempDir(), "disk")
		sparse(t, path, size)
		if got, err := Probe(t.Context(), path); err != nil || got != (Identity{}) {
			t.Errorf("%d bytes: %+v, %v", size, got, err)
		}
	}
	if _, err := Probe(t.Context(), "/nonexistent"); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Probe(t.Context(), t.TempDir()); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("folder: %v", err)
	}
}

// Superblocks that contradict themselves, with whatever checksum they need.
func TestParseContradictions(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	ext := func(change func(sb []byte)) []byte {
		b := make([]byte, superblocks)
		sb := b[extOffset:]
		le.PutUint16(sb[0x38:], extMagic)
		le.PutUint32(sb[4:], 100)
		change(sb)
		return b
	}
	xfs := func(change func(sb []byte)) []byte {
		b := make([]byte, superblocks)
		copy(b, xfsMagic)
		be.PutUint32(b[4:], 4096)
		be.PutUint64(b[8:], 100)
		be.PutUint16(b[100:], 0xb4a5)
		be.PutUint16(b[102:], 512)
		change(b)
		return b
	}
	btrfs := func(change func(sb []byte)) []byte {
		b := make([]byte, superblocks)
		sb := b[btrfsOffset:]
		copy(sb[0x40:], btrfsMagic)
		le.PutUint64(sb[btrfsDevices:], 1)
		le.PutUint64(sb[btrfsTotal:], 1000)
		le.PutUint64(sb[btrfsDevItem+8:], 1000)
		change(sb)
		le.PutUint32(sb, crc32.Checksum(sb[btrfsFSID:], castagnoli))
		return b
	}
	for name, b := range map[string][]byte{
		"ext block size":  ext(func(sb []byte) { le.PutUint32(sb[0x18:], 60) }),
		"ext no blocks":   ext(func(sb []byte) { le.PutUint32(sb[4:], 0) }),
		"ext overflow":    ext(func(sb []byte) { le.PutUint32(sb[0x60:], extIncompat64Bit); le.PutUint32(sb[0x150:], 1<<31) }),
		"ext no journal":  ext(func(sb []byte) { le.PutUint32(sb[0x5C:], extCompatJournal) }),
		"xfs block size":  xfs(func(sb []byte) { be.PutUint32(sb[4:], 4097) }),
		"xfs no blocks":   xfs(func(sb []byte) { be.PutUint64(sb[8:], 0) }),
		"xfs overflow":    xfs(func(sb []byte) { be.PutUint64(sb[8:], 1<<60) }),
		"xfs version":     xfs(func(sb []byte) { be.PutUint16(sb[100:], 3) }),
		"xfs sector":      xfs(func(sb []byte) { be.PutUint16(sb[102:], 0) }),
		"btrfs devices":   btrfs(func(sb []byte) { le.PutUint64(sb[btrfsDevices:], 0) }),
		"btrfs many":      btrfs(func(sb []byte) { le.PutUint64(sb[btrfsDevices:], 1<<40) }),
		"btrfs too large": btrfs(func(sb []byte) { le.PutUint64(sb[btrfsDevItem+8:], 1001) }),
		"btrfs sum type":  btrfs(func(sb []byte) { le.PutUint16(sb[btrfsSumType:], 9) }),
	} {
		if got, err := Parse(b); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got, err := Parse(btrfs(func([]byte) {})); err != nil || got.Type != TypeBtrfs {
		t.Errorf("the btrfs they were made from: %+v, %v", got, err)
	}
	large := ext(func(sb []byte) {
		le.PutUint32(sb[0x60:], extIncompat64Bit)
		le.PutUint32(sb[0x18:], 2)
		le.PutUint32(sb[0x150:], 1)
	})
	if got, err := Parse(large); err != nil || got.Size != (1<<32+100)*4096 || got.Type != TypeExt4 {
		t.Errorf("17 TB of ext4: %+v, %v", got, err)
	}
	if got, err := Parse(ext(func([]byte) {})); err != nil || got.Type != TypeExt2 {
		t.Errorf("the ext they were made from: %+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, mk := range [][]string{{"mkfs.ext4", "-q", "-F"}, {"mkfs.xfs", "-q"}, {"mkfs.btrfs", "-q"}} {
		if _, err := exec.LookPath(mk[0]); err != nil {
			continue
		}
		head, err := readHead(made(f, 320*mib, mk[0], mk[1:]...), 0, superblocks)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(head)
		f.Add(head[:2048])
	}
	f.Add([]byte(xfsMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := Parse(b)
		if err != nil || id.Type == "" {
			if id != (Identity{}) {
				t.Errorf("%+v with %v", id, err)
			}
			return
		}
		if id.Size == 0 || id.DeviceSize == 0 || id.DeviceSize > id.Size || id.Devices < 1 {
			t.Errorf("%+v", id)
		}
		if bytes.ContainsRune([]byte(id.Label), 0) {
			t.Errorf("label %q", id.Label)
		}
	})
}

func TestDecodeDevice(t *testing.T) {
	for n, want := range map[uint32]string{0x703: "7:3", 0x00100803: "8:259", 0: "0:0"} {
		dev := decodeDevice(n)
		if got := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)); got != want {
			t.Errorf("%#x is %s, want %s", n, got, want)
		}
	}
}
