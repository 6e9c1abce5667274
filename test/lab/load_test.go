package lab_test

import (
	"strconv"
	"strings"
	"testing"
)

// TestUnderLoad is what Umbra is for, with nothing shared between the machines
// but a wire: two volumes copied at one instant while they are written to,
// their machine gone, and the copies read on another.
func TestUnderLoad(t *testing.T) {
	s := newSAN(t, "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	db, log := s.lun("db", "128M", "a"), s.lun("log", "320M", "a")
	a.Sh("umbra rescan")
	a.Sh(`mkdir -p /srv/db /srv/log
mkfs.ext4 -q -U 11111111-2222-3333-4444-555555555555 /dev/%[1]s && mount /dev/%[1]s /srv/db
mkfs.xfs -q -m uuid=21111111-2222-3333-4444-555555555555 /dev/%[2]s && mount /dev/%[2]s /srv/log
for v in db log; do for i in 1 2 3; do head -c 800000 /dev/urandom >/srv/$v/$i; done; done; sync
cd /srv && sha256sum */[123] >/root/sums`, s.disk(a, db), s.disk(a, log))
	sums, err := a.Pull(t.Context(), "/root/sums")
	if err != nil {
		t.Fatal(err)
	}

	// One writer, db before log: at any instant log is at most one behind.
	load := a.Start("load", "i=0; while :; do i=$((i+1)); echo $i >>/srv/db/seq; echo $i >>/srv/log/seq; done")
	a.Sh("until test -s /srv/log/seq; do sleep 0.1; done")
	t.Log(a.Sh("umbra create /srv/db /srv/log --transportable --document /root/set.umbra"))
	at := last(a.Sh("tail -n 1 /srv/log/seq"))
	a.Sh("n=$(wc -l </srv/log/seq); until test $(wc -l </srv/log/seq) -gt $((n+3)); do sleep 0.1; done") // it runs on
	load.Stop()
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Push(t.Context(), doc, "/root/set.umbra", 0o600); err != nil {
		t.Fatal(err)
	}
	// A must not see the copies, before the import and after it: not even what
	// looks at every number.
	everything := "for h in /sys/class/scsi_host/*/scan; do echo '- - -' >$h; done; udevadm settle; ls /sys/block | grep -c ^sd"
	if n := a.Sh("%s", everything); n != "2" {
		t.Errorf("a has %s disks before the import", n)
	}
	t.Log(b.Sh("umbra import /root/set.umbra"))
	if n := a.Sh("%s", everything); n != "2" {
		t.Errorf("a has %s disks, and sees what was given to b", n)
	}
	a.PowerOff()

	// What b reads is what a had, at one instant, and before now.
	if err := b.Push(t.Context(), sums, "/root/sums", 0o600); err != nil {
		t.Fatal(err)
	}
	b.Sh(`mkdir -p /srv && for c in /run/umbra/copies/*; do
	test -d $c || continue
	case $(findmnt -n -o FSTYPE -T $c/1) in ext4) ln -s $c /srv/db;; xfs) ln -s $c /srv/log;; esac
done; cd /srv && sha256sum -c -s /root/sums`)
	first, second := last(b.Sh("tail -n 1 /srv/db/seq")), last(b.Sh("tail -n 1 /srv/log/seq"))
	if first < 1 || first < second || first > second+1 || first > at+1 {
		t.Errorf("the copies are at %d and %d; created by %d", first, second, at)
	}
	t.Logf("copied at %d and %d, of at most %d", first, second, at)

	// Nobody writes to a copy, not even who takes the host's word away.
	b.Fails("touch /srv/db/new")
	b.Sh(`for d in /sys/block/sd*; do d=${d##*/}
	test $(blockdev --getro /dev/$d) = 1
	blockdev --setrw /dev/$d || true
	if dd if=/dev/zero of=/dev/$d bs=4096 seek=1000 count=1 oflag=direct 2>/dev/null; then echo "$d was written" >&2; exit 1; fi
done`)
	// Nothing on b took them for what they are copies of.
	b.Fails("test -e /dev/disk/by-uuid/11111111-2222-3333-4444-555555555555 -o -e /dev/disk/by-uuid/21111111-2222-3333-4444-555555555555")
	b.Sh("for d in /dev/sd*; do udevadm info --query=property $d | grep -q UMBRA_HIDDEN=1; done")
	// They can be shown on a folder.
	b.Sh(`mkdir -p /mnt/x && umbra expose $(basename $(readlink -f /srv/db)) /mnt/x && sha256sum /mnt/x/1 | cut -c1-64 >/root/x && grep -q "$(cat /root/x)  db/1" /root/sums && umbra unexpose /mnt/x`)

	b.Sh("umbra delete all")
	if left := b.Sh("ls -d /sys/block/sd* /sys/class/iscsi_session/* 2>/dev/null || true"); left != "" {
		t.Errorf("left on b: %s", left)
	}
	if n := s.array.Sh("find /sys/kernel/config/target/core -maxdepth 2 -name 'naa*' | wc -l"); n != "2" {
		t.Errorf("the array exports %s LUNs after the copies were deleted", n)
	}
	if list := s.array.Sh("umbra array lun list"); strings.Count(list, "naa.") != 2 {
		t.Errorf("the array keeps more than a's two LUNs:\n%s", list)
	}
}

func last(line string) int {
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return -1
	}
	return n
}
