package demo

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestVerifyPrefix(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	w, err := StartWorkload(context.Background(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	for w.Written() < 20 {
		time.Sleep(time.Millisecond)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	m, err := VerifyPrefix(a, b)
	if err != nil || m < 20 {
		t.Fatalf("a whole log: %d, %v", m, err)
	}
	// Each of these is a torn set and must be found.
	for name, tear := range map[string]func(){
		"second volume older": func() { mustTruncate(t, b, 5*recordSize) },
		"first volume older":  func() { mustTruncate(t, a, 5*recordSize) },
		"half a record":       func() { mustTruncate(t, a, 5*recordSize+7) },
		"flipped byte": func() {
			f, err := os.OpenFile(b, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte{0}, 3*recordSize+40); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			sa, sb := read(t, a), read(t, b)
			defer func() { write(t, a, sa); write(t, b, sb) }()
			tear()
			if m, err := VerifyPrefix(a, b); err == nil {
				t.Fatalf("not found; claims %d records", m)
			}
		})
	}
}

func mustTruncate(t *testing.T, name string, n int64) {
	t.Helper()
	if err := os.Truncate(name, n); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
