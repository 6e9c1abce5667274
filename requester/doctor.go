package requester

import (
	"context"
	"time"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// Finding is one thing that is stuck, lost or left. Names are stable:
// docs/operations.md lists them.
type Finding struct {
	Name     string    `json:"name"`
	Severity string    `json:"severity"` // warning, error
	Object   string    `json:"object"`
	Who      string    `json:"who,omitempty"`     // process, thread or session
	Since    time.Time `json:"since,omitzero"`    // zero: not known
	Deadline time.Time `json:"given_up,omitzero"` // when it is given up by itself; zero: never
	What     string    `json:"what"`
	Why      string    `json:"why"`
	Help     string    `json:"help"` // the command that helps
}

// Running is an asynchronous operation that runs.
type Running struct {
	Op      string    `json:"op"`
	Session string    `json:"session"`
	SetID   vss.ID    `json:"set_id,omitzero"`
	Client  string    `json:"client,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Phase   string    `json:"phase"`
	Object  string    `json:"object,omitempty"`
	Begun   time.Time `json:"begun"`
	Since   time.Time `json:"since"` // of the phase
}

// Diagnosis is what the doctor found.
type Diagnosis struct {
	Findings   []Finding `json:"findings"`
	Operations []Running `json:"operations"`
	StateDir   string    `json:"state_dir"`
	RunDir     string    `json:"run_dir"`
}

// Doctor asks the service what is stuck, lost or left, and gives it so long to
// look; 0 is three seconds. A service that hangs does not answer: give ctx an end.
func (h *Host) Doctor(ctx context.Context, limit time.Duration) (Diagnosis, error) {
	r, err := askHost(ctx, h, "Doctor", hostRPCs.Doctor, &vssv1.DoctorRequest{TimeoutMs: uint32(limit.Milliseconds())})
	if err != nil {
		return Diagnosis{}, err
	}
	d := Diagnosis{Findings: []Finding{}, Operations: []Running{}, StateDir: r.StateDir, RunDir: r.RunDir}
	for _, f := range r.Findings {
		d.Findings = append(d.Findings, Finding{Name: f.Name, Severity: f.Severity, Object: f.Object, Who: f.Who, Since: unixTime(f.SinceUnixNs), Deadline: unixTime(f.DeadlineUnixNs),
			What: f.What, Why: f.Why, Help: f.Help})
	}
	for _, o := range r.Operations {
		run := Running{Op: o.Op, Session: o.Session, Client: o.Client, PID: int(o.Pid), Phase: o.Phase, Object: o.Object, Begun: unixTime(o.BegunUnixNs), Since: unixTime(o.SinceUnixNs)}
		if len(o.SetId) == len(run.SetID) {
			run.SetID = vss.ID(o.SetId)
		}
		d.Operations = append(d.Operations, run)
	}
	return d, nil
}

// unixTime reads a time off the wire; 0 is none.
func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
