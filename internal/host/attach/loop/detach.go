package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints: a LUN is a device, or no longer one, and nobody has been told.
var (
	fpAfterConfigure = failpoint.New("host.loop.after-configure")
	fpAfterClear     = failpoint.New("host.loop.after-clear")
)

const detachOp = "detach LUN"

// Detach implements attach.Initiator. What counts is what the device says now,
// so a record without its loop details will do. A device that this host did not
// attach is E_INVALIDARG. Data written to the device is in the LUN's file when
// Detach returns without error.
func (i *Initiator) Detach(ctx context.Context, dev block.Device) error {
	// Exclusively: with a mount or anything built on it the kernel would say
	// yes and detach some time later.
	return i.letGo(ctx, dev, unix.O_EXCL, i.awaitGone)
}

// Abandon implements attach.Initiator: the driver lets the device go with its
// last user. A LUN that is exported read-only stays so for them, by its
// descriptor.
func (i *Initiator) Abandon(ctx context.Context, dev block.Device) error {
	return i.letGo(ctx, dev, 0, func(context.Context, block.Device) error { return nil })
}

// letGo clears a device that is opened with flags, and waits as told.
func (i *Initiator) letGo(ctx context.Context, dev block.Device, flags int, wait func(context.Context, block.Device) error) error {
	i.changed()
	defer i.changed()
	// What has another number by now is somebody else's, and is not even opened:
	// while we had it exclusively its owner could not mount it.
	if here, err := block.Attached(dev); err == nil && !here {
		return i.closeGone(ctx, dev)
	}
	f, err := block.Open(ctx, dev, unix.O_RDONLY|flags)
	switch {
	case errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND):
		return i.closeGone(ctx, dev)
	case err != nil:
		return err
	}
	now, err := i.ours(ctx, dev)
	if err != nil {
		f.Close()
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			return i.closeGone(ctx, dev)
		}
		return err
	}
	if err := i.clear(ctx, f, now); err != nil {
		return err
	}
	if err := fpAfterClear.Hit(ctx); err != nil {
		return err
	}
	if err := wait(ctx, now); err != nil {
		return err
	}
	return i.closeGone(ctx, now)
}

// ours is the device as it is now, if this host attached it.
func (i *Initiator) ours(ctx context.Context, dev block.Device) (block.Device, error) {
	now, err := block.Inspect(ctx, fmt.Sprintf("%d:%d", dev.Major, dev.Minor))
	if err == nil && (now.Loop == nil || now.Loop.HostTag != i.hostTag) {
		err = &vss.Error{Code: vss.E_INVALIDARG, Op: detachOp, Object: dev.Path,
			Reason: "this host did not attach the device", Remedy: "Detach it where it was attached"}
	}
	return now, err
}

// clear flushes the device and tells the driver to let go; it closes f.
func (i *Initiator) clear(ctx context.Context, f *os.File, dev block.Device) error {
	done := make(chan error, 1)
	gone := underway.Begin(ctx, underway.Wait{Kind: underway.Device, What: "detaching", Object: dev.Path})
	go func() {
		defer gone()
		defer f.Close()
		if !dev.ReadOnly {
			// The last close flushes too, but keeps the error to itself.
			if err := unix.Fsync(int(f.Fd())); err != nil {
				done <- fmt.Errorf("flush: %w", err)
				return
			}
		}
		if ctx.Err() != nil {
			done <- ctx.Err()
			return
		}
		// The host's flag would outlive the attachment and meet whoever gets
		// the device next. The descriptor still keeps the LUN read-only.
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 0); err != nil {
			done <- fmt.Errorf("clear the read-only flag: %w", err)
			return
		}
		_, err := ctl(int(f.Fd()), unix.LOOP_CLR_FD, 0)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, unix.ENXIO) && ctx.Err() == nil {
			return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: detachOp, Object: dev.Path,
				Reason: "the loop driver refused", Remedy: "See the kernel log", Err: err}
		}
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitGone waits until the attachment has ended. Who has the device open
// keeps it: udev looking at it for milliseconds, or a reader for hours.
func (i *Initiator) awaitGone(ctx context.Context, dev block.Device) error {
	deadline := time.Now().Add(i.patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		// Not by opening it: an opener is one more user.
		now, err := block.Attached(dev)
		if err != nil {
			return err
		}
		if !now {
			return nil
		}
		if time.Now().After(deadline) {
			return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: detachOp, Object: dev.Path,
				Reason: "a program still has the device open; it goes when that closes it",
				Remedy: "End the program that reads the device, and detach again"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// closeGone tells the array that the LUN is closed here, unless the LUN has
// been attached anew meanwhile.
func (i *Initiator) closeGone(ctx context.Context, dev block.Device) error {
	naa, ok := dev.LUN.NAA()
	if dev.Loop != nil && dev.Loop.HostTag != "" {
		naa, ok = dev.Loop.NAA, dev.Loop.HostTag == i.hostTag
	}
	if !ok {
		return nil // whatever it was, it was none of ours
	}
	here, err := i.enumerate(ctx)
	if err != nil {
		return err
	}
	if _, again := here[naa]; again {
		return nil
	}
	return i.target.CloseLUNs(ctx, []lun.NAA{naa})
}
