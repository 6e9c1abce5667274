package lvmthin

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

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

// The process dies at every step of a copy. Whatever was suspended goes on when
// the next one starts, and the copy can be removed.
func TestDeath(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	n := lun.NAA{0x60, 1}
	if err := s.Create(t.Context(), n, backend.MinSize); err != nil {
		t.Fatal(err)
	}
	for i, point := range []string{"array.thin.targets-recorded", "array.thin.before-suspend", "array.thin.suspended", "array.thin.copied", "array.thin.resumed"} {
		c := lun.NAA{0x60, 2, byte(i)}
		b, err := s.Begin(t.Context(), []backend.Source{{NAA: n, Size: backend.MinSize}})
		if err != nil {
			t.Fatal(err)
		}
		// It stops there, and the devices are as a process leaves them that dies.
		disarm, err := failpoint.Arm(point + "=sleep(1h)")
		if err != nil {
			t.Fatal(err)
		}
		dying, cut := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if b.MakeTargets(dying, []lun.NAA{c}) == nil {
				_, _ = b.Commit(dying)
			}
		}()
		time.Sleep(time.Second)
		suspended := func() bool {
			d, err := s.dm.Info(context.Background(), devicemapper.Name(s.name(n)))
			if err != nil {
				t.Fatal(err)
			}
			return d.Suspended
		}
		if want := point == "array.thin.suspended" || point == "array.thin.copied"; suspended() != want {
			t.Errorf("%s: suspended is %v", point, !want)
		}
		// What the next process does, while this one is where it died.
		next, err := devicemapper.Open()
		if err != nil {
			t.Fatal(err)
		}
		old := s.dm
		s.dm = next
		if err := s.resumeAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.dm = old
		next.Close()
		if suspended() {
			t.Errorf("%s: it is suspended after a start", point)
		}
		cut()
		<-ended
		disarm()
		b.Finish()
		s = r.open(t)
		if err := s.Remove(t.Context(), c); err != nil {
			t.Errorf("%s: %v", point, err)
		}
		r.devices(t)
	}
	if err := s.Remove(t.Context(), n); err != nil {
		t.Fatal(err)
	}
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
