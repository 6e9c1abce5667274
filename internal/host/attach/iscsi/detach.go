package iscsi

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const detachOp = "detach LUN"

// Detach implements attach.Initiator, in the order that loses nothing: claim the
// disks, flush them, have the kernel forget them, then tell the array, which takes
// the LUN away from this host. Data written to it is with the array when Detach
// returns without error. All paths go, and before them the map of them.
func (i *Initiator) Detach(ctx context.Context, dev block.Device) error {
	end, err := i.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	naa, ok := dev.LUN.NAA()
	if !ok {
		return notOurs(dev)
	}
	places := i.places(naa)
	devices := i.devicesAt(ctx, places)
	if !i.attached(dev, naa, devices) {
		return i.closeGone(ctx, naa)
	}
	if err := i.takeApart(ctx, devices); err != nil {
		return err
	}
	release, err := i.claim(ctx, dev, places)
	if err != nil {
		return err
	}
	// Claimed until they are gone: nobody mounts one in between.
	err = i.removeAll(ctx, dev, places)
	release()
	if err != nil {
		return err
	}
	for _, p := range places {
		if err := i.awaitGone(ctx, dev, p); err != nil {
			return err
		}
	}
	if err := fpAfterRemove.Hit(ctx); err != nil {
		return err
	}
	return i.closeGone(ctx, naa)
}

// takeApart flushes the map of a LUN's paths and has it taken apart. It cannot be
// claimed meanwhile: whoever begins to use it makes multipathd refuse.
func (i *Initiator) takeApart(ctx context.Context, devices []block.Device) error {
	for _, d := range devices {
		if !d.Multipath {
			continue
		}
		release, err := i.flush(ctx, d)
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			continue
		}
		if err != nil {
			return err
		}
		release()
		if err := i.maps.flush(ctx, i.sys.attr("class/block", d.Name, "dm/name")); err != nil && i.sys.attr("class/block", d.Name, "dm/name") != "" {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: detachOp, Object: d.Path, Reason: "multipathd does not take the map of its paths apart", Remedy: "End what uses it (see dmsetup ls --tree), and detach again", Err: err}
		}
	}
	return nil
}

// claim claims and flushes the disks at some places. Of those whose session is
// down only the recorded one is asked: nothing was written through the others, and
// each would answer late.
func (i *Initiator) claim(ctx context.Context, dev block.Device, places []string) (release func(), err error) {
	var held []func()
	release = func() {
		for _, r := range held {
			r()
		}
	}
	for _, p := range places {
		d, err := i.inspect(ctx, i.sys.disk(p))
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			continue // it has none, or none any more
		}
		if err == nil && d.Name != dev.Name && !i.running(p) {
			if i.inUse(d) {
				err = &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: detachOp, Object: d.Path, Reason: "this path to the LUN is in use", Remedy: "Unmount it, and detach again"}
			}
		} else if err == nil {
			var r func()
			if r, err = i.flush(ctx, d); err == nil {
				held = append(held, r)
			} else if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
				err = nil
			}
		}
		if err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// running reports whether the kernel sends commands to the device at a place.
func (i *Initiator) running(place string) bool {
	state := i.sys.attr(scsiDevices, place, "device/state")
	return state == "" || state == "running"
}

func (i *Initiator) removeAll(ctx context.Context, dev block.Device, places []string) error {
	for _, p := range places {
		if err := i.sys.remove(ctx, p); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return notRemoved(dev, err)
		}
	}
	return nil
}

func (i *Initiator) awaitGone(ctx context.Context, dev block.Device, place string) error {
	deadline := time.Now().Add(i.patience)
	for pause := time.Millisecond; i.sys.has(place) || i.sys.disk(place) != ""; pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: detachOp, Object: dev.Path, Reason: "the kernel has not let go of it yet", Remedy: "End the programs that use the disk, and detach again"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}

// closeGone tells the array that the LUN is closed here, unless it is here after
// all, and ends the session if that was its last disk.
func (i *Initiator) closeGone(ctx context.Context, naa lun.NAA) error {
	if i.present(naa) {
		return nil
	}
	delete(i.known, naa)
	if err := i.target.CloseLUNs(ctx, []lun.NAA{naa}); err != nil {
		return err
	}
	if err := fpAfterClose.Hit(ctx); err != nil {
		return err
	}
	i.leave(ctx, i.credentials.Target)
	return nil
}

// flush claims the disk and writes what the kernel holds back. The disk stays
// claimed until release.
func flush(ctx context.Context, dev block.Device) (release func(), err error) {
	type outcome struct {
		f   *os.File
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		// Opening asks the disk whether it is there: that, too, may take until a
		// session has timed out.
		f, err := block.Open(ctx, dev, unix.O_RDONLY|unix.O_EXCL)
		if err == nil {
			if err = unix.Fsync(int(f.Fd())); err == nil {
				err = unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0)
			}
			if err != nil {
				f.Close()
				err = &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: detachOp, Object: dev.Path, Reason: "what was written to the disk cannot be flushed to the array", Remedy: "Check the network to the array, and detach again", Err: err}
			}
		}
		done <- outcome{f, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.err
		}
		return func() { o.f.Close() }, nil
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil {
				o.f.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// Abandon implements attach.Initiator. A SCSI disk does not wait for its last
// user: those who use it get errors from now on, and what it holds back is lost.
func (i *Initiator) Abandon(ctx context.Context, dev block.Device) error {
	end, err := i.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	naa, ok := dev.LUN.NAA()
	if !ok {
		return notOurs(dev)
	}
	places := i.places(naa)
	devices := i.devicesAt(ctx, places)
	if !i.attached(dev, naa, devices) {
		return i.closeGone(ctx, naa)
	}
	for _, d := range devices {
		if d.Multipath { // else its users wait for a path for good
			if err := i.maps.fail(ctx, i.sys.attr("class/block", d.Name, "dm/name")); err != nil {
				return notRemoved(d, err)
			}
		}
	}
	if err := i.removeAll(ctx, dev, places); err != nil {
		return err
	}
	return i.closeGone(ctx, naa)
}

func notOurs(dev block.Device) error {
	return &vss.Error{Code: vss.E_INVALIDARG, Op: detachOp, Object: dev.Path, Reason: "it is no LUN of the array", Remedy: "Detach it with the system's own tools"}
}

func notRemoved(dev block.Device, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: detachOp, Object: dev.Path, Reason: "the kernel does not remove the disk", Remedy: "See the kernel log", Err: err}
}
