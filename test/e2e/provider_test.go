package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider/loopdisk"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// sample is the sample provider on a machine of two hosts: a folder on XFS, and a
// program that each host's service starts.
type sample struct {
	*fixture
	dir      string // the folder
	manifest string
	id       string
	luns     []lun.NAA
}

func newSample(t *testing.T) *sample {
	t.Helper()
	work := t.TempDir()
	// Not in /tmp: of what is mounted there a site's hosts let go.
	store, err := os.MkdirTemp("/var/tmp", "umbra-site-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(store) })
	command := func(name string, args ...string) {
		t.Helper()
		c := exec.Command(name, args...)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	s := &sample{dir: store, manifest: filepath.Join(work, "reflink.toml"), id: "{5b2c6a1e-0f5d-4f0e-9c53-7d1c3c0a9e21}"}
	build := exec.Command("go", "build", "-o", filepath.Join(work, "reflink"), ".")
	build.Dir = filepath.Join("..", "..", "examples", "reflink")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the sample: %v\n%s", err, out)
	}
	image := filepath.Join(work, "umbra-site-image") // by which TestMain knows its loop device
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 2<<30)); err != nil {
		t.Fatal(err)
	}
	command("mkfs.xfs", "-q", image)
	command("mount", "-o", "loop", image, store)
	t.Cleanup(func() {
		for _, n := range s.luns {
			if err := loopdisk.Detach(n); err != nil {
				t.Error(err)
			}
		}
		// The site's namespaces go in the kernel's own time.
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			err := unix.Unmount(store, 0)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Error(err)
				break
			}
		}
	})
	manifest, err := os.ReadFile(filepath.Join("..", "..", "examples", "reflink", "reflink.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("/usr/local/libexec/umbra-reflink", filepath.Join(work, "reflink"), "/srv/reflink", store).Replace(string(manifest))
	if err := os.WriteFile(s.manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.fixture = newFixture(t)
	return s
}

// original makes a LUN of A, before the provider is loaded.
func (s *sample) original() lun.NAA {
	s.Helper()
	n := lun.NAA(vss.NewID())
	n[0] = 0x60
	file := filepath.Join(s.dir, "originals", s.a.Name, n.String())
	s.must(errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), os.Truncate(file, 512<<20)))
	s.luns = append(s.luns, n)
	return n
}

func (s *sample) register(h *site.Host) {
	s.Helper()
	_, err := h.Umbra(s.ctx, "provider", "register", s.manifest)
	s.must(err)
}

// program is the provider as a host lists it.
func (s *sample) program(h *site.Host) (out requester.RegisteredProvider) {
	s.Helper()
	text, err := h.Umbra(s.ctx, "provider", "list", "--output", "json")
	s.must(err)
	var all []requester.RegisteredProvider
	s.must(json.Unmarshal([]byte(text), &all))
	for _, p := range all {
		if p.ProviderID.String() == s.id {
			return p
		}
	}
	return out
}

// nothing asserts that no set is in the folder.
func (s *sample) nothing() {
	s.Helper()
	for _, where := range []string{"copies/*", "making/*/*"} {
		if left, _ := filepath.Glob(filepath.Join(s.dir, where)); len(left) > 0 {
			s.Errorf("left in the provider's folder: %v", left)
		}
	}
}

// TestForeignProvider: a set made and imported through a provider that is a
// program of its own, its registration, and its death under every call.
func TestForeignProvider(t *testing.T) {
	s := newSample(t)
	n := s.original()
	s.register(s.a)
	_, err := s.a.Umbra(s.ctx, "provider", "register", s.manifest)
	s.fails(err, 1, vss.VSS_E_PROVIDER_ALREADY_REGISTERED)
	_, err = s.a.Umbra(s.ctx, "provider", "unregister", vss.NewID().String())
	s.fails(err, 1, vss.VSS_E_PROVIDER_NOT_REGISTERED)
	devices := loopdisk.Devices(n)
	if len(devices) != 1 {
		t.Fatalf("the LUN has the devices %v", devices)
	}
	mount, err := s.a.Format(s.ctx, devices[0], "foreign", "ext4")
	s.must(err)
	defer func() { _, _ = s.a.Run(s.ctx, "umount", mount) }()
	s.put(mount, "hello", "before")

	s.run("whole", func(g *fixture) {
		s := s.with(g)
		set := s.create("app-rollback", mount)
		s.put(mount, "hello", "after")
		s.register(s.b)
		im, err := s.importOn(s.b, set.doc)
		s.must(err)
		got, err := os.ReadFile(s.b.Path(filepath.Join(im.Copies[0].DeviceObject, "hello")))
		if err != nil || string(got) != "before" {
			s.Errorf("the copy says %q, %v", got, err)
		}
		_, err = s.b.Umbra(s.ctx, "provider", "unregister", s.id)
		s.fails(err, 1, vss.VSS_E_PROVIDER_IN_USE)
		// The service's death is the program's, and its next life starts another.
		pid := s.program(s.b).PID
		s.b.KillDaemon()
		eventually(s, "the provider's program ended with the service", 5*time.Second, func() bool { return !exists(fmt.Sprintf("/proc/%d/exe", pid))() })
		s.must(s.b.StartDaemon(s.ctx, nil))
		_, err = s.b.Umbra(s.ctx, "delete", "set", set.SetID.String())
		s.must(err)
		s.nothing()
		_, err = s.b.Umbra(s.ctx, "provider", "unregister", s.id)
		s.must(err)
		if p := s.program(s.b); p.Name != "" {
			s.Errorf("still listed: %+v", p)
		}
	})
	s.run("validated", func(g *fixture) {
		out, err := g.a.Umbra(g.ctx, "provider", "validate", s.id, "--lun", devices[0], "--output", "json")
		var rs []requester.CaseResult
		if jerr := json.Unmarshal([]byte(out), &rs); jerr != nil || err != nil || len(rs) < 40 {
			g.Errorf("%d cases, %v %v\n%s", len(rs), err, jerr, out)
		}
		passed := 0
		for _, r := range rs {
			if r.Outcome == "passed" {
				passed++
			}
		}
		if passed < 40 {
			g.Errorf("%d cases passed of %d", passed, len(rs))
		}
		s.with(g).nothing()
	})
	for _, method := range []string{"AreLUNsSupported", "BeginPrepareSnapshot", "EndPrepareSnapshots", "PreCommitSnapshots", "CommitSnapshots", "PostCommitSnapshots",
		"GetTargetLUNs", "PreFinalCommitSnapshots", "PostFinalCommitSnapshots"} {
		s.run("killed in "+method, func(g *fixture) { s.with(g).dies(method, mount, syscall.SIGKILL, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR) })
	}
	for method, code := range map[string]vss.HResult{"LocateLUNs": vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, "FillInLUNInfo": vss.S_OK} {
		s.run("killed in "+method, func(g *fixture) { s.with(g).diesImporting(method, mount, code) })
	}
	s.run("stopped in the hold", func(g *fixture) {
		s.with(g).dies("CommitSnapshots", mount, syscall.SIGSTOP, vss.VSS_E_HOLD_WRITES_TIMEOUT)
	})
	s.a.StopDaemon()
	s.must(s.a.StartDaemon(s.ctx, nil))
	_, err = s.a.Umbra(s.ctx, "create", mount, "--output", "json")
	s.must(err)
	_, err = s.a.Umbra(s.ctx, "delete", "all")
	s.must(err)
	s.nothing()
}

