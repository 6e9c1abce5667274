package freeze

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// CgroupFolder is where the guards' cgroups are, at the top of the version 2
// hierarchy. A service that may not make it there finds it made by its unit.
const CgroupFolder = "umbra-freeze-guard"

var cgroupSerial atomic.Uint64

// newCgroup makes a cgroup for one guard at the top of the version 2
// hierarchy, apart from the daemon's own, so that a kill of the daemon's unit
// does not reach the guard. It returns "" where that is not possible.
func newCgroup() (dir string, fd int) {
	parent := cgroupParent()
	if parent == "" {
		return "", -1
	}
	sweepCgroups(parent)
	if err := os.Mkdir(parent, 0o755); err != nil && !os.IsExist(err) {
		return "", -1
	}
	// The daemon's number comes first: it tells the sweep whose it is.
	dir = filepath.Join(parent, strconv.Itoa(os.Getpid())+"-"+strconv.FormatUint(cgroupSerial.Add(1), 10))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", -1
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		removeCgroup(dir)
		return "", -1
	}
	return dir, fd
}

// cgroupParent is the folder of the guards' cgroups, "" without version 2.
func cgroupParent() string {
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil || len(infos) == 0 {
		return ""
	}
	return filepath.Join(infos[0].Mountpoint, CgroupFolder)
}

// removeCgroup removes the guard's cgroup, and the folder with the last one.
func removeCgroup(dir string) {
	if dir != "" {
		_ = unix.Rmdir(dir)
		_ = unix.Rmdir(filepath.Dir(dir))
	}
}

// sweepCgroups removes what daemons that were killed left. The kernel refuses
// it while a guard is still inside.
func sweepCgroups(parent string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		owner, _, _ := strings.Cut(e.Name(), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			removeCgroup(filepath.Join(parent, e.Name()))
		}
	}
}
