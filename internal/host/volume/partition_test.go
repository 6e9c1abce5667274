package volume_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/partition/partitiontest"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
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
		if len(v.Members) != 2 || v.Members[0].Device.Path != data || v.Members[0].Disks[0].Name != disk.Name {
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

// TestPartOfALUNOverALoopDevice: where the kernel makes no partitions, an
// administrator makes a loop device over a part of the LUN.
func TestPartOfALUNOverALoopDevice(t *testing.T) {
	h := looptest.NewHost(t)
	disk := h.Attach(t, looptest.File(t, 64*mib), false)
	out, err := exec.Command("losetup", "--find", "--show", "--offset", fmt.Sprint(mib), "--sizelimit", fmt.Sprint(32*mib), disk.Path).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v %s", err, out)
	}
	node := strings.TrimSpace(string(out))
	t.Cleanup(func() { looptest.Run(t, "losetup", "--detach", node) })
	looptest.Mkfs(t, "ext4", node)
	dir := looptest.Mount(t, "ext4", node, "")
	v := resolve(t, h, dir)
	want := []lun.Extent{{Offset: mib, Length: 32 * mib}}
	if !slices.Equal(v.Extents(), want) || len(v.Disks()) != 1 || v.Disks()[0].DiskSeq != disk.DiskSeq || v.Members[0].Device.Path != node {
		t.Errorf("extents %v on %+v, device %s", v.Extents(), v.Disks(), v.Members[0].Device.Path)
	}
	below, err := volume.Backing(t.Context(), v)
	if err != nil || len(below) == 0 || v.In(below) {
		t.Errorf("Backing = %v, %v", below, err)
	}
	// Over another host's LUN it is as refused as that LUN.
	refused(t, looptest.NewHost(t), dir, vss.VSS_E_VOLUME_NOT_SUPPORTED, "another Umbra host")
}

// TestDiskWithATable is no volume; its volumes are named.
func TestDiskWithATable(t *testing.T) {
	h := looptest.NewHost(t)
	disk := h.Attach(t, looptest.File(t, 64*mib), false)
	f, err := block.Open(t.Context(), disk, unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := partitiontest.GPT(f, disk.Size, 512, partitiontest.Part{Start: mib, Length: 8 * mib}); err != nil {
		t.Fatal(err)
	}
	refused(t, h, disk.Path, vss.VSS_E_VOLUME_NOT_SUPPORTED, "8388608 bytes from 1048576")
	if _, err := f.WriteAt(make([]byte, 512), 512); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 512), 64*mib-512); err != nil {
		t.Fatal(err)
	}
	refused(t, h, disk.Path, vss.VSS_E_VOLUME_NOT_SUPPORTED, "GPT is damaged")
}
