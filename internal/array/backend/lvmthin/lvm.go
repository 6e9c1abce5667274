package lvmthin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// The logical volumes that the pool is on.
const (
	lvData = "umbra-data"
	lvMeta = "umbra-meta"
)

// volumes makes sure that the volume group has the pool's two volumes, active,
// and returns their numbers. It is the only place where LVM is asked, when the
// array starts.
func volumes(ctx context.Context, c *devicemapper.Control, vg string, size uint64) (meta, data uint64, err error) {
	out, err := lvm(ctx, vg, "lvs", "--noheadings", "-o", "lv_name,segtype", vg)
	if err != nil {
		return 0, 0, err
	}
	have := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		if f := strings.Fields(line); len(f) == 2 {
			have[f[0]] = f[1]
		}
	}
	if have[lvMeta] == "" || have[lvData] == "" {
		if err := makeVolumes(ctx, c, vg, size, have); err != nil {
			return 0, 0, err
		}
	}
	if _, err := lvm(ctx, vg, "lvchange", "-ay", vg+"/"+lvMeta, vg+"/"+lvData); err != nil {
		return 0, 0, err
	}
	for name, dev := range map[string]*uint64{lvMeta: &meta, lvData: &data} {
		d, err := c.Info(ctx, devicemapper.Name(deviceName(vg, name)))
		if err != nil {
			return 0, 0, err
		}
		*dev = d.Dev
	}
	return meta, data, nil
}

// deviceName is device-mapper's name of a logical volume.
func deviceName(vg, lv string) string {
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return double(vg) + "-" + double(lv)
}

// Metadata takes 64 bytes for each block of data, and about as much for what
// copies no longer share. The kernel uses no more than 16 GiB.
const (
	leastMeta = 8 << 20
	mostMeta  = 15 << 30
)

func metadataFor(data uint64) uint64 { return min(max(data/blockSize*128, leastMeta), mostMeta) }

func makeVolumes(ctx context.Context, c *devicemapper.Control, vg string, size uint64, have map[string]string) error {
	out, err := lvm(ctx, vg, "vgs", "--noheadings", "--units", "b", "--nosuffix", "-o", "vg_free,vg_extent_size", vg)
	if err != nil {
		return err
	}
	f := strings.Fields(out)
	if len(f) != 2 {
		return refuse(vss.VSS_E_UNEXPECTED, vg, fmt.Sprintf("LVM says of its size %q", out), "Check it with `vgs`", nil)
	}
	free, err1 := strconv.ParseUint(f[0], 10, 64)
	extent, err2 := strconv.ParseUint(f[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil || extent == 0 {
		return refuse(vss.VSS_E_UNEXPECTED, vg, fmt.Sprintf("LVM says of its size %q", out), "Check it with `vgs`", err)
	}
	up := func(n uint64) uint64 { return (n + extent - 1) / extent * extent }
	whole := size
	if whole == 0 {
		whole = free
	}
	meta := up(metadataFor(whole))
	data := whole / extent * extent
	if size == 0 {
		data = (free - min(free, meta)) / extent * extent
	}
	if data < 2*extent || meta+data > free {
		return refuse(vss.VSS_E_INSUFFICIENT_STORAGE, vg, fmt.Sprintf("%d MiB are free in the volume group", free>>20), "Enlarge it with `vgextend`, or give a smaller --store-size", nil)
	}
	for _, v := range []struct {
		name string
		size uint64
	}{{lvMeta, meta}, {lvData, data}} {
		if have[v.name] != "" {
			continue // of a start that was ended
		}
		if _, err := lvm(ctx, vg, "lvcreate", "-y", "-W", "n", "-Z", "n", "-n", v.name, "-L", strconv.FormatUint(v.size, 10)+"b", vg); err != nil {
			return err
		}
		d, err := c.Info(ctx, devicemapper.Name(deviceName(vg, v.name)))
		if err != nil {
			return err
		}
		// What was there before is nobody's now. (LVM would do it through a name
		// that udev has to make first.)
		if err := wipe(d.Dev); err != nil {
			return refuse(vss.VSS_E_UNEXPECTED, vg, "its new volume "+v.name+" cannot be written", "Check the volume group's disks with dmesg", err)
		}
	}
	return nil
}

// wipe empties the beginning of a device.
func wipe(dev uint64) error {
	f, err := openDevice(dev, os.O_RDWR)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close())
}

// lvmTime is long for a question to LVM on a machine with thousands of disks.
const lvmTime = 2 * time.Minute

// lvm runs a command of LVM's.
func lvm(ctx context.Context, vg string, args ...string) (string, error) {
	out, errs, err := underway.Run(ctx, lvmTime, func(cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	}, "lvm", args...)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", refuse(vss.VSS_E_NOT_SUPPORTED, vg, "this machine has no LVM", "Install lvm2, or give the pool's devices with --pool-data and --pool-metadata", err)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return "", refuse(vss.E_ABORT, vg, "LVM did not answer in time: "+err.Error(), "Check the volume group with `vgs`", err)
	case err != nil:
		return "", refuse(vss.VSS_E_PROVIDER_VETO, vg, "`lvm "+strings.Join(args, " ")+"` failed: "+strings.Join(strings.Fields(errs), " "), "Check the volume group with `vgs` and `lvs`", err)
	}
	return out, nil
}
