package loop

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Opened is a LUN whose file the array has opened for this host.
type Opened struct {
	NAA        lun.NAA
	FD         int    // owned by whoever gets it, to be closed
	Size       uint64 // bytes the device must have
	Generation uint64 // the array's commit generation of the LUN
	ReadOnly   bool   // the descriptor does not write
	Dev, Ino   uint64 // of the file behind FD
}

// Target is the array as this host sees it. It is safe for concurrent use.
type Target interface {
	// OpenLUNs opens LUNs that are unmasked to this host. It may return some
	// and an error about the others. The descriptors belong to the caller.
	OpenLUNs(ctx context.Context, naas []lun.NAA) ([]Opened, error)
	// CloseLUNs tells the array that this host has let go of LUNs. It is
	// idempotent.
	CloseLUNs(ctx context.Context, naas []lun.NAA) error
}

// Initiator attaches LUNs of one array for one host. Use New.
type Initiator struct {
	hostTag   string
	target    Target
	blockSize uint32
	parallel  int
	patience  time.Duration
	dev       folder
	rescans   chan struct{} // one at a time: two could attach one LUN twice

	lookMu sync.Mutex
	seen   *look // what Look saw; nil when devices came or went since
}

var _ attach.Initiator = (*Initiator)(nil)

// Option changes how an Initiator works.
type Option func(*Initiator)

// WithBlockSize sets the logical block size of attached devices in bytes: 512
// (the default) to 4096, a power of two.
//
// 512 is what disks have shown since there were disks, and it is part of what
// is on them: a partition table or an XFS made on 512 cannot be read on 4096,
// while every filesystem made on 4096 works on 512. It must not follow the
// array's backing disk, which the kernel would do by itself, because a copy
// has to look the same on every machine.
func WithBlockSize(bytes uint32) Option { return func(i *Initiator) { i.blockSize = bytes } }

// WithParallel sets how many LUNs are attached at a time; 4 by default.
func WithParallel(n int) Option { return func(i *Initiator) { i.parallel = max(1, n) } }

// WithPatience sets how long Detach waits for a device to be really gone, and
// Rescan for a free loop device; 5 seconds by default.
func WithPatience(d time.Duration) Option { return func(i *Initiator) { i.patience = d } }

// New makes the initiator of the host with this tag (block.HostTag) for the
// LUNs of t.
func New(hostTag string, t Target, opts ...Option) *Initiator {
	i := &Initiator{hostTag: hostTag, target: t, blockSize: 512, parallel: 4, patience: 5 * time.Second,
		dev: "/dev", rescans: make(chan struct{}, 1)}
	for _, o := range opts {
		o(i)
	}
	return i
}

// Name is "loop".
func (i *Initiator) Name() string { return "loop" }

const attachOp = "attach LUN"

