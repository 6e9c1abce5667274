package session

import (
	"fmt"
	"slices"
	"sync"

	"github.com/umbra-vss/umbra/vss"
)

// Machine walks the table for one object. It is safe for concurrent use.
type Machine struct {
	mu    sync.Mutex
	state State
	facts Facts
}

// NewMachine returns a machine in state New, in the default context, which has
// writers (requester.md 5.1).
func NewMachine() *Machine { return &Machine{state: New, facts: Facts{Writers: true}} }

// State returns the current state.
func (m *Machine) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Note changes the facts by which the needs of later calls are decided.
func (m *Machine) Note(change func(*Facts)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.facts)
}

// step finds the step of a call that is legal now. m.mu is held.
//
// A reserved method is E_NOTIMPL whatever the state, one that is not built yet
// where it would be legal.
func (m *Machine) step(method Method) (Step, error) {
	d, known := Describe(method)
	if known && d.Readiness == Reserved {
		return Step{}, notBuilt(method, "the method is reserved", "There is no use for it")
	}
	st, ok := Table[m.state][method]
	if !ok {
		return Step{}, badState(method, m.state)
	}
	for _, n := range slices.Concat(d.Needs, st.Needs) {
		if !m.facts.meet(n) {
			return Step{}, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: string(method), Reason: lack[n].reason, Remedy: lack[n].remedy}
		}
	}
	if d.Readiness == Pending {
		return Step{}, notBuilt(method, "this version cannot do it", "See the status table of the README")
	}
	st.method, st.from = method, m.state
	return st, nil
}

// Enter begins a call: it checks the table, moves to the step's To, and
// returns the step. VSS_E_BAD_STATE when the call is not legal now, E_NOTIMPL
// for a method without work behind it.
func (m *Machine) Enter(method Method) (Step, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st, err := m.step(method)
	if err == nil {
		m.state = st.To
	}
	return st, err
}

// Initialize is Enter(InitializeForBackup), which leads to BackupLoaded when a
// document was loaded: the one place where an argument decides.
func (m *Machine) Initialize(loaded bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	st, err := m.step(InitializeForBackup)
	if err != nil {
		return err
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
	_, err := m.step(method)
	return err
}

// Leave ends an asynchronous call that was entered with step: OK or Fail
// becomes the state, unless something (AbortBackup) has moved on meanwhile.
func (m *Machine) Leave(step Step, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ok {
		switch step.method {
		case GatherWriterMetadata:
			m.facts.Gathered, m.facts.Metadata = true, true
		case GatherWriterStatus:
			m.facts.Status = true
		}
	}
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

func notBuilt(method Method, reason, remedy string) error {
	return &vss.Error{Code: vss.E_NOTIMPL, Op: string(method), Reason: reason, Remedy: remedy}
}

func badState(method Method, s State) error {
	reason := fmt.Sprintf("it cannot be called in state %s", s)
	switch {
	case s == New:
		reason = "the object is not initialised"
	case slices.Contains(RestoreStates, s) && !legalIn(method, RestoreStates):
		reason = "the object is initialised for a restore"
	case slices.Contains(BackupStates, s) && !legalIn(method, BackupStates):
		reason = "the object is initialised for a backup"
	}
	return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: string(method), Reason: reason, Remedy: remedy(method)}
}

func legalIn(method Method, states []State) bool {
	return slices.ContainsFunc(states, func(s State) bool { _, ok := Table[s][method]; return ok })
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
	return "Keep to the order of calls of docs/api/order-of-calls.md; one object serves one operation"
}
