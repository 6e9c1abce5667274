package session

import (
	"fmt"
	"sync"

	"github.com/umbra-vss/umbra/vss"
)

// Machine walks the table for one object. It is safe for concurrent use.
type Machine struct {
	mu    sync.Mutex
	state State
}

// NewMachine returns a machine in state New.
func NewMachine() *Machine { return &Machine{state: New} }

// State returns the current state.
func (m *Machine) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Enter begins a call: it checks the table, moves to the step's To, and
// returns the step. VSS_E_BAD_STATE when the call is not legal now.
func (m *Machine) Enter(method Method) (Step, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st, ok := Table[m.state][method]
	if !ok {
		return Step{}, badState(method, m.state)
	}
	st.from = m.state
	m.state = st.To
	return st, nil
}

// Initialize is Enter(InitializeForBackup), which leads to BackupLoaded when a
// document was loaded: the one place where an argument decides.
func (m *Machine) Initialize(loaded bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	st, ok := Table[m.state][InitializeForBackup]
	if !ok {
		return badState(InitializeForBackup, m.state)
	}
	m.state = st.To
	if loaded {
		m.state = BackupLoaded
	}
	return nil
}

// Undo takes a call back that was entered with step and failed before it
// began: the state is what it was.
func (m *Machine) Undo(step Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == step.To {
		m.state = step.from
	}
}

// Check is Enter without moving.
func (m *Machine) Check(method Method) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := Table[m.state][method]; !ok {
		return badState(method, m.state)
	}
	return nil
}

// Leave ends an asynchronous call that was entered with step: OK or Fail
// becomes the state, unless something (AbortBackup) has moved on meanwhile.
func (m *Machine) Leave(step Step, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state != step.To {
		return
	}
	next := step.OK
	if !ok {
		next = step.Fail
	}
	if next != "" {
		m.state = next
	}
}

func badState(method Method, s State) error {
	reason := fmt.Sprintf("it cannot be called in state %s", s)
	switch s {
	case New:
		reason = "the object is not initialised"
	case RestoreInit, RestoreGathering, RestoreMeta:
		reason = "the object is initialised for a restore"
	}
	return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: string(method), Reason: reason, Remedy: remedy(method)}
}

// remedy names the call that is missing.
func remedy(method Method) string {
	switch method {
	case ImportSnapshots, CheckImport:
		return "Make a new object, call InitializeForBackup with the saved document, then ImportSnapshots once"
	case AddToSnapshotSet:
		return "Call StartSnapshotSet first"
	case DoSnapshotSet:
		return "Call StartSnapshotSet and AddToSnapshotSet first, and PrepareForBackup in a context with writers"
	case SaveAsXML:
		return "Call PrepareForBackup first, or DoSnapshotSet in a context without writers"
	case InitializeForBackup, InitializeForRestore:
		return "Make a new object: one object serves one operation"
	}
	return "Keep to the order of calls of docs/concepts.md; one object serves one operation"
}
