package iscsi

import (
	"context"
	"slices"
	"time"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// A LUN has a place on each session, and a disk at each place: its paths. They
// come and go together. One is the LUN to the rest of Umbra, or the map that
// multipathd made of them; the others are not used.

// places are where the kernel has disks of a LUN.
func (i *Initiator) places(naa lun.NAA) []string { return i.allPlaces()[naa] }

// allPlaces are those of all LUNs.
func (i *Initiator) allPlaces() map[lun.NAA][]string {
	out := map[lun.NAA][]string{}
	for _, s := range i.sys.sessions(i.credentials.Target, i.credentials.Initiator) {
		for _, p := range i.sys.places(s) {
			naas, _ := i.sys.identity(p)
			for _, n := range naas {
				out[n] = append(out[n], p)
			}
		}
	}
	return out
}

// bringLUN makes a LUN appear on every session and returns what it is to be used
// by, and its paths. A path that does not come is missed only if none does. That
// the sessions are complete says that there is no other.
func (i *Initiator) bringLUN(ctx context.Context, sessions []session, complete bool, l Exported, news *bell) (d block.Device, came []block.Device, err error) {
	paths := make([]block.Device, len(sessions))
	errs := i.several(ctx, len(sessions), func(ctx context.Context, n int) (err error) {
		paths[n], err = i.bring(ctx, sessions[n], l, news)
		return err
	})
	for n, d := range paths {
		if errs[n] == nil {
			came = append(came, d)
		}
	}
	if len(came) == 0 {
		if ctx.Err() != nil {
			return d, nil, ctx.Err()
		}
		return d, nil, vss.Join(attachOp, errs...)
	}
	m, mapped, err := i.mapFor(ctx, l, came)
	if err != nil {
		return m, nil, err
	}
	if !complete || len(came) < len(sessions) {
		// A path that is down may be the one that is in use.
		for _, d := range i.devices(ctx, l.NAA) {
			if !d.Multipath && i.check(d, l) == nil && !slices.ContainsFunc(came, func(c block.Device) bool { return c.Name == d.Name }) {
				came = append(came, d)
			}
		}
	}
	if mapped {
		return m, came, nil
	}
	return i.best(came), came, nil
}

// mapFor is the map that multipathd makes of an original's paths. A copy's paths
// are not for multipathd, and udev is told so before they come; should it have
// them all the same, they are taken from it.
func (i *Initiator) mapFor(ctx context.Context, l Exported, paths []block.Device) (m block.Device, ok bool, err error) {
	name := i.mapOf(paths)
	if l.ReadOnly {
		if name == "" {
			return m, false, nil
		}
		if err := i.maps.flush(ctx, i.sys.attr("class/block", name, "dm/name")); err != nil || i.mapOf(paths) != "" {
			return m, false, &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: attachOp, Object: l.NAA.String(), Reason: "multipathd has taken the disks of a copy, and does not let go of them", Err: err,
				Remedy: `Have multipathd leave hidden disks alone: blacklist { property "UMBRA_HIDDEN" } in /etc/multipath.conf`}
		}
		return m, false, nil
	}
	for deadline := time.Now().Add(i.patience); name == "" && i.maps.wants(ctx, paths) && time.Now().Before(deadline); name = i.mapOf(paths) {
		select {
		case <-ctx.Done():
			return m, false, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	if name == "" {
		return m, false, nil
	}
	if m, err = i.inspect(ctx, name); err == nil {
		err = i.check(m, l) // a map of other LUNs' paths as well has no identity
	}
	return m, true, err
}

// mapOf is the map above any of some paths.
func (i *Initiator) mapOf(paths []block.Device) string {
	for _, p := range paths {
		if m := i.sys.mapOf(p.Name); m != "" {
			return m
		}
	}
	return ""
}

// members are the devices of a LUN that is attached, by disk sequence number:
// the recorded one may have gone while others are here.
type members map[uint64]string

// remember notes the devices of a LUN that has been attached.
func (i *Initiator) remember(naa lun.NAA, devices []block.Device) {
	had, now := i.known[naa], members{}
	still := false
	for _, d := range devices {
		now[d.DiskSeq] = d.Name
		_, before := had[d.DiskSeq]
		still = still || before
	}
	if still { // the same attachment: what has gone of it belongs to it
		for seq, name := range had {
			now[seq] = name
		}
	}
	i.known[naa] = now
}

// devices are the LUN's disks, and the map of them.
func (i *Initiator) devices(ctx context.Context, naa lun.NAA) []block.Device {
	return i.devicesAt(ctx, i.places(naa))
}

func (i *Initiator) devicesAt(ctx context.Context, places []string) (out []block.Device) {
	for _, p := range places {
		d, err := i.inspect(ctx, i.sys.disk(p))
		if err != nil {
			continue
		}
		out = append(out, d)
	}
	if m := i.mapOf(out); m != "" {
		if d, err := i.inspect(ctx, m); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// attached reports whether a recorded device is one of a LUN's, which has these
// now. It may have gone itself.
func (i *Initiator) attached(dev block.Device, naa lun.NAA, devices []block.Device) bool {
	if slices.ContainsFunc(devices, func(d block.Device) bool {
		return d.Name == dev.Name && (d.DiskSeq == dev.DiskSeq || d.DiskSeq == 0 || dev.DiskSeq == 0)
	}) {
		return true
	}
	return dev.DiskSeq != 0 && i.known[naa][dev.DiskSeq] == dev.Name
}
