package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/test/lab"
)

// multipathd starts multipathd as greedy as it can be.
func multipathd(m *lab.Machine) {
	m.Sh(`modprobe -a dm_multipath dm_service_time
cat >/etc/multipath.conf <<'X'
defaults {
	find_multipaths greedy
	user_friendly_names yes
	polling_interval 1
}
X
mkdir -p /etc/multipath`)
	m.Start("multipathd", "multipathd -d -v3")
	m.Sh("until grep -q multipathd /proc/net/unix; do sleep 0.1; done")
}

// TestMultipath: the array has two portals. multipathd makes an original's disk,
// and has nothing of a copy; a portal that is gone is no LUN lost.
func TestMultipath(t *testing.T) {
	l := lab.Start(t, lab.Machines{"array", "a", "b"})
	s := &san{t: t, l: l, array: l.Machine("array")}
	a, b := l.Machine("a"), l.Machine("b")
	const second = "10.77.0.101"
	s.array.Sh("ip addr add %s/24 dev eth0; modprobe xfs && mkfs.xfs -q /dev/vda && mkdir -p /store && mount -t xfs /dev/vda /store", second)
	s.array.Start("serve", "umbra array serve --dir /store/array --listen tcp://%[1]s:7480 --iscsi-portal %[1]s:3260 --iscsi-portal %[2]s:3260", s.array.Address(), second).WaitFor("umbra: ready")
	for _, m := range []*lab.Machine{a, b} {
		multipathd(m)
		m.Sh("sed -i 's/\\(noop_out_[a-z]*\\) = 5/\\1 = 2/' /etc/iscsi/iscsid.conf") // a dead path is noticed sooner
		s.join(m.Name)
	}
	disks := func(m *lab.Machine) string { return m.Sh("ls /sys/block | grep -c ^sd || true") }
	nothing := func(m *lab.Machine) {
		t.Helper()
		if left := m.Sh("ls -d /sys/block/sd* /sys/block/dm-* /sys/class/iscsi_session/* 2>/dev/null || true"); left != "" {
			t.Errorf("left on %s: %s", m.Name, left)
		}
	}

	naa := s.lun("db", "64M", "a")
	list := a.Sh("umbra rescan")
	t.Log(list, a.Sh("multipathd show topology; umbra list luns"))
	if !strings.Contains(list, "/dev/dm-0") || strings.Count(a.Sh("umbra list luns"), "naa.") != 1 || disks(a) != "2" {
		t.Fatalf("an original on two paths with multipathd:\n%s\n%s", list, a.Sh("ls -l /sys/block; udevadm info /dev/sda; iscsiadm -m session"))
	}
	a.Sh("mkfs.ext4 -q /dev/dm-0 && mkdir -p /data && mount /dev/dm-0 /data && echo hello >/data/greeting && sync")
	a.Sh("umbra create /data --transportable --document /root/set.umbra")
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err == nil {
		err = b.Push(t.Context(), doc, "/root/set.umbra", 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}

	// One portal does not answer: the other is enough.
	s.array.Sh("ip addr del %s/24 dev eth0", second)
	begin := time.Now()
	t.Log(b.Sh("umbra import /root/set.umbra"))
	t.Logf("with one portal of two, after %.1f s", time.Since(begin).Seconds())
	if got := b.Sh("cat /run/umbra/copies/*/greeting"); got != "hello" || disks(b) != "1" {
		t.Errorf("the copy says %q, and b has %s disks", got, disks(b))
	}
	// a's map goes on over the one path.
	a.Sh("echo more >/data/more && sync && timeout 60 dd if=/dev/dm-0 of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null")

	// The portal is back: the next attaching, here the service's after a restart,
	// has both. The path that is used stays, and multipathd has neither.
	s.array.Sh("ip addr add %s/24 dev eth0", second)
	b.Sh("kill $(pidof umbra); while pidof umbra >/dev/null; do sleep 0.1; done")
	b.Start("daemon2", "umbra daemon").WaitFor("ready")
	if disks(b) != "2" {
		t.Errorf("b has %s disks: %s", disks(b), b.Sh("iscsiadm -m session"))
	}
	got := b.Sh("udevadm settle; sleep 2; multipathd show paths; dmesg | grep 'error adding target' || true; ls /sys/block | grep ^dm- || true; grep -L UMBRA_HIDDEN=1 $(for d in /sys/block/sd*; do echo /run/udev/data/b$(cat $d/dev); done) || true")
	if got != "ok" && got != "" {
		t.Errorf("multipathd has or wants something of a copy, or a path is not hidden:\n%s", got)
	}
	if list := b.Sh("umbra list luns"); strings.Count(list, "naa.") != 1 || !strings.Contains(list, b.Sh("findmnt -n -o SOURCE $(ls -d /run/umbra/copies/*)")) {
		t.Errorf("two paths of one copy are listed as\n%s", list)
	}
	// Should it have taken one after all, it is taken from it.
	t.Log(b.Sh("umbra delete all"))
	nothing(b)

	a.Sh("umount /data && umbra detach %s", naa)
	nothing(a)
	if got := s.array.Sh("cat /sys/kernel/config/target/iscsi/*/tpgt_1/acls/*/info"); strings.Contains(got, "LOGGED_IN") {
		t.Errorf("a session is left:\n%s", got)
	}
}
