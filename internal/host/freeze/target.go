package freeze

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// DeviceNumber names a block device.
type DeviceNumber struct{ Major, Minor uint32 }

// String is "major:minor", as the kernel writes it.
func (d DeviceNumber) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Target says which filesystem is meant. Dev and Ino are what stat gave for
// Path when the volume was chosen: a path alone is no identity, since a mount
// may have gone away and left the host's own filesystem under the same name.
type Target struct {
	Name    string // for messages, "/srv/db"; Path if empty
	Path    string // mount point to open
	Dev     uint64 // st_dev expected of Path
	Ino     uint64 // inode expected of Path
	MountID uint64 // statx mount ID expected, classic or unique; 0: do not compare
	// Devices are the block devices whose write counters are watched: all the
	// filesystem lies on. Empty means the one st_dev names.
	Devices []DeviceNumber
}

func (t Target) name() string {
	if t.Name != "" {
		return t.Name
	}
	return t.Path
}

// check compares an open descriptor with what was asked for.
func (t Target) check(fd int) error {
	notFound := func(reason string, err error) error {
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "open filesystem to freeze", Object: t.name(), Reason: reason,
			Remedy: "Check what is mounted at " + t.Path + " and add the volume to a new set", Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return notFound("its descriptor cannot be examined", err)
	}
	if mode := st.Mode & unix.S_IFMT; mode != unix.S_IFDIR && mode != unix.S_IFREG {
		return notFound("it is neither a directory nor a file", nil)
	}
	if uint64(st.Dev) != t.Dev {
		return notFound(fmt.Sprintf("another filesystem is there now: device %d:%d instead of %d:%d",
			unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), unix.Major(t.Dev), unix.Minor(t.Dev)), nil)
	}
	if st.Ino != t.Ino {
		return notFound(fmt.Sprintf("another directory is there now: inode %d instead of %d", st.Ino, t.Ino), nil)
	}
	if t.MountID == 0 {
		return nil
	}
	id, err := mountID(fd, t.MountID)
	if err != nil {
		return notFound("its mount ID cannot be read", err)
	}
	if id != t.MountID {
		return notFound(fmt.Sprintf("another mount is there now: ID %d instead of %d", id, t.MountID), nil)
	}
	return nil
}

// firstUniqueMountID: the kernel numbers unique mount IDs from here, so that
// they cannot be taken for classic ones.
const firstUniqueMountID = 1 << 31

// mountID reads the mount ID of a descriptor, in the kind that like is of.
func mountID(fd int, like uint64) (uint64, error) {
	mask := unix.STATX_MNT_ID
	if like >= firstUniqueMountID {
		mask = unix.STATX_MNT_ID_UNIQUE
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, mask, &st); err != nil {
		return 0, err
	}
	if st.Mask&uint32(mask) == 0 {
		return 0, unix.EOPNOTSUPP
	}
	return st.Mnt_id, nil
}
