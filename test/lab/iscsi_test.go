package lab_test

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/test/lab"
)

// san is an array that exports over iSCSI, and hosts that have joined it.
type san struct {
	t     lab.T
	l     *lab.Lab
	array *lab.Machine

	served *lab.Process // the array's, since serve
	portal string       // the flag by which it has one, without its address
}

const iscsiPortal = "--iscsi-portal %[1]s:3260"

// joined is an array that exports over iSCSI, and a and b have joined it.
var joined = lab.Scene{Machines: lab.Machines{"array", "a", "b"}, Play: func(t lab.T, l *lab.Lab) {
	s := &san{t: t, l: l, array: l.Machine("array"), portal: iscsiPortal}
	s.begin("a", "b")
}}

// newSAN is a SAN of a and b, or one of them; the other has joined it and is off.
func newSAN(t *testing.T, hosts ...string) *san {
	t.Helper()
	l := joined.Start(t, append([]string{"array"}, hosts...)...)
	array := l.Machine("array")
	return &san{t: t, l: l, array: array, portal: iscsiPortal, served: array.Process("serve")}
}

func newSANOver(t *testing.T, portal string, hosts ...string) *san {
	t.Helper()
	l := lab.Start(t, append(lab.Machines{"array"}, hosts...))
	s := &san{t: t, l: l, array: l.Machine("array"), portal: portal}
	s.begin(hosts...)
	return s
}

// begin makes a SAN of machines that have just booted.
func (s *san) begin(hosts ...string) {
	s.t.Helper()
	s.array.Sh("modprobe xfs && mkfs.xfs -q /dev/vda && mkdir -p /store && mount -t xfs /dev/vda /store")
	s.serve()
	for _, h := range hosts {
		s.join(h)
		s.l.Machine(h).Sh("modprobe -a ext4 xfs")
	}
}

// impatient makes a host give up a connection that is gone after half the time,
// from its next login on.
func impatient(m *lab.Machine) {
	m.Sh("sed -i 's/\\(replacement_timeout\\) = 20/\\1 = 10/' /etc/iscsi/iscsid.conf && grep -q 'replacement_timeout = 10' /etc/iscsi/iscsid.conf")
}

// serve starts the array and waits until it answers.
func (s *san) serve() *lab.Process {
	s.t.Helper()
	p := s.array.Start("serve", "umbra array serve --dir /store/array --listen tcp://%[1]s:7480 "+s.portal, s.array.Address())
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
