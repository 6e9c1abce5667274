package deaths

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/test/crash"
	"github.com/umbra-vss/umbra/test/lab"
)

var update = flag.Bool("update", false, "write what was seen into docs/crash-matrix.md")

func TestMain(m *testing.M) { os.Exit(lab.Run(m)) }

// site is an array, a host with a volume, and one that imports copies of it.
type site struct {
	t         *testing.T
	transport string
	array     *lab.Machine
	a, b      *lab.Machine

	portal string
	served *lab.Process // the array
	daemon *lab.Process // b's
	sets   int
	seen   []crash.Death
}

func newSite(t *testing.T, transport, portal string) *site {
	t.Helper()
	l := lab.Start(t, lab.Machines{"array", "a", "b"})
	s := &site{t: t, transport: transport, array: l.Machine("array"), a: l.Machine("a"), b: l.Machine("b"), portal: portal}
	s.array.Sh("modprobe xfs && mkfs.xfs -q /dev/vda && mkdir -p /store && mount -t xfs /dev/vda /store")
	s.serve("")
	for _, m := range []*lab.Machine{s.a, s.b} {
		s.array.Sh("umbra array enroll %s --bundle /root/%[1]s.bundle", m.Name)
		s.carry(s.array, "/root/"+m.Name+".bundle", m, "/root/join.bundle")
	}
	s.a.Start("daemon", "umbra daemon").WaitFor("ready")
	s.a.Sh("umbra join /root/join.bundle")
	s.live("")
	s.b.Sh("umbra join /root/join.bundle")
	s.array.Sh("umbra array lun create db --size 64M && umbra array unmask db a")
	s.a.Sh(`umbra rescan
d=$(ls /sys/block | grep -E '^(sd[a-z]|nvme[0-9]+n[0-9]+)$' | head -n 1)
mkfs.ext4 -q /dev/$d && mkdir -p /srv/db && mount /dev/$d /srv/db
head -c 1000000 /dev/urandom >/srv/db/data && sync && cd /srv/db && sha256sum data >/root/sums`)
	s.carry(s.a, "/root/sums", s.b, "/root/sums")
	return s
}

