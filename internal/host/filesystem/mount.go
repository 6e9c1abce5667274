package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// CloneMount says which copy to mount and where.
type CloneMount struct {
	Device   block.Device // the copy's block device, as recorded at import
	Identity Identity     // what must be on it: type, UUID and for btrfs device UUID; not asked if empty
	Target   string       // an existing folder, absolute

	// Quiesced says that the copy was taken while its filesystem was frozen, so
	// that nothing waits in its journal. Only then may the journal be ignored.
	Quiesced bool

	// Log and Realtime are the copies of the other devices of an XFS volume
	// that has them.
	Log, Realtime *block.Device
}

const mountOp = "mount shadow copy"

// MountClone mounts a copy read-only, nodev and nosuid, beside its mounted
// original if need be, as a private mount. noexec is left out on purpose:
// people run the database's own tools from a copy to check it.
//
// The device is held open from its verification until the mount is verified,
// so that no other disk can take its place in between. If ctx ends first, no
// mount appears.
//
// Errors: VSS_E_OBJECT_NOT_FOUND if the device was replaced, E_INVALIDARG for
// a bad target, VSS_E_VOLUME_NOT_SUPPORTED if this copy cannot be mounted
// unchanged here (its block device is still good), VSS_E_MISSING_VOLUME if
// the device holds another filesystem than Identity says or the kernel took
// another device; no mount is left then.
func MountClone(ctx context.Context, m CloneMount) error {
	target, err := unix.Open(m.Target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: mountOp, Object: m.Target,
			Reason: "the target is not a folder", Remedy: "Make the folder first", Err: err}
	}
	defer unix.Close(target)

	for _, dev := range m.devices() {
		hold, err := block.Open(ctx, dev, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer hold.Close()
	}
	found, err := Probe(ctx, m.Device.Path)
	if err != nil {
		return err
	}
	if want := m.Identity; want.Type != "" && !want.Same(found) {
		return &vss.Error{Code: vss.VSS_E_MISSING_VOLUME, Op: mountOp, Object: m.Device.Path,
			Reason: fmt.Sprintf("it holds %s %s, the copy is %s %s", found.Type, found.UUID, want.Type, want.UUID),
			Remedy: "Look at umbra list luns for the LUN that has the copy"}
	}
	if m.Device.Size != 0 && found.DeviceSize > m.Device.Size {
		return &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: mountOp, Object: m.Device.Path,
			Reason: fmt.Sprintf("the copy is cut short: its filesystem has %d bytes, the device %d", found.DeviceSize, m.Device.Size),
			Remedy: "Take the shadow copy again"}
	}
	m.Identity = found
	options, err := m.options()
	if err != nil {
		return err
	}
	// Reading a superblock may block for as long as the storage does.
	fd, err := underway.Do(ctx, kernelTime, underway.Wait{Kind: underway.Mount, What: "mount of " + m.Device.Path, Object: m.Target}, func() (int, error) {
		fd, err := m.detached(options)
		if err == nil {
			if err = verifyMounted(fd, m.Device); err != nil {
				unix.Close(fd)
			}
		}
		return fd, err
	}, func(fd int) { unix.Close(fd) }) // a detached mount goes with its last descriptor
	if late := (underway.Late{}); errors.As(err, &late) {
		return hangs(ctx, mountOp, m.Target, late)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return m.failed("the mount cannot be attached to "+m.Target, err)
	}
	if err := fpAfterMount.Hit(ctx); err != nil {
		_ = TakeDown(ctx, m.Target, 0)
		return m.failed("injected", err)
	}
	// On a shared parent the mount has become shared: what is mounted below a
	// copy, and the copy's end, are nobody else's business.
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		_ = TakeDown(ctx, m.Target, 0)
		return m.failed("the mount cannot be made private", err)
	}
	return nil
}

// devices are all block devices that the mount will use.
func (m CloneMount) devices() []block.Device {
	all := []block.Device{m.Device}
	for _, d := range []*block.Device{m.Log, m.Realtime} {
		if d != nil {
			all = append(all, *d)
		}
	}
	return all
}

