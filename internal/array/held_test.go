package array

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHeldByReaders(t *testing.T) {
	sys := t.TempDir()
	for name, backing := range map[string]string{
		"loop1": "/srv/array/store/luns/naa.60014051 (deleted)",
		"loop2": "/srv/array/store/luns/naa.60014052",
		"loop3": "/srv/other/naa.60014053 (deleted)",
	} {
		dir := filepath.Join(sys, "block", name)
		if err := os.MkdirAll(filepath.Join(dir, "loop"), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"loop/backing_file": backing + "\n", "size": "131072\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := heldByReaders(sys, "/srv/array/store/luns")
	if len(got) != 1 || !strings.Contains(got[0], "naa.60014051 ") || !strings.Contains(got[0], "/dev/loop1") || !strings.Contains(got[0], "64 MiB") {
		t.Errorf("held: %q", got)
	}
}
