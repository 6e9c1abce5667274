package outlive

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Program is what to start.
type Program struct {
	Args   []string // the first is looked for in the path
	Dir    string   // its working directory, where Process.Keep is called afterwards
	Log    string   // file for what it writes; begun anew at every start
	Cgroup string   // name of its cgroup: the same for all of a kind
	Memory uint64   // most bytes of data it may have, each process of it
	// Orphan is for a program that asks the kernel to end it with whoever started
	// it (nbdkit does, with and without --exit-with-parent). A shell starts it, and
	// stays as long as it does: the record is the shell's.
	Orphan bool
}

// CgroupFolder is where the programs' cgroups are, at the top of the version 2
// hierarchy. A service that may not make it there finds it made by its unit.
const CgroupFolder = "umbra-data"

// shelter is the shell's part. It waits for its word, so that what it starts
// inherits all that is said of it, and is never there without a record.
var shelter = []string{"/bin/sh", "-c", `read -r go || exit 1; "$@" </dev/null; exit $?`, "sh"}

const (
	// The least likely to be killed but for those that must never be.
	oomScore = "-900"
)

// Start starts the program and puts it on record in its Dir.
func Start(pr Program) (Process, error) {
	path, err := exec.LookPath(pr.Args[0])
	if err != nil {
		return Process{}, err
	}
	log, err := os.OpenFile(pr.Log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return Process{}, err
	}
	defer log.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return Process{}, err
	}
	defer null.Close()
	args, in, word := pr.Args, null, (*os.File)(nil)
	if pr.Orphan {
		args = append(append(shelter[:len(shelter):len(shelter)], path), args[1:]...)
		path = shelter[0]
		if in, word, err = os.Pipe(); err != nil {
			return Process{}, err
		}
		defer in.Close()
		defer word.Close()
	}
	attr := &syscall.ProcAttr{Dir: pr.Dir, Env: environment(), Files: []uintptr{in.Fd(), log.Fd(), log.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}}
	pid, err := forkFlusher(path, args, attr)
	if err != nil {
		return Process{}, err
	}
	// Whoever started it reaps it as long as it lives itself.
	go func() { _, _ = unix.Wait4(pid, nil, 0, nil) }()
	enter(pid, pr.Cgroup)
	bound(pid, pr.Memory)
	started, _ := stat(pid)
	p := Process{PID: pid, Started: started, Boot: boot()}
	err = p.Keep(pr.Dir)
	if err == nil && word != nil {
		_, err = word.WriteString("go\n")
	}
	if err != nil {
		_ = p.End(context.Background(), 0)
		return Process{}, err
	}
	return p, nil
}

// environment is little: a path to find programs, and messages in English.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
}

// forkFlusher starts the program with PR_SET_IO_FLUSHER, which it and all it
// starts inherit before their first instruction. Best effort (CAP_SYS_RESOURCE).
func forkFlusher(path string, args []string, attr *syscall.ProcAttr) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0) == nil {
		defer func() { _ = unix.Prctl(unix.PR_SET_IO_FLUSHER, 0, 0, 0, 0) }()
	}
	return syscall.ForkExec(path, args, attr)
}

// bound says what the program may use and that it is killed late. What it starts
// inherits it. Best effort: a service without the right to it goes without.
func bound(pid int, memory uint64) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(oomScore), 0)
	if memory > 0 {
		_ = unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: memory, Max: memory}, nil)
	}
	_ = unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
}

// enter moves the program into a cgroup of version 2 at the top of the
// hierarchy. Where there is none the session has to do.
func enter(pid int, name string) {
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil || len(infos) == 0 || name == "" {
		return
	}
	dir := filepath.Join(infos[0].Mountpoint, CgroupFolder, name)
	if os.MkdirAll(dir, 0o755) != nil {
		return
	}
	_ = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// Leave removes the cgroup of a kind when nothing is in it any more.
func Leave(name string) {
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil || len(infos) == 0 {
		return
	}
	dir := filepath.Join(infos[0].Mountpoint, CgroupFolder)
	for range 20 { // it is empty some time after its last process has ended
		err := unix.Rmdir(filepath.Join(dir, name))
		if err == nil || err != unix.EBUSY {
			break
		}
		if b, _ := os.ReadFile(filepath.Join(dir, name, "cgroup.procs")); len(b) > 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	_ = unix.Rmdir(dir)
}
