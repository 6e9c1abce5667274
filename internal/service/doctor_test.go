package service

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/outlive"
	"github.com/umbra-vss/umbra/lun"
)

// TestAttached: a device that is not there is missing, whatever its record says;
// a program on record that has ended is nobody's server.
func TestAttached(t *testing.T) {
	run := t.TempDir()
	n := lun.NAA{0: 0x60, 15: 1}
	dir := filepath.Join(run, "nbd", "array", n.String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a := catalog.Attachment{Device: "/dev/nbd4711", LUN: lun.Info{StorageIDs: []lun.StorageID{n.StorageID()}}}
	if at := (records{runDir: run}).Attached(a); !at.Missing {
		t.Errorf("%+v", at)
	}
	if a.LUN.Name() != n.String() {
		t.Errorf("the folder is called %s, the LUN %s", n, a.LUN.Name())
	}
	p, err := outlive.Start(outlive.Program{Args: []string{"sleep", "60"}, Dir: dir, Log: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Keep(dir); err != nil {
		t.Error(err)
	}
	if err := p.End(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Glob("/sys/class/block/nbd[0-9]*")
	if err != nil || len(here) == 0 {
		t.Skip("this kernel has no NBD devices")
	}
	a.Device = filepath.Join("/dev", filepath.Base(here[0]))
	if at := (records{runDir: run}).Attached(a); at.Missing || at.Trouble == "" {
		t.Errorf("its program has ended: %+v", at)
	}
}
