package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider/loopdisk"
	"github.com/umbra-vss/umbra/vss"
)

// wickedSample is a site with the wicked provider.
type wickedSample struct {
	*sample
	faults string
	mount  string // of an original on A
	naa    lun.NAA
	path   string // of the program
}

func newWicked(t *testing.T) *wickedSample {
	t.Helper()
	s := newSample(t)
	w := &wickedSample{sample: s, faults: filepath.Join(t.TempDir(), "faults")}
	self, err := os.Executable()
	s.must(err)
	w.path = filepath.Join(filepath.Dir(s.manifest), "wicked")
	s.must(os.Symlink(self, w.path))
	text, err := os.ReadFile(s.manifest)
	s.must(err)
	var lines []string
	for l := range strings.Lines(string(text)) {
		if !strings.HasPrefix(l, "program") && !strings.HasPrefix(l, "args") {
			lines = append(lines, l)
		}
	}
	lines = append(lines, fmt.Sprintf("program = %q\nargs = [%q, %q, %q, %q]\n", w.path, wickedArg, filepath.Join(filepath.Dir(s.manifest), "reflink"), s.dir, w.faults))
	s.must(os.WriteFile(s.manifest, []byte(strings.Join(lines, "")), 0o600))
	w.naa = s.original()
	s.register(s.a)
	s.register(s.b)
	w.mount, err = s.a.Format(s.ctx, loopdisk.Devices(w.naa)[0], "foreign", "ext4")
	s.must(err)
	t.Cleanup(func() { _, _ = s.a.Run(context.Background(), "umount", w.mount) })
	s.put(w.mount, "hello", "before")
	return w
}

// with is the site in a subtest.
func (w *wickedSample) with(g *fixture) *wickedSample {
	c := *w
	c.sample = w.sample.with(g)
	return &c
}

// does arms the wicked provider; done asserts that all came to pass.
func (w *wickedSample) does(faults ...string) {
	w.Helper()
	w.must(os.WriteFile(w.faults, []byte(strings.Join(faults, "\n")), 0o600))
}

func (w *wickedSample) done() {
	w.Helper()
	if left, err := os.ReadFile(w.faults); err != nil || len(left) > 0 {
		w.Errorf("did not come to pass: %s %v", left, err)
	}
	w.must(os.WriteFile(w.faults, nil, 0o600))
}

// said asserts that the last event of a host about its providers is about the method.
func (w *wickedSample) said(h *site.Host, event, method string) {
	w.Helper()
	out, err := h.Umbra(w.ctx, "list", "events", "--name", event, "--limit", "1")
	if err != nil || !strings.Contains(out, method) {
		w.Errorf("no event %s names %s: %s %v", event, method, out, err)
	}
}

// untouched asserts that nothing is frozen, nothing is left, and the original
// is what it was.
func (w *wickedSample) untouched(th thawer) {
	w.Helper()
	if th.frozen(w) {
		w.Error("the volume is still frozen")
	}
	eventually(w, "nothing is left in the provider's folder", 10*time.Second, func() bool {
		made, _ := filepath.Glob(filepath.Join(w.dir, "copies", "*"))
		making, _ := filepath.Glob(filepath.Join(w.dir, "making", "*", "*"))
		return len(made)+len(making) == 0
	})
	w.nothing()
	if b, err := os.ReadFile(w.a.Path(filepath.Join(w.mount, "hello"))); err != nil || string(b) != "before" {
		w.Errorf("the original says %q, %v", b, err)
	}
}

// What the kinds of trouble are called where they end, and in which event.
var troubles = map[string]struct {
	code  vss.HResult
	event string
}{
	"dies":     {vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, "provider.broken"},
	"has died": {vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, "provider.broken"},
	"lies":     {vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, "provider.broken"},
	"S_FALSE":  {vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, "provider.broken"},
	"E_FAIL":   {vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, "provider.unexpected"},
	"VETO":     {vss.VSS_E_PROVIDER_VETO, ""},
}

