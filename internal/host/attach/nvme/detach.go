package nvme

import (
	"context"
	"errors"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const detachOp = "detach LUN"

// Detach implements attach.Initiator, in the order that loses nothing: claim the
// disk, flush it, have the array take it away from this host. Data written to
// the disk is with the array when Detach returns without error.
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
	if !i.here(dev, naa) {
		return i.closeGone(ctx, naa)
	}
	release, err := i.flush(ctx, dev)
	switch {
	case errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND):
		return i.closeGone(ctx, naa)
	case err != nil:
		return err
	}
	// Claimed until it is gone: nobody mounts it in between.
	defer release()
	if err := i.target.CloseLUNs(ctx, []lun.NAA{naa}); err != nil {
		return err
	}
	if err := fpAfterClose.Hit(ctx); err != nil {
		return err
	}
	if err := i.awaitGone(ctx, dev, naa); err != nil {
		return err
	}
	if err := fpAfterGone.Hit(ctx); err != nil {
		return err
	}
	i.leave(ctx)
	return nil
}

// here reports whether a recorded disk is what it was: its name can be
// another's by now.
func (i *Initiator) here(dev block.Device, naa lun.NAA) bool {
	for _, d := range i.sys.disks(i.credentials.Target) {
		if d.name == dev.Name && d.known && d.lun == naa {
			seq := i.sys.attr("class/block", dev.Name, "diskseq")
			return seq == "" || dev.DiskSeq == 0 || seq == strconv.FormatUint(dev.DiskSeq, 10)
		}
	}
	return false
}

func (i *Initiator) awaitGone(ctx context.Context, dev block.Device, naa lun.NAA) error {
	begin, told, ended := time.Now(), time.Now(), false
	for step := time.Millisecond; i.here(dev, naa); step = min(2*step, 100*time.Millisecond) {
		if time.Since(begin) > i.patience {
			// A connection that is down hears nothing. If nothing else is on it, it is
			// of no use any more.
			if !ended && len(i.sys.disks(i.credentials.Target)) == 1 {
				i.end(ctx)
				begin, ended = time.Now(), true
				continue
			}
			return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: detachOp, Object: dev.Path, Reason: "the array has taken the LUN away, and the kernel still has a disk of it", Remedy: "See the kernel log"}
		}
		if time.Since(told) > nudge {
			told = time.Now()
			i.nudge(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(step):
		}
	}
	return nil
}

// closeGone tells the array that the LUN is closed here, unless it is here after
// all, and ends the connection if that was its last disk.
func (i *Initiator) closeGone(ctx context.Context, naa lun.NAA) error {
	if i.Present(naa) {
		return nil
	}
	if err := i.target.CloseLUNs(ctx, []lun.NAA{naa}); err != nil {
		return err
	}
	i.leave(ctx)
	return nil
}

// flush claims the disk and writes what the kernel holds back. The disk stays
// claimed until release.
func flush(ctx context.Context, dev block.Device) (release func(), err error) {
	f, err := block.Open(ctx, dev, unix.O_RDONLY|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		err := unix.Fsync(int(f.Fd()))
		if err == nil {
			err = unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0)
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			f.Close()
			return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: detachOp, Object: dev.Path, Reason: "what was written to the disk cannot be flushed to the array", Remedy: "Check the network to the array, and detach again", Err: err}
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { <-done; f.Close() }()
		return nil, ctx.Err()
	}
}

// Abandon implements attach.Initiator. A namespace does not wait for its last
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
	if !i.here(dev, naa) {
		return i.closeGone(ctx, naa)
	}
	if err := i.target.CloseLUNs(ctx, []lun.NAA{naa}); err != nil {
		return err
	}
	if err := i.awaitGone(ctx, dev, naa); err != nil {
		return err
	}
	i.leave(ctx)
	return nil
}

func notOurs(dev block.Device) error {
	return &vss.Error{Code: vss.E_INVALIDARG, Op: detachOp, Object: dev.Path, Reason: "it is no LUN of the array", Remedy: "Detach it with the system's own tools"}
}
