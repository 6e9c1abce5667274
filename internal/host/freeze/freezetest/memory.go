package freezetest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Memory is a memory cgroup of a test's own, in which processes can run out of
// memory while the machine does not.
type Memory struct {
	dir   string
	limit string // the file with the limit
	usage string
}

var memories atomic.Uint32

// NewMemory makes one. The test is skipped where the kernel or the container has
// no memory controller to give. It is removed, emptied, at the end.
func NewMemory(tb testing.TB) *Memory {
	tb.Helper()
	name := "umbra-test-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(int(memories.Add(1)))
	m := &Memory{dir: filepath.Join("/sys/fs/cgroup/memory", name), limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		m = &Memory{dir: filepath.Join("/sys/fs/cgroup", name), limit: "memory.max", usage: "memory.current"}
	}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		tb.Skipf("no memory cgroup can be made: %v", err)
	}
	tb.Cleanup(func() {
		m.set(strconv.FormatUint(1<<40, 10)) // who waits for memory can end now
		m.Waits(false)
		m.release()
		if err := m.remove(); err != nil {
			tb.Error(err)
		}
	})
	if _, err := os.Stat(filepath.Join(m.dir, m.limit)); err != nil {
		tb.Skipf("no memory controller: %v", err)
	}
	return m
}

func (m *Memory) set(limit string) error {
	return os.WriteFile(filepath.Join(m.dir, m.limit), []byte(limit), 0o644)
}

// release puts what is still inside where it may be.
func (m *Memory) release() {
	pids, _ := os.ReadFile(filepath.Join(m.dir, "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(pids)) {
		_ = os.WriteFile(filepath.Join(filepath.Dir(m.dir), "cgroup.procs"), []byte(pid), 0o644)
	}
}

// remove waits for processes that have ended to be gone.
func (m *Memory) remove() (err error) {
	for range 200 {
		if err = unix.Rmdir(m.dir); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// Add moves a process in. What it allocates from now on counts, and what the
// processes do that it starts.
func (m *Memory) Add(tb testing.TB, pid int) {
	tb.Helper()
	if err := os.WriteFile(m.Procs(), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// Procs is the file by which a process moves itself in.
func (m *Memory) Procs() string { return filepath.Join(m.dir, "cgroup.procs") }

// Waits chooses what becomes of who wants memory when there is none: it waits
// for ever, or, as it is at first, somebody is killed. It reports whether this
// kernel has the choice.
func (m *Memory) Waits(on bool) bool {
	value := "0"
	if on {
		value = "1"
	}
	f, err := os.OpenFile(filepath.Join(m.dir, "memory.oom_control"), os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err == nil
}

// Waiting reports whether somebody waits for memory.
func (m *Memory) Waiting() bool { return m.count("memory.oom_control", "under_oom") > 0 }

// Killed is how many processes were killed for want of memory.
func (m *Memory) Killed() int {
	return m.count("memory.oom_control", "oom_kill") + m.count("memory.events", "oom_kill")
}

func (m *Memory) count(file, key string) int {
	b, _ := os.ReadFile(filepath.Join(m.dir, file))
	for l := range strings.Lines(string(b)) {
		if k, v, _ := strings.Cut(strings.TrimSpace(l), " "); k == key {
			n, _ := strconv.Atoi(v)
			return n
		}
	}
	return 0
}

// Exhaust leaves the processes inside not a page more than they have: below what
// they have, if the kernel takes that.
func (m *Memory) Exhaust(tb testing.TB) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, m.usage))
	if err != nil {
		tb.Fatal(err)
	}
	used, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	if m.limit == "memory.max" { // takes it, and kills
		if err := m.set(strconv.FormatInt(used/2, 10)); err != nil {
			tb.Fatal(err)
		}
		return
	}
	// Version 1 refuses a limit below what it cannot take back. What is in use
	// changes meanwhile, so it may be some pages more at first.
	for above := int64(0); ; above += 1 << 20 {
		if err = m.set(strconv.FormatInt(used+above, 10)); err == nil {
			break
		}
		if above > 64<<20 {
			tb.Fatal(err)
		}
	}
	for step := int64(256 << 10); used > step && m.set(strconv.FormatInt(used-step, 10)) == nil; {
		used -= step
	}
}
