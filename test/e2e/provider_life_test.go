package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/provider/loopdisk"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// manifested writes another manifest of the wicked provider.
func (w *wickedSample) manifested(name string, replace ...string) (path string) {
	w.Helper()
	text, err := os.ReadFile(w.manifest)
	w.must(err)
	path = filepath.Join(filepath.Dir(w.manifest), name)
	w.must(os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600))
	return path
}

// TestForeignProviderLife: a real program is loaded when it is needed and
// unloaded when it is not, replaced by a newer version, and forgotten, with sets
// of it on the machine.
func TestForeignProviderLife(t *testing.T) {
	w := newWicked(t)
	w.does()
	runs := func(pid int) bool { return exists(fmt.Sprintf("/proc/%d/exe", pid))() }
	replace := func(h *site.Host, manifest string) error {
		_, err := h.Umbra(w.ctx, "provider", "register", "--replace", manifest)
		return err
	}

	w.run("idle", func(g *fixture) {
		w := w.with(g)
		w.must(replace(w.a, w.manifested("idle.toml", "type ", "idle = \"300ms\"\ntype ")))
		defer func() { w.must(replace(w.a, w.manifest)) }()
		pid := w.program(w.a).PID
		w.does("Unload E_FAIL") // which is heard, and counts for nothing
		eventually(w, "the program is gone", 5*time.Second, func() bool { return !runs(pid) && w.program(w.a).PID == 0 })
		w.done()
		if p := w.program(w.a); p.Name == "" || p.Loaded {
			w.Errorf("listed as %+v", p)
		}
		// It is not unloaded with a set in the making, however long that takes.
		reached := filepath.Join(w.TempDir(), "reached")
		w.armOn(w.a, "provider.EndPrepareSnapshots=touch("+reached+")+sleep(1s)")
		var wg sync.WaitGroup
		var set createdSet
		var err error
		wg.Go(func() { set, err = w.tryCreate("app-rollback", w.mount) })
		eventually(w, "EndPrepareSnapshots", 20*time.Second, exists(reached))
		again := w.program(w.a).PID
		if again == 0 || again == pid {
			w.Errorf("process %d, before %d", again, pid)
		}
		_, uerr := w.a.Umbra(w.ctx, "provider", "unregister", w.id, "--force")
		w.fails(uerr, 1, vss.VSS_E_PROVIDER_IN_USE)
		w.fails(replace(w.a, w.manifest), 1, vss.VSS_E_PROVIDER_IN_USE)
		wg.Wait()
		w.must(err)
		w.armOn(w.a, "")
		_, err = w.a.Umbra(w.ctx, "delete", "set", set.SetID.String())
		w.must(err)
		w.nothing()
	})

	w.run("upgrade", func(g *fixture) {
		w := w.with(g)
		set := w.create("app-rollback", w.mount)
		im, err := w.importOn(w.b, set.doc)
		w.must(err)
		old := w.program(w.b).PID
		// A program that is not what its manifest says takes nobody's place.
		wrong := w.manifested("wrong.toml", `"1.0"`, `"1.1"`)
		w.fails(replace(w.b, wrong), 1, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR)
		if p := w.program(w.b); p.Version != "1.0" {
			w.Errorf("version %s is registered", p.Version)
		}
		newer := "{7a1f0f1e-0a53-4a52-8c0f-5d3f0a4f5b11}"
		better := w.manifested("better.toml", `"1.0"`, `"1.1"`, "{c9d0a7f2-6f0b-4be8-8a54-1f6f5b6f7f01}", newer, `"]`, `", "1.1", "`+newer+`"]`)
		w.must(replace(w.b, better))
		p := w.program(w.b)
		if p.Version != "1.1" || p.PID == 0 || p.PID == old || runs(old) {
			w.Errorf("after the upgrade: %+v, before it process %d", p, old)
		}
		got, err := os.ReadFile(w.b.Path(filepath.Join(im.Copies[0].DeviceObject, "hello")))
		if err != nil || string(got) != "before" {
			w.Errorf("the copy says %q, %v", got, err)
		}

		// Forgotten with a set there: the copy stays, is listed, and says what it lacks.
		_, err = w.b.Umbra(w.ctx, "provider", "unregister", w.id)
		w.fails(err, 1, vss.VSS_E_PROVIDER_IN_USE)
		_, err = w.b.Umbra(w.ctx, "provider", "unregister", w.id, "--force")
		w.must(err)
		if runs(p.PID) {
			w.Error("the program of a provider that was unregistered runs")
		}
		out, err := w.b.Umbra(w.ctx, "list", "copies")
		if err != nil || !strings.Contains(out, im.Copies[0].SnapshotID.String()) {
			w.Errorf("the copy is not listed: %v\n%s", err, out)
		}
		_, err = w.b.Umbra(w.ctx, "delete", "set", set.SetID.String())
		if ce := w.fails(err, 1, vss.VSS_E_PROVIDER_NOT_REGISTERED); !strings.Contains(ce.Stderr, "egister the provider") {
			w.Errorf("the remedy is not said:\n%s", ce.Stderr)
		}
		got, err = os.ReadFile(w.b.Path(filepath.Join(im.Copies[0].DeviceObject, "hello")))
		if err != nil || string(got) != "before" {
			w.Errorf("after a deletion that could not be, the copy says %q, %v", got, err)
		}
		w.must(replace(w.b, better))
		_, err = w.b.Umbra(w.ctx, "delete", "set", set.SetID.String())
		w.must(err)
		w.must(replace(w.b, w.manifest))
	})

	// A boot takes loop devices away, and with them the provider's LUNs.
	w.run("boot", func(g *fixture) {
		w := w.with(g)
		set := w.create("app-rollback", w.mount)
		im, err := w.importOn(w.b, set.doc)
		w.must(err)
		w.reboot(w.b, im)
		w.must(w.b.StartDaemon(w.ctx, nil))
		got, err := os.ReadFile(w.b.Path(filepath.Join(im.Copies[0].DeviceObject, "hello")))
		if err != nil || string(got) != "before" {
			w.Errorf("after a boot the copy says %q, %v", got, err)
		}
		if len(w.rules(w.b, "10-umbra-naa.*")) != 1 {
			w.Error("the copy is not hidden")
		}
		_, err = w.b.Umbra(w.ctx, "delete", "set", set.SetID.String())
		w.must(err)

		w.a.StopDaemon()
		_, err = w.a.Run(w.ctx, "umount", w.mount)
		w.must(err)
		w.must(loopdisk.Detach(w.naa))
		w.must(w.a.StartDaemon(w.ctx, nil))
		if d := loopdisk.Devices(w.naa); len(d) != 0 {
			w.Fatalf("too early: %v", d)
		}
		_, err = w.a.Umbra(w.ctx, "rescan")
		w.must(err)
		devices := loopdisk.Devices(w.naa)
		if len(devices) != 1 {
			w.Fatalf("after umbra rescan the original has the devices %v", devices)
		}
		_, err = w.a.Run(w.ctx, "mount", devices[0], w.mount)
		w.must(err)
	})

	// What the suite says of Umbra's own provider, of the sample, and of one that
	// breaks a rule.
	w.run("validate", func(g *fixture) {
		w := w.with(g)
		naa, _, err := w.a.NewLUN(w.ctx, "validated", "64M")
		w.must(err)
		naa2, _, err := w.a.NewLUN(w.ctx, "validated2", "64M")
		w.must(err)
		var all []requester.RegisteredProvider
		out, err := w.a.Umbra(w.ctx, "provider", "list", "--output", "json")
		w.must(err)
		w.must(json.Unmarshal([]byte(out), &all))
		out, err = w.a.Umbra(w.ctx, "provider", "validate", all[0].ProviderID.String(), "--lun", naa, "--lun", naa2, "--scratch")
		if err != nil || !all[0].BuiltIn || !strings.Contains(out, " passed, 0 failed, ") {
			w.Errorf("%v\n%s", err, out)
		}
		if n := len(w.copiesOnArray()); n != 0 {
			w.Errorf("the suite left %d copies", n)
		}
		w.does("*GetTargetLUNs E_FAIL")
		out, err = w.a.Umbra(w.ctx, "provider", "validate", w.id, "--case", "targets/identity", "--case", "properties/complete")
		ce, ok := err.(*site.CommandError)
		if !ok || ce.Code != 1 {
			w.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{"failed   targets/identity", "rule:", "GetTargetLUNs", "E_FAIL", "1 passed, 1 failed", "umbra provider validate " + w.id + " --case targets/identity"} {
			if !strings.Contains(out, want) {
				w.Errorf("%q is not said:\n%s", want, out)
			}
		}
		out, err = w.a.Umbra(w.ctx, "provider", "validate", w.id, "--case", "targets/identity", "--output", "json")
		var rs []requester.CaseResult
		if jerr := json.Unmarshal([]byte(out), &rs); jerr != nil || err == nil || len(rs) != 1 || rs[0].Outcome != "failed" || rs[0].Words == "" || rs[0].Rule == "" {
			w.Errorf("%v %v\n%s", err, jerr, out)
		}
		w.does()
		w.nothing()
	})
}

// TestForeignProviderElsewhere: a program that runs as another user, and one that
// runs by itself.
func TestForeignProviderElsewhere(t *testing.T) {
	f := newFixture(t)
	dir, err := os.MkdirTemp("/var/tmp", "umbra-plain-")
	f.must(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "plain")
	f.must(copyProgram(program))
	for _, d := range []string{dir, f.site.Dir, filepath.Dir(f.a.StateDir())} {
		f.must(os.Chmod(d, 0o755)) // on a real machine they are
	}
	id := plain{}.Properties().ProviderID
	manifest := func(more string) string {
		path := filepath.Join(dir, "plain.toml")
		f.must(os.WriteFile(path, fmt.Appendf(nil, "id = %q\nversion_id = %q\nname = \"Plain\"\nversion = \"1\"\ntype = \"hardware\"\n%s\n", id, id, more), 0o600))
		return path
	}
	is := func() (p requester.RegisteredProvider) {
		s := &sample{fixture: f, id: id.String()}
		return s.program(f.a)
	}
	unregister := func() {
		t.Helper()
		_, err := f.a.Umbra(f.ctx, "provider", "unregister", id.String())
		f.must(err)
	}

	_, err = f.a.Umbra(f.ctx, "provider", "register", manifest(fmt.Sprintf("user = \"nobody\"\nprogram = %q\nargs = [%q]", program, plainArg)))
	f.must(err)
	p := is()
	word, err := os.ReadFile(filepath.Join(f.a.StateDir(), "providers", id.Bare(), "loaded"))
	if want := fmt.Sprintf("65534 %d", p.PID); err != nil || string(word) != want {
		t.Errorf("it ran as %q, want %q (%v)", word, want, err)
	}
	out, err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", f.a.StateDir()).CombinedOutput()
	if err == nil {
		t.Errorf("the service's folder is open to others: %s", out)
	}
	unregister()
	if exists(fmt.Sprintf("/proc/%d/exe", p.PID))() {
		t.Error("its program still runs")
	}

	// What a provider's LUNs lie on is not frozen, whether the provider starts or not.
	store, _, _ := f.volume("store", "xfs")
	f.must(os.WriteFile(filepath.Join(dir, "stores"), []byte(store), 0o600))
	_, err = f.a.Umbra(f.ctx, "provider", "register", manifest(fmt.Sprintf("program = %q\nargs = [%q]", program, plainArg)))
	f.must(err)
	_, err = f.tryCreate("app-rollback", store)
	f.fails(err, 1, vss.VSS_E_NESTED_VOLUME_LIMIT)
	f.must(os.Rename(program, program+".away"))
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, nil))
	_, err = f.tryCreate("app-rollback", store)
	f.fails(err, 1, vss.VSS_E_NESTED_VOLUME_LIMIT)
	f.must(os.Rename(program+".away", program))
	f.must(os.Remove(filepath.Join(dir, "stores")))
	f.a.StopDaemon() // it is not asked again at once
	f.must(f.a.StartDaemon(f.ctx, nil))
	f.create("app-rollback", store)
	unregister()

	socket := filepath.Join(dir, "plain.sock")
	byItself := manifest(fmt.Sprintf("socket = %q", socket))
	_, err = f.a.Umbra(f.ctx, "provider", "register", byItself)
	f.fails(err, 1, vss.VSS_E_PROVIDER_VETO)
	start := func(as ...string) *exec.Cmd {
		t.Helper()
		args := append(as, program, plainArg, socket)
		c := exec.Command(args[0], args[1:]...)
		_ = os.Remove(socket)
		f.must(c.Start())
		eventually(t, "the provider serves", 5*time.Second, func() bool {
			fi, err := os.Stat(socket)
			return err == nil && fi.Mode().Perm() == 0o666
		})
		return c
	}
	c := start()
	_, err = f.a.Umbra(f.ctx, "provider", "register", byItself)
	f.must(err)
	if p := is(); !p.Loaded || p.PID != 0 {
		t.Errorf("listed as %+v", p)
	}
	if host, err := os.ReadFile(filepath.Join(dir, "host")); err != nil || string(host) != f.a.Name+" "+block.HostTag(f.a.Name) {
		t.Errorf("it was told that the machine is %q, %v", host, err)
	}
	for user, want := range map[string]vss.HResult{"65534": vss.E_ACCESSDENIED, "0": vss.S_OK} {
		out, err := exec.Command("setpriv", "--reuid="+user, "--regid="+user, "--clear-groups", program, callerArg, socket).Output()
		if err != nil || string(out) != want.Name() {
			t.Errorf("user %s is answered %s, %v", user, out, err)
		}
	}
	// Root without CAP_DAC_OVERRIDE, as the unit has it, reaches a provider of another user.
	f.must(c.Process.Kill())
	_ = c.Wait()
	f.must(os.Chmod(dir, 0o777))
	c = start("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
	out, err = exec.Command("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", program, callerArg, socket).Output()
	if err != nil || string(out) != "S_OK" {
		t.Errorf("the service is answered %s, %v", out, err)
	}
	f.must(c.Process.Kill())
	_ = c.Wait()
	f.must(os.Chmod(dir, 0o755))
	c = start()
	// It dies and comes back, which is no business of the service's.
	f.must(c.Process.Kill())
	_ = c.Wait()
	v, _, _ := f.volume("v", "ext4")
	set := f.create("app-rollback", v)
	_, err = f.a.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	c = start()
	f.create("app-rollback", v)
	if p := is(); !p.Loaded {
		t.Errorf("listed as %+v", p)
	}
	unregister()
	if err := c.Process.Signal(syscall.Signal(0)); err != nil {
		t.Error("a provider that is not the service's was ended")
	}
	// One that is another user's, of whom the manifest says nothing.
	f.must(os.Chown(socket, 65534, 65534))
	_, err = f.a.Umbra(f.ctx, "provider", "register", byItself)
	ce := f.fails(err, 1, vss.VSS_E_PROVIDER_VETO)
	if !strings.Contains(ce.Stderr, "65534") {
		t.Errorf("the reason is not said:\n%s", ce.Stderr)
	}
	f.must(c.Process.Kill())
	_ = c.Wait()
	_, err = f.a.Umbra(f.ctx, "delete", "all")
	f.must(err)
}

// copyProgram copies this program where everybody may run it.
func copyProgram(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := os.Open(self)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
