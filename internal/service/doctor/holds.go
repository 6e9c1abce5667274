package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/umbra-vss/umbra/internal/host/freeze"
)

// stuckTime is how long a freeze or thaw may be in the kernel; overdue how long
// after the limit a filesystem may still be frozen.
const (
	stuckTime = time.Second
	overdue   = 500 * time.Millisecond
)

// holds finds what daemon and guards cannot release.
func holds(_ context.Context, s Service) []Finding { return held(s.Holds()) }

func held(hs []freeze.Hold) (out []Finding) {
	for _, h := range hs {
		for _, fs := range h.Filesystems {
			who := "the daemon"
			if h.Guard != 0 {
				who = fmt.Sprintf("the freeze guard (pid %d)", h.Guard)
			}
			switch {
			case (fs.State == "freezing" || fs.State == "thawing") && time.Since(fs.Since) > stuckTime:
				f := find("hold.stuck", fs.Path)
				f.Since, f.Who = fs.Since, join(who, threadsOf(h.Guard, fs.Path))
				f.What = "a thread is in FIFREEZE"
				if fs.State == "thawing" {
					f.What = "a thread is in FITHAW"
				}
				f.Help = "dmesg | tail -50" // for the storage below: only that can help
				out = append(out, f)
			case fs.State == "frozen" && h.Limit > 0 && !h.Began.IsZero() && time.Since(h.Began) > h.Limit+overdue:
				f := find("hold.overdue", fs.Path)
				f.Since, f.Who, f.What = fs.Since, who, "it is frozen, by the guard's own record, "+time.Since(h.Began).Round(time.Second).String()+" after the freezing began"
				f.Help = "systemctl restart umbra"
				if state, help := stopped(h.Guard); state == "it is stopped" {
					f.What, f.Help = f.What+"; the guard is stopped", help
				}
				out = append(out, f)
			}
		}
	}
	return out
}

// threadsOf are the threads of a process that freeze or thaw a filesystem.
func threadsOf(pid int, path string) (words string) {
	if pid == 0 {
		return ""
	}
	for _, t := range freeze.InKernel(pid) {
		if t.Path == path {
			words = join(words, fmt.Sprintf("thread %d", t.TID))
		}
	}
	return words
}
