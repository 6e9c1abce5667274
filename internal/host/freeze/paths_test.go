package freeze

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestPathsOf: what counts for an NVMe disk with paths are its paths, of no other.
func TestPathsOf(t *testing.T) {
	class := t.TempDir()
	for _, d := range []string{"nvme0n1", "nvme0c0n1", "nvme0c3n1", "nvme0c0n12", "nvme0n12", "nvme1c0n1", "sda"} {
		if err := os.Mkdir(filepath.Join(class, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for disk, want := range map[string][]string{"nvme0n1": {"nvme0c0n1", "nvme0c3n1"}, "nvme0n12": {"nvme0c0n12"}, "nvme1n1": {"nvme1c0n1"}, "nvme0c0n1": nil, "nvme2n1": nil, "sda": nil, "sdn1": nil} {
		var got []string
		for _, p := range pathsOf(class, disk) {
			got = append(got, filepath.Base(p))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", disk, got, want)
		}
	}
}
