package lab_test

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestFaults: of three copies one arrives, one never does, and at the third's
// number there is another LUN; a portal is closed; a reader's copy is deleted by
// force; a host is enrolled again while it uses its disk. What went wrong is
// named, the rest is unharmed, and there is a way back that leaves nothing.
func TestFaults(t *testing.T) {
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
	nothing := func() {
		t.Helper()
		if left := b.Sh("ls -d /sys/block/sd* /sys/class/iscsi_session/* /run/umbra/copies/* 2>/dev/null || true; umbra list luns | grep naa. || true"); left != "" {
			t.Errorf("left on b: %s", left)
		}
		if left := s.array.Sh("ls -d /sys/kernel/config/target/iscsi/iqn*/tpgt_1/acls/*:b/lun_* 2>/dev/null || true"); left != "" {
			t.Errorf("the array still shows b: %s", left)
		}
	}
	var naas []string
	for _, v := range []string{"one", "two", "three"} {
		naas = append(naas, s.lun(v, "48M", "a"))
	}
	a.Sh("umbra rescan")
	for i, v := range []string{"one", "two", "three"} {
		a.Sh("mkfs.ext4 -q /dev/%s && mkdir -p /srv/%s && mount /dev/%[1]s /srv/%[2]s && echo %[2]s >/srv/%[2]s/name && head -c 800000 /dev/urandom >/srv/%[2]s/data", s.disk(a, naas[i]), v)
	}
	create := func() (copies []string) {
		t.Helper()
		a.Sh("sync; umbra create /srv/one /srv/two /srv/three --transportable --document /root/set.umbra")
		doc, err := a.Pull(t.Context(), "/root/set.umbra")
		if err == nil {
			err = b.Push(t.Context(), doc, "/root/set.umbra", 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(s.array.Sh("umbra array lun list | grep -o 'naa[.][0-9a-f]*' | grep -v -e %s -e %s -e %s", naas[0], naas[1], naas[2]))
	}
	set := "$(umbra list sets --output json | grep -o '[0-9a-f]\\{8\\}-[0-9a-f-]\\{27\\}' | head -n 1)"
	tpg := strings.TrimSpace(s.array.Sh("ls -d /sys/kernel/config/target/iscsi/iqn*/tpgt_1"))

	// A portal that is closed.
	copies := create()
	if len(copies) != 3 {
		t.Fatalf("copies: %v", copies)
	}
	np := s.array.Sh("ls %s/np", tpg)
	s.array.Sh("rmdir %s/np/%s", tpg, np)
	begin := time.Now()
	r := b.Fails("umbra import /root/set.umbra")
	t.Logf("without a portal, after %.1f s", time.Since(begin).Seconds())
	has(r.Stdout+r.Stderr, "VSS_E_NO_SNAPSHOTS_IMPORTED", "portal does not answer")
	has(b.Sh("umbra list luns --orphaned"), "orphaned", "portal does not answer")
	b.Sh("umbra cleanup %s", set)
	nothing()
	s.array.Sh("mkdir %s/np/%s", tpg, np)

	// While b looks for them, one mapping is taken away as often as it is made, and
	// another leads to a LUN of a's.
	saboteur := s.array.Start("saboteur", `cd %[1]s
other=$(for l in lun/lun_*; do if test -e $l/%[4]s; then readlink -f $l; fi; done)
echo ready
while :; do
	for m in acls/*:b/lun_*; do
		if test -e $m/%[2]s; then rm $m/%[2]s && rmdir $m || true; fi
		if test -e $m/%[3]s; then rm $m/%[3]s && rmdir $m && mkdir $m && ln -s $other $m/%[4]s || true; fi
	done
	test -e $m || sleep 0.05
done 2>/dev/null`, tpg, copies[0], copies[1], naas[0])
	saboteur.WaitFor("ready")
	begin = time.Now()
	r, _ = b.Run(t.Context(), "umbra import /root/set.umbra")
	said := r.Stdout + r.Stderr
	t.Logf("one of three, after %.1f s, code %d: %s", time.Since(begin).Seconds(), r.Code, said)
	saboteur.Stop()
	// What it mapped to b is its own to take back; the array would at its next start.
	s.array.Sh("cd %[1]s/acls && for m in *:b/lun_*; do if test -e $m/%[2]s; then rm $m/%[2]s && rmdir $m; fi; done", tpg, naas[0])
	has(said, "VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED", "1 of 3")
	orphans := b.Sh("umbra list luns --orphaned")
	has(orphans, copies[0], copies[1])
	if strings.Contains(orphans, copies[2]) {
		t.Errorf("what arrived is orphaned:\n%s", orphans)
	}
	if got := b.Sh("cat /run/umbra/copies/*/name; ls /sys/block | grep -c ^sd; grep -l %s /sys/block/sd*/device/wwid || true", naas[0]); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "1") {
		t.Errorf("b has more than one disk, or a's, or no copy: %s", got)
	}
	t.Log(orphans)
	b.Sh("umbra cleanup %s", set)

	// The one that arrived is read while it is deleted by force: an error, no hang.
	reader := b.Start("reader", "exec <$(ls -d /run/umbra/copies/*/data); echo has; while dd bs=4096 count=1 iflag=direct of=/dev/null 2>/dev/null; do sleep 0.1; done; echo error")
	reader.WaitFor("has")
	has(b.Fails("umbra delete all").Stderr, "VSS_E_VOLUME_IN_USE")
	b.Sh("umbra delete set %s --force", set)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := reader.Wait(ctx); err != nil || !strings.Contains(reader.Log(), "error") {
		t.Errorf("who reads a copy that was deleted by force: %v, %s", err, reader.Log())
	}
	nothing()
	if left := s.array.Sh("umbra array lun list"); strings.Contains(left, copies[2]) {
		t.Errorf("the array has\n%s", left)
	}

	// a is enrolled again while it uses its disks: its session is out with the old
	// secrets. With the new ones iscsid brings it back, and the disks with it.
	s.array.Sh("rm /root/a.bundle; umbra array enroll a --bundle /root/a.bundle")
	if info := s.array.Sh("cat %s/acls/*:a/info", tpg); strings.Contains(info, "LOGGED_IN") {
		t.Errorf("a's session outlives its secrets:\n%s", info)
	}
	bundle, err := s.array.Pull(t.Context(), "/root/a.bundle")
	if err == nil {
		err = a.Push(t.Context(), bundle, "/root/join.bundle", 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.Sh("umbra join /root/join.bundle")
	r = a.Fails("umbra rescan")
	has(r.Stdout+r.Stderr, "systemctl restart iscsid")
	a.Sh("kill $(pidof iscsid) || true; while pidof iscsid >/dev/null; do sleep 0.1; done; iscsid")
	a.Sh("umbra rescan && for v in one two three; do echo again >/srv/$v/again; sync; done && dmesg | grep -E 'I/O error|EXT4-fs error' && exit 1 || true")

	// It is removed while it writes: errors, no hang, nothing left of it.
	writer := a.Start("writer", "echo has; while dd if=/dev/zero of=/srv/one/x bs=4096 count=1 oflag=direct 2>/dev/null; do :; done; echo error")
	writer.WaitFor("has")
	s.array.Sh("umbra array host remove a --force")
	if left := s.array.Sh("ls -d %s/acls/*:a /sys/kernel/config/target/core/*/naa* 2>/dev/null || true", tpg); left != "" {
		t.Errorf("the array still exports %s", left)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if _, err := writer.Wait(ctx); err != nil || !strings.Contains(writer.Log(), "error") {
		t.Errorf("who writes to a disk of a host that was removed: %v, %s", err, writer.Log())
	}
}
