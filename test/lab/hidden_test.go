package lab_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/test/lab"
)

// A disk of each kind that something on Debian acts upon by itself.
var kinds = []struct {
	name, make string
	acted      string // succeeds when something acted
}{
	{"plain", "mkfs.ext4 -q -L wanted -U 11111111-2222-3333-4444-555555555555 $d", "test -e /dev/disk/by-uuid/11111111-2222-3333-4444-555555555555 -o -e /dev/disk/by-label/wanted"},
	{"gpt", `printf 'label: gpt\nname=wanted, uuid=31111111-2222-3333-4444-555555555555\n' | sfdisk -q $d && udevadm settle && mkfs.ext4 -q -U 41111111-2222-3333-4444-555555555555 ${d}1`,
		"test -e /dev/disk/by-partuuid/31111111-2222-3333-4444-555555555555 -o -e /dev/disk/by-uuid/41111111-2222-3333-4444-555555555555 -o -e /dev/disk/by-partlabel/wanted"},
	{"lvm", "pvcreate -q -y $d && vgcreate -q wanted $d && lvcreate -q -y -n lv -L 32M wanted && mkfs.ext4 -q -U 51111111-2222-3333-4444-555555555555 /dev/wanted/lv && vgchange -q -an wanted",
		"dmsetup info wanted-lv >/dev/null 2>&1 || test -e /dev/disk/by-uuid/51111111-2222-3333-4444-555555555555 -o -e /run/lvm/vgs_online/wanted"},
	{"btrfs", "mkfs.btrfs -q -U 61111111-2222-3333-4444-555555555555 $d", "test -e /dev/disk/by-uuid/61111111-2222-3333-4444-555555555555"},
}

// TestHidden brings disks to a machine on which udev, LVM and the others do
// what they do on Debian, once without our rules, which shows that they do, and
// then with them.
func TestHidden(t *testing.T) {
	l := lab.Start(t, lab.Machines{"array", "b"})
	b := l.Machine("b")
	san := newByHand(l.Machine("array"), "b")
	const family = "6001405123456789"
	var naas []lun.NAA
	var infos []lun.Info
	for i, k := range kinds {
		naa := parseNAA(t, "naa."+family+"000000000000000"+string("0123456789"[i]))
		naas, infos = append(naas, naa), append(infos, infoOf(naa))
		size := "64M"
		if k.name == "btrfs" {
			size = "128M" // its least
		}
		san.create(k.name, size, naa)
		san.give(k.name, "b", i)
	}
	b.Sh("modprobe btrfs")
	san.login(b)
	disks := make([]string, len(kinds))
	arrive := func() {
		t.Helper()
		copy(disks, scan(b, naas...))
		if i := slices.Index(disks, "-"); i >= 0 {
			t.Fatalf("%s does not arrive", kinds[i].name)
		}
	}
	leave := func() {
		t.Helper()
		b.Sh("vgchange -q -an wanted >/dev/null 2>&1 || true; for d in %s; do echo 1 >/sys/block/$d/device/delete; done; udevadm settle", strings.Join(disks, " "))
	}
	expect := func(step string, hidden func(i int) bool) {
		t.Helper()
		var ask strings.Builder
		for _, k := range kinds {
			fmt.Fprintf(&ask, "if %s; then echo acted; else echo not; fi\n", k.acted)
		}
		acted := strings.Fields(b.Sh("%s", ask.String()))
		db := b.Sh("udevadm info --export-db")
		for i, k := range kinds {
			if (acted[i] == "acted") == hidden(i) {
				t.Errorf("%s: %s: %s upon\n%s", step, k.name, acted[i], b.Sh("ls -R /dev/disk /run/lvm; dmsetup ls"))
			}
			partitions := 0
			for entry := range strings.SplitSeq(db, "\n\n") {
				if !strings.Contains(entry, "E: DEVNAME=/dev/"+disks[i]) {
					continue
				}
				partitions++
				if serial := strings.Replace(naas[i].String(), "naa.", "E: ID_SERIAL=3", 1); !hidden(i) && !strings.Contains(entry, serial) || !strings.Contains(entry, "E: ID_SERIAL=") {
					t.Errorf("%s: %s: it has no serial number\n%s", step, k.name, entry)
				}
				for property, whenHidden := range map[string]bool{"SYSTEMD_READY=0": true, "UDISKS_IGNORE=1": true, "UMBRA_HIDDEN=1": true, "ID_FS_UUID=": false, "DEVLINKS=/dev/umbra/hidden/": true, "DEVLINKS=/dev/disk": false,
					"ID_SCSI=1": false /* sg3-utils' programs were not started */} {
					bare := k.name == "gpt" && strings.Contains(entry, "E: DEVTYPE=disk") && property == "ID_FS_UUID=" // a partitioned disk has no filesystem
					if there := strings.Contains(entry, "E: "+property); !bare && there != (hidden(i) == whenHidden) {
						t.Errorf("%s: %s: hidden should be %v, and %s is there: %v\n%s", step, k.name, hidden(i), property, there, entry)
					}
				}
			}
			if want := map[bool]int{false: 1, true: 2}[k.name == "gpt"]; partitions != want {
				t.Errorf("%s: %s: udev knows %d devices of it, want %d", step, k.name, partitions, want)
			}
		}
	}
	none, all := func(int) bool { return false }, func(int) bool { return true }

	arrive()
	for i, k := range kinds {
		b.Sh("set -e; d=/dev/%s; %s", disks[i], k.make)
	}
	leave()
	arrive()
	expect("no rules", none)
	leave()

	rules := pushRules(t, b)
	rules(func(r hide.Rules) error { return r.Hide(t.Context(), infos) })
	arrive()
	expect("an import brings them", all)
	// Asked to look again, udev must not change its mind.
	b.Sh("udevadm trigger --action=change --subsystem-match=block && udevadm settle")
	expect("and udev looks again", all)
	leave()

	rules(func(r hide.Rules) error { return r.Unhide(t.Context(), infos) })
	rules(func(r hide.Rules) error { return r.HideFamily(t.Context(), family) })
	rules(func(r hide.Rules) error { return r.Admit(t.Context(), infos[:1]) })
	arrive()
	expect("an array's LUNs but one", func(i int) bool { return i != 0 })
	leave()
}

// pushRules returns what makes rules as the service does, and gives the
// machine's udev what came of it.
func pushRules(t *testing.T, m *lab.Machine) func(func(hide.Rules) error) {
	r := hide.Rules{Dir: t.TempDir(), Vendor: t.TempDir(), Reload: func(context.Context) error { return nil }}
	const inquiries = "55-scsi-sg3_id.rules"
	text, err := m.Pull(t.Context(), filepath.Join(hide.VendorDir, inquiries))
	if err == nil {
		err = os.WriteFile(filepath.Join(r.Vendor, inquiries), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(change func(hide.Rules) error) {
		t.Helper()
		if err := change(r); err != nil {
			t.Fatal(err)
		}
		m.Sh("mkdir -p /run/udev/rules.d && rm -f /run/udev/rules.d/*")
		files, err := filepath.Glob(filepath.Join(r.Dir, "*.rules"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err == nil {
				err = m.Push(t.Context(), text, "/run/udev/rules.d/"+filepath.Base(f), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		m.Sh("udevadm control --reload")
	}
}
