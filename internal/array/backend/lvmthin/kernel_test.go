package lvmthin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/array/backend/backendtest"
	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// poolEnv names two block devices that may be overwritten, data and metadata,
// separated by a comma. The lab sets it, in a machine with device-mapper.
const poolEnv = "UMBRA_TEST_POOL"

// rig opens the store on the test's devices, always the last one only.
type rig struct {
	cfg  Config
	last *Store
}

func newRig(t *testing.T) *rig {
	t.Helper()
	data, meta, ok := strings.Cut(os.Getenv(poolEnv), ",")
	if !ok {
		t.Skip("needs " + poolEnv + ": two block devices, and a kernel with dm-thin")
	}
	r := &rig{cfg: Config{Dir: t.TempDir(), Array: vss.NewID(), Data: data, Metadata: meta}}
	for _, dev := range []string{data, meta} {
		f, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	t.Cleanup(func() {
		s, err := r.reopen(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if left := r.devices(t); len(left) != 0 {
			t.Errorf("devices are left: %v", left)
		}
	})
	return r
}

func (r *rig) reopen(ctx context.Context) (*Store, error) {
	if r.last != nil {
		r.last.abandon()
	}
	s, err := Open(ctx, r.cfg)
	r.last = s
	return s, err
}

func (r *rig) open(t *testing.T) *Store {
	t.Helper()
	s, err := r.reopen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// devices are those of the store, and none of them is suspended.
func (r *rig) devices(t *testing.T) []string {
	t.Helper()
	dm, err := devicemapper.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer dm.Close()
	ctx := context.WithoutCancel(t.Context())
	all, err := dm.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range all {
		i, err := dm.Info(ctx, devicemapper.Number(d.Dev))
		if err != nil || i.Suspended {
			t.Errorf("%s: %+v, %v", d.Name, i, err)
		}
		if strings.HasPrefix(d.Name, "umbra-") {
			out = append(out, d.Name)
		}
	}
	slices.Sort(out)
	return out
}

func TestConformance(t *testing.T) {
	r := newRig(t)
	backendtest.Run(t, backendtest.Rig{
		Open: func(t *testing.T) backend.Store { return r.open(t) },
		Whole: func(t *testing.T, luns []lun.NAA) {
			want := []string{r.last.prefix + "pool"}
			for _, n := range luns {
				want = append(want, r.last.name(n))
			}
			slices.Sort(want)
			if got := r.devices(t); !slices.Equal(got, want) {
				t.Errorf("devices %v, want %v", got, want)
			}
		},
	})
}

// dieEnv tells a child process of the tests what to do, and to die at it.
const dieEnv = "UMBRA_TEST_DIE"

func TestMain(m *testing.M) {
	if spec := os.Getenv(dieEnv); spec != "" {
		fmt.Fprintln(os.Stderr, die(spec))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var original, created, copied = lun.NAA{0x60, 1}, lun.NAA{0x60, 2}, lun.NAA{0x60, 3}

// die goes through a LUN's and a copy's life. It is killed on the way.
func die(spec string) error {
	var cfg Config
	if err := errors.Join(json.Unmarshal([]byte(spec), &cfg), failpoint.ArmFromEnv()); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	if err := s.Create(ctx, created, backend.MinSize); err != nil {
		return err
	}
	b, err := s.Begin(ctx, []backend.Source{{NAA: original, Size: backend.MinSize}})
	if err != nil {
		return err
	}
	if err := b.MakeTargets(ctx, []lun.NAA{copied}); err != nil {
		return err
	}
	took, err := b.Commit(ctx)
	if err == nil {
		err = b.Persist(ctx, took)
	}
	if err == nil {
		b.Finish()
		err = s.Remove(ctx, copied)
	}
	return errors.Join(err, errors.New("nobody killed it"))
}

// The process is killed at every step. Whatever was suspended goes on when the
// next one starts, and what was half made can be removed.
func TestDeath(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	if err := s.Create(t.Context(), original, backend.MinSize); err != nil {
		t.Fatal(err)
	}
	for point, stops := range map[string]bool{
		"array.thin.reserved": false, "array.thin.made": false, "array.thin.targets-recorded": false, "array.thin.before-suspend": false,
		"array.thin.suspended": true, "array.thin.copied": true, "array.thin.resumed": false,
		// The first is what a start measures with.
		"array.thin.device-removed=2*": false, "array.thin.deleted=2*": false,
	} {
		s.abandon()
		spec, err := json.Marshal(Config{Dir: r.cfg.Dir, Array: r.cfg.Array, Data: r.cfg.Data, Metadata: r.cfg.Metadata})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(point, "=") {
			point += "="
		}
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), dieEnv+"="+string(spec), failpoint.Env+"="+point+"kill")
		if out, err := child.CombinedOutput(); child.ProcessState == nil || child.ProcessState.String() != "signal: killed" {
			t.Fatalf("%s: %v, %v: %s", point, child.ProcessState, err, out)
		}
		if got := r.suspended(t, s.name(original)); got != stops {
			t.Errorf("%s: suspended is %v", point, got)
		}
		s = r.open(t)
		if r.suspended(t, s.name(original)) {
			t.Errorf("%s: it is suspended after a start", point)
		}
		for _, n := range []lun.NAA{created, copied} {
			if err := s.Remove(t.Context(), n); err != nil {
				t.Errorf("%s: %v", point, err)
			}
		}
		if luns, others, err := s.List(t.Context()); err != nil || !slices.Equal(luns, []lun.NAA{original}) || len(others) != 0 {
			t.Errorf("%s: left %v, %v, %v", point, luns, others, err)
		}
		if got := r.devices(t); len(got) != 2 {
			t.Errorf("%s: left %v", point, got)
		}
	}
	if err := s.Remove(t.Context(), original); err != nil {
		t.Fatal(err)
	}
	if p, err := s.status(t.Context()); err != nil || p.UsedData != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

func (r *rig) suspended(t *testing.T, name string) bool {
	t.Helper()
	dm, err := devicemapper.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer dm.Close()
	d, err := dm.Info(t.Context(), devicemapper.Name(name))
	if err != nil {
		t.Fatal(err)
	}
	return d.Suspended
}

// A pool that is not the array's is left alone.
func TestForeignPool(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	s.Close()
	other := r.cfg
	other.Dir, other.Array = t.TempDir(), vss.NewID()
	o, err := Open(t.Context(), other)
	if err == nil {
		o.Close()
		t.Fatal("another array takes the pool")
	}
	var e *vss.Error
	if !errors.As(err, &e) || e.Code != vss.VSS_E_BAD_STATE {
		t.Error(err)
	}
}