// detached makes a mount of the copy that is attached to nothing and returns
// its descriptor.
func (m CloneMount) detached(options []option) (int, error) {
	fs, err := unix.Fsopen(m.Identity.Driver(), unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return -1, &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: mountOp, Object: m.Device.Path,
			Reason: "this kernel has no " + m.Identity.Driver(), Err: err,
			Remedy: "Load the filesystem's module, or import on a machine that has it; the block node can be read here"}
	}
	if err != nil {
		return -1, m.failed("the kernel refused to begin", err)
	}
	defer unix.Close(fs)
	for _, o := range append([]option{{"source", m.Device.Path}, {"ro", ""}}, options...) {
		if o.value == "" {
			err = unix.FsconfigSetFlag(fs, o.key)
		} else {
			err = unix.FsconfigSetString(fs, o.key, o.value)
		}
		if err != nil {
			return -1, m.refused(o.key, fs, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, m.refused("", fs, err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return -1, m.refused("", fs, err)
	}
	return mnt, nil
}

// refused explains a mount that the kernel did not make.
func (m CloneMount) refused(option string, fs int, err error) error {
	said := kernelMessages(fs)
	reason := "the kernel does not mount it"
	if option != "" {
		reason = fmt.Sprintf("the kernel does not take the mount option %q", option)
	}
	if said != "" {
		reason += ": " + said
	}
	e := &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: mountOp, Object: m.Device.Path, Reason: reason, Err: err,
		Remedy: useNode + "; the kernel log says more"}
	if m.Identity.Type == TypeBtrfs && errors.Is(err, unix.EEXIST) {
		e.Reason = "its original is mounted, and this kernel cannot mount two btrfs filesystems of one identity"
		e.Remedy = useNode + ", unmount the original, or import on another machine"
	}
	return e
}

const useNode = "Use the block node of the copy"

func (m CloneMount) failed(reason string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: mountOp, Object: m.Device.Path, Reason: reason, Err: err,
		Remedy: "See the kernel log"}
}

// kernelMessages reads what the filesystem wrote into its context; one message
// a read, each with a severity letter before it.
func kernelMessages(fs int) string {
	buf := make([]byte, 1024)
	var all string
	for range 8 {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			break
		}
		msg := string(buf[:n])
		if len(msg) > 2 && msg[1] == ' ' {
			msg = msg[2:]
		}
		if all != "" {
			all += "; "
		}
		all += msg
	}
	return all
}

// verifyMounted compares the device below an open mount with the one wanted.
func verifyMounted(fd int, dev block.Device) error {
	have, err := deviceBelow(fd)
	if err != nil {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: mountOp, Object: dev.Path,
			Reason: "cannot tell what got mounted", Remedy: "See the kernel log", Err: err}
	}
	if have != dev.Dev() {
		return &vss.Error{Code: vss.VSS_E_MISSING_VOLUME, Op: mountOp, Object: dev.Path,
			Reason: fmt.Sprintf("the kernel mounted device %d:%d instead", unix.Major(have), unix.Minor(have)),
			Remedy: useNode + "; another filesystem with its identity is known to the kernel"}
	}
	return nil
}

// deviceBelow is the block device that an open file's filesystem lives on.
func deviceBelow(fd int) (uint64, error) {
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(fd, &sfs); err != nil {
		return 0, err
	}
	if uint32(sfs.Type) != unix.BTRFS_SUPER_MAGIC {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		return st.Dev, err
	}
	// st_dev of btrfs is made up; it has to be asked. The ioctl wants a real
	// descriptor, not a path one.
	dir, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	devs, err := BtrfsDevices(dir)
	if err != nil {
		return 0, err
	}
	if len(devs) != 1 {
		return 0, fmt.Errorf("it lives on %d devices", len(devs))
	}
	var st unix.Stat_t
	if err := unix.Stat(devs[0].Path, &st); err != nil {
		return 0, err
	}
	return st.Rdev, nil
}
