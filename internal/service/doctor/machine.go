package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/process"
)

// Machine is what can be seen of the services from outside, whatever they do.
type Machine interface {
	Daemon() Post
	Array() Post
	// Guards are the freeze guards of this daemon, or that a daemon left which had
	// the same state folder.
	Guards() []Guard
	// Holds is what the guards have written down in the memory they share with
	// the daemon, as far as that still is there.
	Holds() []freeze.Hold
	// Intents are the hold intents in the state folder.
	Intents() ([]freeze.HoldIntent, error)
	StateDir() string
	BootID() string
}

// Post is a service and who does it.
type Post struct {
	Socket  string
	Absent  bool // it is not meant to run here: there is not even a socket
	PID     int  // 0: nobody does
	Process process.Process
	Silent  time.Duration // it has not answered for so long; 0: it did
	Err     error         // what is wrong beyond that
}

// Guard is a freeze guard.
type Guard struct {
	process.Process
	Threads []freeze.Thread
}

// ExamineMachine runs the checks of what can be seen from outside.
func ExamineMachine(ctx context.Context, m Machine) []Finding {
	return examine(ctx, m, []check[Machine]{
		{"the daemon", daemon}, {"the daemon's threads", daemonThreads}, {"the array", array}, {"freeze guards", guards}, {"holds", heldOutside}, {"hold intents", intents},
	})
}

// daemon finds one that is dead, stopped or silent.
func daemon(_ context.Context, m Machine) []Finding {
	p := m.Daemon()
	switch {
	case p.PID == 0 && p.Err == nil:
		f := find("daemon.ended", p.Socket)
		f.What, f.Help = "nobody listens on its socket", "systemctl restart umbra"
		return []Finding{f}
	case p.Process.Stopped():
		f := find("daemon.stopped", p.Socket)
		f.Who, f.What, f.Help = fmt.Sprintf("the daemon (pid %d)", p.PID), "the process is stopped", fmt.Sprintf("kill -CONT %d", p.PID)
		return []Finding{f}
	case p.Silent > 0:
		f := find("daemon.silent", p.Socket)
		f.Since = time.Now().Add(-p.Silent)
		f.What, f.Help = "it has not answered for "+p.Silent.Round(100*time.Millisecond).String(), "systemctl restart umbra"
		if p.PID != 0 {
			f.Who = fmt.Sprintf("the daemon (pid %d)", p.PID)
		}
		if p.Err != nil {
			f.What += ": " + p.Err.Error()
		}
		return []Finding{f}
	}
	return nil
}

// daemonThreads finds what of the daemon is in the kernel and cannot be ended.
// Threads come and go there all the time: only one that is seen twice, in the
// same place, counts.
func daemonThreads(ctx context.Context, m Machine) (out []Finding) {
	p := m.Daemon()
	if p.PID == 0 || len(p.Process.Blocked) == 0 {
		return nil
	}
	select {
	case <-time.After(blockedTime):
	case <-ctx.Done():
		return nil
	}
	again, ok := process.Look(p.PID)
	for _, t := range p.Process.Blocked {
		for _, u := range again.Blocked {
			if !ok || t != u {
				continue
			}
			f := find("daemon.blocked", p.Socket)
			f.Who, f.What = fmt.Sprintf("the daemon (pid %d), thread %d", p.PID, t.TID), "it is in uninterruptible sleep"
			if t.Where != "" {
				f.What += ", in " + t.Where
			}
			f.Help = fmt.Sprintf("cat /proc/%d/task/%d/stack", p.PID, t.TID)
			out = append(out, f)
		}
	}
	return out
}

const blockedTime = 500 * time.Millisecond

// array finds an array of this machine that is dead or stopped.
func array(_ context.Context, m Machine) []Finding {
	p := m.Array()
	switch {
	case p.Absent:
		return nil
	case p.PID == 0 && p.Err == nil:
		f := find("array.ended", p.Socket)
		f.What, f.Help = "its socket is there, and nobody listens on it", "systemctl restart umbra-array"
		return []Finding{f}
	case p.Process.Stopped():
		f := find("array.stopped", p.Socket)
		f.Who, f.What, f.Help = fmt.Sprintf("the array (pid %d)", p.PID), "the process is stopped", fmt.Sprintf("kill -CONT %d", p.PID)
		return []Finding{f}
	}
	return nil
}

// guards finds those that are stopped, or have a thread in the kernel.
func guards(ctx context.Context, m Machine) (out []Finding) {
	for _, g := range m.Guards() {
		who := fmt.Sprintf("the freeze guard (pid %d)", g.PID)
		if g.Stopped() {
			f := find("guard.stopped", "the freeze guard")
			f.Who, f.Since, f.What, f.Help = who, time.Time{}, "the process is stopped", fmt.Sprintf("kill -CONT %d", g.PID)
			out = append(out, f)
		}
		if len(g.Threads) == 0 {
			continue
		}
		select { // a freeze of a busy filesystem takes some moments
		case <-time.After(blockedTime):
		case <-ctx.Done():
			return out
		}
		now := freeze.InKernel(g.PID)
		for _, t := range g.Threads {
			for _, u := range now {
				if t != u {
					continue
				}
				f := find("guard.stuck", t.Path)
				f.Since = since(m, t.Path)
				f.Who, f.What, f.Help = who+fmt.Sprintf(", thread %d", t.TID), "it is in "+t.Call, "dmesg | tail -50"
				out = append(out, f)
			}
		}
	}
	return out
}

// since is when the guard wrote that it began.
func since(m Machine, path string) (t time.Time) {
	for _, h := range m.Holds() {
		for _, f := range h.Filesystems {
			if f.Path == path && f.Stuck() {
				t = f.Since
			}
		}
	}
	return t
}

// heldOutside finds filesystems that are frozen for too long by the guard's own
// record, for a daemon that cannot say so itself.
func heldOutside(_ context.Context, m Machine) []Finding {
	if p := m.Daemon(); p.PID != 0 && !p.Process.Stopped() && p.Silent == 0 {
		return nil // it has said so
	}
	hs := m.Holds()
	for i := range hs {
		if hs[i].Limit == 0 {
			hs[i].Limit = freeze.DefaultLimit
		}
	}
	return held(hs)
}

// intents finds holds that nobody is left to end.
func intents(_ context.Context, m Machine) (out []Finding) {
	all, err := m.Intents()
	if err != nil {
		f := find("hold.left", m.StateDir())
		f.What, f.Help = "hold intents cannot be read: "+err.Error(), "umbra thaw-intents --state-dir "+m.StateDir()
		out = append(out, f)
	}
	if m.Daemon().PID != 0 || len(m.Guards()) > 0 {
		return out // they thaw, or are found themselves
	}
	for _, in := range all {
		if in.BootID != m.BootID() {
			continue // no freeze survives a boot
		}
		for _, fs := range in.Filesystems {
			f := find("hold.left", fs.Path)
			f.Since, f.Who = in.Created, "set "+in.SetID
			f.What, f.Help = "daemon and guard are gone; it may be frozen", "umbra thaw-intents --state-dir "+m.StateDir()
			out = append(out, f)
		}
	}
	return out
}
