package session

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// legal is requester.md 2.1 to 2.3 and 2.8 written a second time, by method:
// the states it may be called in. Whatever is not here is VSS_E_BAD_STATE.
var legal = map[Method][]State{
	InitializeForBackup:  {New},
	InitializeForRestore: {New},
	SetContext:           {BackupInit, BackupLoaded},
	SetBackupState:       {BackupInit, BackupLoaded, Meta, SetOpen, RestoreInit, RestoreMeta},
	GatherWriterMetadata: {BackupInit, RestoreInit},
	StartSnapshotSet:     {BackupInit, Meta},
	AddToSnapshotSet:     {SetOpen},
	PrepareForBackup:     {SetOpen},
	DoSnapshotSet:        {SetOpen, Prepared},
	BackupComplete:       {Created},
	SaveAsXML:            {Prepared, Created, Completing, Complete, BackupLoaded, Importing, Imported, ImportFailed},
	ImportSnapshots:      {BackupLoaded},
	CheckImport:          {BackupLoaded},
	AbortBackup:          initialised,

	Query: initialised, GetSnapshotProperties: initialised, DeleteSnapshots: initialised, ExposeSnapshot: initialised,
	UnexposeSnapshot: initialised, CleanupImport: initialised, IsVolumeSupported: initialised,
}

var initialised = []State{BackupInit, BackupLoaded, Gathering, Meta, SetOpen, Preparing, Prepared, Creating, Created, CreateFailed, Completing, Complete, Aborted, Importing, Imported, ImportFailed}

var all = append(slices.Clone(initialised), New, RestoreInit, RestoreGathering, RestoreMeta)

func TestTableIsComplete(t *testing.T) {
	for method, states := range legal {
		for _, s := range all {
			m := &Machine{state: s}
			want := slices.Contains(states, s)
			checked := m.Check(method)
			_, err := m.Enter(method)
			if (err == nil) != want || (checked == nil) != want {
				t.Errorf("%s in %s: %v, want legal %v", method, s, err, want)
			}
			if err != nil {
				if e := vss.AsError("", err); !errors.Is(err, vss.VSS_E_BAD_STATE) || e.Op != string(method) || e.Reason == "" || e.Remedy == "" || m.State() != s {
					t.Errorf("%s in %s: %+v, state now %s", method, s, e, m.State())
				}
			}
		}
	}
	for s, row := range Table {
		if !slices.Contains(all, s) {
			t.Errorf("state %s is not of this test", s)
		}
		for method, step := range row {
			if legal[method] == nil {
				t.Errorf("method %s is not of this test", method)
			}
			for _, to := range []State{step.To, step.OK, step.Fail} {
				if to != "" && !slices.Contains(all, to) {
					t.Errorf("%s in %s leads to %q", method, s, to)
				}
			}
		}
	}
}

// TestEveryStateIsReached: and every busy one is left.
func TestEveryStateIsReached(t *testing.T) {
	reached := map[State]bool{New: true, BackupLoaded: true}
	for range all {
		for s := range maps.Clone(reached) {
			for _, step := range Table[s] {
				for _, to := range []State{step.To, step.OK, step.Fail} {
					reached[to] = true
				}
			}
		}
	}
	for _, s := range all {
		if !reached[s] {
			t.Errorf("nothing leads to %s", s)
		}
	}
}

// TestUndo: a call that failed before it began leaves the state as it was,
// and does not undo what came in between.
func TestUndo(t *testing.T) {
	m := &Machine{state: BackupLoaded}
	step, err := m.Enter(ImportSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	m.Undo(step)
	if m.State() != BackupLoaded {
		t.Errorf("state %s", m.State())
	}
	m = &Machine{state: SetOpen}
	step, _ = m.Enter(DoSnapshotSet)
	if _, err := m.Enter(AbortBackup); err != nil {
		t.Fatal(err)
	}
	m.Undo(step)
	m.Leave(step, true)
	if m.State() != Aborted {
		t.Errorf("state %s", m.State())
	}
}

func TestInitialize(t *testing.T) {
	for loaded, want := range map[bool]State{false: BackupInit, true: BackupLoaded} {
		m := NewMachine()
		if err := m.Initialize(loaded); err != nil || m.State() != want {
			t.Errorf("%v, state %s", err, m.State())
		}
		if err := m.Initialize(loaded); !errors.Is(err, vss.VSS_E_BAD_STATE) {
			t.Errorf("again: %v", err)
		}
	}
}
