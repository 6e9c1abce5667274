package file

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/array/backend/backendtest"
)

// Conformance, on a store with an image of its own.
func TestConformance(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	cfg := Config{Dir: filepath.Join(dir, "store"), Image: filepath.Join(dir, "store.img"), ImageSize: 1 << 30}
	t.Cleanup(func() {
		s, err := Open(context.WithoutCancel(t.Context()), cfg)
		if err != nil {
			t.Fatal(err)
		}
		closeForGood(t, s)
	})
	backendtest.Run(t, backendtest.Rig{Open: func(t *testing.T) backend.Store {
		s, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}
