package freeze_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/freeze/freezetest"
)

// faults are the pages that the kernel had to find for a process so far, all its
// threads together.
func faults(t *testing.T, pid int) (n int) {
	t.Helper()
	_, rest, _ := strings.Cut(proc(t, pid, "stat"), ") ")
	f := strings.Fields(rest)
	for _, field := range []int{7, 9} { // without a disk, and from one
		k, err := strconv.Atoi(f[field])
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	return n
}

// TestGuardNeedsNoMemory: from the moment it is ready to the last thaw the guard
// does not touch a page it has not touched before, so it never asks for one. A
// page of memory may be had only by writing another to a disk that is frozen.
func TestGuardNeedsNoMemory(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	vs := oneOfEach(t)
	for i := range 60 { // their places in the shared memory fill more than a page
		sub := dir + "/" + strconv.Itoa(i)
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		vs = append(vs, newVolumeIn(t, "ext4", sub, 1<<20))
	}
	g := startGuard(t, open(t, vs...), freeze.Options{Limit: 200 * time.Millisecond})
	ready := faults(t, g.PID())
	mustFreeze(t, g)
	holding := faults(t, g.PID())
	<-g.Lost() // by the guard's own clock
	r := g.Thaw()
	if r.ByDaemon || r.LastThaw == 0 {
		t.Errorf("%+v", r)
	}
	if thawed := faults(t, g.PID()); thawed != ready {
		t.Errorf("page faults: %d when ready, %d more when all was frozen, %d more when it was thawed", ready, holding-ready, thawed-holding)
	}
}

// TestMemoryExhausted: in the hold there is no memory left. Whatever that does to
// the daemon, the guard thaws: at once when the daemon dies, at its limit when it
// waits.
func TestMemoryExhausted(t *testing.T) {
	eat := func(t *testing.T, d *daemon) {
		t.Helper()
		if err := d.cmd.Process.Signal(unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	ends := func(t *testing.T, d *daemon, by string) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- d.cmd.Wait() }()
		select {
		case err := <-done:
			if err == nil || !strings.HasPrefix(err.Error(), by) {
				t.Errorf("the daemon ended with %v, not %s", err, by)
			}
		case <-time.After(8 * time.Second):
			t.Fatal("the daemon lives")
		}
	}
	t.Run("the kernel kills the daemon", func(t *testing.T) {
		vs := oneOfEach(t)
		m := freezetest.NewMemory(t)
		d := startDaemonIn(t, m, vs...)
		spare(t, d)
		m.Exhaust(t)
		eat(t, d)
		ends(t, d, "signal: killed")
		if m.Killed() == 0 {
			t.Error("nobody was killed for want of memory")
		}
		thawsAndEnds(t, d, vs)
	})
	t.Run("the daemon ends itself", func(t *testing.T) {
		vs := oneOfEach(t)
		d := startDaemon(t, "", vs...)
		if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: 128 << 20, Max: 128 << 20}, nil); err != nil {
			t.Fatal(err)
		}
		eat(t, d)
		ends(t, d, "exit status") // Go's fatal error, or the race detector's
		thawsAndEnds(t, d, vs)
	})
	t.Run("daemon and guard wait", func(t *testing.T) {
		vs := oneOfEach(t)
		m := freezetest.NewMemory(t)
		if !m.Waits(true) {
			t.Skip("with cgroups of version 2 nobody waits for memory")
		}
		t.Setenv(childLimit, "1s")
		d := startDaemonIn(t, m, vs...)
		begin := time.Now()
		m.Exhaust(t)
		eat(t, d)
		// Some calls of the kernel's do not wait but fail, of which Go ends a program.
		eventually(t, time.Second, "the daemon waits for memory, or has ended", func() bool {
			return m.Waiting() || guardEnded(d.cmd.Process.Pid)
		})
		time.Sleep(time.Until(begin.Add(1100 * time.Millisecond)))
		for _, v := range vs {
			if v.wasFrozen() {
				t.Errorf("the guard did not keep the limit on %s without memory", v.mount)
			}
		}
		if m.Killed() > 0 {
			t.Error("somebody was killed for want of memory")
		}
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		thawsAndEnds(t, d, vs)
	})
}

// spare makes the daemon the one that the kernel prefers to kill. That the guard
// is not is its own doing, where it has the right to.
func spare(t *testing.T, d *daemon) {
	t.Helper()
	if err := os.WriteFile("/proc/"+strconv.Itoa(d.cmd.Process.Pid)+"/oom_score_adj", []byte("500"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// startDaemonIn is startDaemon with what daemon and guard need counted.
func startDaemonIn(t *testing.T, m *freezetest.Memory, vs ...*volume) *daemon {
	t.Helper()
	t.Setenv(childCgroup, m.Procs())
	return startDaemon(t, "", vs...)
}
