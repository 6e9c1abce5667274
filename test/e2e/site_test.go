package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// fixture is a site with host A and, unless a test wants none, host B.
type fixture struct {
	*testing.T
	ctx  context.Context
	site *site.Site
	a, b *site.Host
	docs int

	transport string   // how hosts have their LUNs: loop, nbd
	chosen    []string // the only failpoints to kill at; nil for all
}

// transportEnv chooses the transport of tests that do not mind.
const transportEnv = "UMBRA_E2E_TRANSPORT"

func newFixture(t *testing.T, arrayArgs ...string) *fixture {
	t.Helper()
	return newFixtureOn(t, "", arrayArgs...)
}

// newFixtureOn puts the array's folder on a filesystem of its own.
func newFixtureOn(t *testing.T, under string, arrayArgs ...string) *fixture {
	t.Helper()
	// With UMBRA_E2E_TRANSPORT=nbd the whole story can be told over the network;
	// kill points of handing out descriptors are not passed then.
	return newFixtureWith(t, site.Options{Under: under, Transport: os.Getenv(transportEnv)}, arrayArgs...)
}

func newFixtureWith(t *testing.T, o site.Options, arrayArgs ...string) *fixture {
	t.Helper()
	limit := 3 * time.Minute
	if *full {
		limit = 20 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("/tmp", "umbra-site-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	o.Binary, o.Dir = binary, dir
	s, err := site.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, ctx: ctx, site: s, transport: cmp.Or(o.Transport, "loop")}
	t.Cleanup(func() {
		if t.Failed() && f.a != nil && f.b != nil {
			t.Logf("A:\n%s\nB:\n%s", f.a.DaemonLog(), f.b.DaemonLog())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	f.must(s.StartArray(ctx, nil, arrayArgs...))
	f.a = f.host("hosta")
	f.b = f.host("hostb")
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

var sites int

func (f *fixture) host(name string) *site.Host {
	f.Helper()
	// Other sites on this machine have other hosts: a host knows its loop
	// devices by its own name.
	sites++
	h, err := f.site.AddHost(f.ctx, fmt.Sprintf("%s-%d-%d", name, os.Getpid(), sites))
	f.must(err)
	return h
}

// volume makes, formats and mounts a LUN on A.
func (f *fixture) volume(name, fs string) (mount, device, naa string) {
	f.Helper()
	naa, device, err := f.a.NewLUN(f.ctx, name, "512M")
	f.must(err)
	mount, err = f.a.Format(f.ctx, device, name, fs)
	f.must(err)
	return mount, device, naa
}

// put writes a file on A's volume, through A's own mount.
func (f *fixture) put(mount, name, content string) {
	f.Helper()
	f.must(os.WriteFile(f.a.Path(filepath.Join(mount, name)), []byte(content), 0o644))
}

type createdSet struct {
	SetID     vss.ID `json:"set_id"`
	Snapshots []struct {
		ID     vss.ID `json:"id"`
		Volume string `json:"volume"`
	} `json:"snapshots"`
	Timeline []requester.Phase `json:"timeline"`
	doc      string
}

// create makes a transportable set on A.
func (f *fixture) create(context string, volumes ...string) createdSet {
	f.Helper()
	s, err := f.tryCreate(context, volumes...)
	f.must(err)
	return s
}

func (f *fixture) tryCreate(context string, volumes ...string) (s createdSet, err error) {
	f.docs++
	s.doc = filepath.Join(f.site.Dir, fmt.Sprintf("set%d.umbra", f.docs))
	args := append([]string{"create", "--transportable", "--context", context, "--document", s.doc, "--output", "json"}, volumes...)
	out, err := f.a.Umbra(f.ctx, args...)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

type importedSet struct {
	SetID    vss.ID             `json:"set_id"`
	Result   string             `json:"result"`
	Copies   []vss.SnapshotProp `json:"copies"`
	Timeline []requester.Phase  `json:"timeline"`
}

func (f *fixture) importOn(h *site.Host, doc string, args ...string) (im importedSet, err error) {
	out, err := h.Umbra(f.ctx, append([]string{"import", doc, "--output", "json"}, args...)...)
	if out != "" {
		if jerr := json.Unmarshal([]byte(out), &im); jerr != nil && err == nil {
			err = jerr
		}
	}
	return im, err
}

// lun is a line of `umbra array lun list`.
type arrayLUN struct {
	NAA        string   `json:"naa"`
	Copy       bool     `json:"copy"`
	Masks      []string `json:"masks"`
	AttachedBy []string `json:"attached_by"`
	SetID      string   `json:"set_id"`
}

func (f *fixture) copiesOnArray() []arrayLUN {
	f.Helper()
	out, err := f.site.Array(f.ctx, "lun", "list", "--output", "json")
	f.must(err)
	var all, copies []arrayLUN
	f.must(json.Unmarshal([]byte(out), &all))
	for _, l := range all {
		if l.Copy {
			copies = append(copies, l)
		}
	}
	return copies
}

func (f *fixture) orphans(h *site.Host) []requester.LUN {
	f.Helper()
	out, err := h.Umbra(f.ctx, "list", "luns", "--orphaned", "--output", "json")
	f.must(err)
	var luns []requester.LUN
	f.must(json.Unmarshal([]byte(out), &luns))
	return luns
}

// fails asserts that a command failed with the exit code and the result code,
// and says what helps.
func (f *fixture) fails(err error, exit int, code vss.HResult) *site.CommandError {
	f.Helper()
	var ce *site.CommandError
	if !errors.As(err, &ce) {
		f.Fatalf("got %v, want a failed command with %s", err, code.Name())
	}
	if ce.Code != exit || !strings.Contains(ce.Stderr, code.Name()) {
		f.Fatalf("exit %d, want %d with %s:\n%s", ce.Code, exit, code.Name(), ce.Stderr)
	}
	if exit == 1 && !strings.Contains(ce.Stderr, "remedy") {
		f.Errorf("the error names no remedy:\n%s", ce.Stderr)
	}
	return ce
}

// thawer opens a filesystem before it may be frozen; frozen asks with FITHAW
// on that descriptor (which also ends the freeze), so it can be asked once.
type thawer struct{ fd int }

func (f *fixture) thawer(mount string) thawer {
	f.Helper()
	fd, err := unix.Open(f.a.Path(mount), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	f.must(err)
	f.Cleanup(func() {
		_ = unix.IoctlSetInt(fd, fithaw, 0)
		unix.Close(fd)
	})
	return thawer{fd}
}

func (f *fixture) thawers(mounts ...string) (out []thawer) {
	f.Helper()
	for _, m := range mounts {
		out = append(out, f.thawer(m))
	}
	return out
}

const (
	fifreeze = 0xC0045877
	fithaw   = 0xC0045878
)

func (th thawer) frozen(t testing.TB) bool {
	t.Helper()
	switch err := unix.IoctlSetInt(th.fd, fithaw, 0); {
	case err == nil:
		return true
	case errors.Is(err, unix.EINVAL):
		return false
	default:
		t.Fatal(err)
		return false
	}
}

// eventually polls a condition that another process brings about.
func eventually(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", limit, what)
}

func exists(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return err == nil }
}
