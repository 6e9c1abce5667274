package array

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// fragment gives a LUN this many extents.
func (r *rig) fragment(n lun.NAA, extents int) {
	r.t.Helper()
	f, err := os.OpenFile(r.a.store.Path(n), os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	for i := range extents {
		if _, err := f.WriteAt(make([]byte, 4096), int64(i)*8192); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		r.t.Fatal(err)
	}
}

// What would hold writes for too long is refused before anything is held, by
// name, with what helps; also when it became so after it was prepared.
func TestCloneLimit(t *testing.T) {
	ctx := t.Context()
	r := newRig(t, func(c *Config) { c.CloneLimit = 10 * time.Millisecond })
	a := r.enroll("a", "")
	smooth, _ := r.lun(mib, "a")
	rough, _ := r.lun(256*mib, "a")
	set := vss.NewID()
	sources := []client.Source{{NAA: smooth}, {NAA: rough}}
	if _, err := a.PrepareSet(ctx, set, transportable, sources); err != nil {
		t.Fatal(err)
	}
	r.fragment(rough, 30_000)
	wantCode(t, a.PreCommitSet(ctx, set), vss.VSS_E_PROVIDER_VETO, rough.String(), "extents", "10ms", "xfs_fsr", "--clone-limit", "8s")
	if err := a.AbortSet(ctx, set, false); err != nil {
		t.Fatal(err)
	}
	_, err := a.PrepareSet(ctx, set, transportable, sources)
	wantCode(t, err, vss.VSS_E_PROVIDER_VETO, rough.String())
	if r.files() != 2 || len(r.a.state.allSets()) != 0 {
		t.Fatal("a refused set left something")
	}
	p, err := a.PrepareSet(ctx, set, transportable, sources[:1])
	if err != nil {
		t.Fatal(err)
	}
	if p.Extents == 0 || p.Predicted == 0 || p.Predicted > 10*time.Millisecond {
		t.Fatalf("%+v", p)
	}
}

func TestConfigLimits(t *testing.T) {
	ok := Config{Dir: "/d", AdminSocket: "/a", DataSocket: "/b"}
	for name, edit := range map[string]func(*Config){
		"no folder": func(c *Config) { c.Dir = "" }, "clone limit": func(c *Config) { c.CloneLimit = 9 * time.Second },
		"negative limit": func(c *Config) { c.CloneLimit = -1 }, "watermark": func(c *Config) { c.Watermark = 1 },
		"endpoint": func(c *Config) { c.Listen = []string{"127.0.0.1:1"} },
	} {
		c := ok
		edit(&c)
		if _, err := c.complete(); vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, err := ok.complete(); err != nil || c.CloneLimit != 2*time.Second || c.Watermark != 0.05 {
		t.Fatalf("%+v, %v", c, err)
	}
}

// Below the watermark nothing new is made; what exists goes on.
func TestFullArray(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a := r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	sp, err := r.a.store.Space(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ballast, err := os.Create(r.a.store.Path(n) + ".ballast")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(ballast.Name())
	defer ballast.Close()
	if err := unix.Fallocate(int(ballast.Fd()), 0, 0, int64(sp.Free-r.a.watermark(sp)/2)); err != nil {
		t.Fatal("the store cannot be filled:", err)
	}
	_, err = r.admin.CreateLUN(ctx, "", mib)
	wantCode(t, err, vss.VSS_E_INSUFFICIENT_STORAGE, "Delete copies")
	_, err = a.PrepareSet(ctx, vss.NewID(), transportable, []client.Source{{NAA: n}})
	wantCode(t, err, vss.VSS_E_INSUFFICIENT_STORAGE)
	if ok, _, err := a.AreLUNsSupported(ctx, transportable, []lun.NAA{n}); !ok || err != nil {
		t.Fatal("a full array denies knowing its LUN", err) // instead of being full
	}
	open, err := a.OpenLUNs(ctx, []lun.NAA{n})
	if err != nil {
		t.Fatal(err)
	}
	closeOpened(open)
	ballast.Close()
	os.Remove(ballast.Name())
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) { // XFS frees in the background
		_, err := r.admin.CreateLUN(ctx, "", mib)
		if err == nil {
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Fatal("the array stays full", err)
		}
	}
}

// Many hosts make and drop sets at the same time; every copy is whole.
func TestConcurrentSets(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	type host struct {
		c    *client.Client
		n    lun.NAA
		want []byte
	}
	var hosts []host
	for i := range 5 {
		name := fmt.Sprint("h", i)
		c := r.enroll(name, "")
		n, b := r.lun(mib, name)
		hosts = append(hosts, host{c, n, b})
	}
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			for round := range 4 {
				set := vss.NewID()
				p, err := h.c.PrepareSet(ctx, set, transportable, []client.Source{{NAA: h.n}})
				if err != nil {
					t.Error(err)
					return
				}
				if (round+i)%3 == 0 {
					if err := h.c.AbortSet(ctx, set, false); err != nil {
						t.Error(err)
					}
					continue
				}
				if err := h.c.PreCommitSet(ctx, set); err != nil {
					t.Error(err)
				}
				if _, err := h.c.CommitSet(ctx, set); err != nil {
					t.Error(err)
				}
				if _, err := h.c.PostCommitSet(ctx, set); err != nil {
					t.Error(err)
				}
				if got, err := os.ReadFile(r.a.store.Path(p.Targets[h.n])); err != nil || !bytes.Equal(got, h.want) {
					t.Errorf("host %d: the copy differs: %v", i, err)
				}
				if err := h.c.DeleteLUNs(ctx, []lun.NAA{p.Targets[h.n]}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if r.files() != 5 || len(r.a.state.allSets()) != 0 {
		t.Fatalf("%d files, %d sets", r.files(), len(r.a.state.allSets()))
	}
}

// A host that prepares a second set gives up its first.
func TestOneUnfinishedSetPerHost(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a := r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	first, second := vss.NewID(), vss.NewID()
	for _, set := range []vss.ID{first, second} {
		if _, err := a.PrepareSet(ctx, set, transportable, []client.Source{{NAA: n}}); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, a.PreCommitSet(ctx, first), vss.VSS_E_OBJECT_NOT_FOUND)
	if r.files() != 2 {
		t.Fatalf("%d files", r.files())
	}
	_, err := a.PrepareSet(ctx, second, transportable, []client.Source{{NAA: n}})
	wantCode(t, err, vss.VSS_E_BAD_STATE)
	_, err = a.CommitSet(ctx, second) // before PreCommit
	wantCode(t, err, vss.VSS_E_BAD_STATE)
	_, err = a.PostCommitSet(ctx, second)
	wantCode(t, err, vss.VSS_E_BAD_STATE)
	_, err = a.IssueTicket(ctx, second, digest, "", 0)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
	for range 2 {
		if err := a.AbortSet(ctx, second, false); err != nil {
			t.Fatal(err)
		}
	}
}
