package block

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/umbra-vss/umbra/lun"
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

// list names what is in a folder of sysfs, in order.
func list(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// onePerLUN leaves of several paths to a LUN the one that is the LUN here.
func onePerLUN(devices []Device) []Device {
	groups := map[string][]Device{} // by LUN
	for _, d := range devices {
		if d.pathable() {
			groups[d.LUN.Name()] = append(groups[d.LUN.Name()], d)
		}
	}
	chosen := map[string]string{}
	for name, paths := range groups {
		chosen[name] = Best(paths).Name
	}
	return slices.DeleteFunc(devices, func(d Device) bool { return d.pathable() && d.Name != chosen[d.LUN.Name()] })
}

func (d Device) pathable() bool { return d.Loop == nil && d.Qualified() }

// Best is which of several devices of one LUN is the LUN here: the map that is
// made of the others, else the disk that is in use, else the first that works.
// Names say nothing of an order, so first is by disk sequence number. It asks the
// kernel's tables, not the disks: one whose way to the array is down answers
// late.
func Best(paths []Device) Device {
	if len(paths) == 1 {
		return paths[0]
	}
	paths = slices.Clone(paths)
	slices.SortFunc(paths, func(a, b Device) int { return cmp.Or(cmp.Compare(a.DiskSeq, b.DiskSeq), cmp.Compare(a.Name, b.Name)) })
	mounted := mountedDevices()
	for _, better := range []func(Device) bool{
		func(d Device) bool { return d.Multipath },
		func(d Device) bool { return inUse(d, mounted) },
		running,
	} {
		if i := slices.IndexFunc(paths, better); i >= 0 {
			return paths[i]
		}
	}
	return paths[0]
}

// InUse reports whether a disk, or a partition of it, is mounted here or has
// another device built on it, as far as the kernel's tables say.
func InUse(d Device) bool { return inUse(d, mountedDevices()) }

func inUse(d Device, mounted map[string]bool) bool {
	dir := filepath.Join(sysRoot, "class/block", d.Name)
	for _, part := range append(list(dir), ".") {
		sub := filepath.Join(dir, part)
		if part != "." && !exists(sub, "partition") {
			continue
		}
		if len(list(filepath.Join(sub, "holders"))) > 0 || mounted[attr(sub, "dev")] || mounted["/dev/"+filepath.Base(sub)] {
			return true
		}
	}
	return false
}

// mountedDevices are the numbers of the devices that are mounted here, and their
// nodes: a btrfs has a number that is no device's.
func mountedDevices() map[string]bool {
	out := map[string]bool{}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return out // without /proc nothing works anyway
	}
	for _, m := range mounts {
		out[fmt.Sprintf("%d:%d", m.Major, m.Minor)], out[m.Source] = true, true
	}
	return out
}

// running reports whether the kernel sends commands to a disk.
func running(d Device) bool {
	state := attr(filepath.Join(sysRoot, "class/block", d.Name, "device"), "state")
	return state == "" || state == "running" || state == "live"
}
