package nbd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/outlive"
)

// silence is how long a connection may say nothing to what is asked of it.
const silence = 30 * time.Second

// boundSilence tells the kernel to give up a connection of a process group on
// which nothing was acknowledged for as long as silence: by itself it waits a
// quarter of an hour. nbdkit has no option for it, so its sockets are borrowed.
// Best effort (CAP_SYS_PTRACE, a kernel from 5.6 on).
func (i *Initiator) boundSilence(p outlive.Process) {
	for _, pid := range group(p.PID) {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, l := range links {
			if to, err := os.Readlink(l); err != nil || !strings.HasPrefix(to, "socket:") {
				continue
			}
			n, err := strconv.Atoi(filepath.Base(l))
			if err != nil {
				continue
			}
			fd, err := unix.PidfdGetfd(pidfd, n, 0)
			if err != nil {
				continue
			}
			if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err == nil && kind == unix.IPPROTO_TCP {
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 2) // of one that is still connecting: 7 s
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 5)
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5)
			}
			unix.Close(fd)
		}
		unix.Close(pidfd)
	}
}

// group are the processes of a process group.
func group(leader int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*")
	var out []int
	for _, s := range stats {
		pid, err := strconv.Atoi(filepath.Base(s))
		if err != nil {
			continue
		}
		if g, err := unix.Getpgid(pid); err == nil && g == leader {
			out = append(out, pid)
		}
	}
	return out
}

// Watch bounds the silence of connections that were made since, every few
// seconds, until done is closed.
func (i *Initiator) Watch(done <-chan struct{}) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		folders, _ := filepath.Glob(filepath.Join(i.dir, "naa.*"))
		for _, f := range folders {
			if p := outlive.Kept(f); p.Alive() {
				i.boundSilence(p)
			}
		}
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}
