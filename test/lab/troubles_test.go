package lab_test

import (
	"context"
	"fmt"
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

// TestCutDuringImport: the wire between b and the array is cut while b imports.
// A short cut delays the import. A long one fails it, and the way back is the
// one that the error names.
func TestCutDuringImport(t *testing.T) {
	s := created(t)
	b := s.l.Machine("b")
	p := b.Start("import", "umbra import /root/set.umbra")
	time.Sleep(400 * time.Millisecond)
	s.l.CutNetwork("b", "array")
	time.Sleep(4 * time.Second)
	s.l.HealNetwork("b", "array")
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	code, err := p.Wait(ctx)
	t.Logf("import with a cut of 4 s: code %d, %v\n%s", code, err, p.Log())
	if err != nil || code != 0 {
		t.Errorf("a short cut fails the import: code %d, %v\n%s", code, err, p.Log())
	}
	s.imported()
	b.Sh("umbra delete all")
	if left := b.Sh("ls -d /sys/block/sd* /sys/class/iscsi_session/* 2>/dev/null || true"); left != "" {
		t.Errorf("left on b: %s", left)
	}
}

// TestNumberUsedAgain: the array gives a LUN another number's place while the
// host still has the old disk. The host must not take the one for the other.
func TestNumberUsedAgain(t *testing.T) {
	s := newSAN(t, "a")
	a := s.l.Machine("a")
	number := func(naa string) string {
		return s.array.Sh("ls -d /sys/kernel/config/target/iscsi/*/tpgt_1/acls/*/lun_*/%s | sed 's/.*lun_//; s,/.*,,'", naa)
	}
	one := s.lun("one", "32M", "a")
	a.Sh("umbra rescan")
	old, oldNumber := s.disk(a, one), number(one)
	a.Sh("printf one >/dev/%s && sync", old)

	s.array.Sh("umbra array mask one a --force")
	two := s.lun("two", "48M", "a")
	t.Logf("one had number %s on %s, two has %s", oldNumber, old, number(two))
	if number(two) != oldNumber {
		// The array does not use a number again at once; another administrator's
		// target would.
		s.array.Sh(`cd /sys/kernel/config/target/iscsi/*/tpgt_1/acls/*:a && l=$(readlink -f lun_%[1]s/%[3]s) && rm lun_%[1]s/%[3]s && rmdir lun_%[1]s && mkdir lun_%[2]s && ln -s $l lun_%[2]s/%[3]s && echo 0 >lun_%[2]s/write_protect`,
			number(two), oldNumber, two)
	}
	r, err := a.Run(t.Context(), "umbra rescan")
	t.Logf("%v\n%s%s", err, r.Stdout, r.Stderr)
	disk := s.disk(a, two)
	if disk == "" {
		t.Fatalf("two is not there: %v\n%s", err, a.Sh("umbra list luns; grep . /sys/block/sd*/device/wwid /sys/block/sd*/size || true"))
	}
	size := a.Sh("blockdev --getsize64 /dev/%s", disk)
	start := a.Sh("head -c 3 /dev/%s | tr -d '\\0'", disk)
	if size != fmt.Sprint(48<<20) || start == "one" {
		t.Errorf("/dev/%s is called two, and is %s bytes that begin with %q", disk, size, start)
	}
	if luns := a.Sh("umbra list luns"); strings.Contains(luns, one) && strings.Contains(luns, "/dev/"+disk) && strings.Count(luns, "/dev/"+disk) > 1 {
		t.Errorf("both are %s:\n%s", disk, luns)
	}
}
