package session

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// legal is requester.md 2.1 to 2.8 written a second time, by method: the states
// it may be called in. Whatever is not here is VSS_E_BAD_STATE.
var legal = map[Method][]State{
	InitializeForBackup:    {New},
	InitializeForRestore:   {New},
	SetContext:             {BackupInit, BackupLoaded},
	SetBackupState:         {BackupInit, BackupLoaded, Meta, SetOpen, RestoreInit, RestoreMeta},
	GatherWriterMetadata:   {BackupInit, RestoreInit},
	AddComponent:           {Meta, SetOpen},
	SetBackupOptions:       {Meta, SetOpen},
	SetPreviousBackupStamp: {Meta, SetOpen},
	StartSnapshotSet:       {BackupInit, Meta},
	AddToSnapshotSet:       {SetOpen},
	PrepareForBackup:       {SetOpen},
	DoSnapshotSet:          {SetOpen, Prepared},
	SetBackupSucceeded:     {Created},
	BackupComplete:         {Created},
	SaveAsXML:              {Prepared, Created, Completing, Complete, BackupLoaded, Importing, Imported, ImportFailed},
	ImportSnapshots:        {BackupLoaded},
	CheckImport:            {BackupLoaded},
	AbortBackup:            backup,

	Query: backup, GetSnapshotProperties: backup, DeleteSnapshots: backup, ExposeSnapshot: backup,
	UnexposeSnapshot: backup, CleanupImport: backup, IsVolumeSupported: backup, QueryRevertStatus: backup,
	BreakSnapshotSet: backup, BreakSnapshotSetEx: backup, RevertToSnapshot: backup,

	GetWriterMetadataCount: initialised, GetWriterMetadata: initialised, GetWriterMetadataEx: initialised, FreeWriterMetadata: initialised,
	GetWriterStatusCount: initialised, GetWriterStatus: initialised, GetWriterStatusEx: initialised, FreeWriterStatus: initialised,
	GetWriterComponentsCount: initialised, GetWriterComponents: initialised,
	EnableWriterClasses: initialised, DisableWriterClasses: initialised, DisableWriterInstances: initialised,
	GatherWriterStatus: {BackupInit, BackupLoaded, Meta, SetOpen, Prepared, Created, CreateFailed, Complete, Aborted, Imported, ImportFailed,
		RestoreInit, RestoreMeta, PreRestored, PostRestored},

	SetRestoreState:       {RestoreInit, RestoreMeta},
	SetSelectedForRestore: {RestoreMeta}, SetSelectedForRestoreEx: {RestoreMeta}, AddRestoreSubcomponent: {RestoreMeta},
	SetRestoreOptions: {RestoreMeta}, SetAdditionalRestores: {RestoreMeta}, AddNewTarget: {RestoreMeta}, SetRangesFilePath: {RestoreMeta},
	SetAuthoritativeRestore: {RestoreMeta}, SetRollForward: {RestoreMeta}, SetRestoreName: {RestoreMeta},
	PreRestore:           {RestoreMeta},
	SetFileRestoreStatus: {PreRestored}, AddAlternativeLocationMapping: {PreRestored},
	PostRestore:              {PreRestored},
	AddSnapshotToRecoverySet: {RestoreInit, RestoreMeta}, RecoverSet: {RestoreInit, RestoreMeta},

	GetSessionId: all, GetRootAndLogicalPrefixPaths: all,
	PreFastRecovery: {}, FastRecovery: {},
}

var (
	backup = []State{BackupInit, BackupLoaded, Gathering, Meta, SetOpen, Preparing, Prepared, Creating, Created, CreateFailed, Completing, Complete,
		Aborted, Importing, Imported, ImportFailed}
	restore     = []State{RestoreInit, RestoreGathering, RestoreMeta, PreRestoring, PreRestored, PostRestoring, PostRestored}
	initialised = slices.Concat(backup, restore)
	all         = slices.Concat(initialised, []State{New})
)

