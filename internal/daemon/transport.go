package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/nvme/dhchap"
	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/attach/iscsi"
	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/attach/nbd"
	"github.com/umbra-vss/umbra/internal/host/attach/nvme"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// TransportLoop is the way to an array on this machine, in the configuration;
// the others are called as in package export.
const TransportLoop = "loop"

// remote is a way to LUNs of another machine.
type remote interface {
	attach.Initiator
	// Ready says what this machine lacks for it.
	Ready() error
	// Present reports whether a LUN is here this way.
	Present(naa lun.NAA) bool
	// Has reports whether a device came, or looks like having come, this way.
	Has(dev block.Device) bool
	// CloseAbsent closes those of the LUNs that have no device here.
	CloseAbsent(ctx context.Context, luns []lun.NAA) error
}

// way is a transport as this program knows it.
type way struct {
	kind export.Kind
	open func(w waysHere, c *client.Client) remote // nil: the bundle says nothing of it
}

// ways are in the order in which a host that has a choice takes them.
var ways = []way{{export.ISCSI, openISCSI}, {export.NVMe, openNVMe}, {export.NBD, openNBD}}

// waysHere is what ways need to know of this host.
type waysHere struct {
	hostTag string
	prefer  string // the configured transport, "" for the first that will do
	runDir  string
	done    <-chan struct{} // closed when the daemon ends
}

func openISCSI(w waysHere, c *client.Client) remote {
	b := c.Bundle().ISCSI
	if b == nil {
		return nil
	}
	return scsi{iscsi.New(w.hostTag, target{c}, iscsi.Credentials{Target: b.Target, Initiator: b.Initiator,
		User: b.User, Secret: b.Secret, TargetUser: b.TargetUser, TargetSecret: b.TargetSecret})}
}

func openNBD(w waysHere, c *client.Client) remote {
	b := c.Bundle()
	if b.NBD == nil {
		return nil
	}
	i := nbd.New(w.hostTag, filepath.Join(w.runDir, "nbd", b.ArrayID.Bare()), nbdTarget{target{c}}, nbd.Credentials{Identity: b.NBD.Identity, Key: b.NBD.Key})
	go i.Watch(w.done)
	return i
}

func openNVMe(_ waysHere, c *client.Client) remote {
	b := c.Bundle().NVMe
	if b == nil {
		return nil
	}
	return nvme.New(nvmeTarget{target{c}}, nvme.Credentials{Target: b.Subsystem, Host: b.Host, Secret: dhchap.Key(b.Secret), TargetSecret: dhchap.Key(b.ArraySecret)})
}

// nvmeTarget is the array as the NVMe initiator asks it.
type nvmeTarget struct{ target }

func (t nvmeTarget) ExportLUNs(ctx context.Context, naas []lun.NAA) (nvme.Exports, error) {
	e, err := t.c.ExportLUNs(ctx, export.NVMe, naas)
	out := nvme.Exports{Target: e.Target, Portals: e.Portals}
	for _, l := range e.LUNs {
		out.LUNs = append(out.LUNs, nvme.Exported{NAA: l.NAA, Number: l.Number, Size: l.Size, ReadOnly: l.ReadOnly})
	}
	return out, err
}

// scsi is open-iscsi where the kernel can do it.
type scsi struct{ *iscsi.Initiator }

func (s scsi) Has(dev block.Device) bool { return strings.HasPrefix(dev.Name, "sd") || dev.Multipath }

func (s scsi) Ready() error {
	if err := s.Initiator.Ready(); err != nil {
		return err
	}
	// Loaded, or to be had: it is iscsid that loads it.
	if _, err := os.Stat("/sys/class/iscsi_transport/tcp"); err == nil {
		return nil
	}
	if _, _, err := underway.Run(context.Background(), time.Minute, nil, "modprobe", "-n", "-q", "iscsi_tcp"); err == nil {
		return nil
	}
	return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "attach LUN", Object: "iscsi_tcp", Reason: "this kernel has no iSCSI initiator", Remedy: "Reach the array over another transport, or boot a kernel that has it"}
}

// transport is the way to one array's LUNs: loop devices if it runs on this
// machine, else the first of those its bundle names that this machine can do. A
// configured one outweighs both. An array whose bundle names none can only be
// here and is not asked.
type transport struct {
	array   *client.Client
	prefer  string
	loop    *loop.Initiator
	remotes []remote

	mu     sync.Mutex
	chosen attach.Initiator // nil: the array has not been asked
}

func newTransport(w waysHere, c *client.Client) *transport {
	t := &transport{array: c, prefer: w.prefer, loop: loop.New(w.hostTag, target{c: c})}
	for _, k := range ways {
		if r := k.open(w, c); r != nil {
			t.remotes = append(t.remotes, r)
		}
	}
	if len(t.remotes) == 0 {
		t.chosen = t.loop
		return t
	}
	c.BeforeReturn(t.closeAbsent)
	return t
}

