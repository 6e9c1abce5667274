package lab_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/test/lab"
)

// TestPartition copies one partition of a LUN over iSCSI. The kernel makes nodes
// of all of them when the copy arrives, and the one that nobody asked for is a
// physical volume of LVM: udev's rules would activate it.
func TestPartition(t *testing.T) {
	s := newSAN(t, "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	naa := s.lun("db", "96M", "a")
	a.Sh("umbra rescan")
	d := s.disk(a, naa)
	a.Sh(`printf 'label: gpt\nsize=40M, name=data, uuid=31111111-2222-3333-4444-555555555555\nname=vg\n' | sfdisk -q /dev/%[1]s && udevadm settle
mkfs.ext4 -q -L wanted -U 41111111-2222-3333-4444-555555555555 /dev/%[1]s1 && mkdir -p /data && mount /dev/%[1]s1 /data && echo hello >/data/greeting
pvcreate -q -y /dev/%[1]s2 && vgcreate -q wanted /dev/%[1]s2 && lvcreate -q -y -n lv -L 16M wanted && vgchange -q -an wanted && sync`, d)
	a.Sh("umbra create /data --transportable --document /root/set.umbra")
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err != nil {
		t.Fatal(err)
	}
	a.PowerOff()
	if err := b.Push(t.Context(), doc, "/root/set.umbra", 0o600); err != nil {
		t.Fatal(err)
	}
	b.Sh("umbra import /root/set.umbra")
	b.Sh("udevadm settle")

	if got := b.Sh("cat /run/umbra/copies/*/greeting"); strings.TrimSpace(got) != "hello" {
		t.Errorf("the copy on b says %q", got)
	}
	if got := strings.Fields(b.Sh("awk '$2 ~ /umbra.copies/ {print $1}' /proc/mounts")); len(got) != 1 || !strings.HasPrefix(got[0], "/dev/sd") || !strings.HasSuffix(got[0], "1") {
		t.Errorf("mounted: %v; the kernel's own partition needs nothing else", got)
	}
	partitionsHidden(t, b)
	// Asked to look again, as an administrator or a package might.
	b.Sh("udevadm trigger --action=add --subsystem-match=block && udevadm settle")
	partitionsHidden(t, b)

	var luns []requester.LUN
	if err := json.Unmarshal([]byte(b.Sh("umbra list luns --output json")), &luns); err != nil {
		t.Fatal(err)
	}
	if len(luns) != 1 || len(luns[0].Volumes) != 2 {
		t.Fatalf("LUNs on b: %+v", luns)
	}
	if v := luns[0].Volumes; len(v[0].Copies) != 1 || len(v[1].Copies) != 0 || v[1].Filesystem != "LVM2_member" || v[1].Name != "vg" {
		t.Errorf("volumes of the LUN: %+v", v)
	}
	t.Log(b.Sh("umbra list luns"))

	b.Sh("umbra delete all")
	if left := b.Sh("ls /sys/block | grep ^sd || true; ls /dev/sd* 2>/dev/null || true"); left != "" {
		t.Errorf("left on b: %s", left)
	}
	surfaceOn(t, b)
}

// partitionsHidden asserts that nothing acted on the copy's disk or its
// partitions.
func partitionsHidden(t *testing.T, m *lab.Machine) {
	t.Helper()
	n := 0
	for entry := range strings.SplitSeq(m.Sh("udevadm info --export-db"), "\n\n") {
		if !strings.Contains(entry, "E: DEVNAME=/dev/sd") {
			continue
		}
		n++
		for property, want := range map[string]bool{"SYSTEMD_READY=0": true, "UDISKS_IGNORE=1": true, "UMBRA_HIDDEN=1": true, "ID_FS_UUID=": false, "DEVLINKS=/dev/umbra/hidden/": true, "DEVLINKS=/dev/disk": false} {
			if strings.Contains(entry, "E: "+property) != want {
				t.Errorf("%s should be there: %v\n%s", property, want, entry)
			}
		}
	}
	if n != 3 {
		t.Errorf("udev knows %d devices of the copy, want the disk and two partitions", n)
	}
	if acted := m.Sh("ls /dev/disk/by-uuid /dev/disk/by-label /dev/disk/by-partuuid /dev/disk/by-partlabel /run/lvm/vgs_online /dev/wanted 2>/dev/null | grep -v : || true; dmsetup ls | grep -v '^No' || true"); strings.TrimSpace(acted) != "" {
		t.Errorf("something acted: %s", acted)
	}
}

// surfaceOn runs package surface's own tests on a machine, whose kernel has
// device-mapper and reads partition tables.
func surfaceOn(t *testing.T, m *lab.Machine) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "surface.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-s -w", "-o", program, "../../internal/host/surface")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Push(t.Context(), text, "/root/surface.test", 0o700); err != nil {
		t.Fatal(err)
	}
	out := m.Sh("cd /root && ./surface.test -test.run 'TestMapped' -test.v")
	if !strings.Contains(out, "--- PASS: TestMapped") {
		t.Errorf("%s", out)
	}
	if left := m.Sh("dmsetup ls | grep -v '^No' || true; losetup -a"); strings.TrimSpace(left) != "" {
		t.Errorf("left: %s", left)
	}
}
