package units

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/test/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Run(m)) }

// machine is one with systemd, and what the tests ask of it.
type machine struct {
	*lab.Machine
	t *testing.T
}

// carry copies a file from a machine to another.
func (m machine) carry(file string, to machine, as string) {
	m.t.Helper()
	b, err := m.Pull(m.t.Context(), file)
	if err == nil {
		err = to.Push(m.t.Context(), b, as, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// installing is the commands of docs/operations.md, up to enable.
func installing(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n## Installing\n")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	commands, _, ok := strings.Cut(rest, "systemctl enable --now umbra.service\n```")
	if !ok || !strings.Contains(commands, "systemctl daemon-reload") {
		t.Fatalf("docs/operations.md does not say how to install: %q", commands)
	}
	return commands
}

// install installs Umbra as the page says, from a folder that is like the
// repository's.
func (m machine) install() {
	m.t.Helper()
	m.Sh("mkdir -p /root/umbra/bin /root/umbra/packaging/systemd && cp /usr/local/bin/umbra /root/umbra/bin/")
	files, _ := filepath.Glob("../../../packaging/systemd/umbra*")
	for _, f := range append(files, "../../../packaging/umbra.toml") {
		b, err := os.ReadFile(f)
		if err == nil {
			err = m.Push(m.t.Context(), b, "/root/umbra/"+strings.TrimPrefix(f, "../../../"), 0o644)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	m.Sh("%s\ncd /root/umbra\n%s", coreutils, installing(m.t))
	m.Sh("rm -r /root/umbra")
}

// coreutils is what busybox has not: install, in the way that the page uses it.
const coreutils = `install() {
	if test "$1" = -D; then shift; for to; do :; done; mkdir -p "${to%/*}"; fi
	test "$1" = -m; mode=$2; shift 2
	for to; do :; done
	while test $# -gt 1; do
		f=$to; if test -d "$to"; then f=${to%/}/${1##*/}; fi
		rm -f "$f"; cp "$1" "$f"; chmod "$mode" "$f"; shift
	done
}`

// dropIn adds to a unit.
func (m machine) dropIn(unit, text string) {
	m.t.Helper()
	dir := "/etc/systemd/system/" + unit + ".d"
	m.Sh("mkdir -p %s", dir)
	if err := m.Push(m.t.Context(), []byte(text), dir+"/site.conf", 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.Sh("systemctl daemon-reload")
}

// storeOf gives the array a disk, and a unit that has a portal.
func storeOf(array machine, portal string) {
	array.t.Helper()
	array.Sh(`modprobe xfs && mkfs.xfs -q /dev/vda && mkdir -p /var/lib/umbra-array
echo '/dev/vda /var/lib/umbra-array xfs defaults 0 0' >>/etc/fstab`)
	array.dropIn("umbra-array.service", `[Service]
ExecStart=
ExecStart=/usr/local/bin/umbra array serve --listen tcp://`+array.Address()+`:7480 `+portal+`
`)
}

func join(array machine, hosts ...machine) {
	array.t.Helper()
	for _, m := range hosts {
		array.Sh("umbra array enroll %s --bundle /root/%[1]s.bundle", m.Name)
		array.carry("/root/"+m.Name+".bundle", m, "/root/join.bundle")
		m.Sh("umbra join /root/join.bundle && rm /root/join.bundle")
	}
}

// show is a property of a unit.
func (m machine) show(unit, property string) string {
	m.t.Helper()
	return m.Sh("systemctl show -P %s %s", property, unit)
}

func (m machine) number(unit, property string) int {
	m.t.Helper()
	n, err := strconv.Atoi(m.show(unit, property))
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// answers waits until the service answers, as another process than before if
// that is not 0, and returns its process.
func (m machine) answers(unit string, before int) int {
	m.t.Helper()
	ask := map[string]string{"umbra": "umbra status", "umbra-array": "umbra array info"}[unit]
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		pid := m.number(unit, "MainPID")
		r, err := m.Run(m.t.Context(), "%s", ask)
		if err == nil && pid != 0 && pid != before {
			return pid
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s on %s does not come back (process %d): %v\n%s%s\n%s", unit, m.Name, pid, err, r.Stdout, r.Stderr, m.Sh("systemctl status --no-pager -l %s || true; journalctl --no-pager -n 40 -u %[1]s", unit))
		}
	}
}

// thawed asserts that nothing of what was frozen is: FITHAW says so, and would
// thaw. (A write would hang.)
func (m machine) thawed(folders ...string) {
	m.t.Helper()
	for _, f := range folders {
		if r, err := m.Run(m.t.Context(), "fsfreeze --unfreeze %s", f); err == nil {
			m.t.Errorf("%s on %s was frozen", f, m.Name)
		} else if !strings.Contains(r.Stderr, "Invalid argument") {
			m.t.Fatal(err)
		}
	}
}

// units are those of a site.
func (m machine) unit() string {
	if m.Name == "array" {
		return "umbra-array"
	}
	return "umbra"
}

// events are the names of the events that the journal has of the service.
func (m machine) events() string {
	m.t.Helper()
	return m.Sh("journalctl --no-pager -u umbra -o json | grep -o '\"UMBRA_EVENT\" *: *\"[^\"]*\"' | cut -d'\"' -f4 | sort -u")
}

// noErrors asserts that no program was told of an I/O error.
func (m machine) noErrors() {
	m.t.Helper()
	if said := m.Sh("dmesg | grep -E 'I/O error|EXT4-fs (error|warning)|XFS.*(error|shut)' || true"); said != "" {
		m.t.Errorf("on %s: %s", m.Name, said)
	}
}

// load is a program that goes on until it is stopped, or fails.
type load struct {
	machine
	p *lab.Process
}

func (m machine) load(name, format string, args ...any) load {
	m.t.Helper()
	l := load{m, m.Start(name, "%s", fmt.Sprintf(format, args...))}
	l.p.WaitFor("round 1\n")
	return l
}

// rounds is how far it is; the test has failed if it has ended.
func (l load) rounds() int {
	l.t.Helper()
	if strings.Contains(l.p.Log(), "failed") {
		l.t.Fatalf("%s:\n%s", l.Name, l.p.Log())
	}
	return strings.Count(l.p.Log(), "round ")
}

// goesOn waits until some more rounds are done.
func (l load) goesOn() {
	l.t.Helper()
	from := l.rounds()
	for deadline := time.Now().Add(40 * time.Second); l.rounds() < from+2; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("%s stands still: %s", l.Name, l.p.Log())
		}
	}
}
