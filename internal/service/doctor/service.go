package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// Service is what a live service knows. Its methods answer from memory, but for
// Arrays.
type Service interface {
	Operations() []Operation
	Waits() []underway.Wait
	Holds() []freeze.Hold
	Providers() []Provider
	// Arrays asks every array whether it answers.
	Arrays(ctx context.Context) []Array
}

// Operation is an asynchronous operation that runs, or that ended and was not
// released.
type Operation struct {
	Op           string
	Session, Set vss.ID
	PID          int    // the requester's; 0 if unknown
	Client       string // what it calls itself
	Phase        string
	Object       string
	Begun        time.Time
	Since        time.Time // of the phase
	Ended        time.Time // zero while it runs
}

// Array is a joined array.
type Array struct {
	Name      string
	Endpoints []string
	Err       error     // why it does not answer; nil if it does
	Since     time.Time // of the first call that it did not answer
}

// Provider is a registered one that is a program.
type Provider struct {
	Name, Program string
	ID            vss.ID
	Err           error // why it did not start when it was tried last; nil if it did
	Since         time.Time
}

// ExamineService runs the checks of what a service knows.
func ExamineService(ctx context.Context, s Service) []Finding {
	return examine(ctx, s, []check[Service]{
		{"operations", operations}, {"asyncs", asyncs}, {"requests", requests}, {"holds", holds}, {"providers", providers}, {"provider calls", providerCalls},
		{"array calls", arrayCalls}, {"arrays", arrays}, {"programs", programs}, {"mounts", mounts}, {"devices", devices},
	})
}

// session is who has an operation, in words.
func session(id vss.ID, client string, pid int) string {
	s := ""
	if !id.IsNull() {
		s = "session " + id.String()
	}
	switch {
	case pid != 0 && client != "":
		s += fmt.Sprintf(" of %s (pid %d)", client, pid)
	case client != "":
		s += " of " + client
	case pid != 0:
		s += fmt.Sprintf(" of pid %d", pid)
	}
	return s
}
