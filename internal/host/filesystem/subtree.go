package filesystem

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/vss"
)

// Subtree is a folder of a mounted copy and where it is to appear by itself.
type Subtree struct {
	Root   string       // where the copy is mounted
	Path   string       // of the folder, from there; "" for all of it
	Target string       // an existing folder, absolute
	Device block.Device // what must be mounted at Root
}

// MountSubtree mounts a folder of a mounted copy at another place, read-only,
// nodev and nosuid, as a private mount. Links on the copy are followed as if
// its root were the machine's: none leads out of it. What is mounted at the
// target already, if it is of this device, stays as it is. Unmount undoes it.
//
// Errors: E_INVALIDARG if the copy has no such folder or the target is none,
// VSS_E_OBJECT_NOT_FOUND if something else is mounted at either.
func MountSubtree(ctx context.Context, s Subtree) error {
	const op = "mount subtree of shadow copy"
	if err := ctx.Err(); err != nil {
		return err
	}
	fail := func(code vss.HResult, object, reason, remedy string, err error) error {
		return &vss.Error{Code: code, Op: op, Object: object, Reason: reason, Remedy: remedy, Err: err}
	}
	root, err := openDir(s.Root)
	if err != nil {
		return fail(vss.VSS_E_OBJECT_NOT_FOUND, s.Root, "the copy is not mounted here", "Check umbra list copies", err)
	}
	defer unix.Close(root)
	if have, err := deviceBelow(root); err != nil || have != s.Device.Dev() {
		return fail(vss.VSS_E_OBJECT_NOT_FOUND, s.Root, "the copy is not mounted here", "Check umbra list copies", err)
	}
	target, err := openDir(s.Target)
	if err != nil {
		return fail(vss.E_INVALIDARG, s.Target, "the target is not a folder", "Make the folder first", err)
	}
	defer unix.Close(target)
	mounted, err := isMounted(s.Target)
	if err != nil {
		return fail(vss.VSS_E_UNEXPECTED, s.Target, "the mount table cannot be read", "Mount proc at /proc", err)
	}
	if mounted {
		if have, err := deviceBelow(target); err != nil || have != s.Device.Dev() {
			return fail(vss.VSS_E_OBJECT_NOT_FOUND, s.Target, fmt.Sprintf("device %d:%d is mounted here, not %s", unix.Major(have), unix.Minor(have), s.Device.Path),
				"Unmount by hand what is mounted there if it is not needed", err)
		}
		return nil
	}
	folder, err := openBeneath(root, s.Path)
	if err != nil {
		return fail(vss.E_INVALIDARG, s.Path, "the copy has no such folder", "Give the path of a folder from the copy's root, or none for the whole copy", err)
	}
	defer unix.Close(folder)
	tree, err := unix.OpenTree(folder, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fail(vss.VSS_E_UNEXPECTED, s.Path, "the kernel makes no mount of it", "See the kernel log", err)
	}
	defer unix.Close(tree)
	private := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &private); err != nil {
		return fail(vss.VSS_E_UNEXPECTED, s.Path, "the mount cannot be made read-only", "See the kernel log", err)
	}
	if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fail(vss.VSS_E_UNEXPECTED, s.Target, "the mount cannot be attached", "See the kernel log", err)
	}
	// On a shared parent it has become shared, see MountClone.
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		_ = TakeDown(ctx, s.Target, 0)
		return fail(vss.VSS_E_UNEXPECTED, s.Target, "the mount cannot be made private", "See the kernel log", err)
	}
	return nil
}

func openDir(path string) (int, error) {
	return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// openBeneath opens a folder below root; for every link on the way root is "/".
func openBeneath(root int, path string) (int, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	for range 100 {
		fd, err := unix.Openat2(root, path, &how)
		// Something on the machine was renamed while ".." of a link was
		// followed.
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}
