package session

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

// TestImportOrder is requester.md 3.2 P1, P3 and the page's VSS_E_BAD_STATE row.
func TestImportOrder(t *testing.T) {
	for _, s := range []State{New, BackupInit, Gathering, Meta, SetOpen, Preparing, Prepared, Creating, Created,
		CreateFailed, Completing, Complete, Aborted, Importing, Imported, ImportFailed, RestoreInit, RestoreGathering, RestoreMeta} {
		m := &Machine{state: s}
		if _, err := m.Enter(ImportSnapshots); !errors.Is(err, vss.VSS_E_BAD_STATE) {
			t.Errorf("ImportSnapshots in %s: %v, want VSS_E_BAD_STATE", s, err)
		}
	}
	m := &Machine{state: BackupLoaded}
	step, err := m.Enter(ImportSnapshots)
	if err != nil || m.State() != Importing {
		t.Fatalf("ImportSnapshots in B_LOADED: %v, state %s", err, m.State())
	}
	m.Leave(step, false)
	if m.State() != ImportFailed {
		t.Fatalf("after a failed import: %s", m.State())
	}
}

func TestCreateOrder(t *testing.T) {
	m := NewMachine()
	m.Note(func(f *Facts) { f.BackupStateSet = true })
	for _, c := range []struct {
		method Method
		want   State
	}{{InitializeForBackup, BackupInit}, {SetContext, BackupInit}, {GatherWriterMetadata, Meta}, {StartSnapshotSet, SetOpen},
		{AddToSnapshotSet, SetOpen}, {PrepareForBackup, Prepared}, {DoSnapshotSet, Created}, {SaveAsXML, Created}, {BackupComplete, Complete}} {
		step, err := m.Enter(c.method)
		if err != nil {
			t.Fatal(err)
		}
		m.Leave(step, true)
		if m.State() != c.want {
			t.Fatalf("after %s: %s, want %s", c.method, m.State(), c.want)
		}
	}
}

// TestNeverBack: no sequence of calls returns to a state in which a set could
// be made or imported a second time.
func TestNeverBack(t *testing.T) {
	var methods []Method
	seen := map[Method]bool{}
	for _, row := range Table {
		for m := range row {
			if !seen[m] {
				seen[m] = true
				methods = append(methods, m)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		m := NewMachine()
		used := map[Method]int{}
		for range rapid.IntRange(1, 40).Draw(t, "n") {
			method := rapid.SampledFrom(methods).Draw(t, "method")
			if method == InitializeForBackup {
				if m.Initialize(rapid.Bool().Draw(t, "loaded")) == nil {
					used[method]++
				}
				continue
			}
			m.Note(func(f *Facts) { f.Writers, f.BackupStateSet = rapid.Bool().Draw(t, "writers"), true })
			step, err := m.Enter(method)
			if err != nil {
				continue
			}
			m.Leave(step, rapid.Bool().Draw(t, "ok"))
			used[method]++
		}
		for _, once := range []Method{InitializeForBackup, StartSnapshotSet, DoSnapshotSet, ImportSnapshots, PostRestore} {
			if used[once] > 1 {
				t.Fatalf("%s succeeded %d times on one object", once, used[once])
			}
		}
		if used[DoSnapshotSet] > 0 && used[ImportSnapshots] > 0 {
			t.Fatal("one object created a set and imported one")
		}
	})
}
