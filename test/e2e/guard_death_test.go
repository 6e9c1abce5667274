package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/freezetest"
	"github.com/umbra-vss/umbra/vss"
)

// guardOf finds the freeze guard: the daemon's child of that name.
func guardOf(daemon int) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, p := range stats {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		// pid (comm) state ppid …; comm may hold anything.
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(daemon) {
			continue
		}
		cmd, err := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
		if err != nil || !strings.Contains(string(cmd), "freeze-guard") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil {
			return pid
		}
	}
	return 0
}

// held is a creation that is stopped in its hold.
type held struct {
	guard int
	done  chan error
}

// hold arms A's daemon to stop in the hold, starts a creation and returns when
// it is there.
func (f *fixture) hold(sleep string, daemonArgs []string, volumes ...string) held {
	f.Helper()
	here := filepath.Join(f.site.Dir, "held")
	_ = os.Remove(here)
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, []string{"UMBRA_FAILPOINTS=create.in-hold=touch(" + here + ")+sleep(" + sleep + ")"}, daemonArgs...))
	return f.held(here, volumes...)
}

// holdIn is hold with what the daemon and its guard take from now on counted.
func (f *fixture) holdIn(m *freezetest.Memory, sleep string, volumes ...string) held {
	f.Helper()
	here := filepath.Join(f.site.Dir, "held")
	_ = os.Remove(here)
	f.armOn(f.a, "create.in-hold=touch("+here+")+sleep("+sleep+")")
	m.Add(f, f.a.DaemonPID())
	return f.held(here, volumes...)
}

func (f *fixture) held(here string, volumes ...string) held {
	f.Helper()
	h := held{done: make(chan error, 1)}
	go func() {
		_, err := f.tryCreate("app-rollback", volumes...)
		h.done <- err
	}()
	eventually(f, "the hold begins", 20*time.Second, exists(here))
	if h.guard = guardOf(f.a.DaemonPID()); h.guard == 0 {
		f.Fatal("no freeze guard is seen")
	}
	return h
}

// thawed asserts that the volumes can be written to before the limit: a write
// would hang on a frozen one, so it is asked with FITHAW, which answers once.
func (f *fixture) thawedWithin(limit time.Duration, since time.Time, ths ...thawer) {
	f.Helper()
	time.Sleep(time.Until(since.Add(limit)))
	for i, th := range ths {
		if th.frozen(f) {
			f.Errorf("volume %d is frozen after %s", i, limit)
		}
	}
}

