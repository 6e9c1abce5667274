package regroup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/host/surface"
)

// holders names who uses a device: mounts, devices that are built on it, and
// programs that have it open, as far as they can be seen, and no more than four.
func holders(ctx context.Context, d devicemapper.Device) string {
	const limit = 4
	var found []string
	add := func(format string, args ...any) {
		if len(found) < limit {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	mounts, _ := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) != d.Dev, false
	})
	for _, m := range mounts {
		add("the mount at %s", m.Mountpoint)
	}
	above, _ := os.ReadDir(filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", unix.Major(d.Dev), unix.Minor(d.Dev)), "holders"))
	for _, h := range above {
		add("the device %s", h.Name())
	}
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		if ctx.Err() != nil || len(found) >= limit {
			break
		}
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		fds, _ := os.ReadDir(filepath.Join("/proc", p.Name(), "fd"))
		for _, fd := range fds {
			path := filepath.Join("/proc", p.Name(), "fd", fd.Name())
			// A look at what else it has open may hang, on a network's filesystem.
			if to, err := os.Readlink(path); err != nil || !strings.HasPrefix(to, "/dev/") {
				continue
			}
			var st unix.Stat_t
			if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == d.Dev {
				comm, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
				add("%s (pid %s)", strings.TrimSpace(string(comm)), p.Name())
				break
			}
		}
	}
	return strings.Join(found, ", ")
}

// settled waits a moment for users who come and go, udev's that is, and reports
// whether none is left.
func settled(ctx context.Context, s *surface.Surfacer, uuid string) bool {
	for range 20 {
		vs, err := s.Volumes(ctx, uuid)
		if err != nil {
			return false
		}
		open := 0
		for _, v := range vs {
			open += v.Opened
		}
		if open == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return false
}
