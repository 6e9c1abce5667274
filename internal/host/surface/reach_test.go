package surface_test

import (
	"bytes"
	"os"
	"sync"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/surface"
)

// TestReach: a partition of an original gets one device, whoever asks and however
// many do at once; it can be written to, and goes with its disk.
func TestReach(t *testing.T) {
	for kind, prepare := range map[surface.Kind]func(*testing.T, block.Device){surface.Partition: func(*testing.T, block.Device) {}, surface.Loop: crowded} {
		t.Run(string(kind), func(t *testing.T) {
			h := looptest.NewHost(t)
			s := &surface.Surfacer{HostTag: h.Tag}
			path := looptest.File(t, 8*mib)
			disk := h.Attach(t, path, false)
			if err := s.Clear(t.Context(), disk, false); err != nil { // partitions of the loop device's last user
				t.Fatal(err)
			}
			prepare(t, disk)
			if d, found, err := surface.Reached(t.Context(), disk, mib, 2*mib); found || err != nil {
				t.Fatalf("before anybody asked: %+v, %v", d, err)
			}
			var got [4]surface.Device
			var asked sync.WaitGroup
			for i := range got {
				asked.Go(func() {
					var err error
					if got[i], err = s.Reach(t.Context(), disk, mib, 2*mib); err != nil {
						t.Error(err)
					}
				})
			}
			asked.Wait()
			d := got[0]
			for _, other := range got {
				if other.Path != d.Path || other.Kind != kind || other.ReadOnly || other.Size != 2*mib {
					t.Errorf("a device of the partition: %+v, and %+v", other, d)
				}
			}
			if same, found, err := surface.Reached(t.Context(), disk, mib, 2*mib); !found || err != nil || same.Path != d.Path {
				t.Errorf("looked for: %+v, %v, %v", same, found, err)
			}
			f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = f.WriteAt([]byte("written"), 4096); err == nil {
				err = f.Sync()
			}
			if err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			all, err := os.ReadFile(path)
			if err != nil || !bytes.HasPrefix(all[mib+4096:], []byte("written")) {
				t.Errorf("it is not in the LUN: %v", err)
			}
			if err := s.Clear(t.Context(), disk, false); err != nil {
				t.Fatal(err)
			}
			if d, found, _ := surface.Reached(t.Context(), disk, mib, 2*mib); found {
				t.Errorf("%s outlives what is cleared", d.Path)
			}
		})
	}
}
