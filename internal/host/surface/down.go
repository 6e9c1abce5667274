package surface

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/vss"
)

const downOp = "take down volume"

// TakeDown removes a device that Surface made. It is idempotent: what is gone,
// or is another device by now, is left alone and no error. What is a LUN or its
// partition stays until the LUN goes. A device in use is VSS_E_VOLUME_IN_USE
// and stays usable; with lazily it goes with its last user, and is not waited
// for.
func (s *Surfacer) TakeDown(ctx context.Context, d Device, lazily bool) error {
	var err error
	switch d.Kind {
	case Loop:
		err = s.dropLoop(ctx, d.Device, lazily)
	case Mapped:
		err = s.dropMapped(ctx, d.Device, lazily)
	}
	if err == nil {
		err = fpAfterTake.Hit(ctx)
	}
	return err
}

// Clear takes down everything of this host's that stands on a LUN which is to
// go, whoever it was made for. Errors are those of TakeDown.
func (s *Surfacer) Clear(ctx context.Context, l block.Device, lazily bool) error {
	if err := s.clearMapped(ctx, l, lazily); err != nil {
		return err
	}
	loops, err := s.loopsOver(ctx, l)
	if err != nil {
		return err
	}
	for _, d := range loops {
		if err := s.clearMapped(ctx, d, lazily); err != nil {
			return err
		}
		if err := s.TakeDown(ctx, Device{d, Loop}, lazily); err != nil {
			return err
		}
	}
	return dropPartitions(ctx, l, lazily)
}

// dropLoop detaches a loop device, if it still is the one that was recorded.
func (s *Surfacer) dropLoop(ctx context.Context, d block.Device, lazily bool) error {
	if here, err := block.Attached(d); err != nil || !here {
		return err
	}
	flags := unix.O_RDONLY
	if !lazily {
		// The kernel would say yes although it is mounted, and let go later.
		flags |= unix.O_EXCL
	}
	f, err := block.Open(ctx, d, flags)
	if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		return nil
	}
	if err != nil {
		return err
	}
	ours, err := s.clearLoop(f, d)
	f.Close()
	if err != nil || !ours || lazily {
		return err
	}
	return awaitGone(ctx, d)
}

// clearLoop tells the driver to let go of a device, if this host made it.
func (s *Surfacer) clearLoop(f *os.File, d block.Device) (ours bool, err error) {
	st, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if errors.Is(err, unix.ENXIO) || err == nil && unix.ByteSliceToString(st.File_name[:]) != s.loopName() {
		return false, nil
	}
	if err == nil {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.LOOP_CLR_FD, 0)
		if errno == 0 || errno == unix.ENXIO {
			return true, nil
		}
		err = errno
	}
	return true, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: downOp, Object: d.Path, Reason: "the loop driver refused", Remedy: "See the kernel log", Err: err}
}

// awaitGone waits for the end of a detached loop device; udev looks at it for
// some milliseconds.
func awaitGone(ctx context.Context, d block.Device) error {
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		here, err := block.Attached(d)
		if err != nil || !here {
			return err
		}
		if time.Now().After(deadline) {
			return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: downOp, Object: d.Path,
				Reason: "a program still has the device open; it goes when that closes it", Remedy: "End the program that reads the device, and try again"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
