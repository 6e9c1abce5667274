package volume_test

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/lun"
)

// partition makes a partition node by hand: this kernel may know no partition
// tables.
func partition(t *testing.T, dev block.Device, number, startMiB, sizeMiB int) string {
	t.Helper()
	f, err := block.Open(t.Context(), dev, unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	st.Flags |= unix.LO_FLAGS_PARTSCAN // else the driver takes no partitions
	if err := unix.IoctlLoopSetStatus64(int(f.Fd()), st); err != nil {
		t.Fatal(err)
	}
	looptest.Run(t, "addpart", dev.Path, fmt.Sprint(number), fmt.Sprint(startMiB*2048), fmt.Sprint(sizeMiB*2048))
	t.Cleanup(func() { looptest.Run(t, "delpart", dev.Path, fmt.Sprint(number)) })
	return fmt.Sprintf("%sp%d", dev.Path, number)
}

func TestPartitionsOfOneLUN(t *testing.T) {
	h := looptest.NewHost(t)
	disk := h.Attach(t, looptest.File(t, 500*mib), false)
	log := partition(t, disk, 1, 1, 64)
	data := partition(t, disk, 2, 65, 400)
	looptest.Mkfs(t, "xfs", data, "-l", "logdev="+log)
	dir := looptest.Mount(t, "xfs", data, "logdev="+log)
	for _, name := range []string{dir, data} {
		v := resolve(t, h, name)
		if len(v.Members) != 2 || v.Members[0].Device.Path != data || v.Members[0].Disk.Name != disk.Name {
			t.Fatalf("members %+v", v.Members)
		}
		// One LUN, copied once, with both runs of bytes on it.
		want := []lun.Extent{{Offset: 65 * mib, Length: 400 * mib}, {Offset: 1 * mib, Length: 64 * mib}}
		if !slices.Equal(v.Extents(), want) || len(v.Disks()) != 1 || v.Disks()[0].DiskSeq != disk.DiskSeq {
			t.Errorf("extents %v on %d disks", v.Extents(), len(v.Disks()))
		}
		below, err := volume.Backing(t.Context(), v)
		if err != nil || len(below) == 0 || !slices.Contains(below, disk.Loop.Dev) {
			t.Errorf("below: %x, %v", below, err)
		}
	}
	p, err := block.Inspect(t.Context(), data)
	if err != nil || p.Partition == nil || p.Partition.Number != 2 || p.Partition.Disk != disk.Name || p.DiskSeq != disk.DiskSeq {
		t.Errorf("partition %+v, %v", p, err)
	}
	if err := block.Verify(p); err != nil {
		t.Error(err)
	}
}
