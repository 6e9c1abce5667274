package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// samba is a Samba of a test's own on host B: its files are in the site's
// folder, and smbd, if it runs, in B's namespaces.
type samba struct {
	*fixture
	config, usershares, umbra string
}

// sambaUser is an account that every Debian has; files that are not for
// everybody are not for it.
const sambaUser, sambaPassword = "games", "secret"

// samba configures Samba, and B's daemon to share by it.
func (f *fixture) samba() samba {
	f.Helper()
	for _, p := range []string{"smbd", "smbclient", "net", "smbcontrol", "testparm"} {
		if _, err := exec.LookPath(p); err != nil {
			f.Skip(err)
		}
	}
	dir := filepath.Join(f.site.Dir, "samba")
	s := samba{fixture: f, config: filepath.Join(dir, "smb.conf"), usershares: filepath.Join(dir, "usershares"), umbra: filepath.Join(dir, "umbra.toml")}
	text := "[global]\nserver role = standalone server\nmap to guest = never\nlog level = 1\ndisable spoolss = yes\nload printers = no\ndisable netbios = yes\nrpc start on demand helpers = no\nsmb ports = 445\n" +
		"usershare max shares = 10\nusershare path = " + s.usershares + "\nlog file = " + dir + "/log\npassdb backend = tdbsam:" + dir + "/passdb.tdb\n"
	for _, d := range []string{"private dir", "state directory", "cache directory", "lock directory", "pid directory", "ncalrpc dir"} {
		text += d + " = " + filepath.Join(dir, d) + "\n"
		f.must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	f.must(os.Mkdir(s.usershares, 0o700))
	f.must(os.Chmod(s.usershares, os.ModeSticky|0o770))
	f.must(os.WriteFile(s.config, []byte(text), 0o644))
	f.must(os.WriteFile(s.umbra, fmt.Appendf(nil, "[share]\ntype = \"samba\"\nsamba_config = %q\n", s.config), 0o644))
	f.must(os.Chmod(f.site.Dir, 0o711)) // Samba reads as the user who connects
	f.b.StopDaemon()
	s.start()
	return s
}

func (s samba) start(env ...string) {
	s.Helper()
	s.must(s.b.StartDaemon(s.ctx, env, "--config", s.umbra))
}

// serve runs smbd until the test's end.
func (s samba) serve() {
	s.Helper()
	_, err := s.b.Run(s.ctx, "sh", "-c", fmt.Sprintf("printf '%[1]s\\n%[1]s\\n' | smbpasswd -c %[2]s -s -a %[3]s", sambaPassword, s.config, sambaUser))
	s.must(err)
	// Not in our process group: smbd signals all of its own when it ends.
	stop := s.background(s.b, "smbd", "--foreground", "--configfile", s.config)
	s.Cleanup(stop)
	eventually(s, "smbd answers", 20*time.Second, func() bool {
		_, err := s.b.Run(s.ctx, "smbclient", "-s", s.config, "-U", sambaUser+"%"+sambaPassword, "//127.0.0.1/IPC$", "-c", "quit")
		return err == nil
	})
}

// client runs smbclient commands on a share and returns all that it said.
func (s samba) client(share, login, commands string) string {
	s.Helper()
	return s.script(share, login, "echo '"+commands+"'")
}

// script does so with the commands that a shell script prints.
func (s samba) script(share, login, script string) string {
	s.Helper()
	out, err := s.b.Run(s.ctx, "sh", "-c", fmt.Sprintf("cd %s; (%s) | smbclient -s %s -U '%s' //127.0.0.1/%s 2>&1", s.site.Dir, script, s.config, login, share))
	if err != nil {
		return out + err.Error()
	}
	return out
}

// shared lists what is shared by Samba and what is mounted to be shared.
func (s samba) shared() (names []string) {
	s.Helper()
	for _, dir := range []string{s.usershares, s.b.Path(filepath.Join(s.b.RunDir(), "shares"))} {
		all, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			s.Error(err)
		}
		for _, e := range all {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestShare: a subtree of an imported copy, read by a real client from a real
// Samba, and by nobody and in no way that was not asked for.
func TestShare(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.must(os.MkdirAll(f.a.Path(v+"/docs/2026"), 0o755))
	f.put(v, "docs/2026/report", "the report")
	f.put(v, "docs/2026/secret", "the secret")
	f.must(os.Chmod(f.a.Path(v+"/docs/2026/secret"), 0o600))
	f.put(v, "above", "above")
	f.must(os.Symlink("/etc", f.a.Path(v+"/outside")))
	f.must(os.Symlink("../../above", f.a.Path(v+"/docs/2026/link")))
	set := f.create("app-rollback", v)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	id := im.Copies[0].SnapshotID.String()

	_, err = f.b.Umbra(f.ctx, "expose", id, "--share", "reports")
	f.fails(err, 1, vss.VSS_E_NOT_SUPPORTED) // nothing is configured
	s := f.samba()
	s.serve()
	login := sambaUser + "%" + sambaPassword
	for _, path := range []string{"outside", "no", "above", "docs/*", "../docs"} {
		_, err = f.b.Umbra(f.ctx, "expose", id, "--share", "reports", "--path", path)
		f.fails(err, 1, vss.E_INVALIDARG)
	}
	if left := s.shared(); len(left) != 0 {
		f.Errorf("failures left %v", left)
	}

	out, err := f.b.Umbra(f.ctx, "expose", id, "--share", "reports", "--path", "/docs/2026/")
	f.must(err)
	if !strings.Contains(out, "shared as reports") {
		f.Errorf("it says %q", out)
	}
	for _, c := range f.copiesOn(f.b) {
		if c.ExposedName != "reports" || c.ExposedPath != "docs/2026" || !c.Attributes.Has(vss.ATTR_EXPOSED_REMOTELY) {
			f.Errorf("%+v", c)
		}
	}
	for what, tt := range map[string]struct{ login, commands, want string }{
		"read":       {login, "get report -", "the report"},
		"write":      {login, "put samba/smb.conf more", "NT_STATUS_"},
		"remove":     {login, "rm report", "NT_STATUS_"},
		"a secret":   {login, "get secret -", "NT_STATUS_ACCESS_DENIED"},
		"a link out": {login, "get link -", "NT_STATUS_"},
		"upwards":    {login, "get ../above -", "NT_STATUS_"},
		"a stranger": {sambaUser + "%wrong", "get report -", "NT_STATUS_LOGON_FAILURE"},
		"nobody":     {"%", "get report -", "NT_STATUS_"},
	} {
		if got := s.client("reports", tt.login, tt.commands); !strings.Contains(got, tt.want) {
			f.Errorf("%s: %s", what, got)
		}
	}

	// The daemon's death is nothing to the clients, and its next life knows.
	f.b.KillDaemon()
	s.start()
	if got := s.client("reports", login, "ls"); !strings.Contains(got, "report") {
		f.Errorf("after the daemon's death: %s", got)
	}

	// A client that is connected is sent away.
	gone := make(chan string)
	go func() { gone <- s.script("reports", login, "echo ls; sleep 1; touch connected; sleep 4; echo ls") }()
	eventually(t, "a client is connected", 10*time.Second, exists(f.site.Dir+"/connected"))
	_, err = f.b.Umbra(f.ctx, "unexpose", "reports")
	f.must(err)
	if got := <-gone; !strings.Contains(got, "NT_STATUS_") {
		f.Errorf("a connected client goes on reading: %s", got)
	}
	if got := s.client("reports", login, "ls"); !strings.Contains(got, "NT_STATUS_BAD_NETWORK_NAME") {
		f.Errorf("after unexpose: %s", got)
	}
	if left := s.shared(); len(left) != 0 {
		f.Errorf("unexpose left %v", left)
	}

	// Without a name; and a deletion takes the share along.
	out, err = f.b.Umbra(f.ctx, "expose", id, "--share", "")
	f.must(err)
	name := "umbra-" + im.Copies[0].SnapshotID.Bare()[:8]
	if !strings.Contains(out, name) {
		f.Errorf("it says %q", out)
	}
	if got := s.client(name, login, "get above -"); !strings.Contains(got, "above") {
		f.Errorf("the whole copy: %s", got)
	}
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	if left := s.shared(); len(left) != 0 {
		f.Errorf("delete left %v", left)
	}
	f.nothingOn(f.b)
}

// TestShareOverReboot: Samba remembers a share whose copy is not back. It is
// taken away at the start, and comes back with the copy.
func TestShareOverReboot(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "xfs")
	f.put(v, "hello", "hello")
	set := f.create("nas-rollback", v)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	s := f.samba()
	_, err = f.b.Umbra(f.ctx, "expose", im.Copies[0].SnapshotID.String(), "--share", "db")
	f.must(err)
	mount := filepath.Join(f.b.RunDir(), "shares", "db")
	f.reboot(f.b, im, mount)
	f.must(os.Remove(f.b.Path(mount)))
	f.site.KillArray()
	if left := s.shared(); len(left) != 1 {
		f.Fatalf("the test is wrong: %v", left)
	}
	s.start()
	if left := s.shared(); len(left) != 0 {
		f.Errorf("shared without its copy: %v", left)
	}
	f.must(f.site.StartArray(f.ctx, nil))
	eventually(t, "the share is back", 30*time.Second, func() bool { return len(s.shared()) == 2 })
	if got, err := os.ReadFile(f.b.Path(mount + "/hello")); err != nil || string(got) != "hello" {
		f.Errorf("%q, %v", got, err)
	}
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	if left := s.shared(); len(left) != 0 {
		f.Errorf("delete left %v", left)
	}
	f.nothingOn(f.b)
}

// TestKilledSharing: a share is recorded or taken back, whenever the daemon
// dies.
func TestKilledSharing(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "btrfs")
	f.put(v, "hello", "hello")
	set := f.create("app-rollback", v)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	id := im.Copies[0].SnapshotID.String()
	s := f.samba()
	// In the catalogue, at Samba and mounted; or nowhere.
	shared := func(g *fixture) bool {
		g.Helper()
		n := len(s.shared())
		if listed := g.copiesOn(g.b)[0].ExposedName == "db"; (n != 0 || listed) && (n != 2 || !listed) {
			g.Errorf("in the catalogue: %t, on the machine: %v", listed, s.shared())
		}
		return n != 0
	}
	for _, point := range append(f.points("share."), f.points("unshare.")...) {
		f.run(point, func(g *fixture) {
			verb := []string{"expose", id, "--share", "db"}
			if strings.HasPrefix(point, "un") {
				_, err := g.b.Umbra(g.ctx, verb...)
				g.must(err)
				verb = []string{"unexpose", id}
			}
			g.b.StopDaemon()
			s.start("UMBRA_FAILPOINTS=" + point + "=kill")
			_, killed := g.as(g.b, verb...)
			g.refused(killed, vss.VSS_E_UNEXPECTED)
			<-g.b.DaemonDone()
			s.start()
			after := "not shared"
			if shared(g) {
				after = "shared"
				_, err := g.b.Umbra(g.ctx, "unexpose", "db")
				g.must(err)
			}
			_, err := g.b.Umbra(g.ctx, "expose", id, "--share", "db")
			g.must(err)
			_, err = g.b.Umbra(g.ctx, "unexpose", "db")
			g.must(err)
			if shared(g) {
				g.Error("it is still shared")
			}
			g.died(point, "B's daemon", verb[0]+" as a share", killed, after)
		})
	}
}
