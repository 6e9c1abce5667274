package units

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/test/lab"
	"github.com/umbra-vss/umbra/test/lab/image"
)

// TestUnitsNBD: over NBD disks are carried by processes that the services start. The
// units let them do it, and end without them.
func TestUnitsNBD(t *testing.T) {
	const plugins = "usr/lib/x86_64-linux-gnu/nbdkit/"
	server, err := image.Pack("usr/bin/qemu-storage-daemon")
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := image.Pack("usr/bin/nbdkit", plugins+"plugins/nbdkit-nbd-plugin.so", plugins+"filters/nbdkit-retry-filter.so")
	if err != nil {
		t.Fatal(err)
	}
	l := lab.StartSystemd(t, lab.Machines{"array", "a"})
	array, a := machine{l.Machine("array"), t}, machine{l.Machine("a"), t}
	for m, pack := range map[machine][]byte{array: server, a: proxy} {
		m.install()
		if err := m.Install(t.Context(), pack, "/var/programs"); err != nil {
			t.Fatal(err)
		}
	}
	storeOf(array, "--nbd-portal "+array.Address()+":10809")
	for _, m := range []machine{array, a} {
		m.Sh("systemctl enable --now %s.service", m.unit())
		m.answers(m.unit(), 0)
	}
	join(array, a)
	a.Sh("modprobe nbd")
	array.Sh("umbra array lun create db --size 64M && umbra array unmask db a >/dev/null")
	disk := strings.Fields(a.Sh("umbra rescan >/dev/null; umbra list luns | grep -o '/dev/[a-z0-9]*'"))[0]
	a.Sh("mkfs.ext4 -q %s && mkdir -p /srv/db && mount %[1]s /srv/db && echo hello >/srv/db/data && cd /srv/db && sha256sum data >/var/sums", disk)
	a.Sh("umbra create /srv/db --context app-rollback")
	copies := "/run/umbra/copies/*/"
	a.Sh("cd %s && sha256sum -c -s /var/sums", copies)

	// What carries data is in no unit.
	for m, kind := range map[machine]string{array: "qemu-storage-daemon", a: "nbdkit"} {
		if got := m.Sh("for p in $(pidof %s); do cat /proc/$p/cgroup; done | sort -u", kind); !strings.Contains(got, "/umbra-data/") || strings.Contains(got, "system.slice") {
			t.Errorf("%s on %s is in the cgroup %q", kind, m.Name, got)
		}
	}
	loads := []load{
		a.load("writer", `i=0; while i=$((i+1)); echo $i >/srv/db/n && sync /srv/db/n; do echo "round $i"; done; echo failed`),
		a.load("reader", `i=0; while i=$((i+1)); echo 3 >/proc/sys/vm/drop_caches; cd %s && sha256sum -c -s /var/sums; do echo "round $i"; sleep 0.2; done; echo failed`, copies),
	}
	for _, m := range []machine{a, array} {
		was := m.answers(m.unit(), 0)
		m.Sh("systemctl kill -s KILL %s", m.unit())
		m.answers(m.unit(), was)
		m.Sh("systemctl stop %s", m.unit())
		for _, l := range loads {
			l.goesOn()
		}
		m.Sh("systemctl start %s", m.unit())
		m.answers(m.unit(), 0)
	}
	for _, l := range loads {
		l.goesOn()
		l.p.Stop()
	}
	a.noErrors()
	a.Sh("umbra delete all; umount /srv/db; umbra detach $(umbra list luns | grep -o 'naa\\.[0-9a-f]*')")
	for m, kind := range map[machine]string{array: "qemu-storage-daemon", a: "nbdkit"} {
		m.Fails("i=0; while pidof %s; do i=$((i+1)); test $i -lt 50 || exit 0; sleep 0.1; done; false", kind)
	}
}
