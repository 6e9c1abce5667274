package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints: the array, or the kernel, has done something for this host, and nobody
// has noted it down.
var (
	fpAfterExport = failpoint.New("iscsi.after-export")
	fpAfterLogin  = failpoint.New("iscsi.after-login")
	fpAfterArrive = failpoint.New("iscsi.after-arrive")
	fpAfterRemove = failpoint.New("iscsi.after-remove")
	fpAfterClose  = failpoint.New("iscsi.after-close")
)

// Exported is a LUN that the array shows to this host.
type Exported struct {
	NAA      lun.NAA
	Number   uint64 // LUN number
	Size     uint64 // bytes the disk must have
	ReadOnly bool
}

// Exports are LUNs and where they are.
type Exports struct {
	Target  string   // iSCSI name
	Portals []string // address:port, any of them
	LUNs    []Exported
}

// Target is the array as this host sees it. It is safe for concurrent use.
type Target interface {
	// ExportLUNs shows LUNs that are unmasked to this host to its initiator, all
	// or none. What is shown already stays where it is.
	ExportLUNs(ctx context.Context, naas []lun.NAA) (Exports, error)
	// CloseLUNs tells the array that this host has let go of LUNs. It is
	// idempotent.
	CloseLUNs(ctx context.Context, naas []lun.NAA) error
}

// Credentials are who this host is to the array, and the array to it.
type Credentials struct {
	Target                   string // the array's iSCSI name
	Initiator                string // this host's
	User, Secret             string
	TargetUser, TargetSecret string
}

// Initiator attaches LUNs of one array. Use New.
type Initiator struct {
	target      Target
	credentials Credentials
	iface       string
	parallel    int
	patience    time.Duration
	grace       time.Duration // for what is left when one of several ways is there
	hurry       time.Duration // after which a login that is not done is looked into
	turn        chan struct{} // Rescan and Detach, one at a time: the last disk's going ends the session
	known       map[lun.NAA]members
	outdated    map[string]bool // sessions that were there when the host was given other secrets

	// What a test replaces.
	sys       sysfs
	databases []string
	run       func(ctx context.Context, args ...string) (string, error)
	maps      maps
	dial      func(ctx context.Context, portal string) error
	inUse     func(dev block.Device) bool
	best      func(paths []block.Device) block.Device
	inspect   func(ctx context.Context, device string) (block.Device, error)
	watch     func(ctx context.Context) (<-chan block.Event, func(), error)
	flush     func(ctx context.Context, dev block.Device) (release func(), err error)
}

var _ attach.Initiator = (*Initiator)(nil)

// New makes the initiator of the host with this tag (block.HostTag).
func New(hostTag string, t Target, c Credentials) *Initiator {
	return &Initiator{target: t, credentials: c, iface: "umbra-" + hostTag, parallel: 8, patience: 10 * time.Second, grace: 2 * time.Second, hurry: 1500 * time.Millisecond, turn: make(chan struct{}, 1), known: map[lun.NAA]members{}, outdated: map[string]bool{},
		sys: sysfs{"/sys", write}, databases: databases, run: iscsiadm, maps: multipathd{}, dial: dial, inUse: block.InUse, best: block.Best, inspect: block.Inspect, watch: watch, flush: flush}
}

func watch(ctx context.Context) (<-chan block.Event, func(), error) {
	w, err := block.Watch(ctx)
	if err != nil {
		return nil, nil, err
	}
	return w.Events(), func() { _ = w.Close() }, nil
}

// Name is "iscsi".
func (i *Initiator) Name() string { return "iscsi" }

// Ready reports whether this machine can attach over iSCSI.
func (i *Initiator) Ready() error {
	if _, err := exec.LookPath("iscsiadm"); err != nil {
		return noOpenISCSI(err)
	}
	return nil
}

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
			return nil, shown, i.failed(exports.Target, "the array has another iSCSI name than when this host joined it", "Join it again with umbra join", nil)
		}
		sessions, err := i.connect(ctx, exports.Target, exports.Portals)
		if err == nil {
			err = fpAfterLogin.Hit(ctx)
		}
		if err != nil {
			return nil, shown, err
		}
		devices, failed, err := i.bringAll(ctx, sessions, exports.LUNs)
		return devices, failed, vss.Join("", err, fpAfterArrive.Hit(ctx))
	})
}

