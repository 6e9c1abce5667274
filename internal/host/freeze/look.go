package freeze

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// Hold is what a guard is doing, for whoever asks who is stuck. Nothing is asked
// of a filesystem or of the kernel's freezing for it: it is what guard and daemon
// have written down.
type Hold struct {
	Guard       int       // its process ID; 0 once it is gone
	Began       time.Time // of the freezing; zero before
	Limit       time.Duration
	Phase       string // "ready", "freezing", "holding", "thawing", "done"
	Beat        time.Time
	ByDaemon    string // why the daemon thaws in its place, "" if it does not
	Filesystems []HoldOf
}

// HoldOf is one filesystem of a Hold.
type HoldOf struct {
	Slot       int       // its place in the guard, and among the superblocks of the intent
	Name, Path string    // "" if only the guard's page was looked at
	State      string    // "idle", "freezing", "failed", "frozen", "thawing", "thawed", "claimed"
	Since      time.Time // of the state; zero if that is not known
}

// Stuck reports whether somebody is in the kernel with it, or should thaw it.
func (h HoldOf) Stuck() bool {
	return h.State == "freezing" || h.State == "thawing" || h.State == "claimed"
}

// Frozen reports whether it is, or may be, frozen by us.
func (h HoldOf) Frozen() bool { return h.Stuck() || h.State == "frozen" }

var (
	phases = map[uint32]string{wire.PhaseStarting: "starting", wire.PhaseReady: "ready", wire.PhaseFreezing: "freezing", wire.PhaseHolding: "holding", wire.PhaseThawing: "thawing", wire.PhaseDone: "done"}
	states = map[uint32]string{wire.StateIdle: "idle", wire.StateFreezing: "freezing", wire.StateFailed: "failed", wire.StateFrozen: "frozen", wire.StateThawing: "thawing",
		wire.StateThawed: "thawed", wire.StateClaimed: "claimed"}
)

// live are this process's guards that are not gone.
var live = struct {
	sync.Mutex
	all []*Guard
}{}

func (g *Guard) enlist() {
	live.Lock()
	defer live.Unlock()
	live.all = append(live.all, g)
}

func (g *Guard) delist() {
	live.Lock()
	defer live.Unlock()
	live.all = slices.DeleteFunc(live.all, func(o *Guard) bool { return o == g })
}

// Holds are those of this process's guards, also of guards that were given up and
// have a thread in the kernel.
func Holds() []Hold {
	live.Lock()
	all := slices.Clone(live.all)
	live.Unlock()
	var out []Hold
	for _, g := range all {
		out = append(out, g.look())
	}
	return out
}

func (g *Guard) look() Hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := Hold{Limit: g.limit, Guard: g.PID(), Phase: phases[g.page.Phase.Load()], Began: wall(int64(g.began)), Beat: wall(g.page.Beat.Load())}
	if g.exited {
		h.Guard = 0
	}
	if g.taken {
		h.ByDaemon = g.broken
		if h.ByDaemon == "" {
			h.ByDaemon = "the guard did not answer"
		}
	}
	for i, u := range g.units {
		s := lookAt(&g.page.Slots[i])
		s.Slot, s.Name, s.Path = i, u.name(), u.members[0].target.Path
		switch {
		case g.settled(i):
			// A thread that never came back may still be what the page says last.
			if s.Frozen() {
				s.State = "thawed"
			}
		case u.running > 0:
			s.State = "thawing" // by us
		}
		h.Filesystems = append(h.Filesystems, s)
	}
	return h
}

func lookAt(s *wire.Slot) HoldOf {
	h := HoldOf{State: states[s.State.Load()]}
	switch h.State {
	case "freezing":
		h.Since = wall(s.FreezeBegin.Load())
	case "frozen", "failed":
		h.Since = wall(s.FreezeEnd.Load())
	case "thawing":
		h.Since = wall(s.ThawBegin.Load())
	case "thawed":
		h.Since = wall(s.ThawEnd.Load())
	case "claimed":
		h.Since = wall(max(s.ThawBegin.Load(), s.FreezeEnd.Load()))
	}
	return h
}

