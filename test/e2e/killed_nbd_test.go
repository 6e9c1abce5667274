package e2e

import (
	"testing"

	_ "github.com/umbra-vss/umbra/internal/host/attach/nbd" // registers its failpoints
)

// overNBDAlways are the failpoints at which every run kills over NBD: one of each
// step that NBD adds, and of the others the first after it.
var overNBDAlways = []string{
	"host.nbd.after-start", "host.nbd.after-stop", "host.loop.after-configure", "host.loop.after-clear",
	"array.export.after-map", "array.unexport.after-record", "array.nbd.after-start", "array.nbd.after-remove",
	"import.after-arrive", "delete.after-detach", "cleanup.after-mask",
}

// TestKilledOverNBD: the same deaths, where LUNs come over the network and what
// carries them outlives the dead.
func TestKilledOverNBD(t *testing.T) {
	f := overNBD(t)
	if !*full {
		f.chosen = overNBDAlways
	}
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	f.put(v, "hello", "hello")
	f.killedInHost(v, w)
	f.killedImporting(v, w)
	f.killedDeleting(v)
	f.killedCleaningUp(v, w)
	f.killedArray(v, w)
	f.works(v, w)
}
