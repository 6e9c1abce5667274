package lab_test

import (
	"context"
	"strings"
	"testing"
	"time"
)

// created is a SAN with a volume of a's at /srv/db, and a set of it that b has
// the document of and nobody has imported.
func created(t *testing.T) *san {
	t.Helper()
	s := newSAN(t, "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	naa := s.lun("db", "64M", "a")
	a.Sh("umbra rescan")
	a.Sh("mkfs.ext4 -q /dev/%s && mkdir -p /srv/db && mount /dev/%[1]s /srv/db && echo hello >/srv/db/greeting && sync", s.disk(a, naa))
	a.Sh("umbra create /srv/db --transportable --document /root/set.umbra")
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err == nil {
		err = b.Push(t.Context(), doc, "/root/set.umbra", 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// imported checks that b has the copy.
func (s *san) imported() {
	s.t.Helper()
	if got := s.l.Machine("b").Sh("cat /run/umbra/copies/*/greeting"); got != "hello" {
		s.t.Errorf("the copy on b says %q", got)
	}
}

// TestArrayGone: the array's process is started again, and then its machine,
// between a creation and the import. Nothing that a does fails by it.
func TestArrayGone(t *testing.T) {
	s := created(t)
	a, b := s.l.Machine("a"), s.l.Machine("b")
	load := a.Start("load", "set -e; i=0; while :; do i=$((i+1)); echo $i >/srv/db/n; sync -d /srv/db/n 2>/dev/null || sync /srv/db/n; done")

	s.served.Stop()
	a.Sh("sync && echo 3 >/proc/sys/vm/drop_caches && cat /srv/db/greeting") // the kernel serves on
	s.serve()
	s.array.PowerOff()
	s.array.PowerOn()
	s.array.Sh("modprobe xfs && mkdir -p /store && mount -t xfs /dev/vda /store")
	s.serve()

	b.Sh("umbra import /root/set.umbra")
	s.imported()
	n := a.Sh("cat /srv/db/n")
	a.Sh("until test $(cat /srv/db/n || echo 0) -gt %s; do sleep 0.2; done", n)
	load.Stop()
	a.Sh("dmesg | grep -E 'I/O error|EXT4-fs error' && exit 1 || true")
	b.Sh("umbra delete all")
}

// TestCutDuringImport: the wire between b and the array is cut. Before anything
// was done for b, an import fails soon, leaves nothing, and works when the wire
// is whole. While b's disk is on its way, a short cut delays the import.
func TestCutDuringImport(t *testing.T) {
	s := created(t)
	b := s.l.Machine("b")
	nothing := func() {
		t.Helper()
		if left := b.Sh("ls -d /sys/block/sd* /sys/class/iscsi_session/* /run/umbra/copies/* 2>/dev/null || true; umbra list luns | grep naa. || true"); left != "" {
			t.Errorf("left on b: %s", left)
		}
	}
	s.l.CutNetwork("b", "array")
	begin := time.Now()
	r := b.Fails("umbra import /root/set.umbra")
	t.Logf("without a wire, after %.1f s: %s", time.Since(begin).Seconds(), r.Stderr)
	if !strings.Contains(r.Stderr, "remedy") || time.Since(begin) > time.Minute {
		t.Errorf("after %v: %s", time.Since(begin), r.Stderr)
	}
	nothing()
	s.l.HealNetwork("b", "array")

	p := b.Start("import", "umbra import /root/set.umbra")
	s.array.Sh("until ls -d /sys/kernel/config/target/iscsi/*/tpgt_1/acls/*:b/lun_* >/dev/null 2>&1; do :; done")
	s.l.CutNetwork("b", "array")
	if b.Sh("ls -d /sys/block/sd* 2>/dev/null || true") != "" {
		t.Log("the disk was there before the cut")
	}
	time.Sleep(4 * time.Second)
	s.l.HealNetwork("b", "array")
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if code, err := p.Wait(ctx); err != nil || code != 0 {
		t.Errorf("a cut of 4 s fails the import: code %d, %v\n%s\n%s", code, err, p.Log(), b.Sh("umbra list luns; umbra list sets; umbra list events"))
	}
	s.imported()
	b.Sh("umbra delete all")
	nothing()
}

// TestNumberUsedAgain: under a LUN's number a host finds another LUN, while it
// still has the old one's disk. The kernel does not notice: it goes on calling
// the disk what it was. Umbra must not take the one for the other.
func TestNumberUsedAgain(t *testing.T) {
	s := newSAN(t, "a")
	a := s.l.Machine("a")
	number := func(naa string) string {
		return s.array.Sh("ls -d /sys/kernel/config/target/iscsi/*/tpgt_1/acls/*/lun_*/%s | sed 's/.*lun_//; s,/.*,,'", naa)
	}
	one, two := s.lun("one", "32M", "a"), s.lun("two", "48M", "a")
	a.Sh("umbra rescan")
	disk := s.disk(a, one)
	a.Sh("printf one >/dev/%s && printf two >/dev/%s && sync", disk, s.disk(a, two))

	// What umbra's array never does, a person may: one's number is now two's.
	s.array.Sh(`cd /sys/kernel/config/target/iscsi/*/tpgt_1/acls/*:a
l=$(for l in ../../lun/lun_*; do if test -e $l/%[3]s; then readlink -f $l; fi; done); test -n "$l"
rm lun_%[1]s/%[2]s && rmdir lun_%[1]s && mkdir lun_%[1]s && ln -s $l lun_%[1]s/%[3]s && echo 0 >lun_%[1]s/write_protect`, number(one), one, two)
	if got := a.Sh("dd if=/dev/%s bs=4096 count=1 iflag=direct 2>/dev/null | head -c 3; cat /sys/block/%[1]s/device/wwid", disk); got != "two"+one {
		t.Fatalf("the trap is not set: %s", got)
	}

	// Whatever rescan makes of it, and says: no disk may go under a name that is
	// not its own.
	r, err := a.Run(t.Context(), "umbra rescan")
	t.Logf("%v\n%s%s", err, r.Stdout, r.Stderr)
	known := a.Sh("umbra list luns | grep /dev/ | while read naa dev rest; do echo $naa $(sg_vpd --page=di $dev 2>/dev/null | grep -o '0x6[0-9a-f]*'); done")
	t.Logf("called, is:\n%s", known)
	for line := range strings.Lines(known) {
		called, is, _ := strings.Cut(strings.TrimSpace(line), " ")
		if is != "" && called != "naa."+strings.TrimPrefix(is, "0x") {
			t.Errorf("what is called %s is %s", called, is)
		}
	}
	if n := s.disk(a, two); n != "" {
		if got := a.Sh("dd if=/dev/%s bs=4096 count=1 iflag=direct 2>/dev/null | head -c 3", n); got != "two" {
			t.Errorf("/dev/%s is called two and has %q", n, got)
		}
	}
}
