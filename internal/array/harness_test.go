package array

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// rig is an array that really serves, on an image of its own, with its files in
// a folder that outlives its processes.
type rig struct {
	t     testing.TB
	cfg   Config
	a     *Array
	admin *client.AdminClient
	stop  func()
	hosts map[string]*client.Client
}

func newRig(t testing.TB, edit ...func(*Config)) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the array mounts a store")
	}
	dir, err := os.MkdirTemp("", "umbra-array") // short, for the sockets' sake
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, hosts: map[string]*client.Client{}, cfg: Config{Dir: filepath.Join(dir, "state"), Name: "lab",
		AdminSocket: filepath.Join(dir, "admin.sock"), DataSocket: filepath.Join(dir, "data.sock"),
		Listen: []string{"unix://" + filepath.Join(dir, "hosts.sock")}, StoreSize: 1 << 30}}
	for _, e := range edit {
		e(&r.cfg)
	}
	t.Cleanup(func() {
		for _, c := range r.hosts {
			c.Close()
		}
		r.shutdown()
		r.unmount(dir)
	})
	r.start()
	return r
}

// unmount makes sure that nothing stays, whatever the test did.
func (r *rig) unmount(dir string) {
	for i := 0; ; i++ {
		err := os.RemoveAll(filepath.Join(dir, "state", "store", "luns"))
		if a, oerr := Open(context.Background(), r.cfg); oerr == nil {
			a.Close()
		} else if err == nil {
			err = oerr
		}
		mounted := devOfPath(filepath.Join(r.cfg.Dir, "store")) != devOfPath(r.cfg.Dir)
		if !mounted {
			break
		}
		if i == 50 {
			r.t.Errorf("the store stays mounted: %v", err)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	os.RemoveAll(dir)
}

func devOfPath(p string) uint64 {
	var st unix.Stat_t
	if unix.Stat(p, &st) != nil {
		return 0
	}
	return st.Dev
}

func (r *rig) start() {
	r.t.Helper()
	a, err := Open(context.Background(), r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	r.a, r.admin = a, client.Admin(r.cfg.AdminSocket)
	r.stop = func() {
		cancel()
		r.admin.Close()
		if err := <-done; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	}
}

func (r *rig) shutdown() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

func (r *rig) enroll(name, cluster string) *client.Client {
	r.t.Helper()
	raw, err := r.admin.EnrollHost(context.Background(), name, cluster)
	if err != nil {
		r.t.Fatal(err)
	}
	c := r.dial(raw)
	if old := r.hosts[name]; old != nil {
		old.Close()
	}
	r.hosts[name] = c
	return c
}

func (r *rig) dial(raw []byte) *client.Client {
	r.t.Helper()
	b, err := client.ParseBundle(raw)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := client.Dial(b)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// lun makes a LUN with a megabyte of content and shows it to the hosts.
func (r *rig) lun(size uint64, hosts ...string) (lun.NAA, []byte) {
	r.t.Helper()
	l, err := r.admin.CreateLUN(context.Background(), "", size)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range hosts {
		if _, err := r.admin.Unmask(context.Background(), l.NAA.String(), h); err != nil {
			r.t.Fatal(err)
		}
	}
	return l.NAA, r.fill(l.NAA)
}

func (r *rig) fill(n lun.NAA) []byte {
	r.t.Helper()
	b := make([]byte, 1<<20)
	rand.Read(b)
	f, err := os.OpenFile(r.a.store.Path(n), os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *rig) read(n lun.NAA) []byte {
	r.t.Helper()
	f, err := os.Open(r.a.store.Path(n))
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	if _, err := f.ReadAt(b, 0); err != nil {
		r.t.Fatal(err)
	}
	return b
}

var digest = [32]byte{1, 2, 3}

const transportable = vss.CTX_APP_ROLLBACK | vss.Context(vss.ATTR_TRANSPORTABLE)

// snapshot runs the phases of a set and returns the copies in order.
func snapshot(t testing.TB, c *client.Client, set vss.ID, vc vss.Context, luns ...lun.NAA) []lun.NAA {
	t.Helper()
	ctx := context.Background()
	var src []client.Source
	for _, n := range luns {
		src = append(src, client.Source{NAA: n, Snapshots: []vss.ID{vss.NewID()}})
	}
	p, err := c.PrepareSet(ctx, set, vc, src)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PreCommitSet(ctx, set); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CommitSet(ctx, set); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PostCommitSet(ctx, set); err != nil {
		t.Fatal(err)
	}
	var out []lun.NAA
	for _, n := range luns {
		out = append(out, p.Targets[n])
	}
	return out
}

// wantCode fails unless err has the code and tells the reader what to do.
func wantCode(t testing.TB, err error, code vss.HResult, says ...string) {
	t.Helper()
	if vss.CodeOf(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	if err == nil {
		return
	}
	var e *vss.Error
	if !errors.As(err, &e) || e.Remedy == "" || e.Reason == "" || e.Op == "" {
		t.Fatalf("an error without operation, reason or remedy: %#v", err)
	}
	for _, s := range says {
		if !strings.Contains(e.Error()+" "+e.Remedy, s) {
			t.Errorf("%q is not said: %v; remedy: %s", s, e, e.Remedy)
		}
	}
}

func closeOpened(in []client.Opened) {
	for _, o := range in {
		unix.Close(o.FD)
	}
}