// content are the facts that meet every need a method has in a state, as far as
// they can be met together.
func content(m Method, s State) Facts {
	f := Facts{ContextSet: m != SetContext, Writers: true, BackupStateSet: true, ComponentMode: true, Gathered: true, Metadata: true, Status: true}
	f.Writers = !slices.Contains(Table[s][m].Needs, NoWriters)
	return f
}

func TestTableIsComplete(t *testing.T) {
	for method, states := range legal {
		for _, s := range all {
			m := &Machine{state: s, facts: content(method, s)}
			d, known := Describe(method)
			if !known {
				t.Fatalf("%s is not described", method)
			}
			want := vss.VSS_E_BAD_STATE
			switch {
			case d.Readiness == Reserved, d.Readiness == Pending && slices.Contains(states, s):
				want = vss.E_NOTIMPL
			case slices.Contains(states, s):
				want = vss.S_OK
			}
			checked := m.Check(method)
			_, err := m.Enter(method)
			if vss.CodeOf(err) != want || vss.CodeOf(checked) != want {
				t.Errorf("%s in %s: %v, want %s", method, s, err, want)
			}
			if err != nil {
				if e := vss.AsError("", err); !errors.Is(err, want) || e.Op != string(method) || e.Reason == "" || e.Remedy == "" || m.State() != s {
					t.Errorf("%s in %s: %+v, state now %s", method, s, e, m.State())
				}
			}
		}
	}
	for _, d := range Methods {
		if legal[d.Method] == nil {
			t.Errorf("method %s is not of this test", d.Method)
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

// TestNeeds: each need that is not met is VSS_E_BAD_STATE with a reason of its
// own, and met again it is legal.
func TestNeeds(t *testing.T) {
	unmet := map[Need]func(*Facts){
		NoContext: func(f *Facts) { f.ContextSet = true }, ContextSet: func(f *Facts) { f.ContextSet = false },
		NotForAdministration: func(f *Facts) { f.Administration = true },
		Writers:              func(f *Facts) { f.Writers = false }, NoWriters: func(f *Facts) { f.Writers = true },
		BackupStateSet: func(f *Facts) { f.BackupStateSet = false }, ComponentMode: func(f *Facts) { f.ComponentMode = false },
		Gathered: func(f *Facts) { f.Gathered = false }, Metadata: func(f *Facts) { f.Metadata = false }, Status: func(f *Facts) { f.Status = false },
	}
	used := map[Need]bool{}
	for s, row := range Table {
		for method, step := range row {
			d, _ := Describe(method)
			for _, n := range slices.Concat(d.Needs, step.Needs) {
				used[n] = true
				m := &Machine{state: s, facts: content(method, s)}
				m.Note(unmet[n])
				_, err := m.Enter(method)
				if e := vss.AsError("", err); !errors.Is(err, vss.VSS_E_BAD_STATE) || e.Reason != lack[n].reason || e.Remedy == "" || m.State() != s {
					t.Errorf("%s in %s without %q: %v, state %s", method, s, n, err, m.State())
				}
			}
		}
	}
	for n := range unmet {
		if !used[n] || lack[n].reason == "" {
			t.Errorf("need %q is used by no method, or has no reason", n)
		}
	}
}

// TestGathered: what is gathered is there when the operation has succeeded.
func TestGathered(t *testing.T) {
	m := NewMachine()
	if err := m.Initialize(false); err != nil {
		t.Fatal(err)
	}
	gather := func(method Method, ok bool) {
		t.Helper()
		step, err := m.Enter(method)
		if err != nil {
			t.Fatal(err)
		}
		m.Leave(step, ok)
	}
	gather(GatherWriterMetadata, false)
	if err := m.Check(GetWriterMetadataCount); !errors.Is(err, vss.VSS_E_BAD_STATE) {
		t.Errorf("after a failure: %v", err)
	}
	gather(GatherWriterMetadata, true)
	gather(GatherWriterStatus, true)
	for _, method := range []Method{GetWriterMetadataCount, GetWriterStatusCount} {
		if err := m.Check(method); err != nil {
			t.Error(err)
		}
	}
}