func (s *site) carry(from *lab.Machine, file string, to *lab.Machine, as string) {
	s.t.Helper()
	b, err := from.Pull(s.t.Context(), file)
	if err == nil {
		err = to.Push(s.t.Context(), b, as, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// armed is a failpoint's part of a command line, "" without one. It kills if it does
// not say what else.
func armed(point string) string {
	switch {
	case point == "":
		return ""
	case !strings.Contains(point, "="):
		point += "=kill"
	}
	return "'UMBRA_FAILPOINTS=" + point + "' "
}

func (s *site) serve(point string) {
	s.t.Helper()
	s.served = s.array.Start("serve", "exec env %sumbra array serve --dir /store/array --listen tcp://%[2]s:7480 %[3]s %[2]s:%[4]s", armed(point), s.array.Address(), strings.Fields(s.portal)[0], strings.Fields(s.portal)[1])
	s.served.WaitFor("umbra: ready")
}

// live starts b's daemon, to die at a point.
func (s *site) live(point string) {
	s.t.Helper()
	s.daemon = s.b.Start("daemon", "exec env %sumbra daemon", armed(point))
	s.daemon.WaitFor("ready")
}

// killed waits for the end of a process that was to die.
func (s *site) killed(p *lab.Process, point string) {
	s.t.Helper()
	if code, err := p.Wait(s.t.Context()); err != nil || code != 137 {
		s.t.Fatalf("%s: the process ends with %d, %v:\n%s", point, code, err, p.Log())
	}
}

// create makes a set, and returns its ID; b has its document in /root/set.umbra.
func (s *site) create() string {
	s.t.Helper()
	s.sets++
	doc := fmt.Sprintf("/root/set%d.umbra", s.sets)
	var out struct {
		SetID string `json:"set_id"`
	}
	if err := json.Unmarshal([]byte(s.a.Sh("umbra create /srv/db --transportable --context app-rollback --document %s --output json", doc)), &out); err != nil || out.SetID == "" {
		s.t.Fatalf("no set: %v", err)
	}
	s.carry(s.a, doc, s.b, "/root/set.umbra")
	return out.SetID
}

// told is what a command's caller was told.
func (s *site) told(m *lab.Machine, command string) (answer string, ok bool) {
	s.t.Helper()
	_, err := m.Run(s.t.Context(), "%s", command)
	var failed *lab.Failed
	switch {
	case err == nil:
		return "done", true
	case errors.As(err, &failed):
		return crash.Codes(failed.Stderr), false
	}
	s.t.Fatal(err)
	return "", false
}

// whole asserts that b has a copy, and that it is whole.
func (s *site) whole(point string) {
	s.t.Helper()
	if _, err := s.b.Run(s.t.Context(), "cd /run/umbra/copies/*/ && sha256sum -c -s /root/sums"); err != nil {
		s.t.Fatalf("%s: %v\n%s", point, err, s.b.Sh("umbra list copies; umbra list luns; umbra list events; mount"))
	}
}

// accounted asserts that what the array has given to b is b's, or listed there as
// nobody's.
func (s *site) accounted(point string) {
	s.t.Helper()
	var luns []struct {
		NAA   string   `json:"naa"`
		Copy  bool     `json:"copy"`
		Masks []string `json:"masks"`
	}
	if err := json.Unmarshal([]byte(s.array.Sh("umbra array lun list --output json")), &luns); err != nil {
		s.t.Fatal(err)
	}
	listed := s.b.Sh("umbra list luns")
	for _, l := range luns {
		if l.Copy && slices.Contains(l.Masks, "b") && !strings.Contains(listed, l.NAA) {
			s.t.Fatalf("%s: %s is unmasked to b, which does not list it:\n%s", point, l.NAA, listed)
		}
	}
}

// nothing asserts that b has nothing, that the array exports nothing to it, and
// that no original is frozen, or other than it was. copies is how many the array
// still has.
func (s *site) nothing(point string, copies int) {
	s.t.Helper()
	left := s.b.Sh(`ls -d /sys/block/sd* /sys/class/iscsi_session/* /sys/block/nvme* /sys/class/nvme/* /run/umbra/copies/* /run/udev/rules.d/*-naa.* 2>/dev/null || true
umbra list luns | grep naa. || true; grep -E '^/dev/(sd|nvme)' /proc/mounts || true`)
	if left != "" {
		s.t.Fatalf("%s: left on b:\n%s\n%s", point, left, s.b.Sh("umbra list luns; umbra list sets; umbra list events"))
	}
	left = s.array.Sh(`ls -d /sys/kernel/config/target/iscsi/*/tpgt_1/acls/*:b/lun_* /sys/kernel/config/nvmet/subsystems/*.b/namespaces/* 2>/dev/null || true
ls -d /sys/kernel/config/target/core/fileio_7480/naa.* /sys/kernel/config/target/iscsi/*/tpgt_1/lun/lun_* /sys/kernel/config/nvmet/subsystems/*/namespaces/* 2>/dev/null | sort
for f in /sys/block/loop*/loop/backing_file; do test -e $f && cat $f; done; ls -d /sys/block/dm-* 2>/dev/null || true`)
	has := strings.Fields(left)
	if want := map[string]int{"iscsi": 2, "nvme": 2}[s.transport]; len(has) != want { // a's: backstore and LUN; namespace and loop device
		s.t.Fatalf("%s: the array's kernel has:\n%s", point, left)
	}
	if n := strings.Count(s.array.Sh("umbra array lun list --output json"), `"copy": true`); n != copies {
		s.t.Fatalf("%s: the array has %d copies, want %d:\n%s", point, n, copies, s.array.Sh("umbra array lun list"))
	}
	if r, err := s.a.Run(s.t.Context(), "cd /srv/db && sha256sum -c -s /root/sums && fsfreeze --unfreeze /srv/db"); err == nil || !strings.Contains(r.Stderr, "Invalid argument") {
		s.t.Fatalf("%s: the original was frozen, or is not what it was: %v", point, err)
	}
}

func (s *site) died(point, process, during, told, after string) {
	s.seen = append(s.seen, crash.Death{Point: point, Process: process, During: during, Transport: s.transport, Answer: told, After: after})
	s.t.Logf("%s", s.seen[len(s.seen)-1])
}

const matrixPage = "../../../docs/crash-matrix.md"

// enter holds the page to what was seen, or writes it.
func (s *site) enter() {
	s.t.Helper()
	have, err := os.ReadFile(matrixPage)
	if err != nil {
		s.t.Fatal(err)
	}
	page, err := crash.Replace(string(have), crash.Merge(crash.Rows(string(have)), s.seen, s.transport))
	if err != nil {
		s.t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(matrixPage, []byte(page), 0o644); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	if d := crash.Differing(string(have), page); d != "" {
		s.t.Errorf("docs/crash-matrix.md is not what was seen; if it should be, run `make lab-crash UPDATE=-update`:\n%s", d)
	}
}
