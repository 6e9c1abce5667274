package devicemapper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// diskEnv names a block device of at least 64 MiB that may be overwritten. The
// lab sets it, in a machine with device-mapper.
const diskEnv = "UMBRA_TEST_DISK"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKernel goes through a device's life with the real device-mapper.
func TestKernel(t *testing.T) {
	disk := os.Getenv(diskEnv)
	if disk == "" {
		t.Skip("needs " + diskEnv + ": a block device, and a kernel with device-mapper")
	}
	var st unix.Stat_t
	must(t, unix.Stat(disk, &st))
	ctx := t.Context()
	c, err := Open()
	must(t, err)
	defer c.Close()
	v, err := c.Version(ctx)
	must(t, err)
	kinds, err := c.Kinds(ctx)
	must(t, err)
	if !v.AtLeast(4, 0) || !kinds["linear"].AtLeast(1, 0) {
		t.Error(v, kinds)
	}

	const kib = 2 // sectors
	table := []Target{{Length: 64 * kib, Type: "linear", Params: fmt.Sprintf("%s 128", Number(st.Rdev))},
		{Start: 64 * kib, Length: 64 * kib, Type: "linear", Params: fmt.Sprintf("%s 0", Number(st.Rdev))}}
	d, err := c.Make(ctx, Spec{Name: "umbra-test", UUID: "UMBRA-test", Udev: Alone, Targets: table})
	must(t, err)
	defer func() { _, _ = c.Remove(ctx, d.Ref(), false, Alone) }()
	node, err := d.Node()
	must(t, err)
	if is, err := c.Table(ctx, Number(d.Dev)); err != nil || cmp.Diff(table, is) != "" {
		t.Error(is, err)
	}
	if deps, err := c.Deps(ctx, Ref{UUID: "UMBRA-test"}); err != nil || len(deps) == 0 || deps[0] != st.Rdev {
		t.Error(deps, err)
	}
	if all, err := c.List(ctx); err != nil || !contains(all, Named{"umbra-test", d.Dev}) {
		t.Error(all, err)
	}
	if _, err := c.Create(ctx, "umbra-test", "UMBRA-other"); code(err) != vss.VSS_E_OBJECT_ALREADY_EXISTS {
		t.Error(err)
	}

	// A suspended device takes no writes, and goes on.
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_SYNC, 0)
	must(t, err)
	must(t, c.Suspend(ctx, d.Ref(), SkipLockFS))
	if i, err := c.Info(ctx, d.Ref()); err != nil || !i.Suspended || i.Opened != 1 {
		t.Errorf("%+v %v", i, err)
	}
	written := make(chan error, 1)
	go func() { _, err := f.WriteAt(bytes.Repeat([]byte("x"), 4096), 32<<10); written <- err }()
	select {
	case err := <-written:
		t.Error("written to a suspended device:", err)
	case <-time.After(300 * time.Millisecond):
	}
	must(t, c.Resume(ctx, d.Ref(), Alone))
	must(t, <-written)
	if _, err := c.Remove(ctx, d.Ref(), false, Alone); code(err) != vss.VSS_E_VOLUME_IN_USE {
		t.Error("removed while open:", err)
	}

	// Under its user it becomes read-only.
	must(t, c.Suspend(ctx, d.Ref(), 0))
	must(t, c.Load(ctx, d.Ref(), true, table...))
	must(t, c.Resume(ctx, d.Ref(), Alone))
	// Opening it for writing is allowed, writing is not.
	if g, err := os.OpenFile(node, os.O_RDWR, 0); err == nil {
		if _, err := g.WriteAt(make([]byte, 4096), 0); !errors.Is(err, unix.EPERM) {
			t.Error("written to a read-only device:", err)
		}
		g.Close()
	}
	if i, err := c.Info(ctx, d.Ref()); err != nil || !i.ReadOnly || i.Suspended {
		t.Errorf("%+v %v", i, err)
	}
	if deferred, err := c.Remove(ctx, d.Ref(), true, Alone); err != nil || !deferred {
		t.Error(deferred, err)
	}
	f.Close()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := c.Info(ctx, d.Ref()); errors.Is(err, unix.ENXIO) {
			break
		}
		if time.Now().After(until) {
			t.Fatal("its last user has closed it, and it is there")
		}
	}
	if _, err := c.Remove(ctx, d.Ref(), false, Alone); code(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		t.Error(err)
	}
	if _, err := c.Make(ctx, Spec{Name: "umbra-test", Targets: []Target{{Length: 8, Type: "no-such-kind"}}}); err == nil {
		t.Error("made of what is not there")
	}
	if _, err := c.Info(ctx, Name("umbra-test")); !errors.Is(err, unix.ENXIO) {
		t.Error("a device that could not be made is left:", err)
	}
}

func contains(all []Named, n Named) bool {
	for _, a := range all {
		if a == n {
			return true
		}
	}
	return false
}