// Rescan implements attach.Initiator. A LUN without a 16-byte NAA identifier
// is not the array's and gives E_INVALIDARG.
func (i *Initiator) Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error) {
	select {
	case i.rescans <- struct{}{}:
		defer func() { i.changed(); <-i.rescans }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	wanted, named := attach.Named(attachOp, luns)
	errs := []error{named}
	if len(wanted) == 0 {
		return nil, named
	}
	here, err := i.attached(ctx)
	if err != nil {
		return nil, vss.Join("", append(errs, err)...)
	}
	var devices []block.Device
	var missing []lun.NAA
	for _, naa := range wanted {
		if dev, ok := here[naa]; ok {
			devices = append(devices, dev)
		} else {
			missing = append(missing, naa)
		}
	}
	if len(missing) > 0 {
		came, err := i.attachAll(ctx, missing)
		devices = append(devices, came...)
		errs = append(errs, err)
	}
	return devices, vss.Join("", errs...)
}

// attached finds this host's LUNs among the machine's loop devices. One that
// is being detached does not count.
func (i *Initiator) attached(ctx context.Context) (map[lun.NAA]block.Device, error) {
	if here := i.looked(ctx); here != nil {
		return here, nil
	}
	return i.enumerate(ctx)
}

func (i *Initiator) enumerate(ctx context.Context) (map[lun.NAA]block.Device, error) {
	all, err := block.Own(ctx, i.hostTag)
	if err != nil {
		return nil, err
	}
	here := make(map[lun.NAA]block.Device)
	for _, dev := range all {
		if !dev.Going() {
			here[dev.Loop.NAA] = dev
		}
	}
	return here, nil
}

// attachAll asks the array for LUNs and attaches what it gives.
func (i *Initiator) attachAll(ctx context.Context, naas []lun.NAA) ([]block.Device, error) {
	opened, openErr := i.target.OpenLUNs(ctx, naas)
	asked := make(map[lun.NAA]bool, len(naas))
	for _, naa := range naas {
		asked[naa] = true
	}
	devices := make([]block.Device, len(opened))
	errs := make([]error, len(opened))
	var group errgroup.Group
	group.SetLimit(i.parallel)
	for n, o := range opened {
		if !asked[o.NAA] {
			unix.Close(o.FD)
			errs[n] = &vss.Error{Code: vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, Op: attachOp, Object: o.NAA.String(),
				Reason: "the array opened a LUN that was not asked for, or opened it twice", Remedy: "Report this to the array's maker"}
			continue
		}
		delete(asked, o.NAA)
		group.Go(func() error {
			defer unix.Close(o.FD) // the driver has its own reference
			devices[n], errs[n] = i.attachOne(ctx, o)
			return nil
		})
	}
	_ = group.Wait()

	var came []block.Device
	var failed []lun.NAA
	all := []error{openErr}
	for n := range opened {
		if errs[n] == nil {
			came = append(came, devices[n])
			continue
		}
		failed = append(failed, opened[n].NAA)
		all = append(all, errs[n])
	}
	if openErr == nil {
		for naa := range asked {
			all = append(all, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: attachOp, Object: naa.String(),
				Reason: "the array did not open the LUN", Remedy: "Unmask the LUN to this host, see umbra array mask"})
		}
	}
	if len(failed) > 0 {
		// What is not attached is not open; with a context of its own, because
		// the caller's may be what ended.
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		all = append(all, i.target.CloseLUNs(tidy, failed))
	}
	return came, vss.Join("", all...)
}

func (i *Initiator) attachOne(ctx context.Context, o Opened) (block.Device, error) {
	var st unix.Stat_t
	if err := unix.Fstat(o.FD, &st); err != nil {
		return block.Device{}, attachError(o.NAA, "the array's descriptor is not a file", err)
	}
	// A descriptor is a number; make sure it is the file that was meant.
	if st.Dev != o.Dev || st.Ino != o.Ino {
		return block.Device{}, attachError(o.NAA, fmt.Sprintf("the array's descriptor is inode %d, it said %d", st.Ino, o.Ino), nil)
	}
	number, err := i.configure(ctx, o)
	if err != nil {
		return block.Device{}, err
	}
	err = fpAfterConfigure.Hit(ctx)
	var dev block.Device
	if err == nil {
		dev, err = block.Inspect(ctx, fmt.Sprintf("7:%d", number))
	}
	if err == nil {
		err = i.check(dev, o)
	}
	if err != nil {
		clearLoop(i.dev.node(number), i.hostTag, o.NAA)
		return block.Device{}, err
	}
	return dev, nil
}

// check compares what appeared with what was attached.
func (i *Initiator) check(dev block.Device, o Opened) error {
	switch {
	case dev.Loop == nil || dev.Loop.HostTag != i.hostTag || dev.Loop.NAA != o.NAA || dev.Loop.Dev != o.Dev || dev.Loop.Ino != o.Ino:
		return attachError(o.NAA, "another program took "+dev.Path+" meanwhile", nil)
	case dev.Size != o.Size:
		return attachError(o.NAA, fmt.Sprintf("the device has %d bytes, the LUN %d", dev.Size, o.Size), nil)
	case o.ReadOnly && !dev.ReadOnly:
		return attachError(o.NAA, "the device is writable, the LUN is not", nil)
	}
	return nil
}

func attachError(naa lun.NAA, reason string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: attachOp, Object: naa.String(), Reason: reason, Err: err,
		Remedy: "Try again; if it stays, look at the kernel log and the array's log"}
}
