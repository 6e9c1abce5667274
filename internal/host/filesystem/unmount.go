package filesystem

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints: the kernel has done it, and nobody has been told.
var (
	fpAfterMount   = failpoint.New("host.mount.after-mount")
	fpAfterUnmount = failpoint.New("host.mount.after-unmount")
)

// Unmount takes away what MountClone mounted at target. It is idempotent:
// nothing mounted there is nil. It is not lazy, so that after it the device has
// no user here.
//
// Errors: VSS_E_OBJECT_NOT_FOUND if something else than expect's filesystem is
// mounted there, which is left alone; VSS_E_VOLUME_IN_USE, with the processes
// that use it as far as they can be seen.
func Unmount(ctx context.Context, target string, expect block.Device) error {
	return unmount(ctx, target, expect, 0)
}

// UnmountLazily is Unmount of a mount that is in use: its users keep what they
// have open, nobody finds it any more, and the filesystem goes with its last
// user.
func UnmountLazily(ctx context.Context, target string, expect block.Device) error {
	return unmount(ctx, target, expect, unix.MNT_DETACH)
}

func unmount(ctx context.Context, target string, expect block.Device, flags int) error {
	const op = "unmount shadow copy"
	if err := ctx.Err(); err != nil {
		return err
	}
	target = filepath.Clean(target)
	mounted, err := isMounted(target)
	if err != nil {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: target,
			Reason: "the mount table cannot be read", Remedy: "Mount proc at /proc", Err: err}
	}
	if !mounted {
		return nil
	}
	have, err := bounded(ctx, "looking at the mount", target, func() (uint64, error) {
		fd, err := unix.Open(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return 0, openingError{err}
		}
		defer unix.Close(fd) // it would keep the mount busy
		return deviceBelow(fd)
	})
	if late := (underway.Late{}); errors.As(err, &late) {
		return hangs(ctx, op, target, late)
	}
	if errors.As(err, new(openingError)) {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: target,
			Reason: "the mount point cannot be opened", Remedy: "See the kernel log", Err: err}
	}
	if err != nil { // not "something else": that would read as if the copy were gone
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: target, Err: err,
			Reason: "what is mounted here does not say what it is", Remedy: "Unmount by hand what lies over the copy, and try again"}
	}
	if have != expect.Dev() {
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: target,
			Reason: fmt.Sprintf("device %d:%d is mounted here, not %s", unix.Major(have), unix.Minor(have), expect.Path),
			Remedy: "Unmount by hand what is mounted there if it is not needed"}
	}
	_, err = bounded(ctx, "umount", target, func() (struct{}, error) { return struct{}{}, unix.Unmount(target, unix.UMOUNT_NOFOLLOW|flags) })
	if late := (underway.Late{}); errors.As(err, &late) {
		return hangs(ctx, op, target, late) // the kernel goes on; asking again is safe
	}
	switch {
	case err == nil:
		forgetBtrfs(expect.Path)
		return fpAfterUnmount.Hit(ctx)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return nil // somebody else was faster
	case errors.Is(err, unix.EBUSY):
		reason := "the mount is in use"
		if who := users(ctx, target); who != "" {
			reason += " by " + who
		}
		return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: op, Object: target, Reason: reason, Err: err,
			Remedy: "End the processes that use the copy, or leave its folders, and try again"}
	}
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: target, Reason: "the kernel refused", Remedy: "See the kernel log", Err: err}
}

func isMounted(path string) (bool, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	return len(mounts) > 0, err
}

// kernelTime bounds what the kernel does for a mount: it waits for the storage
// below as long as that does not answer.
const kernelTime = time.Minute

func bounded[T any](ctx context.Context, what, target string, f func() (T, error)) (T, error) {
	return underway.Do(ctx, kernelTime, underway.Wait{Kind: underway.Mount, What: what, Object: target}, f, nil)
}

type openingError struct{ error }

// hangs is the error of what the kernel did not do in time; a caller that gave up
// hears its own reason.
func hangs(ctx context.Context, op, target string, late underway.Late) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: target, Reason: late.Error() + ": the storage below does not answer",
		Remedy: "Run `umbra doctor`; when the storage answers again, try again", Err: late}
}

// TakeDown is umount(2) of whatever is mounted at a path, for who wants no more
// said of it than whether it worked.
func TakeDown(ctx context.Context, target string, flags int) error {
	_, err := bounded(context.WithoutCancel(ctx), "umount", target, func() (struct{}, error) { return struct{}{}, unix.Unmount(target, unix.UMOUNT_NOFOLLOW|flags) })
	return err
}
