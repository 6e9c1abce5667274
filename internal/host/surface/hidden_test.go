package surface_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/lun"
)

// TestHidden shows a loop device and a partition of a hidden LUN to the udev
// rules of this machine, as udev would at their first event.
func TestHidden(t *testing.T) {
	h := looptest.NewHost(t)
	if _, err := exec.LookPath("udevadm"); err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat("/run/udev"); os.IsNotExist(err) {
		t.Cleanup(func() { _ = os.RemoveAll("/run/udev") })
	}
	// As on an array: the file of a LUN has its name.
	naa := looptest.NewNAA(t)
	path := filepath.Join(t.TempDir(), naa.String())
	if err := os.WriteFile(path, make([]byte, 8*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	info := h.Files.Add(naa, path, true)
	ds, err := h.Initiator.Rescan(t.Context(), []lun.Info{info})
	if err != nil {
		t.Fatal(err)
	}
	disk := ds[0]
	s := &surface.Surfacer{HostTag: h.Tag}
	r := surface.Request{LUNs: []block.Device{disk}, Segments: part(mib, mib)}
	partition := up(t, s, r, surface.Partition)
	crowd, err := block.Inspect(t.Context(), partition.Path)
	if err != nil {
		t.Fatal(err)
	}
	r.Segments = part(mib, 2*mib) // overlaps it
	loop := up(t, s, r, surface.Loop)
	if _, err := block.Inspect(t.Context(), crowd.Path); err != nil {
		t.Fatal(err)
	}
	rules := hide.Rules{}
	hidden := func(d surface.Device) bool {
		t.Helper()
		out, err := exec.Command("udevadm", "test", "--action=add", "/sys/class/block/"+d.Name).CombinedOutput()
		_, props, ok := strings.Cut(string(out), "DEVPATH=")
		if err != nil || !ok {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.Contains(props, "UMBRA_HIDDEN=1") && strings.Contains(props, "SYSTEMD_READY=0")
	}
	t.Cleanup(func() { _ = rules.Unhide(t.Context(), []lun.Info{disk.LUN}) })
	for _, want := range []bool{false, true, false} {
		if want {
			err = rules.Hide(t.Context(), []lun.Info{disk.LUN})
		} else {
			err = rules.Unhide(t.Context(), []lun.Info{disk.LUN})
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []surface.Device{partition, loop} {
			if hidden(d) != want {
				t.Errorf("%s %s hidden: %v", d.Kind, d.Name, !want)
			}
			_ = exec.Command("udevadm", "test", "--action=remove", "/sys/class/block/"+d.Name).Run()
		}
	}
}
