package block

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Several paths to one LUN are several disks with one identifier. Where
// multipathd put them together there is one device more, a map of
// device-mapper, which is the LUN: the disks below it are its paths and nobody's
// business. Where nothing did, one of the disks is the LUN and the others are in
// reserve.

// mapPrefix begins the UUID of a map that multipathd made.
const mapPrefix = "mpath-"

// mapInfo is the identity of a multipath map: what its paths say of themselves,
// if all of them say the same. dir is the map's folder in sysfs. It reports false
// for every other device.
func mapInfo(dir string) (lun.Info, bool) {
	if !strings.HasPrefix(attr(filepath.Join(dir, "dm"), "uuid"), mapPrefix) {
		return lun.Info{}, false
	}
	var info lun.Info
	for i, path := range list(filepath.Join(dir, "slaves")) {
		got, ok := scsiInfo(filepath.Join(dir, "slaves", path))
		switch {
		case !ok || len(got.QualifyingIDs()) == 0 || i > 0 && got.Name() != info.Name():
			return lun.Info{}, true // a map of different LUNs is no LUN
		case i == 0:
			info = got
		}
	}
	return info, true
}

// MapOf is the kernel's name of the multipath map that has a disk as a path;
// "" if none has.
func MapOf(disk string) string { return mapAbove(filepath.Join(sysRoot, "class/block", disk)) }

func mapAbove(dir string) string {
	for _, name := range list(filepath.Join(dir, "holders")) {
		if strings.HasPrefix(attr(filepath.Join(dir, "holders", name, "dm"), "uuid"), mapPrefix) {
			return name
		}
	}
	return ""
}

// list names what is in a folder of sysfs, in order.
func list(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Claimed reports whether a device is mounted, or another is built on it.
func Claimed(ctx context.Context, d Device) bool {
	f, err := Open(ctx, d, unix.O_RDONLY|unix.O_EXCL)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, vss.VSS_E_VOLUME_IN_USE)
}

// onePerLUN leaves of several paths to a LUN the device that is the LUN here: the
// map, or the path that is in use, or the first that works. Names say nothing of
// the order, so it goes by disk sequence number.
func onePerLUN(ctx context.Context, devices []Device) []Device {
	paths := map[string][]int{} // by LUN
	for i, d := range devices {
		if d.Loop == nil && d.Qualified() {
			paths[d.LUN.Name()] = append(paths[d.LUN.Name()], i)
		}
	}
	spare := map[int]bool{}
	for _, group := range paths {
		if len(group) < 2 {
			continue
		}
		slices.SortFunc(group, func(a, b int) int {
			return int(int64(devices[a].DiskSeq) - int64(devices[b].DiskSeq))
		})
		best := slices.IndexFunc(group, func(i int) bool { return devices[i].Multipath })
		if best < 0 {
			best = slices.IndexFunc(group, func(i int) bool { return Claimed(ctx, devices[i]) })
		}
		if best < 0 {
			best = slices.IndexFunc(group, func(i int) bool { return running(devices[i]) })
		}
		for n, i := range group {
			spare[i] = n != max(best, 0)
		}
	}
	out := devices[:0]
	for i, d := range devices {
		if !spare[i] {
			out = append(out, d)
		}
	}
	return out
}

// running reports whether the kernel sends commands to a disk.
func running(d Device) bool {
	state := attr(filepath.Join(sysRoot, "class/block", d.Name, "device"), "state")
	return state == "" || state == "running" || state == "live"
}
