package filesystem_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

var volumes = map[string]struct {
	size int64
	args []string
}{
	"ext4":  {32 * mib, nil},
	"ext2":  {32 * mib, nil},
	"xfs":   {320 * mib, nil},
	"btrfs": {128 * mib, nil},
}

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// A copy, cloned under a freeze, mounted read-only beside its mounted original.
func TestMountCloneBesideItsOriginal(t *testing.T) {
	h := looptest.NewHost(t)
	store := h.Store(t)
	for name, v := range volumes {
		t.Run(name, func(t *testing.T) {
			path := looptest.FileIn(t, store, v.size)
			original := h.Attach(t, path, false)
			looptest.Mkfs(t, name, original.Path, v.args...)
			driver := name
			if name == "ext2" {
				driver = "ext4"
			}
			dir := looptest.Mount(t, driver, original.Path, "")
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("before"), 0o600); err != nil {
				t.Fatal(err)
			}
			clone := path + ".copy"
			looptest.CloneFrozen(t, dir, path, clone)
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("after"), 0o600); err != nil {
				t.Fatal(err)
			}
			was := digest(t, clone)
			dev := h.Attach(t, clone, true)
			id, err := filesystem.Probe(t.Context(), dev.Path)
			if err != nil {
				t.Fatal(err)
			}
			if id.Type != name || id.Size != uint64(v.size) {
				t.Errorf("identity %+v", id)
			}
			target := t.TempDir()
			m := filesystem.CloneMount{Device: dev, Identity: id, Target: target, Quiesced: true}
			t.Cleanup(func() { looptest.Unmount(t, target) })
			if err := filesystem.MountClone(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(target, "file")); err != nil || string(got) != "before" {
				t.Errorf("the copy says %q, %v", got, err)
			}
			if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing to the copy: %v", err)
			}
			checkMount(t, target)

			// Another device's mount is not ours to take away.
			if err := filesystem.Unmount(t.Context(), target, original); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
				t.Errorf("Unmount expecting the original: %v", err)
			}
			busy, err := os.Open(filepath.Join(target, "file"))
			if err != nil {
				t.Fatal(err)
			}
			defer busy.Close()
			err = filesystem.Unmount(t.Context(), target, dev)
			if !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) || !strings.Contains(err.Error(), "pid") {
				t.Errorf("Unmount while in use: %v", err)
			}
			busy.Close()
			for range 2 { // idempotent
				if err := filesystem.Unmount(t.Context(), target, dev); err != nil {
					t.Fatal(err)
				}
			}
			if digest(t, clone) != was {
				t.Error("mounting changed the copy")
			}
			// And the original has not noticed.
			if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "after" {
				t.Errorf("the original says %q, %v", got, err)
			}
		})
	}
}

func checkMount(t *testing.T, target string) {
	t.Helper()
	ms, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(target))
	if err != nil || len(ms) != 1 {
		t.Fatalf("%d mounts at the target, %v", len(ms), err)
	}
	for _, o := range []string{"ro", "nodev", "nosuid"} {
		if !strings.Contains(","+ms[0].Options+",", ","+o+",") {
			t.Errorf("not %s: %s", o, ms[0].Options)
		}
	}
	if ms[0].Optional != "" {
		t.Errorf("not private: %s", ms[0].Optional)
	}
}

func TestMountIsPrivateUnderASharedMount(t *testing.T) {
	h := looptest.NewHost(t)
	parent := t.TempDir()
	if err := unix.Mount("tmpfs", parent, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { looptest.Unmount(t, parent) })
	if err := unix.Mount("", parent, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	dev := h.Attach(t, ext4File(t), true)
	target := filepath.Join(parent, "copy")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { looptest.Unmount(t, target) })
	if err := filesystem.MountClone(t.Context(), filesystem.CloneMount{Device: dev, Target: target, Quiesced: true}); err != nil {
		t.Fatal(err)
	}
	checkMount(t, target)
	if err := filesystem.Unmount(t.Context(), target, dev); err != nil {
		t.Error(err)
	}
}

func ext4File(t *testing.T) string {
	t.Helper()
	path := looptest.File(t, 16*mib)
	looptest.Mkfs(t, "ext4", path)
	return path
}