func (i *Initiator) network() attach.Network {
	return attach.Network{Op: attachOp, Present: i.present, Close: i.target.CloseLUNs, Leave: func(ctx context.Context) { i.leave(ctx, i.credentials.Target) }}
}

// Present reports whether the kernel has a device of the LUN.
func (i *Initiator) Present(naa lun.NAA) bool { return i.present(naa) }

// present reports whether the kernel has a device of the LUN.
func (i *Initiator) present(naa lun.NAA) bool { return len(i.places(naa)) > 0 }

// CloseAbsent closes those of the LUNs that have no device here: who masks or
// deletes a LUN that never arrived has nothing to detach.
func (i *Initiator) CloseAbsent(ctx context.Context, luns []lun.NAA) error {
	end, err := i.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	absent := slices.DeleteFunc(slices.Clone(luns), i.present)
	if len(absent) > 0 {
		if err := i.target.CloseLUNs(ctx, absent); err != nil {
			return err
		}
	}
	// Who died before a LUN came may have left a session that was for it.
	i.leave(ctx, i.credentials.Target)
	return nil
}

func (i *Initiator) bringAll(ctx context.Context, sessions []session, luns []Exported) (devices []block.Device, failed []lun.NAA, err error) {
	// Before anything is looked for: what arrives is then not missed.
	arrivals, stop, err := i.watch(ctx)
	if err != nil {
		for _, l := range luns {
			failed = append(failed, l.NAA)
		}
		return nil, failed, err
	}
	defer stop()
	news := newBell()
	go func() {
		for range arrivals {
			news.ring()
		}
	}()
	for _, s := range sessions {
		i.removeStale(ctx, s, luns)
	}
	// Of a LUN that came on every session there is, there is no other path.
	complete := len(sessions) == len(i.sys.sessions(i.credentials.Target, i.credentials.Initiator))
	all, paths, errs := make([]block.Device, len(luns)), make([][]block.Device, len(luns)), make([]error, len(luns))
	var g errgroup.Group
	g.SetLimit(i.parallel)
	for n, l := range luns {
		g.Go(func() error {
			all[n], paths[n], errs[n] = i.bringLUN(ctx, sessions, complete, l, news)
			return nil
		})
	}
	_ = g.Wait()
	for n := range luns {
		if errs[n] == nil {
			devices = append(devices, all[n])
			i.remember(luns[n].NAA, append(paths[n], all[n]))
		} else {
			failed = append(failed, luns[n].NAA)
		}
	}
	return devices, failed, vss.Join(attachOp, errs...)
}

// removeStale deletes devices that claim to be one of the LUNs at another place
// than the array says: what the kernel remembers of a mapping that is no more.
func (i *Initiator) removeStale(ctx context.Context, s session, luns []Exported) {
	for _, p := range i.sys.places(s) {
		naas, _ := i.sys.identity(p)
		if slices.ContainsFunc(luns, func(l Exported) bool { return p != s.place(l.Number) && slices.Contains(naas, l.NAA) }) {
			_ = i.sys.remove(ctx, p)
		}
	}
}

