package file

import (
	"testing"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/array/backend/backendtest"
)

// Conformance, on a store with an image of its own.
func TestConformance(t *testing.T) {
	_, cfg := newStore(t)
	backendtest.Run(t, backendtest.Rig{Open: func(t *testing.T) backend.Store {
		s, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}