// with is the sample in a subtest.
func (s *sample) with(g *fixture) *sample {
	c := *s
	c.fixture = g
	return &c
}

// dies has the provider's program die, or stop, under a call.
func (s *sample) dies(method, mount string, how syscall.Signal, code vss.HResult) {
	s.Helper()
	reached := filepath.Join(s.TempDir(), "reached") // the sleep ends with the program
	th := s.thawer(mount)
	s.armOn(s.a, "provider."+method+"=touch("+reached+")+sleep(1500ms)")
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { _, err = s.tryCreate("app-rollback", mount) })
	eventually(s, method, 20*time.Second, exists(reached))
	pid := s.program(s.a).PID
	if pid == 0 {
		s.Fatal("the provider is not loaded")
	}
	begin := time.Now()
	s.must(syscall.Kill(pid, how))
	if how == syscall.SIGSTOP {
		s.soon(s.a, "provider.waiting", method+" has not come back", "it is stopped", fmt.Sprintf("kill -CONT %d", pid))
	}
	wg.Wait()
	if how == syscall.SIGSTOP && time.Since(begin) > 15*time.Second {
		s.Errorf("a provider that hangs was waited for: %s", time.Since(begin))
	}
	s.fails(err, 1, code)
	if how == syscall.SIGSTOP && !strings.Contains(fmt.Sprint(err), method+" of ") {
		s.Errorf("it does not say who hung, and where: %v", err)
	}
	if th.frozen(s) {
		s.Error("the volume is still frozen")
	}
	s.nothing()
	events, lerr := s.a.Umbra(s.ctx, "list", "events", "--name", "provider.broken", "--limit", "1")
	if lerr != nil || !strings.Contains(events, method) {
		s.Errorf("no event names %s: %s %v", method, events, lerr)
	}
	eventually(s, "the program is gone", 10*time.Second, func() bool { return !exists(fmt.Sprintf("/proc/%d/exe", pid))() })
	if how == syscall.SIGKILL {
		s.died("provider."+method, "provider", "create", err, "nothing is left; the next creation starts the provider anew")
	}
}

// diesImporting has B's program die in an import.
func (s *sample) diesImporting(method, mount string, code vss.HResult) {
	s.Helper()
	reached := filepath.Join(s.TempDir(), "reached")
	s.must(func() error { s.a.StopDaemon(); return s.a.StartDaemon(s.ctx, nil) }())
	set := s.create("app-rollback", mount)
	s.armOn(s.b, "provider."+method+"=touch("+reached+")+sleep(1500ms)")
	if s.program(s.b).Name == "" {
		s.register(s.b)
	}
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { _, err = s.importOn(s.b, set.doc) })
	eventually(s, method, 20*time.Second, exists(reached))
	s.must(syscall.Kill(s.program(s.b).PID, syscall.SIGKILL))
	wg.Wait()
	after := "the provider is started anew and asked again"
	if code.Failed() {
		after = "nothing is imported; after `umbra cleanup` the import works"
		s.fails(err, 1, code)
		s.armOn(s.b, "")
		_, cerr := s.b.Umbra(s.ctx, "cleanup", set.SetID.String())
		s.must(cerr)
		_, err := s.importOn(s.b, set.doc)
		s.must(err)
	} else {
		s.must(err)
	}
	_, derr := s.b.Umbra(s.ctx, "delete", "set", set.SetID.String())
	s.must(derr)
	s.nothing()
	s.died("provider."+method, "provider", "import", err, after)
}
