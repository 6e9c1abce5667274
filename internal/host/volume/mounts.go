package volume

import (
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/vss"
)

// mounts is the mount table of this thread's namespace.
type mounts []*mountinfo.Info

func readMounts(op string) (mounts, error) {
	m, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: "/proc/self/mountinfo",
			Reason: "the mount table cannot be read", Remedy: "Mount proc at /proc", Err: err}
	}
	return m, nil
}

// byID finds the mount that statx says a path is on.
func (ms mounts) byID(id uint64) *mountinfo.Info {
	for _, m := range ms {
		if uint64(m.ID) == id {
			return m
		}
	}
	return nil
}

// of lists the mounts of the superblock with this device number.
func (ms mounts) of(superDev uint64) []*mountinfo.Info {
	var out []*mountinfo.Info
	for _, m := range ms {
		if superDevOf(m) == superDev {
			out = append(out, m)
		}
	}
	return out
}

func superDevOf(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }

// superOption returns the value of an option of the superblock, "" if absent.
func superOption(m *mountinfo.Info, key string) string {
	for _, o := range strings.Split(m.VFSOptions, ",") {
		if v, ok := strings.CutPrefix(o, key+"="); ok {
			return v
		}
	}
	return ""
}

// place is where statx says a path is.
type place struct {
	mountID uint64
	dev     uint64
	ino     uint64
	mode    uint16
	rdev    uint64
}

func locate(path string) (place, error) {
	var stx unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &stx)
	return place{
		mountID: stx.Mnt_id,
		dev:     unix.Mkdev(stx.Dev_major, stx.Dev_minor),
		ino:     stx.Ino,
		mode:    stx.Mode,
		rdev:    unix.Mkdev(stx.Rdev_major, stx.Rdev_minor),
	}, err
}

// kind is how Umbra treats a filesystem type.
type kind int

const (
	supported kind = iota
	network
	virtual
	other
)

func kindOf(fstype string) kind {
	base, _, _ := strings.Cut(fstype, ".")
	switch base {
	case filesystem.TypeExt2, filesystem.TypeExt3, filesystem.TypeExt4, filesystem.TypeXFS, filesystem.TypeBtrfs:
		return supported
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "coda", "ncpfs", "lustre", "ocfs2", "gfs2", "virtiofs", "fuse":
		return network
	case "fuseblk", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "f2fs", "jfs", "reiserfs", "bcachefs", "zfs", "nilfs2",
		"squashfs", "erofs", "iso9660", "udf", "hfs", "hfsplus", "cramfs", "romfs", "ufs":
		return other
	}
	return virtual
}