// TestForeignProviderFaults: a real process that dies or lies in the middle of
// every call there is. It costs its own set, with a code and an event, and
// nothing is left; the service goes on, and the next command works.
func TestForeignProviderFaults(t *testing.T) {
	w := newWicked(t)
	w.does()

	// Methods of a creation. The death before a call is heard is TestForeignProvider's.
	for _, method := range []string{"AreLUNsSupported", "BeginPrepareSnapshot", "EndPrepareSnapshots", "PreCommitSnapshots", "CommitSnapshots", "PostCommitSnapshots",
		"GetTargetLUNs", "PreFinalCommitSnapshots", "PostFinalCommitSnapshots"} {
		for _, kind := range []string{"has died", "lies", "E_FAIL"} {
			w.run("create/"+method+" "+kind, func(g *fixture) {
				w := w.with(g)
				th := w.thawer(w.mount)
				w.does(method + " " + kind)
				_, err := w.tryCreate("app-rollback", w.mount)
				w.fails(err, 1, troubles[kind].code)
				w.done()
				w.said(w.a, troubles[kind].event, method)
				w.untouched(th)
			})
		}
	}
	w.run("create/OnLoad dies", func(g *fixture) {
		w := w.with(g)
		th := w.thawer(w.mount)
		w.unloaded(w.a)
		w.does("Load dies", "Load dies") // it is asked for its stores first, which may fail
		_, err := w.tryCreate("app-rollback", w.mount)
		w.fails(err, 1, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR)
		w.done()
		w.said(w.a, "provider.broken", "OnLoad")
		w.untouched(th)
	})

	// What is asked when a set has failed.
	for _, kind := range []string{"dies", "has died", "lies", "E_FAIL"} {
		w.run("drop/AbortSnapshots "+kind, func(g *fixture) {
			w := w.with(g)
			th := w.thawer(w.mount)
			w.does("CommitSnapshots VETO", "AbortSnapshots "+kind)
			_, err := w.tryCreate("app-rollback", w.mount)
			ce := w.fails(err, 1, vss.VSS_E_PROVIDER_VETO)
			if kind != "has died" && !strings.Contains(ce.Stderr, "could not be dropped yet") {
				w.Errorf("that something is left is not said:\n%s", ce.Stderr)
			}
			w.untouched(th) // which may take until the service asks again
			w.done()
			w.said(w.a, troubles[kind].event, "AbortSnapshots")
			if kind != "has died" {
				return
			}
			w.died("provider.AbortSnapshots", "provider", "create that fails", err, "nothing is left; the abort is asked again")
		})
	}
	for _, kind := range []string{"dies", "has died", "lies", "E_FAIL"} {
		w.run("recover/DropSet "+kind, func(g *fixture) {
			w := w.with(g)
			th := w.thawer(w.mount)
			w.armOn(w.a, "create.before-record=kill")
			_, err := w.tryCreate("app-rollback", w.mount)
			if err == nil {
				w.Fatal("the daemon was to die")
			}
			w.does("DropSet " + kind)
			w.armOn(w.a, "")
			w.untouched(th)
			w.done()
			w.said(w.a, troubles[kind].event, "DropSet")
			eventually(w, "the creation is off the books", 10*time.Second, func() bool {
				out, err := w.a.Umbra(w.ctx, "list", "events", "--name", "recovery.create-dropped", "--limit", "1", "--output", "json")
				return err == nil && strings.Contains(out, "create-dropped")
			})
			if kind != "has died" {
				return
			}
			w.died("provider.DropSet", "provider", "recovery of a broken-off create", nil, "it is asked again, and nothing is left")
		})
	}

	// The importing machine.
	w.run("import", func(g *fixture) {
		w := w.with(g)
		set := w.create("app-rollback", w.mount)
		for _, kind := range []string{"has died", "lies", "E_FAIL"} {
			w.does("LocateLUNs " + kind)
			_, err := w.importOn(w.b, set.doc)
			w.fails(err, 1, troubles[kind].code)
			w.done()
			w.said(w.b, troubles[kind].event, "LocateLUNs")
			// The clean-up, too, may meet trouble; it stays listed, and works the next time.
			w.does("OnLUNStateChange " + kind)
			_, err = w.b.Umbra(w.ctx, "cleanup", set.SetID.String())
			w.fails(err, 1, troubles[kind].code)
			w.done()
			if kind == "has died" {
				w.died("provider.OnLUNStateChange", "provider", "cleanup", err, "it stays listed; given again, it works")
			}
			if len(w.orphans(w.b)) != 1 {
				w.Error("the LUN is not listed")
			}
			_, err = w.b.Umbra(w.ctx, "cleanup", set.SetID.String())
			w.must(err)
		}
		for _, kind := range []string{"has died", "lies", "E_FAIL"} { // its return value counts for nothing (provider.md 3)
			w.does("FillInLUNInfo " + kind)
			_, err := w.importOn(w.b, set.doc)
			w.must(err)
			w.done()
			w.said(w.b, troubles[kind].event, "FillInLUNInfo")
			for _, method := range []string{"OnLUNEmpty"} {
				w.does(method + " " + kind)
				_, err = w.b.Umbra(w.ctx, "delete", "set", set.SetID.String())
				w.fails(err, 1, troubles[kind].code)
				w.done()
				w.said(w.b, troubles[kind].event, method)
				if kind == "has died" {
					w.died("provider."+method, "provider", "delete", err, "it stays listed; given again, it works")
				}
			}
			_, err = w.b.Umbra(w.ctx, "delete", "set", set.SetID.String())
			w.must(err)
			w.nothing()
			set = w.create("app-rollback", w.mount)
		}
		_, err := w.importOn(w.b, set.doc)
		w.must(err)
		_, err = w.b.Umbra(w.ctx, "delete", "set", set.SetID.String())
		w.must(err)
	})

	// What is asked of everybody, and what counts for nothing.
	w.run("stores", func(g *fixture) {
		w := w.with(g)
		w.does("BackingStores dies")
		set := w.create("app-rollback", w.mount)
		w.done()
		w.said(w.a, "provider.broken", "BackingStores")
		_, err := w.importOn(w.b, set.doc)
		w.must(err)
		_, err = w.b.Umbra(w.ctx, "delete", "set", set.SetID.String())
		w.must(err)
	})
	w.run("OnUnload", func(g *fixture) {
		w := w.with(g)
		for _, kind := range []string{"dies", "lies", "E_FAIL"} {
			pid := w.loaded(w.a)
			w.does("Unload " + kind)
			w.unloaded(w.a)
			w.done()
			if exists(fmt.Sprintf("/proc/%d/exe", pid))() {
				w.Error("its program still runs")
			}
		}
	})

	// A program that is not there any more.
	w.run("cannot be started", func(g *fixture) {
		w := w.with(g)
		w.unloaded(w.a)
		w.must(os.Rename(w.path, w.path+".away"))
		defer func() { w.must(os.Rename(w.path+".away", w.path)) }()
		_, err := w.tryCreate("app-rollback", w.mount)
		w.fails(err, 1, vss.VSS_E_PROVIDER_VETO)
		w.said(w.a, "provider.broken", "cannot be started")
	})
	if t.Failed() {
		return
	}
	set := w.create("app-rollback", w.mount)
	_, err := w.importOn(w.b, set.doc)
	w.must(errors.Join(err, func() error { _, err := w.b.Umbra(w.ctx, "delete", "set", set.SetID.String()); return err }()))
	w.nothing()
}

// loaded has the provider loaded, and returns its process.
func (w *wickedSample) loaded(h *site.Host) int {
	w.Helper()
	_, err := h.Umbra(w.ctx, "provider", "register", "--replace", w.manifest)
	w.must(err)
	p := w.program(h)
	if p.PID == 0 {
		w.Fatal("the provider is not loaded")
	}
	return p.PID
}

// unloaded has it unloaded; the next call starts it.
func (w *wickedSample) unloaded(h *site.Host) {
	w.Helper()
	h.StopDaemon()
	w.must(h.StartDaemon(w.ctx, nil))
}
