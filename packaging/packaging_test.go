// Package packaging has what a machine is set up with; this test holds it to
// the rules that keep a frozen filesystem from staying frozen.
package packaging

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/daemon"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/outlive"
)

// unit is a parsed unit file: "Section.Key" to its values in order.
type unit map[string][]string

func readUnit(t *testing.T, path string) unit {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u, section := unit{}, ""
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" || strings.HasSuffix(line, "\\") {
				t.Fatalf("%s: cannot read %q", path, line)
			}
			u[section+"."+key] = append(u[section+"."+key], value)
		}
	}
	return u
}

func (u unit) want(t *testing.T, key, value string) {
	t.Helper()
	if got := u[key]; !slices.Equal(got, []string{value}) {
		t.Errorf("%s is %q, want %q", key, got, value)
	}
}

func units(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("systemd/*.service")
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	return files
}

// A private mount namespace hides exposed copies from users, and mounts from
// recovery; a device policy hides copies from the service.
var namespaced = regexp.MustCompile(`^(Private(Mounts|Tmp|Devices|Network|IPC|Users|PIDs)|Protect(System|Home|Clock|Hostname|Proc|Kernel(Tunables|Modules|Logs)|ControlGroups)|` +
	`ProcSubset|(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec|Bind|BindReadOnly)Paths|TemporaryFileSystem|Root(Directory|Image|Hash|Verity|Ephemeral)|MountAPIVFS|MountImages|` +
	`Extension(Images|Directories)|MountFlags|DynamicUser|NetworkNamespacePath|IPCNamespacePath|JoinsNamespaceOf|LoadCredential(Encrypted)?|SetCredential(Encrypted)?|` +
	`ImportCredential|LogNamespace|DevicePolicy|DeviceAllow)$`)

func TestUnitsHaveNoNamespaces(t *testing.T) {
	for _, file := range units(t) {
		for key, values := range readUnit(t, file) {
			if section, name, _ := strings.Cut(key, "."); section != "Install" && namespaced.MatchString(name) {
				t.Errorf("%s: %s=%s gives the service a namespace or a device policy of its own", file, name, values)
			}
		}
	}
}

func TestUnitsComeBack(t *testing.T) {
	for _, file := range units(t) {
		u := readUnit(t, file)
		u.want(t, "Service.Type", "exec")
		u.want(t, "Service.Restart", "always")
		u.want(t, "Service.RestartSec", "100ms")
		u.want(t, "Unit.StartLimitIntervalSec", "0")
		u.want(t, "Service.KillMode", "mixed")
		u.want(t, "Service.RuntimeDirectory", "umbra")
		u.want(t, "Service.RuntimeDirectoryPreserve", "yes")
		if len(u["Service.User"]) > 0 {
			t.Errorf("%s: it needs root", file)
		}
	}
}

func TestDaemonUnitThaws(t *testing.T) {
	u := readUnit(t, "systemd/umbra.service")
	u.want(t, "Service.ExecStopPost", "/usr/local/bin/umbra thaw-intents")
	u.want(t, "Service.ExecStart", "/usr/local/bin/umbra daemon")
	// The default state folder is the one thaw-intents looks into, and the one
	// systemd makes.
	if d := daemon.Default().StateDir; d != "/var/lib/"+strings.Join(u["Service.StateDirectory"], "") {
		t.Errorf("StateDirectory is %s, the daemon's is %s", u["Service.StateDirectory"], d)
	}
	if d := daemon.Default().RunDir; d != "/run/umbra" {
		t.Errorf("RuntimeDirectory is umbra, the daemon's is %s", d)
	}
	caps := strings.Fields(strings.Join(u["Service.CapabilityBoundingSet"], " "))
	for _, c := range []string{"CAP_SYS_ADMIN", "CAP_IPC_LOCK", "CAP_SYS_RESOURCE", "CAP_DAC_READ_SEARCH", "CAP_MKNOD"} {
		if !slices.Contains(caps, c) {
			t.Errorf("%s is missing", c)
		}
	}
	// systemd refuses clone3 under it; the guard then has no cgroup of its own.
	if v := u["Service.RestrictNamespaces"]; len(v) > 0 {
		t.Errorf("RestrictNamespaces=%s keeps the freeze guard in the daemon's cgroup", v)
	}
}

// TestUnitsMakeCgroups: the top of the hierarchy is writable for who has
// CAP_DAC_OVERRIDE only, and the services have not. Without these folders, what must
// outlive a unit is in the unit's cgroup and is killed with it.
func TestUnitsMakeCgroups(t *testing.T) {
	for file, folders := range map[string][]string{
		"systemd/umbra.service":       {freeze.CgroupFolder, outlive.CgroupFolder},
		"systemd/umbra-array.service": {outlive.CgroupFolder},
	} {
		made := " "
		for _, c := range readUnit(t, file)["Service.ExecStartPre"] {
			if args, ok := strings.CutPrefix(c, "-+/bin/mkdir -p "); ok {
				made += args + " "
			}
		}
		for _, f := range folders {
			if !strings.Contains(made, " /sys/fs/cgroup/"+f+" ") {
				t.Errorf("%s does not make the cgroup %s", file, f)
			}
		}
	}
}

// TestExplainsCapabilities: whoever reads the unit learns what each is for.
func TestExplainsCapabilities(t *testing.T) {
	for _, file := range units(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range strings.Fields(strings.Join(readUnit(t, file)["Service.CapabilityBoundingSet"], " ")) {
			if !regexp.MustCompile(`(?m)^#   ` + c + ` {2,}\S`).Match(text) {
				t.Errorf("%s: %s is not explained", file, c)
			}
		}
	}
}

// TestUnitsVerify asks systemd itself.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	for _, file := range units(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// The binary may not be installed here.
		text = []byte(strings.ReplaceAll(string(text), "/usr/local/bin/umbra", "/bin/true"))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range units(t) {
		cmd := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, filepath.Base(file)))
		cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=warning")
		out, err := cmd.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, filepath.Base(file)) {
				t.Errorf("%s: %s", file, strings.TrimSpace(line))
			}
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// TestSample: as it is the sample changes nothing, and with every key in force
// it still loads.
func TestSample(t *testing.T) {
	if c, err := daemon.Load("umbra.toml"); err != nil || !reflect.DeepEqual(c, daemon.Default()) {
		t.Fatalf("%+v, %v", c, err)
	}
	text, err := os.ReadFile("umbra.toml")
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)^#([a-z_]+) = `)
	inForce := filepath.Join(t.TempDir(), "umbra.toml")
	if err := os.WriteFile(inForce, key.ReplaceAll(text, []byte("$1 = ")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := daemon.Load(inForce)
	if err != nil {
		t.Fatal(err)
	}
	want := daemon.Default()
	want.HostName, want.Socket = "hosta", "/run/umbra/umbra.sock"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the sample says %+v, the defaults are %+v", c, want)
	}
	var documented []string
	for _, m := range key.FindAllSubmatch(text, -1) {
		documented = append(documented, string(m[1]))
	}
	for _, m := range regexp.MustCompile(`(?m)^#?\[[a-z.]*?([a-z]+)\]$`).FindAllSubmatch(text, -1) {
		documented = append(documented, string(m[1])) // tables
	}
	var check func(reflect.Type)
	check = func(in reflect.Type) {
		for f := range in.Fields() {
			if tag := f.Tag.Get("toml"); tag != "" && !slices.Contains(documented, tag) {
				t.Errorf("key %s is not in the sample", tag)
			}
			if f.Type.Kind() == reflect.Struct {
				check(f.Type)
			}
		}
	}
	check(reflect.TypeFor[daemon.Config]())
}
