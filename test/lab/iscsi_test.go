package lab_test

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/test/lab"
)

// san is an array that exports over iSCSI, and hosts that have joined it.
type san struct {
	t     *testing.T
	l     *lab.Lab
	array *lab.Machine

	served *lab.Process // the array's, since serve
}

func newSAN(t *testing.T, hosts ...string) *san {
	t.Helper()
	l := lab.Start(t, append(lab.Machines{"array"}, hosts...))
	s := &san{t: t, l: l, array: l.Machine("array")}
	s.array.Sh("modprobe xfs && mkfs.xfs -q /dev/vda && mkdir -p /store && mount -t xfs /dev/vda /store")
	s.serve()
	for _, h := range hosts {
		s.join(h)
	}
	return s
}

// serve starts the array and waits until it answers.
func (s *san) serve() *lab.Process {
	s.t.Helper()
	p := s.array.Start("serve", "umbra array serve --dir /store/array --listen tcp://%[1]s:7480 --iscsi-portal %[1]s:3260", s.array.Address())
	p.WaitFor("umbra: ready")
	s.served = p
	return p
}

// join enrolls a host and starts its daemon.
func (s *san) join(host string) {
	s.t.Helper()
	s.array.Sh("umbra array enroll %s --bundle /root/%[1]s.bundle", host)
	b, err := s.array.Pull(s.t.Context(), "/root/"+host+".bundle")
	if err != nil {
		s.t.Fatal(err)
	}
	m := s.l.Machine(host)
	if err := m.Push(s.t.Context(), b, "/root/join.bundle", 0o600); err != nil {
		s.t.Fatal(err)
	}
	m.Start("daemon", "umbra daemon").WaitFor("ready")
	m.Sh("umbra join /root/join.bundle")
}

// lun makes a LUN and shows it to a host; it returns the identifier.
func (s *san) lun(name, size, host string) string {
	s.t.Helper()
	naa := strings.TrimSpace(s.array.Sh("umbra array lun create %s --size %s", name, size))
	s.array.Sh("umbra array unmask %s %s", name, host)
	return naa
}

// disk is a host's disk of a LUN, by page 0x83.
func (s *san) disk(m *lab.Machine, naa string) string {
	return strings.TrimSpace(m.Sh("grep -ls %s /sys/block/sd*/device/wwid | cut -d/ -f4", naa))
}

func TestISCSISmoke(t *testing.T) {
	s := newSAN(t, "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	naa := s.lun("db", "64M", "a")
	t.Log(a.Sh("umbra rescan"))
	d := s.disk(a, naa)
	if d == "" {
		t.Fatalf("no disk of %s: %s", naa, a.Sh("ls /sys/block; iscsiadm -m session -P 3"))
	}
	a.Sh("mkfs.ext4 -q /dev/%s && mkdir -p /data && mount /dev/%[1]s /data && echo hello >/data/greeting && sync", d)
	t.Log(a.Sh("umbra create /data --transportable --document /root/set.umbra"))
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err != nil {
		t.Fatal(err)
	}
	a.PowerOff()
	if err := b.Push(t.Context(), doc, "/root/set.umbra", 0o600); err != nil {
		t.Fatal(err)
	}
	t.Log(b.Sh("umbra import /root/set.umbra"))
	t.Log(b.Sh("umbra list copies; lsblk -o NAME,SIZE,RO,VENDOR,MODEL,WWN; umbra list luns"))
	if got := b.Sh("cat /run/umbra/copies/*/greeting"); strings.TrimSpace(got) != "hello" {
		t.Errorf("the copy on b says %q", got)
	}
	t.Log(s.array.Sh("umbra array lun list; umbra array info"))
	t.Log(b.Sh("umbra delete all --yes || umbra delete all"))
	if left := b.Sh("ls /sys/block | grep ^sd || true; ls /sys/class/iscsi_session"); left != "" {
		t.Errorf("left on b: %s", left)
	}
	t.Log(s.array.Sh("umbra array lun list; ls /sys/kernel/config/target/core/*"))
}