// bring makes one LUN appear on one session: looks at its place, and believes
// page 0x83.
func (i *Initiator) bring(ctx context.Context, s session, l Exported, news *bell) (block.Device, error) {
	place := s.place(l.Number)
	got := "nothing that it can be known by"
	for range 2 {
		if i.sys.has(place) {
			// What the kernel knows of it may be of another time. A disk that was
			// another LUN is not made the right one by asking it again: what is
			// cached of it, and who has it open, is of the other.
			if i.sys.is(place, l.NAA) {
				if err := i.sys.refresh(ctx, place); err != nil && ctx.Err() != nil {
					return block.Device{}, ctx.Err()
				}
			}
		} else if err := i.arrive(ctx, s, l, place, news); err != nil {
			return block.Device{}, err
		}
		if !i.sys.is(place, l.NAA) || i.sys.attr(scsiDevices, place, "device/state") == "offline" {
			if ids, ok := i.sys.identity(place); ok {
				got = ids[0].String()
			}
			if err := i.sys.remove(ctx, place); err != nil {
				return block.Device{}, i.failed(l.NAA.String(), "a disk of another LUN is at its place and cannot be removed", "Remove it (echo 1 > /sys/class/scsi_device/"+place+"/device/delete)", err)
			}
			continue
		}
		dev, err := i.awaitDisk(ctx, place, l, news)
		if err == nil {
			err = i.check(dev, l)
		}
		return dev, err
	}
	return block.Device{}, &vss.Error{Code: vss.VSS_E_MISSING_DISK, Op: attachOp, Object: l.NAA.String(), Reason: fmt.Sprintf("the disk at LUN number %d calls itself %s", l.Number, got),
		Remedy: "Restart the array, which makes its exports right, and see umbra array info for what it found"}
}

// arrive has the kernel look at the place until there is something. A session
// that is down for a moment shows nothing, and the kernel does not say why.
func (i *Initiator) arrive(ctx context.Context, s session, l Exported, place string, news *bell) error {
	deadline := time.Now().Add(i.patience)
	// Each look at nothing is a line in the array's kernel log.
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if err := i.sys.look(ctx, s, l.Number); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return i.failed(l.NAA.String(), "the kernel does not look for it", "Look at the kernel log", err)
		}
		if i.sys.has(place) {
			return nil
		}
		if err := news.wait(ctx, deadline, pause); err != nil {
			return i.lateOr(ctx, l, "the array exports it, and this host's session does not show it")
		}
	}
}

// awaitDisk waits for the kernel to make a disk of the device. It does so after
// it has answered, and not at once: there is a name before there is a disk.
func (i *Initiator) awaitDisk(ctx context.Context, place string, l Exported, news *bell) (block.Device, error) {
	deadline := time.Now().Add(i.patience)
	for {
		heard := news.listen()
		if name := i.sys.disk(place); name != "" {
			dev, err := i.inspect(ctx, name)
			if err == nil && dev.Size > 0 || err != nil && !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
				return dev, err
			}
		}
		if err := heard(ctx, deadline, 500*time.Millisecond); err != nil {
			return block.Device{}, i.lateOr(ctx, l, "the kernel makes no disk of it")
		}
	}
}

func (i *Initiator) lateOr(ctx context.Context, l Exported, reason string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return i.failed(l.NAA.String(), reason, "Look at the kernel log here and on the array", nil)
}

// check compares what appeared with what the array exports.
func (i *Initiator) check(dev block.Device, l Exported) error {
	if naa, ok := dev.LUN.NAA(); !ok || naa != l.NAA {
		return i.failed(l.NAA.String(), "another disk took "+dev.Path+" meanwhile", "Try again", nil)
	}
	if dev.Size != l.Size {
		return i.failed(l.NAA.String(), fmt.Sprintf("the device has %d bytes, the LUN %d", dev.Size, l.Size), "Look at the kernel log", nil)
	}
	if l.ReadOnly && !dev.ReadOnly {
		return i.failed(l.NAA.String(), "the device is writable, the LUN is not", "Restart the array, which makes its exports right", nil)
	}
	return nil
}

// bell tells any number of waiters that something happened.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func newBell() *bell { return &bell{ch: make(chan struct{})} }

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}

var errLate = errors.New("too late")

// listen begins to listen; what it returns waits for a ring since then, or for
// at most the pause, after which it is worth to look again.
func (b *bell) listen() func(ctx context.Context, deadline time.Time, pause time.Duration) error {
	b.mu.Lock()
	ch := b.ch
	b.mu.Unlock()
	return func(ctx context.Context, deadline time.Time, pause time.Duration) error {
		if time.Now().After(deadline) {
			return errLate
		}
		select {
		case <-ch:
			return nil
		case <-time.After(pause):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *bell) wait(ctx context.Context, deadline time.Time, pause time.Duration) error {
	return b.listen()(ctx, deadline, pause)
}
