package freeze

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// process is a running guard program, by raw descriptors.
type process struct {
	pid    int
	pidfd  int
	stat   int    // /proc/PID/stat
	sock   int    // our end of the socket pair
	stderr int    // memfd with the guard's last words
	cgroup string // to remove when it has ended
}

// spawn runs program from a memfd. The guard inherits nothing but its end of
// the socket pair.
func spawn(program []byte, filesystems int) (p *process, err error) {
	p = &process{pidfd: -1, stat: -1, sock: -1, stderr: -1}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	exe, err := programMemfd(program)
	if err != nil {
		return nil, err
	}
	defer unix.Close(exe)
	if p.stderr, err = unix.MemfdCreate("umbra-freeze-guard-stderr", unix.MFD_CLOEXEC); err != nil {
		return nil, err
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(null)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p.sock = pair[0]
	defer unix.Close(pair[1])

	dir, dirfd := newCgroup()
	attr := &syscall.ProcAttr{
		Dir: "/",
		Env: []string{
			"GOGC=off",
			"GOMAXPROCS=" + strconv.Itoa(filesystems+4), // no thread waits for another's processor
			"GODEBUG=asyncpreemptoff=1",                 // no signals into a thread in FIFREEZE
		},
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(p.stderr), uintptr(pair[1]), uintptr(exe)},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &p.pidfd, UseCgroupFD: dirfd >= 0, CgroupFD: dirfd},
	}
	start := func() error {
		// By the number it has in the child: another could be overwritten there.
		p.pid, err = forkFlusher("/proc/self/fd/"+strconv.Itoa(wire.Program), attr)
		return err
	}
	err = start()
	if dirfd >= 0 {
		_ = unix.Close(dirfd)
		if err != nil { // a cgroup it may not enter, or a kernel before 5.7
			removeCgroup(dir)
			dir, attr.Sys.UseCgroupFD = "", false
			err = start()
		}
	}
	if err != nil {
		return nil, err
	}
	p.cgroup = dir
	if p.pidfd < 0 {
		if p.pidfd, err = unix.PidfdOpen(p.pid, 0); err != nil { // a kernel before 5.2 knows neither
			_ = unix.Kill(p.pid, unix.SIGKILL)
			_, _ = unix.Wait4(p.pid, nil, 0, nil)
			return nil, err
		}
	}
	p.stat, err = unix.Open("/proc/"+strconv.Itoa(p.pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		p.kill()
		p.reap()
		return nil, err
	}
	return p, nil
}

// forkFlusher starts the program with PR_SET_IO_FLUSHER, which it inherits
// before its first instruction: its memory allocations then never wait for
// a filesystem, which may be one of the frozen ones. Best effort
// (CAP_SYS_RESOURCE).
func forkFlusher(path string, attr *syscall.ProcAttr) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0) == nil {
		defer func() { _ = unix.Prctl(unix.PR_SET_IO_FLUSHER, 0, 0, 0, 0) }()
	}
	return syscall.ForkExec(path, []string{"umbra-freeze-guard"}, attr)
}

// programMemfd puts the program in memory and seals it.
func programMemfd(program []byte) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("umbra-freeze-guard", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3
		fd, err = unix.MemfdCreate("umbra-freeze-guard", flags)
	}
	if err != nil {
		return -1, err
	}
	for rest := program; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil && !errors.Is(err, unix.EINTR) {
			_ = unix.Close(fd)
			return -1, err
		}
		rest = rest[max(n, 0):]
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (p *process) kill() { _ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0) }

// dying reports whether the process is killed although its pidfd does not say
// so: as long as one thread is stuck in the kernel it stays silent, but its
// first thread is a zombie. The guard's first thread never ends by itself.
func (p *process) dying(buf []byte) bool {
	n, err := unix.Pread(p.stat, buf, 0)
	if err != nil {
		return errors.Is(err, unix.ESRCH)
	}
	for i := n - 3; i >= 0; i-- {
		if buf[i] == ')' {
			return buf[i+2] == 'Z' || buf[i+2] == 'X'
		}
	}
	return false
}

// reap waits for the end of all threads.
func (p *process) reap() {
	_ = retry(func() error { return unix.Waitid(unix.P_PIDFD, p.pidfd, nil, unix.WEXITED, nil) })
}

// lastWords is what the guard wrote to standard error, shortened.
func (p *process) lastWords() string {
	buf := make([]byte, 512)
	n, _ := unix.Pread(p.stderr, buf, 0)
	return string(buf[:max(n, 0)])
}

func (p *process) close() {
	closeAll([]int{p.pidfd, p.stat, p.sock, p.stderr})
	removeCgroup(p.cgroup)
}

// ownPidfd and stat are what the guard watches the daemon by.
func ownPidfd() (pidfd, stat int, err error) {
	if pidfd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		return -1, -1, err
	}
	stat, err = unix.Open("/proc/"+strconv.Itoa(os.Getpid())+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(pidfd)
		return -1, -1, err
	}
	return pidfd, stat, nil
}
