package freeze

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// thawUnmounted thaws a filesystem that no mount of this namespace shows: its
// superblock lives on, because it is frozen, or is mounted elsewhere. Mounting
// the device again gives that same superblock.
//
// The mounts are never attached anywhere: no path appears, nobody can enter,
// and they end with their descriptors.
func thawUnmounted(held HeldFilesystem) (RecoveryAction, error) {
	if len(held.Devices) == 0 {
		return RecoveryFailed, errors.New("no device of it is known")
	}
	nodes, err := detachedMount("tmpfs", "", 0)
	if err != nil {
		return RecoveryFailed, fmt.Errorf("a private folder for its device node: %w", err)
	}
	defer unix.Close(nodes)
	folder := "/proc/self/fd/" + strconv.Itoa(nodes)
	for i, d := range held.Devices {
		name := "device" + strconv.Itoa(i)
		if err := unix.Mknodat(nodes, name, unix.S_IFBLK|0o600, int(unix.Mkdev(d.Major, d.Minor))); err != nil {
			return RecoveryFailed, fmt.Errorf("a device node: %w", err)
		}
		used, err := inUse(folder + "/" + name)
		if err != nil {
			return RecoveryFailed, fmt.Errorf("device %d:%d: %w", d.Major, d.Minor, err)
		}
		if !used {
			return RecoveryNotFrozen, nil // no superblock: a frozen one keeps the device
		}
	}
	node := folder + "/device0"
	if held.FSType == "btrfs" {
		// btrfs remembers the name it was last mounted by; leave it a true one.
		if name := devName(held.Devices[0]); name != "" {
			node = name
		}
	}
	mnt, err := detachedMount(held.FSType, node, 0)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		mnt, err = detachedMount(held.FSType, node, unix.MOUNT_ATTR_RDONLY) // as it was mounted before
	}
	if err != nil {
		return RecoveryFailed, fmt.Errorf("mounting it again: %w", err)
	}
	defer unix.Close(mnt)
	root, err := unix.Openat(mnt, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return RecoveryFailed, err
	}
	defer unix.Close(root)
	switch errno := thawFD(root); errno {
	case 0:
		return RecoveryRemounted, nil
	case unix.EINVAL:
		return RecoveryNotFrozen, nil
	default:
		return RecoveryFailed, errno
	}
}

// detachedMount mounts a filesystem without attaching it.
func detachedMount(fsType, source string, attr int) (int, error) {
	ctx, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(ctx)
	if source != "" {
		if err := unix.FsconfigSetString(ctx, "source", source); err != nil {
			return -1, err
		}
	}
	if attr&unix.MOUNT_ATTR_RDONLY != 0 {
		if err := unix.FsconfigSetFlag(ctx, "ro"); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, err
	}
	return unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attr)
}

// inUse asks whether a superblock (or another owner) has the device, without
// reading it.
func inUse(node string) (bool, error) {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	_ = unix.Close(fd)
	return false, nil
}

// devName is the node the kernel made for a device, if it is there and right.
func devName(d HeldDevice) string {
	f, err := os.Open("/sys/dev/block/" + DeviceNumber{d.Major, d.Minor}.String() + "/uevent")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, ok := strings.CutPrefix(s.Text(), "DEVNAME=")
		if !ok {
			continue
		}
		var st unix.Stat_t
		if unix.Stat("/dev/"+name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && uint64(st.Rdev) == unix.Mkdev(d.Major, d.Minor) {
			return "/dev/" + name
		}
	}
	return ""
}
