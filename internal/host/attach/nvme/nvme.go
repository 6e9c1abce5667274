package nvme

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints: the array, or the kernel, has done something for this host, and nobody
// has noted it down.
var (
	fpAfterExport  = failpoint.New("nvme.after-export")
	fpAfterConnect = failpoint.New("nvme.after-connect")
	fpAfterArrive  = failpoint.New("nvme.after-arrive")
	fpAfterClose   = failpoint.New("nvme.after-close")
	fpAfterGone    = failpoint.New("nvme.after-gone")
)

// Exported is a LUN that the array shows to this host.
type Exported struct {
	NAA      lun.NAA
	Number   uint64 // of its namespace
	Size     uint64 // bytes the disk must have
	ReadOnly bool
}

// Exports are LUNs and where they are.
type Exports struct {
	Target  string   // name of the subsystem
	Portals []string // address:port, any of them
	LUNs    []Exported
}

// Target is the array as this host sees it. It is safe for concurrent use.
type Target interface {
	// ExportLUNs shows LUNs that are unmasked to this host to it, all or none.
	// What is shown already stays where it is.
	ExportLUNs(ctx context.Context, naas []lun.NAA) (Exports, error)
	// CloseLUNs tells the array that this host has let go of LUNs, which takes
	// them away. It is idempotent.
	CloseLUNs(ctx context.Context, naas []lun.NAA) error
}

// Credentials are who this host is to the array, and the array to it.
type Credentials struct {
	Target       string // the subsystem's name
	Host         string // this host's NVMe name
	Secret       string // of DH-HMAC-CHAP, as the kernel takes it
	TargetSecret string // the array's
}

// Initiator attaches LUNs of one array. Use New.
type Initiator struct {
	target      Target
	credentials Credentials
	patience    time.Duration
	turn        chan struct{} // Rescan and Detach, one at a time: the last disk's going ends the connection

	// What a test replaces.
	sys      sysfs
	dial     func(ctx context.Context, portal string) error
	fabrics  func(ctx context.Context, options string) error
	offers   func() string // the options that the kernel knows
	identify func(ctx context.Context, d disk) (lun.NAA, bool, error)
	inspect  func(ctx context.Context, device string) (block.Device, error)
	protect  func(ctx context.Context, dev block.Device) error
	watch    func(ctx context.Context) (<-chan block.Event, func(), error)
	flush    func(ctx context.Context, dev block.Device) (release func(), err error)
}

var _ attach.Initiator = (*Initiator)(nil)

// New makes the initiator of a host for an array.
func New(t Target, c Credentials) *Initiator {
	return &Initiator{target: t, credentials: c, patience: 10 * time.Second, turn: make(chan struct{}, 1),
		sys: sysfs{"/sys", write}, dial: dial, fabrics: fabrics, offers: offers, identify: identify, inspect: block.Inspect, watch: watch, flush: flush,
		protect: func(ctx context.Context, dev block.Device) error { return block.SetReadOnly(ctx, dev, true) }}
}

func watch(ctx context.Context) (<-chan block.Event, func(), error) {
	w, err := block.Watch(ctx)
	if err != nil {
		return nil, nil, err
	}
	return w.Events(), func() { _ = w.Close() }, nil
}

// Name is "nvme".
func (i *Initiator) Name() string { return "nvme" }

// Ready reports whether this machine can attach over NVMe/TCP.
func (i *Initiator) Ready() error {
	// Best effort: the service may not load modules itself.
	_, _, _ = underway.Run(context.Background(), modprobeTime, nil, "modprobe", "-q", "nvme_tcp")
	if _, err := os.Stat(fabricsNode); err != nil {
		return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: attachOp, Object: fabricsNode, Reason: "this kernel has no NVMe/TCP initiator, or it is not loaded",
			Remedy: "Run modprobe nvme_tcp as root, and see that it is loaded at boot", Err: err}
	}
	return nil
}

// modprobeTime is long for the loading of a module.
const modprobeTime = time.Minute

// Has reports whether a device came this way, or looks like it.
func (i *Initiator) Has(dev block.Device) bool { return strings.HasPrefix(dev.Name, "nvme") }

const attachOp = "attach LUN"

