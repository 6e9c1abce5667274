package daemon

import (
	"context"
	"os"
	"strings"
	"sync"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/attach/iscsi"
	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
)

// transport is the way to one array's LUNs: loop devices if it runs on this
// machine, else iSCSI. An array whose bundle says nothing of iSCSI can only be
// here and is not asked.
type transport struct {
	array *client.Client
	loop  *loop.Initiator
	iscsi *iscsi.Initiator // nil: the bundle says nothing of it

	mu    sync.Mutex
	known bool // the array has been asked
	local bool
}

func newTransport(hostTag string, c *client.Client) *transport {
	t := &transport{array: c, loop: loop.New(hostTag, target{c})}
	b := c.ISCSI()
	if b == nil {
		t.known, t.local = true, true
		return t
	}
	t.iscsi = iscsi.New(hostTag, target{c}, iscsi.Credentials{Target: b.Target, Initiator: b.Initiator,
		User: b.User, Secret: b.Secret, TargetUser: b.TargetUser, TargetSecret: b.TargetSecret})
	c.BeforeReturn(t.closeAbsent)
	return t
}

// choose asks the array, once, whether it is on this machine.
func (t *transport) choose(ctx context.Context) (attach.Initiator, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, err
		}
		d, err := t.array.Describe(ctx, strings.TrimSpace(string(boot)))
		if err != nil {
			return nil, err
		}
		t.known, t.local = true, d.Local
	}
	if t.local {
		return t.loop, nil
	}
	return t.iscsi, nil
}

// Name implements attach.Initiator.
func (t *transport) Name() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known && t.local {
		return t.loop.Name()
	}
	return t.iscsi.Name()
}

// Rescan implements attach.Initiator.
func (t *transport) Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error) {
	i, err := t.choose(ctx)
	if err != nil {
		return nil, err
	}
	return i.Rescan(ctx, luns)
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
	if dev.Loop != nil || t.iscsi == nil || strings.HasPrefix(dev.Name, "loop") {
		return t.loop
	}
	if strings.HasPrefix(dev.Name, "sd") {
		return t.iscsi
	}
	i, err := t.choose(ctx)
	if err != nil {
		return t.iscsi
	}
	return i
}

// Look lets the loop initiator look ahead, see loop.Look.
func (t *transport) Look(ctx context.Context) {
	t.mu.Lock()
	local := t.known && t.local
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
	if i == attach.Initiator(t.iscsi) {
		return t.iscsi.Ready()
	}
	return loopReady()
}

// closeAbsent closes what the array counts as attached here and is not, before
// it is given back: an import that broke off leaves such. luns may be nil for
// all.
func (t *transport) closeAbsent(ctx context.Context, luns []lun.NAA) error {
	i, err := t.choose(ctx)
	if err != nil || i != attach.Initiator(t.iscsi) {
		return err
	}
	ls, err := t.array.ReportLUNs(ctx, luns...)
	if err != nil {
		return err
	}
	var here []lun.NAA
	for _, l := range ls {
		if len(l.AttachedBy) > 0 {
			here = append(here, l.NAA)
		}
	}
	if len(here) == 0 {
		return nil
	}
	return t.iscsi.CloseAbsent(ctx, here)
}
