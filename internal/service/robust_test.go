package service_test

import (
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog/catalogtest"
	"github.com/umbra-vss/umbra/vss"
)

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

// TestEnumOfPages: an enumerator has all there is, however many pages the
// service makes of it.
func TestEnumOfPages(t *testing.T) {
	const sets = 500
	m := filled(t, sets)
	e, err := m.Initialised(vss.CTX_ALL).Query(t.Context(), vss.GUIDNull, vss.OBJECT_NONE, vss.OBJECT_SNAPSHOT)
	if err != nil {
		t.Fatal(err)
	}
	all, code, err := e.Next(10 * sets * catalogtest.Volumes)
	if len(all) != sets*catalogtest.Volumes || code != vss.S_FALSE || err != nil {
		t.Errorf("%d copies, %v, %v", len(all), code, err)
	}
}