// wall is the time of day of a reading of CLOCK_MONOTONIC.
func wall(monotonic int64) time.Time {
	if monotonic == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(monotonic) - Now())
}

// LookIn reads what the guards of a process are doing, without asking it: it may
// be stopped, or hang. A guard shares a page of memory with its daemon, whose
// descriptor the daemon has. The filesystems have numbers only; the hold intent
// has their names, in the same order.
func LookIn(daemon int) ([]Hold, error) {
	dir := fmt.Sprintf("/proc/%d/fd", daemon)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Hold
	for _, fd := range fds {
		path := filepath.Join(dir, fd.Name())
		if to, err := os.Readlink(path); err != nil || !strings.HasPrefix(to, "/memfd:umbra-freeze-page") {
			continue
		}
		h, err := lookInto(path)
		if err != nil {
			return out, err
		}
		out = append(out, h)
	}
	return out, nil
}

func lookInto(path string) (Hold, error) {
	f, err := os.Open(path)
	if err != nil {
		return Hold{}, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Size() != int64(wire.PageSize) {
		return Hold{}, errors.Join(err, errors.New("the page is another version's"))
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, wire.PageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return Hold{}, err
	}
	defer func() { _ = unix.Munmap(mem) }()
	page := wire.FromMemory(mem)
	h := Hold{Phase: phases[page.Phase.Load()], Beat: wall(page.Beat.Load())}
	for i := range page.Slots {
		s := lookAt(&page.Slots[i])
		if s.State == "idle" {
			continue
		}
		s.Slot = i
		if b := wall(page.Slots[i].FreezeBegin.Load()); !b.IsZero() && (h.Began.IsZero() || b.Before(h.Began)) {
			h.Began = b
		}
		h.Filesystems = append(h.Filesystems, s)
	}
	return h, nil
}

// Left reads the hold intents of a folder, for whoever wants to know what daemon
// and guard left when they died. What cannot be read is an error beside the rest.
func Left(dir string) ([]HoldIntent, error) {
	files, err := filepath.Glob(filepath.Join(dir, intentPrefix+"*"+intentSuffix))
	var out []HoldIntent
	errs := []error{err}
	for _, f := range files {
		h, err := readIntent(f)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended since
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, h)
	}
	return out, errors.Join(errs...)
}

// Named gives the filesystems of a hold that was looked at from outside the names
// its intent has for them.
func (h Hold) Named(intent HoldIntent) Hold {
	var supers []HeldFilesystem // filesystems of one superblock are held as one
	for _, f := range intent.Filesystems {
		if !slices.ContainsFunc(supers, func(o HeldFilesystem) bool { return o.Super == f.Super }) {
			supers = append(supers, f)
		}
	}
	for i := range h.Filesystems {
		if f := &h.Filesystems[i]; f.Slot < len(supers) {
			f.Name, f.Path = supers[f.Slot].Name, supers[f.Slot].Path
		}
	}
	return h
}

// InKernel finds the threads of a process that are in FIFREEZE or FITHAW, by what
// /proc says they called.
func InKernel(pid int) (out []Thread) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	for _, t := range tasks {
		b, err := os.ReadFile(filepath.Join(t, "syscall"))
		f := strings.Fields(string(b))
		if err != nil || len(f) < 3 || f[0] != strconv.Itoa(unix.SYS_IOCTL) {
			continue
		}
		call := map[uint64]string{wire.FIFREEZE: "FIFREEZE", wire.FITHAW: "FITHAW"}[hex(f[2])]
		if call == "" {
			continue
		}
		tid, _ := strconv.Atoi(filepath.Base(t))
		path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, hex(f[1])))
		out = append(out, Thread{TID: tid, Call: call, Path: path})
	}
	return out
}

// Thread is one that is freezing or thawing.
type Thread struct {
	TID  int
	Call string // FIFREEZE or FITHAW
	Path string // of what, as its process sees it
}

func hex(s string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	return n
}