func (i *Initiator) begin(ctx context.Context) (end func(), err error) {
	select {
	case i.turn <- struct{}{}:
		return func() { <-i.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Rescan implements attach.Initiator. LUNs that did not come are closed again,
// so that they can be masked or imported elsewhere.
func (i *Initiator) Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error) {
	end, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return attach.Bring(ctx, i.network(), luns, i.target.ExportLUNs, func(exports Exports, shown []lun.NAA) ([]block.Device, []lun.NAA, error) {
		if err := fpAfterExport.Hit(ctx); err != nil {
			return nil, shown, err
		}
		if exports.Target != i.credentials.Target {
			return nil, shown, i.failed(exports.Target, "the array shows this host another subsystem than when it joined", "Join it again with umbra join", nil)
		}
		// Before anything is connected or looked for: what arrives is then not missed.
		arrivals, stop, err := i.watch(ctx)
		if err != nil {
			return nil, shown, err
		}
		defer stop()
		if err = i.connect(ctx, exports.Portals); err == nil {
			err = fpAfterConnect.Hit(ctx)
		}
		if err != nil {
			return nil, shown, err
		}
		devices, failed, err := i.await(ctx, exports.LUNs, arrivals)
		return devices, failed, vss.Join("", err, fpAfterArrive.Hit(ctx))
	})
}

func (i *Initiator) network() attach.Network {
	return attach.Network{Op: attachOp, Present: i.Present, Close: i.target.CloseLUNs, Leave: i.leave}
}

// Present reports whether the kernel has a disk of the LUN.
func (i *Initiator) Present(naa lun.NAA) bool {
	return slices.ContainsFunc(i.sys.disks(i.credentials.Target), func(d disk) bool { return d.known && d.lun == naa })
}

// CloseAbsent closes those of the LUNs that have no device here: who masks or
// deletes a LUN that never arrived has nothing to detach.
func (i *Initiator) CloseAbsent(ctx context.Context, luns []lun.NAA) error {
	end, err := i.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	absent := slices.DeleteFunc(slices.Clone(luns), i.Present)
	if len(absent) > 0 {
		if err := i.target.CloseLUNs(ctx, absent); err != nil {
			return err
		}
	}
	// Who died before a LUN came may have left a connection that was for it.
	i.leave(ctx)
	return nil
}

const (
	pause = 200 * time.Millisecond // to look again although nothing was heard
	nudge = time.Second            // to have the kernel look for itself
)

// await waits until the LUNs are here, as far as they come.
func (i *Initiator) await(ctx context.Context, luns []Exported, arrivals <-chan block.Event) (devices []block.Device, failed []lun.NAA, err error) {
	var errs []error
	deadline, told := time.Now().Add(i.patience), time.Now()
	pending := luns
	for {
		var late []Exported
		var why []error
		stale := false
		for _, l := range pending {
			dev, err := i.bring(ctx, l)
			var later notYet
			switch {
			case err == nil:
				devices = append(devices, dev)
			case errors.As(err, &later):
				late, why = append(late, l), append(why, later.error)
				stale = stale || later.stale
			default:
				failed, errs = append(failed, l.NAA), append(errs, err)
			}
		}
		pending = late
		switch {
		case len(pending) == 0:
			return devices, failed, vss.Join(attachOp, errs...)
		case ctx.Err() != nil:
			why = []error{ctx.Err()}
			fallthrough
		case time.Now().After(deadline):
			for _, l := range pending {
				failed = append(failed, l.NAA)
			}
			return devices, failed, vss.Join(attachOp, append(errs, why...)...)
		}
		if stale || time.Since(told) > nudge {
			told = time.Now()
			i.nudge(ctx)
		}
		select {
		case _, open := <-arrivals:
			if !open {
				arrivals = nil
			}
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// nudge has the kernel ask the array for its namespaces. It does so when it is
// told of a change; word of that can be lost.
func (i *Initiator) nudge(ctx context.Context) {
	for _, c := range i.sys.controllers(i.credentials) {
		if c.state == "live" {
			_ = i.sys.tell(ctx, "1", "class/nvme", c.name, "rescan_controller")
		}
	}
}

// notYet is why a LUN is not here, as far as can be said now.
type notYet struct {
	error
	stale bool // what the kernel knows is not so any more
}

// bring looks whether a LUN is here, and believes what the array says of the
// disk when it is asked over the disk.
func (i *Initiator) bring(ctx context.Context, l Exported) (block.Device, error) {
	var none block.Device
	for _, d := range i.sys.disks(i.credentials.Target) {
		switch {
		case d.known && d.lun == l.NAA && d.number == l.Number:
		case d.number == l.Number || d.known && d.lun == l.NAA:
			return none, notYet{&vss.Error{Code: vss.VSS_E_MISSING_DISK, Op: attachOp, Object: l.NAA.String(), Reason: fmt.Sprintf("namespace %d calls itself %s", d.number, d.wwid),
				Remedy: "Restart the array, which makes its exports right, and see umbra array info for what it found"}, true}
		default:
			continue
		}
		now, ok, err := i.identify(ctx, d)
		if err != nil {
			return none, notYet{i.failed(l.NAA.String(), "the disk "+d.name+" does not say whose it is", "Look at the kernel log", err), false}
		}
		if !ok || now != l.NAA {
			return none, notYet{&vss.Error{Code: vss.VSS_E_MISSING_DISK, Op: attachOp, Object: l.NAA.String(), Reason: "the disk " + d.name + " is " + now.String() + " by now",
				Remedy: "Restart the array, which makes its exports right, and see umbra array info for what it found"}, true}
		}
		dev, err := i.inspect(ctx, d.name)
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || err == nil && dev.Size == 0 {
			return none, notYet{i.failed(l.NAA.String(), "the kernel makes no disk of it", "Look at the kernel log", err), false}
		}
		if err == nil {
			err = i.check(dev, l)
		}
		if err == nil && l.ReadOnly && !dev.ReadOnly {
			// The array's export refuses writes; NVMe has no way to say so that
			// its kernel's target would use.
			if err = i.protect(ctx, dev); err == nil {
				dev.ReadOnly = true
			}
		}
		return dev, err
	}
	return none, notYet{i.failed(l.NAA.String(), "the array exports it, and this host's connection does not show it", "Look at the kernel log here and on the array", nil), false}
}

// check compares what appeared with what the array exports.
func (i *Initiator) check(dev block.Device, l Exported) error {
	if naa, ok := dev.LUN.NAA(); !ok || naa != l.NAA {
		return i.failed(l.NAA.String(), "another disk took "+dev.Path+" meanwhile", "Try again", nil)
	}
	if dev.Size != l.Size {
		return i.failed(l.NAA.String(), fmt.Sprintf("the device has %d bytes, the LUN %d", dev.Size, l.Size), "Look at the kernel log", nil)
	}
	return nil
}

func (i *Initiator) failed(object, reason, remedy string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: attachOp, Object: object, Reason: reason, Remedy: remedy, Err: err}
}
