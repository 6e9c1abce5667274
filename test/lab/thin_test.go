package lab_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/test/lab"
)

// pushTests builds a package's tests and puts them into a machine.
func pushTests(t *testing.T, m *lab.Machine, pkg string) string {
	t.Helper()
	name := filepath.Base(pkg) + ".test"
	file := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", file, "github.com/umbra-vss/umbra/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Push(t.Context(), b, "/root/"+name, 0o755); err != nil {
		t.Fatal(err)
	}
	return "/root/" + name
}

// A thin pool on a real kernel: device-mapper, the backend's conformance, and
// its death at every step of a copy.
func TestThinPool(t *testing.T) {
	l := lab.Start(t, lab.Machines{"array"})
	array := l.Machine("array")
	dm := pushTests(t, array, "internal/devicemapper")
	thin := pushTests(t, array, "internal/array/backend/lvmthin")
	array.Sh(`modprobe dm_thin_pool
echo "0 65536 linear /dev/vda 0" | dmsetup create meta
echo "0 524288 linear /dev/vda 65536" | dmsetup create data`)
	node := func(name string) string {
		return "/dev/" + strings.TrimSpace(array.Sh("dmsetup info -c --noheadings -o blkdevname %s", name))
	}
	data, meta := node("data"), node("meta")
	for _, run := range []string{
		fmt.Sprintf("UMBRA_TEST_DISK=%s %s -test.v -test.run TestKernel", data, dm),
		fmt.Sprintf("UMBRA_TEST_POOL=%s,%s %s -test.v -test.run 'TestConformance|TestDeath|TestForeignPool'", data, meta, thin),
	} {
		r, err := array.Run(t.Context(), "%s", run)
		if err != nil || r.Code != 0 {
			t.Errorf("%v: %s%s", err, r.Stdout, r.Stderr)
		}
		t.Logf("%s", r.Stdout)
	}
}
