package block

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/lun"
)

// TestNBD: a device of the kernel's NBD client is the LUN that its backend
// identifier names, if that has Umbra's form; the tag says whose it is.
func TestNBD(t *testing.T) {
	n, err := lun.ParseNAA("naa.60014051234567890123456789012345")
	if err != nil {
		t.Fatal(err)
	}
	device := func(backend, ahead string) string {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "queue"), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"backend": backend, readAhead: ahead} {
			if text != "" {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		return dir
	}
	for what, backend := range map[string]string{"none": "", "another program's": "db/export", "half a name": "umbra/naa.6001"} {
		if got := nbdInfo(device(backend, "128")); got != nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
	ours := nbdInfo(device(LoopName(n, "aaaaaaaa"), "128"))
	if ours == nil || *ours != (NBD{NAA: n, HostTag: "aaaaaaaa"}) {
		t.Fatalf("read as %+v", ours)
	}
	d := Device{NBD: ours, LUN: nbdLUN(ours)}
	if got, ok := d.LUN.NAA(); !ok || got != n || d.Going() || d.Foreign("aaaaaaaa") || !d.Foreign("bbbbbbbb") || d.Foreign("") {
		t.Errorf("it is %+v", d)
	}
	if left := nbdInfo(device(LoopName(n, "aaaaaaaa"), going)); left == nil || !(Device{NBD: left}).Going() {
		t.Errorf("disconnected, it is %+v", left)
	}
}
