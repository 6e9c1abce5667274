package block

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
)

// TestNVMeOfAnArray: a LUN is the same LUN as over SCSI, whichever of its names
// the namespace has; what only looks like one is not.
func TestNVMeOfAnArray(t *testing.T) {
	n, err := lun.ParseNAA("naa.6001405abcdef0120123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	nguid, uuid := identity.GUIDText(identity.NGUID(n)), identity.GUIDText(identity.UUID(n))
	namespace := func(model, nguid, uuid string) lun.Info {
		t.Helper()
		info, ok := nvmeInfo(tree(t, map[string]string{"wwid": "uuid." + uuid + "\n", "nsid": "7\n", "nguid": nguid + "\n", "uuid": uuid + "\n",
			"device/model": model + "                          \n", "device/serial": "0123456789abcdef    \n", "device/firmware_rev": "6.1.0-56\n"}))
		if !ok {
			t.Fatal("no namespace")
		}
		return info
	}
	want := identity.Info(n)
	want.BusType = lun.BusNVMe
	for _, ids := range [][2]string{{nguid, uuid}, {nguid, ""}, {"", uuid}} {
		got := namespace("UMBRA FILE LUN", ids[0], ids[1])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", ids, diff)
		}
		if err := lun.Match(identity.Info(n), got); err != nil {
			t.Errorf("%q: it does not match what the document says of it: %v", ids, err)
		}
	}
	for _, other := range []lun.Info{
		namespace("Linux", nguid, uuid), // a namespace that somebody copied the names into
		namespace("UMBRA FILE LUN", nguid, "54c8ea15-70d3-492b-b296-a81ce386b64e"),
	} {
		if got, ok := other.NAA(); ok {
			t.Errorf("it is taken for %s", got)
		}
	}
}
