package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/process"
)

// Places are where to look on this machine.
type Places struct {
	Socket, ArraySocket string
	State               string // the daemon's folders
	Holds               string
	// Silent is how long the daemon was waited for in vain, 0 if it answered.
	Silent time.Duration
	Err    error
}

// Outside returns what can be seen at these places, as it is now.
func Outside(p Places) Machine {
	m := &outside{p: p}
	m.daemon, m.array = post(p.Socket), post(p.ArraySocket)
	m.daemon.Silent, m.daemon.Absent = p.Silent, false
	if m.daemon.Err == nil {
		m.daemon.Err = p.Err
	}
	if m.daemon.PID == 0 {
		m.daemon.Silent, m.daemon.Err = 0, nil
	}
	return m
}

type outside struct {
	p             Places
	daemon, array Post
	once          sync.Once
	guards        []Guard
}

func (m *outside) Daemon() Post     { return m.daemon }
func (m *outside) Array() Post      { return m.array }
func (m *outside) StateDir() string { return m.p.State }
func (m *outside) BootID() string   { return freeze.BootID() }

func (m *outside) Intents() ([]freeze.HoldIntent, error) { return freeze.Left(m.p.Holds) }

func post(socket string) Post {
	p := Post{Socket: socket}
	pid, err := process.Listener(socket)
	switch {
	case errors.Is(err, os.ErrNotExist):
		p.Absent = true
	case errors.Is(err, process.ErrNobody):
	case err != nil:
		p.Err = err
	default:
		p.PID = pid
		p.Process, _ = process.Look(pid)
	}
	return p
}

// guardName is the guard's, as the kernel cuts names.
const guardName = "umbra-freeze-guard"

func (m *outside) Guards() []Guard {
	m.once.Do(func() {
		intents, _ := m.Intents()
		// One that was killed and has a thread in the kernel has no command line.
		for _, p := range process.All(func(p process.Process) bool { return p.Command == guardName || p.Dead() && p.Command == "" }) {
			threads := freeze.InKernel(p.PID)
			if p.Dead() && len(threads) == 0 {
				continue
			}
			// Other daemons of this machine have guards as well.
			if p.Parent != m.daemon.PID && !holdsOneOf(p.PID, intents) {
				continue
			}
			m.guards = append(m.guards, Guard{p, threads})
		}
	})
	return m.guards
}

// holdsOneOf reports whether a process has the root of a filesystem open that is
// to be held.
func holdsOneOf(pid int, intents []freeze.HoldIntent) bool {
	links, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	for _, l := range links {
		to, err := os.Readlink(l)
		if err == nil && slices.ContainsFunc(intents, func(in freeze.HoldIntent) bool {
			return slices.ContainsFunc(in.Filesystems, func(f freeze.HeldFilesystem) bool { return f.Path == to })
		}) {
			return true
		}
	}
	return false
}

func (m *outside) Holds() []freeze.Hold {
	if m.daemon.PID == 0 {
		return nil
	}
	hs, _ := freeze.LookIn(m.daemon.PID)
	intents, _ := m.Intents()
	if len(intents) != 1 {
		return hs // one set at a time: more are left from before
	}
	for i := range hs {
		hs[i] = hs[i].Named(intents[0])
	}
	return hs
}
