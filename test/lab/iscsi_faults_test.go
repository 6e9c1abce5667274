package lab_test

import (
	"strings"
	"testing"
)

// TestISCSIFaults: who may not have a LUN does not get it, and what went wrong
// has a way back.
func TestISCSIFaults(t *testing.T) {
	s := newSAN(t, "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	impatient(a)
	has := func(got string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(got, w) {
				t.Errorf("%q is not in\n%s", w, got)
			}
		}
	}
	one := s.lun("one", "64M", "a")
	a.Sh("umbra rescan")
	d := s.disk(a, one)
	a.Sh("mkfs.ext4 -q /dev/%s && mkdir -p /data && mount /dev/%[1]s /data && echo hello >/data/greeting && sync", d)
	a.Sh("umbra create /data --transportable --document /root/set.umbra")
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Push(t.Context(), doc, "/root/set.umbra", 0o600); err != nil {
		t.Fatal(err)
	}
	tpg := strings.TrimSpace(s.array.Sh("ls -d /sys/kernel/config/target/iscsi/iqn*/tpgt_1"))

	// An array that does not know b's secret, and one that does not know its own:
	// the import fails, nothing stays attached, and the requester cleans up.
	for secret, says := range map[string]string{"password": "refused the login", "password_mutual": "did not prove"} {
		was := s.array.Sh("cat %s/acls/*:b/auth/%s", tpg, secret)
		s.array.Sh("echo -n wrong-word-1234 >%s/acls/iqn.2026-01.io.umbra:b/auth/%s", tpg, secret)
		r := b.Fails("umbra import /root/set.umbra")
		has(r.Stdout+r.Stderr, "VSS_E_NO_SNAPSHOTS_IMPORTED", "E_ACCESSDENIED", says)
		has(b.Sh("umbra list luns --orphaned"), "orphaned", says)
		b.Sh("umbra cleanup $(umbra list sets --output json | grep -o '[0-9a-f]\\{8\\}-[0-9a-f-]\\{27\\}' | head -n 1)")
		if got := s.array.Sh("umbra array lun list"); strings.Contains(got, "  b  ") {
			t.Errorf("b has something:\n%s", got)
		}
		s.array.Sh("echo -n %s >%s/acls/iqn.2026-01.io.umbra:b/auth/%s", strings.TrimSpace(was), tpg, secret)
	}
	s.array.Sh("echo -n wrong-word-1234 >%s/acls/iqn.2026-01.io.umbra:b/auth/password", tpg)

	// The array is killed: a's disk goes on. The next finds the wrong secret and
	// mends it, and the set can be imported after all.
	s.array.Sh("kill -9 $(pidof umbra)")
	a.Sh("echo more >/data/more && sync && dd if=/dev/%s of=/dev/null bs=1M count=8 iflag=direct", d)
	s.serve()
	has(s.array.Sh("umbra array info"), "other secrets for iqn.2026-01.io.umbra:b")
	b.Sh("umbra import /root/set.umbra")
	if got := b.Sh("cat /run/umbra/copies/*/greeting"); strings.TrimSpace(got) != "hello" {
		t.Errorf("the copy says %q", got)
	}
	has(s.array.Sh("cat %s/acls/*:b/info", tpg), "TARG_SESS_STATE_LOGGED_IN")

	// Write protection is the array's: the host's own flag does not count.
	b.Fails("d=$(ls /sys/block | grep ^sd | head -n 1); blockdev --setrw /dev/$d; dd if=/dev/zero of=/dev/$d bs=4096 count=1 oflag=direct")

	// a is removed while it uses its disk: no LUN, no session.
	s.array.Fails("umbra array host remove a")
	s.array.Sh("umbra array host remove a --force")
	a.Fails("timeout 20 dd if=/dev/%s of=/dev/null bs=4096 count=1 iflag=direct", d)
	if got := s.array.Sh("ls %s/acls", tpg); strings.Contains(got, ":a") {
		t.Errorf("the target still knows: %s", got)
	}
	// It is enrolled again, with other secrets, and the first LUN number it gets
	// is that of the disk it still has.
	a.Sh("umount -l /data")
	s.array.Sh("rm /root/a.bundle && umbra array enroll a --bundle /root/a.bundle")
	bundle, err := s.array.Pull(t.Context(), "/root/a.bundle")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Push(t.Context(), bundle, "/root/join.bundle", 0o600); err != nil {
		t.Fatal(err)
	}
	a.Sh("umbra join /root/join.bundle")
	two := s.lun("two", "32M", "a")
	t.Log(a.Sh("umbra rescan"))
	if got := s.disk(a, two); got == "" || a.Sh("ls /sys/block | grep -c ^sd") == "2" {
		t.Errorf("a has %s", a.Sh("grep . /sys/block/sd*/device/wwid"))
	}
	a.Sh("umbra detach %s", two)
	if left := a.Sh("ls -d /sys/block/sd* /sys/class/iscsi_session/* 2>/dev/null || true"); left != "" {
		t.Errorf("left on a: %s", left)
	}
}

// TestISCSINumberUsedAgain: the array's database is brought back from a backup.
// It gives the number of a LUN that a still has to another; a's kernel knows
// nothing of that, and has the old one's data in its cache.
func TestISCSINumberUsedAgain(t *testing.T) {
	s := newSAN(t, "a")
	a := s.l.Machine("a")
	one, two := s.lun("one", "32M", "a"), s.lun("two", "32M", "a")
	stop := func() { s.array.Sh("kill $(pidof umbra); while pidof umbra; do sleep 0.1; done") }
	stop()
	s.array.Sh("cp /store/array/array.db /root/")
	s.serve()
	a.Sh("umbra rescan %s", one)
	old := s.disk(a, one)
	a.Sh("yes one | dd of=/dev/%[1]s bs=1M count=1 iflag=fullblock oflag=direct 2>/dev/null; head -c 1048576 /dev/%[1]s >/dev/null", old)
	stop()
	s.array.Sh("cp /root/array.db /store/array/")
	s.serve()
	if got := s.array.Sh("umbra array info"); !strings.Contains(got, one) {
		t.Errorf("an export that is not in the database is not told:\n%s", got)
	}
	if got := s.disk(a, one); got != old {
		t.Fatalf("a has learned of it: %s", a.Sh("grep . /sys/block/sd*/device/wwid"))
	}
	a.Sh("umbra rescan %s", two)
	d := s.disk(a, two)
	if d == "" || s.disk(a, one) != "" {
		t.Errorf("a has\n%s", a.Sh("grep . /sys/block/sd*/device/wwid"))
	}
	if got := a.Sh("head -c 3 /dev/%s | tr '\\0' 0", d); got != "000" {
		t.Errorf("two's disk begins with %q, of one", got)
	}
	t.Log(a.Sh("cd /sys/block/%s/queue && grep . write_cache discard_max_bytes logical_block_size", d))
}
