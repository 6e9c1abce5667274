// Package sitetest gives tests and benchmarks the umbra program that a site
// is built from.
package sitetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Program returns the program to test: UMBRA_BINARY if that is set, else one
// that it builds, with its freeze guard, from the module at root into dir.
func Program(root, dir string) (string, error) {
	if p := os.Getenv("UMBRA_BINARY"); p != "" {
		_, err := os.Stat(p)
		return p, err
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "umbra")
	guard := filepath.Join(root, "internal/host/freeze/guardbin/umbra-freeze-guard") // embedded by the second step
	for _, step := range [][]string{
		{"build", "-trimpath", "-ldflags=-s -w", "-o", guard, "./internal/host/freeze/guard"},
		{"build", "-o", program, "./cmd/umbra"},
	} {
		cmd := exec.Command("go", step...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %v: %w\n%s", step, err, out)
		}
	}
	return program, nil
}
