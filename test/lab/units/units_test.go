package units

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/test/lab"
)

// TestUnits: an array and two hosts, nothing of them set up but by the page.
func TestUnits(t *testing.T) {
	l := lab.StartSystemd(t, lab.Machines{"array", "a", "b"})
	array, a, b := machine{l.Machine("array"), t}, machine{l.Machine("a"), t}, machine{l.Machine("b"), t}
	all := []machine{array, a, b}
	for _, m := range all {
		m.install()
	}
	storeOf(array, "--iscsi-portal "+array.Address()+":3260")
	for _, m := range all {
		m.Sh("systemctl enable --now %s.service", m.unit())
		m.answers(m.unit(), 0)
	}
	array.Sh("findmnt -n /var/lib/umbra-array | grep -q xfs")
	join(array, a, b)

	// The whole way, in what the units allow.
	naa := strings.TrimSpace(array.Sh("umbra array lun create db --size 64M && umbra array unmask db a >/dev/null"))
	a.Sh("umbra rescan")
	disk := a.Sh("grep -ls %s /sys/block/sd*/device/wwid | cut -d/ -f4", naa)
	a.Sh(`mkfs.ext4 -q /dev/%s && mkdir -p /srv/db && mount /dev/%[1]s /srv/db
head -c 2000000 /dev/urandom >/srv/db/data && sync && cd /srv/db && sha256sum data >/var/sums`, disk)
	a.Sh("umbra create /srv/db --transportable --context app-rollback --document /var/set.umbra")
	a.carry("/var/set.umbra", b, "/var/set.umbra")
	a.carry("/var/sums", b, "/var/sums")
	b.Sh("umbra import /var/set.umbra")
	id := b.Sh("ls /run/umbra/copies")
	b.Sh("mkdir -p /var/copy && umbra expose %s /var/copy && cd /var/copy && sha256sum -c -s /var/sums", id)
	deaths(a)
	busy(array, a, b)
	for m, wants := range map[machine][]string{a: {"create.done", "create.failed"}, b: {"import.done"}} {
		for _, e := range wants {
			if got := m.events(); !strings.Contains(got, e) {
				t.Errorf("the journal of %s has no %s, but\n%s", m.Name, e, got)
			}
		}
	}
	reboots(array, a, b)
	b.Sh("umbra delete all")
	b.Fails("ls -d /sys/block/sd* /sys/class/iscsi_session/*")
}

// held restarts a's service so that the next creation stays in its hold, begins
// one, and returns when it is there.
func held(a machine) (creation *lab.Process, daemon, guard int) {
	a.t.Helper()
	a.Sh(`rm -f /run/held
systemctl set-environment 'UMBRA_FAILPOINTS=create.in-hold=touch(/run/held)+sleep(9s)'
systemctl restart umbra; systemctl unset-environment UMBRA_FAILPOINTS`)
	daemon = a.answers("umbra", 0)
	creation = a.Start("create", "umbra create /srv/db --transportable --context app-rollback --document /root/never.umbra")
	guard, err := strconv.Atoi(a.Sh("until test -e /run/held; do sleep 0.1; done; cat /sys/fs/cgroup/umbra-freeze-guard/*/cgroup.procs"))
	if err != nil {
		a.t.Fatalf("the guard is not in a cgroup of its own: %v", err)
	}
	return creation, daemon, guard
}

// deaths is who dies in the hold, and how; systemd and what the units say do the
// rest.
func deaths(a machine) {
	t := a.t
	if got := a.Sh("cat /proc/%d/oom_score_adj", a.answers("umbra", 0)); got != "-900" {
		t.Errorf("the daemon's oom_score_adj is %s", got)
	}
	for _, d := range []struct {
		name, how string
		comesBack bool
	}{
		{"the unit is killed", "systemctl kill -s KILL umbra", true},
		{"the guard is killed", "kill -9 %[2]d", false},
		{"both are killed", "kill -9 %[1]d %[2]d", true},
		{"the unit has no memory", "echo 1 >/proc/sys/kernel/printk; c=/sys/fs/cgroup$(cut -d: -f3 /proc/%[1]d/cgroup)/memory.max; echo 1M >$c; echo max >$c || true; echo 5 >/proc/sys/kernel/printk", true},
		{"the unit is stopped", "systemctl stop umbra; systemctl start umbra", true},
	} {
		creation, daemon, guard := held(a)
		restarts, begin := a.number("umbra", "NRestarts"), time.Now()
		how := d.how
		if strings.Contains(how, "%") {
			how = fmt.Sprintf(how, daemon, guard)
		}
		a.Sh("%s", how)
		before := 0
		if d.comesBack {
			before = daemon
		}
		if d.name != "both are killed" {
			time.Sleep(500 * time.Millisecond)
			a.thawed("/srv/db")
		}
		a.answers("umbra", before)
		a.thawed("/srv/db")
		took := time.Since(begin)
		if code, err := creation.Wait(t.Context()); err != nil || code == 0 {
			t.Errorf("%s: the creation ends with %d, %v", d.name, code, err)
		}
		if took > 9*time.Second {
			t.Errorf("%s: the service answers after %v: the hold may have ended by itself", d.name, took)
		}
		n := a.number("umbra", "NRestarts") - restarts
		if want := d.comesBack && !strings.HasPrefix(d.how, "systemctl stop"); (n == 1) != want {
			t.Errorf("%s: systemd started it %d times", d.name, n)
		}
		t.Logf("%s: the service answers after %.1f s; %s", d.name, took.Seconds(), a.show("umbra", "Result"))
		if left := a.Sh("ls /var/lib/umbra/holds 2>/dev/null || true"); left != "" {
			t.Errorf("%s: hold intents are left: %s", d.name, left)
		}
		if got := a.Sh("umbra list sets --output json | grep -c set_id || true"); got != "1" {
			t.Errorf("%s: %s sets, want the one that was made:\n%s", d.name, got, a.Sh("umbra list sets"))
		}
	}
	if got := a.Sh("journalctl --no-pager -u umbra | grep -c 'OOM killer' || true"); got == "0" {
		t.Error("nobody was killed for want of memory")
	}
}

