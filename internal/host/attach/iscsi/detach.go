package iscsi

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
// disk, flush it, have the kernel forget it, then tell the array, which takes it
// away from this host. Data written to the disk is with the array when Detach
// returns without error.
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
	place := i.placeOf(dev, naa)
	if place == "" {
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
	err = i.sys.remove(ctx, place)
	release()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return notRemoved(dev, err)
	}
	if err := i.awaitGone(ctx, dev, place); err != nil {
		return err
	}
	return i.closeGone(ctx, naa)
}

// placeOf finds the place of a recorded disk; "" if it is gone, or its name
// another's by now.
func (i *Initiator) placeOf(dev block.Device, naa lun.NAA) string {
	for _, s := range i.sys.sessions(i.credentials.Target, i.credentials.Initiator) {
		for _, p := range i.sys.places(s) {
			if name := i.sys.disk(p); name != "" && name == dev.Name && i.same(dev) && i.sys.is(p, naa) {
				return p
			}
		}
	}
	return ""
}

// same compares disk sequence numbers where both are known.
func (i *Initiator) same(dev block.Device) bool {
	seq := i.sys.attr("class/block", dev.Name, "diskseq")
	return seq == "" || dev.DiskSeq == 0 || seq == strconv.FormatUint(dev.DiskSeq, 10)
}

func (i *Initiator) awaitGone(ctx context.Context, dev block.Device, place string) error {
	deadline := time.Now().Add(i.patience)
	for pause := time.Millisecond; i.sys.has(place) || i.sys.disk(place) == dev.Name; pause = min(2*pause, 100*time.Millisecond) {
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
	if err := i.target.CloseLUNs(ctx, []lun.NAA{naa}); err != nil {
		return err
	}
	i.leave(ctx, i.credentials.Target)
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
	if place := i.placeOf(dev, naa); place != "" {
		if err := i.sys.remove(ctx, place); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return notRemoved(dev, err)
		}
	}
	return i.closeGone(ctx, naa)
}

func notOurs(dev block.Device) error {
	return &vss.Error{Code: vss.E_INVALIDARG, Op: detachOp, Object: dev.Path, Reason: "it is no LUN of the array", Remedy: "Detach it with the system's own tools"}
}

func notRemoved(dev block.Device, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: detachOp, Object: dev.Path, Reason: "the kernel does not remove the disk", Remedy: "See the kernel log", Err: err}
}