func TestMountCloneRefuses(t *testing.T) {
	h := looptest.NewHost(t)
	dev := h.Attach(t, ext4File(t), true)
	id, err := filesystem.Probe(t.Context(), dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	stale := dev
	stale.DiskSeq--
	otherID := id
	otherID.UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	blank := h.Attach(t, looptest.File(t, mib), true)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		m    filesystem.CloneMount
		want error
	}{
		"not quiesced":     {t.Context(), filesystem.CloneMount{Device: dev, Identity: id, Target: target}, vss.VSS_E_VOLUME_NOT_SUPPORTED},
		"replaced":         {t.Context(), filesystem.CloneMount{Device: stale, Identity: id, Target: target, Quiesced: true}, vss.VSS_E_OBJECT_NOT_FOUND},
		"other filesystem": {t.Context(), filesystem.CloneMount{Device: dev, Identity: otherID, Target: target, Quiesced: true}, vss.VSS_E_MISSING_VOLUME},
		"no filesystem":    {t.Context(), filesystem.CloneMount{Device: blank, Target: target, Quiesced: true}, vss.VSS_E_VOLUME_NOT_SUPPORTED},
		"no target":        {t.Context(), filesystem.CloneMount{Device: dev, Identity: id, Target: target + "/none", Quiesced: true}, vss.E_INVALIDARG},
		"cancelled":        {cancelled, filesystem.CloneMount{Device: dev, Identity: id, Target: target, Quiesced: true}, context.Canceled},
	} {
		err := filesystem.MountClone(c.ctx, c.m)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		var e *vss.Error
		if errors.As(err, &e) && e.Remedy == "" {
			t.Errorf("%s: no remedy", name)
		}
		if m, err := mountinfo.Mounted(target); err != nil || m {
			t.Fatalf("%s: something is mounted, %v", name, err)
		}
	}
}

func TestMountCloneOfATruncatedCopy(t *testing.T) {
	h := looptest.NewHost(t)
	path := looptest.File(t, 320*mib)
	looptest.Mkfs(t, "xfs", path)
	if err := os.Truncate(path, 160*mib); err != nil {
		t.Fatal(err)
	}
	dev := h.Attach(t, path, true)
	m := filesystem.CloneMount{Device: dev, Target: t.TempDir(), Quiesced: true}
	if err := filesystem.MountClone(t.Context(), m); !errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("MountClone = %v", err)
	}
	// Where we cannot tell, the kernel can.
	m.Device.Size = 0
	if err := filesystem.MountClone(t.Context(), m); !errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) || !strings.Contains(err.Error(), "kernel") {
		t.Errorf("MountClone = %v", err)
	}
}

func TestXFSCloneWithExternalLog(t *testing.T) {
	h := looptest.NewHost(t)
	data := h.Attach(t, looptest.File(t, 320*mib), false)
	log := h.Attach(t, looptest.File(t, 64*mib), false)
	looptest.Mkfs(t, "xfs", data.Path, "-l", "logdev="+log.Path)
	m := filesystem.CloneMount{Device: data, Target: t.TempDir(), Quiesced: true}
	if err := filesystem.MountClone(t.Context(), m); !errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) {
		t.Errorf("without its log: %v", err)
	}
	m.Log = &log
	t.Cleanup(func() { looptest.Unmount(t, m.Target) })
	if err := filesystem.MountClone(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := filesystem.Unmount(t.Context(), m.Target, data); err != nil {
		t.Error(err)
	}
}

func TestBtrfsCopyOfSeveralDevicesIsRefused(t *testing.T) {
	h := looptest.NewHost(t)
	a, b := h.Attach(t, looptest.File(t, 128*mib), false), h.Attach(t, looptest.File(t, 128*mib), false)
	looptest.Mkfs(t, "btrfs", b.Path, a.Path) // devices 1 and 2 are a and b
	id, err := filesystem.Probe(t.Context(), b.Path)
	if err != nil || id.Devices != 2 || id.Size != 256*mib || id.DeviceSize != 128*mib || id.DeviceID != 2 {
		t.Errorf("identity %+v, %v", id, err)
	}
	err = filesystem.MountClone(t.Context(), filesystem.CloneMount{Device: a, Target: t.TempDir(), Quiesced: true})
	if !errors.Is(err, vss.VSS_E_VOLUME_NOT_SUPPORTED) {
		t.Errorf("MountClone = %v", err)
	}
}

func TestBtrfsDevices(t *testing.T) {
	h := looptest.NewHost(t)
	a, b := h.Attach(t, looptest.File(t, 128*mib), false), h.Attach(t, looptest.File(t, 128*mib), false)
	looptest.Mkfs(t, "btrfs", b.Path, a.Path) // devices 1 and 2 are a and b
	if out, err := exec.Command("btrfs", "device", "scan", a.Path, b.Path).CombinedOutput(); err != nil {
		t.Fatalf("scan: %v %s", err, out)
	}
	dir := looptest.Mount(t, "btrfs", a.Path, "")
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	devs, err := filesystem.BtrfsDevices(f)
	f.Close()
	if err != nil || len(devs) != 2 || devs[0].Path != a.Path || devs[1].Path != b.Path || devs[0].Size != 128*mib || devs[0].UUID == devs[1].UUID {
		t.Errorf("%+v, %v", devs, err)
	}
	f, err = os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := filesystem.BtrfsDevices(f); err == nil {
		t.Error("proc has btrfs devices")
	}
}
