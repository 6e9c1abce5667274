package lab_test

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/test/lab"
)

// TestLogicalVolumes copies two logical volumes of a group on two LUNs, one of
// them striped, while they are written to. They are imported on a machine that has
// a volume group of the same name, and then the very originals: LVM sees its own
// volumes and nothing of the copies.
func TestLogicalVolumes(t *testing.T) {
	s := newSAN(t, "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	p0, p1 := s.lun("p0", "256M", "a"), s.lun("p1", "256M", "a")
	a.Sh("umbra rescan && udevadm settle")
	a.Sh(`vgcreate -q data /dev/%[1]s /dev/%[2]s
lvcreate -q -y -Wn -i 2 -I 64 -L 320M -n db data
lvcreate -q -y -Wn -l 12 -n log data /dev/%[2]s:50-57 /dev/%[1]s:45-48
modprobe ext4; mkdir -p /srv/db /srv/log
mkfs.xfs -q -K /dev/data/db && mount /dev/data/db /srv/db
mkfs.ext4 -q -E nodiscard /dev/data/log && mount /dev/data/log /srv/log
for v in db log; do for i in 1 2 3; do head -c 500000 /dev/urandom >/srv/$v/$i; done; done; sync
cd /srv && sha256sum */[123] >/root/sums`, s.disk(a, p0), s.disk(a, p1))
	sums, err := a.Pull(t.Context(), "/root/sums")
	if err != nil {
		t.Fatal(err)
	}
	load := a.Start("load", "i=0; while :; do i=$((i+1)); echo $i >>/srv/db/seq; echo $i >>/srv/log/seq; done")
	a.Sh("until test -s /srv/log/seq; do sleep 0.1; done")
	t.Log(a.Sh("umbra create /srv/db /srv/log --transportable --document /root/set.umbra"))
	load.Stop()
	// The hold was whole by the counters of the volumes themselves: they count.
	a.Sh("for d in /dev/data/db /dev/data/log; do read -r _ _ _ _ _ _ n _ </sys/block/$(basename $(readlink -f $d))/stat; test $n -gt 1000; done")
	// A set that stays is shown beside its originals, of which LVM thinks nothing.
	before := a.Sh("pvs; lvs")
	a.Sh("umbra create /srv/log && udevadm settle && cd /run/umbra/copies/* && for i in 1 2 3; do sha256sum <$i | cut -c1-64 >/root/x && grep -q \"$(cat /root/x)  log/$i\" /root/sums; done")
	if after := a.Sh("pvs 2>&1; lvs 2>&1"); after != before {
		t.Errorf("beside a copy LVM sees\n%s\nand saw\n%s", after, before)
	}
	a.Sh("umbra delete all")
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err != nil {
		t.Fatal(err)
	}
	group := strings.TrimSpace(a.Sh("vgs --noheadings -o vg_uuid data"))
	a.PowerOff()

	// b has a group of that name, with a volume of that name.
	b.Sh(`truncate -s 64M /root/own && losetup /dev/loop0 /root/own
vgcreate -q data /dev/loop0 && lvcreate -q -y -L 16M -n db data
modprobe ext4; mkfs.ext4 -q /dev/data/db && mkdir -p /own && mount /dev/data/db /own && echo own >/own/whose`)
	for path, text := range map[string][]byte{"/root/set.umbra": doc, "/root/sums": sums} {
		if err := b.Push(t.Context(), text, path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alone := b.Sh("pvs -o+vg_uuid; lvs; dmsetup ls")
	s.withoutPhysicalVolume(b)
	t.Log(b.Sh("umbra import /root/set.umbra && udevadm settle"))
	copies := strings.Fields(b.Sh("for c in /run/umbra/copies/*; do echo $c; done"))
	if len(copies) != 2 {
		t.Fatalf("device objects %v", copies)
	}
	b.Sh(`mkdir -p /srv && for c in /run/umbra/copies/*; do if findmnt -n -o FSTYPE $c | grep -q xfs; then ln -s $c /srv/db; else ln -s $c /srv/log; fi; done
cd /srv && sha256sum -c -s /root/sums`)
	db, log := last(b.Sh("tail -n 1 /srv/db/seq")), last(b.Sh("tail -n 1 /srv/log/seq"))
	if log < 1 || db < log || db > log+1 {
		t.Errorf("the copies are of two instants: %d and %d", db, log)
	}

	// LVM's own programs see what they saw before, however they are asked.
	lvmSees := func(step, want string) {
		t.Helper()
		if got := b.Sh("pvs -o+vg_uuid 2>&1; lvs 2>&1; dmsetup ls | grep -v ^umbra-"); got != want {
			t.Errorf("%s: LVM sees\n%s\nand saw\n%s", step, got, want)
		}
	}
	lvmSees("imported", alone)
	b.Sh("vgchange -ay; pvscan --cache -aay; for d in /dev/sd?; do pvscan --cache -aay $d || true; done >/dev/null 2>&1; udevadm trigger --action=add --subsystem-match=block; udevadm settle")
	lvmSees("asked to activate everything", alone)
	b.Sh("umbra expose $(basename $(readlink -f /srv/db)) /mnt && cat /mnt/1 | sha256sum | cut -c1-64 >/root/x && grep -q \"$(cat /root/x)  db/1\" /root/sums && umbra unexpose /mnt; grep -q own /own/whose")

	// The copies' group under another name, beside b's own of the same: TestNewIdentity
	// has the rest.
	b.Sh(`set=$(umbra list copies | grep -o '[0-9a-f]\{8\}-[0-9a-f-]\{27\}' | sed -n 2p)
umbra expose $set --new-identity --vg-name data_a
test $(vgs --noheadings -o vg_uuid | sort -u | grep -v %[1]s | wc -l) = 2
for v in db log; do test $(blockdev --getro /dev/data_a/$v) = 1; done
mount -t xfs -o ro,nouuid,norecovery /dev/data_a/db /mnt && sha256sum </mnt/1 | cut -c1-64 >/root/x && grep -q "$(cat /root/x)  db/1" /root/sums && umount /mnt
cmp /dev/data_a/log $(findmnt -n -o SOURCE -M $(readlink /srv/log))
umbra unexpose data_a`, group)
	lvmSees("a group under another name came and went", alone)

	// Volumes that cannot be copied so are refused, with the way out.
	b.Sh("lvcreate -q -y -s -L 8M -n snap data/db")
	if r := b.Fails("umbra create /own"); !strings.Contains(r.Stderr, "snapshot-origin") || !strings.Contains(r.Stderr, "lvremove") {
		t.Errorf("a volume with an LVM snapshot: %s", r.Stderr)
	}
	b.Sh("lvremove -q -y data/snap")
	if r := b.Fails("umbra create /own"); !strings.Contains(r.Stderr, "/dev/loop0") {
		t.Errorf("a volume on no LUN: %s", r.Stderr)
	}

	// The originals themselves, beside their copies: the same UUIDs.
	b.Sh("umount /own && vgchange -q -an data && vgremove -q -y data && losetup -d /dev/loop0")
	s.array.Sh("umbra array unmask p0 b && umbra array unmask p1 b")
	b.Sh("umbra rescan && udevadm settle && vgchange -q -ay data")
	if got := b.Sh("vgs --noheadings -o vg_uuid,pv_count 2>&1; pvs 2>&1 | grep -ci 'duplicate\\|prefers' || true"); strings.Join(strings.Fields(got), " ") != group+" 2 0" {
		t.Errorf("the originals beside the copies: %s", got)
	}
	b.Sh("mount /dev/data/log /own && echo changed >/own/1 && sync && cd /srv && sha256sum -c -s /root/sums && umount /own && vgchange -q -an data")

	b.Sh("cd / && umbra delete all")
	if left := b.Sh("dmsetup ls | grep -v 'No devices' || true; ls /dev/umbra/hidden 2>/dev/null || true"); left != "" {
		t.Errorf("left on b: %s", left)
	}
	if list := s.array.Sh("umbra array lun list"); strings.Count(list, "naa.") != 2 {
		t.Errorf("the array keeps more than the two LUNs:\n%s", list)
	}
}

// withoutPhysicalVolume lets one of two LUNs not arrive: the array takes it back
// while b imports. Neither volume is put together without it, the reason names the
// physical volume, and after a clean-up the set can be imported.
func (s *san) withoutPhysicalVolume(b *lab.Machine) {
	s.t.Helper()
	b.Sh("kill -9 $(pidof umbra)")
	d := b.Start("daemon-slow", "UMBRA_FAILPOINTS='import.after-locate=touch(/root/located)+sleep(2s)' umbra daemon --arrival-timeout 5s")
	d.WaitFor("ready")
	importing := b.Start("import", "umbra import /root/set.umbra")
	b.Sh("until test -e /root/located; do sleep 0.05; done")
	s.array.Sh("umbra array mask $(umbra array lun list | grep copy | grep -o 'naa.[0-9a-f]*' | head -n 1) b")
	if code, err := importing.Wait(s.t.Context()); code != 1 {
		s.t.Errorf("an import of half of a group: %d, %v\n%s", code, err, importing.Log())
	}
	set := strings.TrimSpace(b.Sh("umbra list sets --output json | grep -o '[0-9a-f]\\{8\\}-[0-9a-f-]\\{27\\}' | head -n 1"))
	shown := b.Sh("umbra show %s; umbra list events --level error", set)
	for _, says := range []string{"VSS_E_NO_SNAPSHOTS_IMPORTED", "VSS_E_MISSING_DISK", "of data/db is missing", "of data/log is missing", "emedy"} {
		if !strings.Contains(shown, says) {
			s.t.Errorf("it is not said that %s:\n%s", says, shown)
		}
	}
	if left := b.Sh("umbra list luns --orphaned; ls /run/umbra/copies; dmsetup ls | grep umbra || true"); !strings.Contains(left, "orphaned") || strings.Contains(left, "umbra-") {
		s.t.Errorf("left of the import:\n%s", left)
	}
	b.Sh("umbra cleanup %s; kill -9 $(pidof umbra)", set)
	if list := s.array.Sh("umbra array lun list"); strings.Contains(list, "  b  ") {
		s.t.Errorf("b has something:\n%s", list)
	}
	b.Start("daemon-again", "umbra daemon").WaitFor("ready")
}
