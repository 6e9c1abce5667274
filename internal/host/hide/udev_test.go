package hide

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
)

// TestUdev shows a loop device with a filesystem to the udev rules of this
// machine, as udev would at the device's first event, and asks what they made
// of it. The rules are in udev's own folder meanwhile; they name a LUN that was
// drawn for this test.
func TestUdev(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	for _, tool := range []string{"udevadm", "losetup", "mkfs.ext4"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	removeUnlessThere(t, "/run/udev")
	digits := make([]byte, 16)
	rand.Read(digits)
	naa, err := lun.ParseNAA("naa.6001405" + hex.EncodeToString(digits)[7:])
	if err != nil {
		t.Fatal(err)
	}
	info := lun.Info{Version: 1, StorageIDs: []lun.StorageID{naa.StorageID()}}
	family := Family(strings.TrimPrefix(naa.String(), "naa.")[:16])

	file := filepath.Join(t.TempDir(), naa.String()+".lun")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 8<<20); err != nil {
		t.Fatal(err)
	}
	output(t, "mkfs.ext4", "-q", file)
	dev := strings.TrimSpace(output(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { output(t, "losetup", "--detach", dev) })
	block := "/sys/block/" + filepath.Base(dev)
	t.Cleanup(func() { output(t, "udevadm", "test", "--action=remove", block) })

	r := Rules{}
	t.Cleanup(func() { _ = os.Remove(filepath.Join(DefaultDir, familyFile(family))) })
	steps := []struct {
		name   string
		do     func() error
		hidden bool
	}{
		{"no rules", func() error { return nil }, false},
		{"the array is joined", func() error { return r.HideFamily(t.Context(), family) }, true},
		{"an original is let through", func() error { return r.Admit(t.Context(), []lun.Info{info}) }, false},
		{"an import brings it", func() error { return r.Hide(t.Context(), []lun.Info{info}) }, true},
		{"it is deleted", func() error { return r.Unhide(t.Context(), []lun.Info{info}) }, false},
		{"it is detached", func() error { return r.Dismiss(t.Context(), []lun.Info{info}) }, true},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		_, props, ok := strings.Cut(output(t, "udevadm", "test", "--action=add", block), "DEVPATH=")
		if !ok {
			t.Fatal("udevadm does not print the device's properties")
		}
		for property, whenHidden := range map[string]bool{"ID_FS_UUID=": false, "/dev/disk/by-uuid/": false,
			"SYSTEMD_READY=0": true, "UDISKS_IGNORE=1": true, "UMBRA_HIDDEN=1": true} {
			if strings.Contains(props, property) != (s.hidden == whenHidden) {
				t.Errorf("%s: hidden should be %v, and %s is there: %v", s.name, s.hidden, property, s.hidden != whenHidden)
			}
		}
	}
}

// removeUnlessThere removes at the test's end a folder that was not there at
// its beginning.
func removeUnlessThere(t *testing.T, dir string) {
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
