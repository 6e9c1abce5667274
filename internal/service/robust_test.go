package service_test

import "testing"

// TestReleasedIsForgotten: an object that lives long does not remember every
// operation it ever began.
func TestReleasedIsForgotten(t *testing.T) {
	m := newMachine(t)
	bc := m.Open()
	if err := bc.InitializeForBackup(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		op, err := bc.GatherWriterStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := op.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.Service.Remembered(); n > 100 {
		t.Errorf("%d operations are remembered", n)
	}
}