// choose asks the array, once, whether it is on this machine.
func (t *transport) choose(ctx context.Context) (attach.Initiator, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.chosen != nil {
		return t.chosen, nil
	}
	if t.prefer == "" || t.prefer == TransportLoop {
		local := t.prefer == TransportLoop
		if !local {
			boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
			if err != nil {
				return nil, err
			}
			d, err := t.array.Describe(ctx, strings.TrimSpace(string(boot)))
			if err != nil {
				return nil, err
			}
			local = d.Local
		}
		if local {
			t.chosen = t.loop
			return t.loop, nil
		}
	}
	var errs []error
	for _, r := range t.remotes {
		if t.prefer != "" && t.prefer != r.Name() {
			continue
		}
		err := r.Ready()
		if err == nil || t.prefer != "" { // it says itself what it lacks
			t.chosen = r
			return r, nil
		}
		errs = append(errs, err)
	}
	if t.prefer != "" {
		return nil, &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "attach LUN", Object: t.array.Bundle().ArrayName, Reason: "this host is configured to use " + t.prefer + ", which its bundle says nothing of",
			Remedy: "Serve it on the array, enroll this host there and join again; or change the key transport in the configuration"}
	}
	return nil, vss.Join("attach LUN", errs...) // not kept: it may be installed
}

// Name implements attach.Initiator.
func (t *transport) Name() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.chosen != nil {
		return t.chosen.Name()
	}
	return t.remotes[0].Name()
}

// Rescan implements attach.Initiator. What is here already over a way that would
// not be chosen any more stays so.
func (t *transport) Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error) {
	chosen, err := t.choose(ctx)
	if err != nil {
		return nil, err
	}
	var devices []block.Device
	var errs []error
	rest := luns
	for _, r := range t.remotes {
		if attach.Initiator(r) == chosen {
			continue
		}
		var here, others []lun.Info
		for _, l := range rest {
			if naa, ok := l.NAA(); ok && r.Present(naa) {
				here = append(here, l)
			} else {
				others = append(others, l)
			}
		}
		if rest = others; len(here) > 0 {
			ds, err := r.Rescan(ctx, here)
			devices, errs = append(devices, ds...), append(errs, err)
		}
	}
	if len(rest) > 0 {
		ds, err := chosen.Rescan(ctx, rest)
		if errors.Is(err, vss.VSS_E_VOLUME_IN_USE) && chosen != attach.Initiator(t.loop) {
			// The array has them as attached another way, and they are not: this
			// machine was started again, and is configured otherwise.
			if cerr := t.closeAbsent(ctx, naasOf(rest)); cerr == nil {
				ds, err = chosen.Rescan(ctx, rest)
			}
		}
		devices, errs = append(devices, ds...), append(errs, err)
	}
	return devices, vss.Join("", errs...)
}

func naasOf(luns []lun.Info) []lun.NAA {
	var out []lun.NAA
	for _, l := range luns {
		if naa, ok := l.NAA(); ok {
			out = append(out, naa)
		}
	}
	return out
}

// Detach implements attach.Initiator. What a device is says the way it came.
func (t *transport) Detach(ctx context.Context, dev block.Device) error {
	return t.of(ctx, dev).Detach(ctx, dev)
}

// Abandon implements attach.Initiator.
func (t *transport) Abandon(ctx context.Context, dev block.Device) error {
	return t.of(ctx, dev).Abandon(ctx, dev)
}

// of is the initiator of a device. A record of one may not say.
func (t *transport) of(ctx context.Context, dev block.Device) attach.Initiator {
	if i := slices.IndexFunc(t.remotes, func(r remote) bool { return r.Has(dev) }); i >= 0 {
		return t.remotes[i]
	}
	if dev.Loop != nil || len(t.remotes) == 0 || strings.HasPrefix(dev.Name, "loop") {
		return t.loop
	}
	i, err := t.choose(ctx)
	if err != nil {
		return t.remotes[0]
	}
	return i
}

// Look lets the loop initiator look ahead, see loop.Look.
func (t *transport) Look(ctx context.Context) {
	t.mu.Lock()
	local := t.chosen == attach.Initiator(t.loop)
	t.mu.Unlock()
	if local {
		t.loop.Look(ctx)
	}
}

// Ready reports whether LUNs could be attached.
func (t *transport) Ready(ctx context.Context) error {
	i, err := t.choose(ctx)
	if err != nil {
		return err
	}
	if r, ok := i.(remote); ok {
		return r.Ready()
	}
	return loopReady()
}

// closeAbsent closes what the array counts as attached here and is not, before
// it is given back: an import that broke off leaves such. luns may be nil for
// all.
func (t *transport) closeAbsent(ctx context.Context, luns []lun.NAA) error {
	i, err := t.choose(ctx)
	if err != nil {
		return err
	}
	chosen, ok := i.(remote)
	if !ok {
		return nil
	}
	ls, err := t.array.ReportLUNs(ctx, luns...)
	if err != nil {
		return err
	}
	var here []lun.NAA
	for _, l := range ls {
		elsewhere := slices.ContainsFunc(t.remotes, func(r remote) bool { return r != chosen && r.Present(l.NAA) })
		if len(l.AttachedBy) > 0 && !elsewhere {
			here = append(here, l.NAA)
		}
	}
	return chosen.CloseAbsent(ctx, here) // also of none: what was for them goes
}