// busy is restarts, deaths and stops of all three services while originals are
// written to and copies are read.
func busy(array, a, b machine) {
	t := array.t
	loads := []load{
		a.load("writer", `i=0; while i=$((i+1)); echo $i >/srv/db/n && sync /srv/db/n && test "$(cat /srv/db/n)" = $i; do echo "round $i"; done; echo failed`),
		b.load("reader", `i=0; while i=$((i+1)); echo 3 >/proc/sys/vm/drop_caches; cd /var/copy && sha256sum -c -s /var/sums && cd /run/umbra/copies/*/ && sha256sum -c -s /var/sums; do echo "round $i"; sleep 0.2; done; echo failed`),
	}
	goOn := func() {
		t.Helper()
		for _, l := range loads {
			l.goesOn()
		}
	}
	for _, m := range []machine{a, b, array} {
		was := m.answers(m.unit(), 0)
		m.Sh("systemctl restart %s", m.unit())
		now := m.answers(m.unit(), was)
		goOn()
		m.Sh("systemctl kill -s KILL %s", m.unit())
		m.answers(m.unit(), now)
		goOn()
	}
	for _, m := range []machine{a, b, array} {
		m.Sh("systemctl stop %s", m.unit())
	}
	goOn()
	for _, m := range []machine{array, a, b} {
		m.Sh("systemctl start %s", m.unit())
		m.answers(m.unit(), 0)
	}
	goOn()
	b.Sh("umbra list copies | grep -q /var/copy")
	for _, l := range loads {
		l.p.Stop()
	}
	for _, m := range []machine{a, b, array} {
		m.noErrors()
	}
	if got := array.Sh("umbra array info"); strings.Contains(got, "Attention") {
		t.Errorf("the array found something else than it had left:\n%s", got)
	}
}

// reboots is each machine's, in turn, asked for as one does.
func reboots(array, a, b machine) {
	t := array.t
	again := func(m machine) {
		t.Helper()
		begin := time.Now()
		_, _ = m.Run(t.Context(), "systemctl --no-block reboot") // it may be gone before it answers
		m.WaitOff()
		down := time.Since(begin)
		m.PowerOn()
		m.answers(m.unit(), 0)
		t.Logf("%s went down in %.1f s, and its service answers %.1f s later", m.Name, down.Seconds(), (time.Since(begin) - down).Seconds())
		if got := m.Sh("systemctl --failed --no-pager --plain --no-legend"); got != "" {
			t.Errorf("failed on %s: %s", m.Name, got)
		}
	}
	whole := func() {
		t.Helper()
		b.Sh("i=0; until cd /var/copy && sha256sum -c -s /var/sums; do i=$((i+1)); test $i -lt 100; sleep 0.2; done; cd /run/umbra/copies/*/ && sha256sum -c -s /var/sums")
	}
	again(b)
	whole()
	again(array)
	b.Sh("echo 3 >/proc/sys/vm/drop_caches")
	whole()
	a.Sh("echo 3 >/proc/sys/vm/drop_caches; cd /srv/db && sha256sum -c -s /var/sums && echo more >more && sync")
	again(a)
	a.Sh(`umbra rescan
disk=$(ls /sys/block | grep ^sd); mkdir -p /srv/db; mount /dev/$disk /srv/db; cd /srv/db && sha256sum -c -s /var/sums && test "$(cat more)" = more`)
	for _, m := range []machine{a, b, array} {
		m.noErrors()
	}
}
