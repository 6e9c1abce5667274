package lab_test

import (
	"os"
	"strings"
	"testing"
)

// TestNewIdentity shows a copy's volume group to LVM on the machine that has the
// original: the very same name and UUIDs are there already. Then the daemon is
// killed at every step of it, and the machine boots.
//
// It takes longer than make lab has for it: make lab-lvm runs it.
func TestNewIdentity(t *testing.T) {
	if os.Getenv("UMBRA_LAB_LVM") != "1" {
		t.Skip("run by make lab-lvm")
	}
	s := newSAN(t, "a")
	a := s.l.Machine("a")
	p0, p1 := s.lun("p0", "64M", "a"), s.lun("p1", "64M", "a")
	a.Sh("umbra rescan && udevadm settle")
	// one lies on a run of one disk, so that its copy is a partition and its disk in
	// use as such; db on both.
	a.Sh(`vgcreate -q data /dev/%[1]s /dev/%[2]s
lvcreate -q -y -Wn -l 4 -n one data /dev/%[1]s
lvcreate -q -y -Wn -i 2 -I 64 -L 32M -n db data
lvcreate -q -y -Wn -L 8M -n other data
modprobe ext4; for v in one db; do mkdir -p /srv/$v; mkfs.ext4 -q -E nodiscard /dev/data/$v; mount /dev/data/$v /srv/$v; head -c 3000000 /dev/urandom >/srv/$v/f; done; sync
umbra create /srv/one /srv/db && udevadm settle`, s.disk(a, p0), s.disk(a, p1))
	set := strings.TrimSpace(a.Sh("umbra list sets --output json | grep -o '[0-9a-f]\\{8\\}-[0-9a-f-]\\{27\\}' | head -n 1"))
	name := "data_" + set[:8]
	a.Sh("echo changed >>/srv/db/f; sync")
	// What LVM sees, and what udev finds by what is on it.
	const sees = `pvs -o vg_name,vg_uuid,pv_uuid,pv_size -O pv_uuid -S "vg_name=~.%[2]s"; lvs -o lv_name,lv_uuid,lv_size %[1]s
for l in /dev/disk/by-uuid/*; do echo $l $(cat /sys/block/$(basename $(readlink -f $l))/dm/name); done`
	before := a.Sh(sees, "", "*")

	t.Log(a.Sh("umbra expose %s --new-identity", set))
	if shown := a.Sh("umbra show %s", set); !strings.Contains(shown, "/dev/"+name+"/db") || !strings.Contains(shown, "data/db") {
		t.Errorf("umbra show says\n%s", shown)
	}
	same := func(step string) {
		t.Helper()
		// What the copy's own device has, the volume has; it cannot be written, nor
		// can what it lies on; and nothing is found by what is on it.
		a.Sh(`umbra list copies | grep %[1]s >/dev/null
for v in one db; do
	dev=$(umbra list copies | grep " /srv/$v " | grep -o '/dev/[a-z0-9-]*' | head -n 1)
	cmp $dev /dev/%[1]s/$v; test $(blockdev --getro /dev/%[1]s/$v) = 1
	if dd if=/dev/zero of=/dev/%[1]s/$v bs=4096 count=1 conv=notrunc oflag=direct 2>/dev/null; then exit 9; fi
done
for d in /dev/mapper/umbra-*-pv*; do test $(blockdev --getro $d) = 1; done
test ! -e /dev/%[1]s/other
udevadm trigger --action=change --subsystem-match=block; udevadm settle`, name)
		if got := a.Sh(sees, "data", "*ata$"); got != before {
			t.Errorf("%s: beside the copy LVM sees\n%s\nand saw\n%s", step, got, before)
		}
	}
	same("shown")
	const uuids = "pvs --noheadings -o vg_uuid,pv_uuid -O pv_uuid -S vg_name=%[1]s; lvs --noheadings -o lv_uuid %[1]s"
	identity := a.Sh(uuids, name)
	if orig := a.Sh(uuids, "data"); len(strings.Fields(identity)) != 6 {
		t.Errorf("the new group has the UUIDs %s", identity)
	} else {
		for _, u := range strings.Fields(identity) {
			if strings.Contains(orig, u) {
				t.Errorf("%s is the original's", u)
			}
		}
	}
	fails := func(command string, says ...string) {
		t.Helper()
		r := a.Fails("%s", command)
		for _, w := range says {
			if !strings.Contains(r.Stderr, w) {
				t.Errorf("%s does not say %q: %s", command, w, r.Stderr)
			}
		}
	}
	fails("umbra expose "+set+" --new-identity", "VSS_E_OBJECT_ALREADY_EXISTS", name)
	a.Sh("mkdir -p /look && mount -o ro,noload /dev/%s/one /look && cmp /look/f /srv/one/f", name)
	fails("umbra unexpose "+name, "VSS_E_VOLUME_IN_USE", "/look")
	fails("umbra delete set "+set, "VSS_E_VOLUME_IN_USE", "/look")
	a.Sh("umount /look && umbra unexpose %s", name)
	nothing := func(step string) {
		t.Helper()
		if left := a.Sh("dmsetup ls | grep -e %[1]s -e pv || true; losetup -a | grep -i memfd || true; ls -d /dev/%[1]s /etc/lvm/backup/%[1]s /etc/lvm/archive/%[1]s* 2>/dev/null || true", name); left != "" {
			t.Errorf("%s: left: %s", step, left)
		}
		if got := a.Sh(sees, "", "*"); got != before {
			t.Errorf("%s: LVM sees\n%s\nand saw\n%s", step, got, before)
		}
	}
	nothing("unexposed")
	fails("umbra expose "+set+" --new-identity --vg-name data", "VSS_E_OBJECT_ALREADY_EXISTS", "--vg-name")
	fails("umbra expose "+set+" --new-identity --vg-name a/b", "E_INVALIDARG")

	// Killed on the way there: the next start takes back what nobody was told of.
	start := func(point string) {
		t.Helper()
		// With the rights that the unit leaves it: LVM's program has no more.
		a.Start("daemon-"+strings.ReplaceAll(point, ".", "-"), "UMBRA_FAILPOINTS="+point+" setpriv --no-new-privs --bounding-set=-all,+sys_admin,+ipc_lock,+sys_resource,+sys_nice,+dac_read_search,+mknod,+sys_ptrace umbra daemon").WaitFor("ready")
	}
	gone := func(step string) {
		t.Helper()
		if left := a.Sh("dmsetup ls | grep -e %[1]s -e pv || true; losetup -a | grep -i memfd || true", name); left != "" {
			t.Errorf("%s: left: %s", step, left)
		}
	}
	a.Sh("kill -9 $(pidof umbra)")
	for _, point := range []string{"group.after-intent", "surface.group.after-loop", "surface.group.after-disk", "regroup.after-disks", "regroup.after-activate", "group.after-show"} {
		start(point + "=kill")
		gone("before " + point)
		a.Fails("umbra expose %s --new-identity", set)
	}
	start("")
	nothing("killed")
	a.Sh("umbra expose %s --new-identity --vg-name %s; kill -9 $(pidof umbra)", set, name)
	identity = a.Sh(uuids, name)
	// And on the way back: it is shown again, as it is on record.
	for _, point := range []string{"regroup.after-deactivate", "surface.group.after-drop", "group.after-end"} {
		start(point + "=kill")
		a.Fails("umbra unexpose %s", name)
	}
	start("")
	same("the daemon was killed")

	// The machine boots: the same names and the same UUIDs.
	a.Sh("kill -9 $(pidof umbra); cd / && tar cf /root/state.tar var/lib/umbra etc/lvm")
	state, err := a.Pull(t.Context(), "/root/state.tar")
	if err != nil {
		t.Fatal(err)
	}
	a.PowerOff()
	a.PowerOn()
	if err := a.Push(t.Context(), state, "/root/state.tar", 0o600); err != nil {
		t.Fatal(err)
	}
	a.Sh("cd / && tar xf /root/state.tar")
	a.Start("daemon-booted", "umbra daemon").WaitFor("ready")
	a.Sh("umbra rescan && udevadm settle && vgchange -q -ay data >/dev/null")
	if got := a.Sh(uuids, name); got != identity {
		t.Errorf("after the boot it is\n%s\nand was\n%s", got, identity)
	}
	same("booted")
	// By force the group goes with its last user.
	a.Sh("mkdir -p /look && mount -o ro,noload /dev/%s/one /look && umbra delete set %s --force; umount /look; until ! dmsetup ls | grep umbra; do sleep 0.1; done >/dev/null", name, set)
	nothing("deleted")
}