// TestGuardDies: whatever becomes of guard and daemon in the hold, the
// volumes run on, and the set never was.
func TestGuardDies(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	x, _, _ := f.volume("x", "btrfs")
	none := func(g *fixture) {
		g.Helper()
		if c := g.copiesOnArray(); len(c) != 0 {
			g.Errorf("copies of a set that failed: %+v", c)
		}
		if h, _ := filepath.Glob(filepath.Join(g.a.StateDir(), "holds", "*")); len(h) != 0 {
			g.Errorf("hold intents: %v", h)
		}
	}
	f.run("guard killed", func(g *fixture) {
		ths := g.thawers(v, w, x)
		h := g.hold("2s", nil, v, w, x)
		g.must(syscall.Kill(h.guard, syscall.SIGKILL))
		g.thawedWithin(100*time.Millisecond, time.Now(), ths...)
		g.fails(<-h.done, 1, vss.VSS_E_HOLD_WRITES_TIMEOUT)
		none(g)
	})
	f.run("guard stopped", func(g *fixture) {
		ths := g.thawers(v, w, x)
		h := g.hold("500ms", nil, v, w, x)
		g.must(syscall.Kill(h.guard, syscall.SIGSTOP))
		defer func() { _ = syscall.Kill(h.guard, syscall.SIGKILL) }()
		err := <-h.done
		g.thawedWithin(0, time.Now(), ths...)
		if err != nil { // released all the same: whether the set is good is the service's to say
			g.fails(err, 1, vss.VSS_E_HOLD_WRITES_TIMEOUT)
			none(g)
		} else {
			g.Log("the set was made")
			_, err := g.a.Umbra(g.ctx, "delete", "set", g.lastSet())
			g.must(err)
		}
	})
	f.run("daemon stopped", func(g *fixture) {
		ths := g.thawers(v, w, x)
		h := g.hold("100ms", []string{"--hold-limit", "2s"}, v, w, x)
		daemon := g.a.DaemonPID()
		g.must(syscall.Kill(daemon, syscall.SIGSTOP))
		defer func() { _ = syscall.Kill(daemon, syscall.SIGCONT) }()
		g.thawedWithin(2300*time.Millisecond, time.Now(), ths...)
		g.must(syscall.Kill(daemon, syscall.SIGCONT))
		g.fails(<-h.done, 1, vss.VSS_E_HOLD_WRITES_TIMEOUT)
		none(g)
	})
	for _, how := range []string{"thaw-intents", "restart"} {
		f.run("both killed, then "+how, func(g *fixture) {
			ths := g.thawers(v, w, x)
			h := g.hold("5s", nil, v, w, x)
			g.stop(g.a.DaemonPID()) // else it would thaw when the guard is gone
			g.must(syscall.Kill(h.guard, syscall.SIGKILL))
			g.a.KillDaemon()
			if err := <-h.done; err == nil {
				g.Error("create succeeded though the daemon died")
			}
			since := time.Now()
			if how == "restart" {
				g.must(g.a.StartDaemon(g.ctx, nil))
				g.thawedWithin(time.Second, since, ths...)
			} else {
				out, err := g.a.Run(g.ctx, binary, "thaw-intents", "--state-dir", g.a.StateDir())
				g.must(err)
				if strings.Count(out, "thawed") != 3 {
					g.Errorf("thaw-intents: %s", out)
				}
				g.thawedWithin(0, since, ths...)
				g.must(g.a.StartDaemon(g.ctx, nil))
			}
			none(g)
		})
	}
	f.run("guard killed inside FIFREEZE", func(g *fixture) {
		// The array's store is frozen by somebody, so a volume with something to
		// write cannot be frozen until that has an end; then it is, by a thread
		// whose process is dead.
		store := g.storeThawer()
		here := filepath.Join(g.site.Dir, "held")
		_ = os.Remove(here)
		g.armOn(g.a, "create.before-hold=touch("+here+")+sleep(500ms)")
		ths := g.thawers(v, w, x)
		done := make(chan error, 1)
		go func() { _, err := g.tryCreate("app-rollback", v, w, x); done <- err }()
		eventually(g, "the set is about to be frozen", 20*time.Second, exists(here))
		for _, m := range []string{v, w, x} {
			g.put(m, "dirty", strings.Repeat("to be written", 1<<16))
		}
		g.must(unix.IoctlSetInt(store.fd, fifreeze, 0))
		var guard int
		eventually(g, "the guard is stuck", 20*time.Second, func() bool {
			guard = guardOf(g.a.DaemonPID())
			return guard != 0 && strings.Contains(threads(guard), "D")
		})
		g.must(syscall.Kill(guard, syscall.SIGKILL))
		time.Sleep(300 * time.Millisecond)
		if threads(guard) == "" {
			g.Error("the guard is gone though a thread of it is in the kernel")
		}
		g.must(unix.IoctlSetInt(store.fd, fithaw, 0))
		eventually(g, "the guard is gone", 20*time.Second, func() bool { return threads(guard) == "" })
		g.thawedWithin(time.Second, time.Now(), ths...)
		g.complaints(<-done, 1)
		none(g)
	})
	f.run("no memory", func(g *fixture) {
		m := freezetest.NewMemory(g.T)
		ths := g.thawers(v, w, x)
		h := g.holdIn(m, "8s", v, w, x)
		daemon := g.a.DaemonPID()
		// Who may not make itself safe, in a container, is as large a part of its group
		// as it is.
		g.must(os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", daemon), []byte("500"), 0o644))
		m.Exhaust(g)
		ask, cancel := context.WithCancel(g.ctx)
		defer cancel()
		for range 8 { // what it is asked for needs memory
			go func() {
				for ask.Err() == nil {
					_, _ = g.a.Umbra(ask, "list", "sets")
				}
			}()
		}
		select {
		case <-g.a.DaemonDone():
		case <-time.After(7 * time.Second):
			g.Fatal("the daemon lives without memory")
		}
		g.thawedWithin(100*time.Millisecond, time.Now(), ths...)
		cancel()
		if m.Killed() == 0 {
			g.Errorf("nobody was killed for want of memory:\n%s", g.a.DaemonLog())
		}
		if err := <-h.done; err == nil {
			g.Error("create succeeded though the daemon died")
		}
		g.must(g.a.StartDaemon(g.ctx, nil))
		none(g)
	})
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, nil))
	f.works(v, w, x)
}

// storeThawer opens the filesystem that the array's LUNs are on.
func (f *fixture) storeThawer() thawer {
	f.Helper()
	fd, err := unix.Open(f.site.ArrayPath(filepath.Join(f.site.ArrayDir(), "store")), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	f.must(err)
	f.Cleanup(func() {
		_ = unix.IoctlSetInt(fd, fithaw, 0)
		unix.Close(fd)
	})
	return thawer{fd}
}

// threads are the states of a process's threads, a letter each.
func threads(pid int) string {
	var out strings.Builder
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, s := range stats {
		b, _ := os.ReadFile(s)
		if _, after, ok := strings.Cut(string(b), ") "); ok {
			out.WriteByte(after[0])
		}
	}
	return out.String()
}

// stop stops a process and returns when every thread of it stands: until then
// it still acts on what it sees.
func (f *fixture) stop(pid int) {
	f.Helper()
	f.must(syscall.Kill(pid, syscall.SIGSTOP))
	eventually(f.T, "the process stands", 5*time.Second, func() bool {
		states := threads(pid)
		return states != "" && strings.Trim(states, "T") == ""
	})
}

// lastSet is the newest set's ID on A.
func (f *fixture) lastSet() string {
	f.Helper()
	d := fmt.Sprintf("%s/set%d.umbra", f.site.Dir, f.docs)
	_, doc := f.readSet(createdSet{doc: d})
	return doc.Set.ID.String()
}
