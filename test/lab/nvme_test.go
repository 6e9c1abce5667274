package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/test/lab"
)

// nvmeDisk is a host's disk of a LUN, by the name it has as a namespace; ""
// without one. Single paths of it are hidden and do not count.
func nvmeDisk(t *testing.T, m *lab.Machine, naa string) string {
	t.Helper()
	return strings.TrimSpace(m.Sh("grep -ls %s /sys/block/nvme*/uuid | cut -d/ -f4 | grep -v 'c[0-9]*n' || true", identity.GUIDText(identity.UUID(parseNAA(t, naa)))))
}

// TestNVMe is the whole way over NVMe/TCP: two volumes copied under load, the
// array restarted, their machine gone, the copies read on another and gone
// again; and who may not have a LUN does not get it.
func TestNVMe(t *testing.T) {
	s := newSANOver(t, "--nvme-portal %[1]s:4420", "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	db, log := s.lun("db", "64M", "a"), s.lun("log", "320M", "a")
	a.Sh("umbra rescan")
	dbDisk, logDisk := nvmeDisk(t, a, db), nvmeDisk(t, a, log)
	if dbDisk == "" || logDisk == "" {
		t.Fatalf("a has %q and %q:\n%s", dbDisk, logDisk, a.Sh("grep . /sys/block/nvme*/uuid || true; ls /sys/class/nvme"))
	}
	a.Sh(`mkdir -p /srv/db /srv/log
mkfs.ext4 -q -U 11111111-2222-3333-4444-555555555555 /dev/%[1]s && mount /dev/%[1]s /srv/db
mkfs.xfs -q -m uuid=21111111-2222-3333-4444-555555555555 /dev/%[2]s && mount /dev/%[2]s /srv/log
for v in db log; do for i in 1 2; do head -c 800000 /dev/urandom >/srv/$v/$i; done; done; sync
cd /srv && sha256sum */[12] >/root/sums`, dbDisk, logDisk)
	sums, err := a.Pull(t.Context(), "/root/sums")
	if err != nil {
		t.Fatal(err)
	}
	load := a.Start("load", "i=0; while :; do i=$((i+1)); echo $i >>/srv/db/seq; echo $i >>/srv/log/seq; done")
	a.Sh("until test -s /srv/log/seq; do sleep 0.1; done")
	a.Sh("umbra create /srv/db /srv/log --transportable --document /root/set.umbra")
	at := last(a.Sh("tail -n 1 /srv/log/seq"))

	// The array is killed and comes back: what the kernel exports goes on.
	s.array.Sh("kill -9 $(pidof umbra)")
	a.Sh("n=$(wc -l </srv/log/seq); until test $(wc -l </srv/log/seq) -gt $((n+3)); do sleep 0.1; done; sync && dd if=/dev/%s of=/dev/null bs=1M count=4 iflag=direct", dbDisk)
	s.serve()
	if got := s.array.Sh("umbra array info"); strings.Contains(got, "Attention") {
		t.Errorf("the restarted array found something else than it had left:\n%s", got)
	}
	load.Stop()
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err == nil {
		err = b.Push(t.Context(), doc, "/root/set.umbra", 0o600)
	}
	if err == nil {
		err = b.Push(t.Context(), sums, "/root/sums", 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	nvmeStrangers(t, s, b)

	b.Sh("umbra import /root/set.umbra")
	disks := "ls /sys/block | grep '^nvme[0-9]*n[0-9]*$'"
	if n := strings.Fields(a.Sh("for c in /sys/class/nvme/nvme*; do echo 1 >$c/rescan_controller; done; udevadm settle; %s", disks)); len(n) != 2 {
		t.Errorf("a has %s, and sees what was given to b", n)
	}
	a.PowerOff()
	b.Sh(`mkdir -p /srv && for c in /run/umbra/copies/*; do
	test -d $c || continue
	case $(findmnt -n -o FSTYPE -T $c/1) in ext4) ln -s $c /srv/db;; xfs) ln -s $c /srv/log;; esac
done; cd /srv && sha256sum -c -s /root/sums`)
	first, second := last(b.Sh("tail -n 1 /srv/db/seq")), last(b.Sh("tail -n 1 /srv/log/seq"))
	if first < 1 || first < second || first > second+1 || first > at+1 {
		t.Errorf("the copies are at %d and %d; created by %d", first, second, at)
	}

	// Nobody writes to a copy, not even who takes the host's word away, or asks
	// the kernel for zeros.
	b.Fails("touch /srv/db/new")
	b.Sh(`for d in $(%s); do
	test $(blockdev --getro /dev/$d) = 1
	blockdev --setrw /dev/$d
	if dd if=/dev/zero of=/dev/$d bs=4096 seek=1000 count=1 oflag=direct 2>/dev/null || blkdiscard -f -z /dev/$d 2>/dev/null || blkdiscard -f /dev/$d 2>/dev/null; then echo "$d was written" >&2; exit 1; fi
done; echo 3 >/proc/sys/vm/drop_caches; cd /srv && sha256sum -c -s /root/sums`, disks)
	// Nothing on b took them for what they are copies of, nor on the array.
	b.Fails("test -e /dev/disk/by-uuid/11111111-2222-3333-4444-555555555555 -o -e /dev/disk/by-uuid/21111111-2222-3333-4444-555555555555")
	b.Sh("for d in $(%s); do udevadm info --query=property /dev/$d >/root/p; grep -q UMBRA_HIDDEN=1 /root/p && grep -q SYSTEMD_READY=0 /root/p && ! grep -q ID_FS_ /root/p; done", disks)
	s.array.Sh("grep -q 'loop/backing_file' /run/udev/rules.d/10-umbra-array-*.rules")

	b.Sh("umbra delete all")
	if left := b.Sh("ls -d /sys/block/nvme* /sys/class/nvme/* 2>/dev/null || true"); left != "" {
		t.Errorf("left on b: %s", left)
	}
	if left := s.array.Sh("cd /sys/kernel/config/nvmet/subsystems && ls -d *.b/namespaces/* 2>/dev/null || true; ls /sys/block | grep ^dm- || true"); left != "" {
		t.Errorf("the array still exports to b: %s", left)
	}
	if list := s.array.Sh("umbra array lun list; cat /sys/block/loop*/loop/backing_file"); strings.Count(list, "naa.") != 4 {
		t.Errorf("the array keeps more than a's two LUNs:\n%s", list)
	}
	nvmePowerCut(t, s, b)
}

// nvmeStrangers: who is not who the array knows does not get in.
func nvmeStrangers(t *testing.T, s *san, b *lab.Machine) {
	t.Helper()
	raw, err := b.Pull(t.Context(), "/root/join.bundle")
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := client.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	n := bundle.NVMe
	b.Sh("modprobe nvme_tcp")
	as := func(subsystem, host string) string {
		r, err := b.Run(t.Context(), `exec 3<>/dev/nvme-fabrics; echo -n nqn=%s,transport=tcp,traddr=%s,trsvcid=4420,hostnqn=%s,hostid=12345678-2222-3333-4444-555555555555 >&3; cat <&3
for c in /sys/class/nvme/*; do echo 1 >$c/delete_controller; done`, subsystem, s.array.Address(), host)
		if err == nil {
			return "in"
		}
		return r.Stdout + r.Stderr
	}
	if got := as(n.Subsystem, n.Host); got != "in" {
		t.Fatalf("b does not get in with what it was given, so the rest shows nothing: %s", got)
	}
	as1 := strings.TrimSuffix(n.Subsystem, ".b") + ".a"
	for what, got := range map[string]string{
		"b at what is a's":                    as(as1, n.Host),
		"a name that nobody knows":            as(n.Subsystem, "nqn.2026-01.io.umbra:stranger"),
		"a name nobody knows, at what is a's": as(as1, "nqn.2026-01.io.umbra:stranger"),
	} {
		if got == "in" {
			t.Errorf("%s gets in", what)
		} else if !strings.Contains(got, "I/O error") {
			t.Errorf("%s fails for another reason: %s", what, got)
		}
	}
	if s.array.Sh("ls /sys/kernel/config/nvmet/hosts/*/dhchap_key 2>/dev/null || true") == "" {
		t.Log("the array's kernel has no DH-HMAC-CHAP: a wrong secret cannot be shown to be refused")
	} else {
		s.array.Sh("echo DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8nWTHp: >/sys/kernel/config/nvmet/hosts/%s/dhchap_key", n.Host)
		r := b.Fails("umbra import /root/set.umbra")
		if !strings.Contains(r.Stdout+r.Stderr, "E_ACCESSDENIED") {
			t.Errorf("a wrong secret: %s", r.Stdout+r.Stderr)
		}
	}
}

// nvmePowerCut: what was acknowledged is there when the array's power fails and
// its host stays up, which connects again by itself; and a revoked host is out.
func nvmePowerCut(t *testing.T, s *san, b *lab.Machine) {
	t.Helper()
	two := s.lun("two", "32M", "b")
	b.Sh("umbra rescan")
	d := nvmeDisk(t, b, two)
	b.Sh("head -c 4194304 /dev/urandom >/root/written && dd if=/root/written of=/dev/%s bs=1M oflag=direct 2>/dev/null", d)
	s.array.PowerOff()
	s.array.PowerOn()
	s.array.Sh("modprobe xfs && mkdir -p /store && mount -t xfs /dev/vda /store")
	s.serve()
	b.Sh("dd if=/dev/%s bs=1M count=4 iflag=direct 2>/dev/null | cmp - /root/written", d)

	s.array.Fails("umbra array host remove b") // it has a LUN attached
	s.array.Sh("umbra array host remove b --force")
	begin := time.Now()
	b.Fails("timeout 60 dd if=/dev/%s of=/dev/null bs=4096 count=1 iflag=direct", d)
	t.Logf("a revoked host's read failed after %.0f s", time.Since(begin).Seconds())
	if state := b.Sh("cat /sys/class/nvme/*/state 2>/dev/null || true"); strings.Contains(state, "live") {
		t.Errorf("b's session outlives b")
	}
	if got := s.array.Sh("ls /sys/kernel/config/nvmet/hosts /sys/kernel/config/nvmet/subsystems"); strings.Contains(got+"\n", ":b\n") || strings.Contains(got+"\n", ".b\n") {
		t.Errorf("the target still knows b: %s", got)
	}
	b.Fails("umbra rescan")
}
