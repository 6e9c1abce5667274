package importing

import (
	"errors"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// TestAbout: each LUN that did not come has its own reason, not the others'.
func TestAbout(t *testing.T) {
	one, two := lun.NAA{0x60, 1, 15: 1}, lun.NAA{0x60, 1, 15: 2}
	info := func(n lun.NAA) lun.Info { return lun.Info{Version: 1, StorageIDs: []lun.StorageID{n.StorageID()}} }
	late := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Object: one.String(), Reason: "late"}
	wrong := &vss.Error{Code: vss.VSS_E_MISSING_DISK, Object: two.String(), Reason: "wrong"}
	both := vss.Join("attach LUN", late, wrong)
	for n, want := range map[lun.NAA]error{one: late, two: wrong} {
		if got := about(both, info(n)); got != want {
			t.Errorf("of %v: %v", n, got)
		}
		if got := about(want, info(n)); got != want {
			t.Errorf("an only error: %v", got)
		}
	}
	for _, err := range []error{both, errors.New("x"), late} {
		if got := about(err, info(lun.NAA{0x60, 1, 15: 3})); got == nil || !strings.Contains(got.Error(), err.Error()) {
			t.Errorf("of one that nothing names: %v", got)
		}
	}
}
