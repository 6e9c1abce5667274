// Package freezetest gives tests a freeze guard program, whether or not the
// test binary has one embedded.
package freezetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/freeze"
)

// Guard returns a guard program for freeze.Options.Binary: the embedded one,
// or else one that is compiled now, once per test binary.
func Guard(tb testing.TB) []byte {
	tb.Helper()
	if b := freeze.EmbeddedGuard(); b != nil {
		return b
	}
	return Build(tb)
}

// Build compiles the guard from source, once per test binary. It is for tests
// of the guard, which must not run an old one.
func Build(tb testing.TB) []byte {
	tb.Helper()
	b, err := build()
	if err != nil {
		tb.Fatalf("compile the freeze guard: %v", err)
	}
	return b
}

var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "umbra-guard-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "umbra-freeze-guard")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "github.com/umbra-vss/umbra/internal/host/freeze/guard")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, msg)
	}
	return os.ReadFile(out)
})
