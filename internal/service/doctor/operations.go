package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// How long an operation may be in a phase before it is worth a line.
const (
	phaseTime   = 30 * time.Second
	holdTime    = 2 * time.Second
	releaseTime = 10 * time.Minute
)

// operations finds those that do not move on.
func operations(_ context.Context, s Service) (out []Finding) {
	for _, o := range s.Operations() {
		limit := phaseTime
		if o.Phase == "hold" {
			limit = holdTime
		}
		if !o.Ended.IsZero() || time.Since(o.Since) < limit {
			continue
		}
		f := find("operation.slow", o.Op)
		if !o.Set.IsNull() {
			f.Object += " of set " + o.Set.String()
		}
		f.Who, f.Since = session(o.Session, o.Client, o.PID), o.Since
		f.What = strings.TrimSpace(fmt.Sprintf("it is in phase %s %s", phaseName(o.Phase), o.Object))
		f.Help = "see what else is found here"
		if o.PID != 0 {
			f.Help = fmt.Sprintf("kill -INT %d", o.PID)
		}
		out = append(out, f)
	}
	return out
}

func phaseName(p string) string {
	if p == "" {
		return "start"
	}
	return p
}

// asyncs finds ends that nobody fetches.
func asyncs(_ context.Context, s Service) (out []Finding) {
	for _, o := range s.Operations() {
		if o.Ended.IsZero() || time.Since(o.Ended) < releaseTime {
			continue
		}
		f := find("async.unreleased", o.Op)
		f.Who, f.Since, f.What = session(o.Session, o.Client, o.PID), o.Ended, "it has ended, and its Async was not released"
		f.Help = "end the program, or have it release its Asyncs"
		if o.PID != 0 {
			f.Help = fmt.Sprintf("kill %d", o.PID)
		}
		out = append(out, f)
	}
	return out
}
