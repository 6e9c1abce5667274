package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/host/process"
	"github.com/umbra-vss/umbra/internal/underway"
)

// patience is how long each kind of thing may take before it is worth a line.
var patience = map[underway.Kind]time.Duration{
	underway.Request: 30 * time.Second, underway.Provider: 2 * time.Second, underway.Array: 2 * time.Second,
	underway.Program: 5 * time.Second, underway.Mount: 5 * time.Second, underway.Device: 5 * time.Second,
}

// late are the waits of a kind that have lasted too long, as findings.
func late(s Service, kind underway.Kind, name string, describe func(underway.Wait, *Finding)) (out []Finding) {
	for _, w := range s.Waits() {
		if w.Kind != kind || time.Since(w.Since) < patience[kind] {
			continue
		}
		f := find(name, w.Object)
		f.Since, f.Deadline, f.Who = w.Since, w.Deadline, session(w.Session, "", 0)
		if !w.Deadline.IsZero() && time.Now().After(w.Deadline) {
			f.Severity = Error // nobody waits any more, and it hangs all the same
		}
		describe(w, &f)
		out = append(out, f)
	}
	return out
}

func join(parts ...string) string {
	var all []string
	for _, p := range parts {
		if p != "" {
			all = append(all, p)
		}
	}
	return strings.Join(all, ", ")
}

// stopped says what is with a process, and the signal that helps.
func stopped(pid int) (state, help string) {
	p, ok := process.Look(pid)
	switch {
	case pid == 0 || !ok:
		return "", ""
	case p.Stopped():
		return "it is stopped", fmt.Sprintf("kill -CONT %d", pid)
	case len(p.Blocked) > 0:
		return p.Blocked[0].String(), fmt.Sprintf("kill -9 %d", pid)
	}
	return "", fmt.Sprintf("kill %d", pid)
}

// requests finds calls of requesters that do not end. What keeps them is mostly
// found as well.
func requests(_ context.Context, s Service) []Finding {
	return late(s, underway.Request, "request.slow", func(w underway.Wait, f *Finding) {
		f.Object, f.What, f.Help = w.What, "it has not been answered", "see what else is found here"
		if w.PID != 0 {
			f.Who, f.Help = session(w.Session, w.Who, w.PID), fmt.Sprintf("kill -INT %d", w.PID)
		}
	})
}

// providerCalls finds methods that have not come back.
func providerCalls(_ context.Context, s Service) []Finding {
	return late(s, underway.Provider, "provider.waiting", func(w underway.Wait, f *Finding) {
		state, help := stopped(w.PID)
		f.Object = join("provider "+w.Who, w.Object)
		f.What, f.Help = join(w.What+" has not come back", state), help
		if w.PID != 0 {
			f.Who = join(fmt.Sprintf("its program (pid %d)", w.PID), f.Who)
		} else {
			f.Help = "restart the provider's own service"
		}
	})
}

// arrayCalls finds calls to arrays that have not come back.
func arrayCalls(_ context.Context, s Service) []Finding {
	return late(s, underway.Array, "array.waiting", func(w underway.Wait, f *Finding) {
		f.Object, f.What, f.Help = join("array "+w.Who, w.Object), w.What+" has not come back", "umbra list arrays"
	})
}

// programs finds helper programs that do not end.
func programs(_ context.Context, s Service) []Finding {
	return late(s, underway.Program, "program.slow", func(w underway.Wait, f *Finding) {
		state, help := stopped(w.PID)
		f.Object, f.What, f.Help = w.What, join("it has not ended", state), help
		if w.PID != 0 {
			f.Who = join(fmt.Sprintf("pid %d", w.PID), f.Who)
		}
		if help == "" {
			f.Help = "umbra doctor" // it has ended meanwhile
		}
	})
}

// mounts finds mounts and unmounts that the kernel has not come back from.
func mounts(_ context.Context, s Service) []Finding {
	return late(s, underway.Mount, "mount.stuck", func(w underway.Wait, f *Finding) {
		f.What = w.What + " has not come back from the kernel"
		f.Help = "umount -l " + w.Object
	})
}

// devices finds devices that do not answer.
func devices(_ context.Context, s Service) []Finding {
	return late(s, underway.Device, "device.stuck", func(w underway.Wait, f *Finding) {
		f.What, f.Help = w.What+" has not come back from the kernel", "dmesg | grep -w "+strings.TrimPrefix(w.Object, "/dev/")
	})
}
