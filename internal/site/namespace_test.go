package site

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// TestBridgeKeepsItsAddress: hosts that are there do not lose the array when
// another one is plugged in.
func TestBridgeKeepsItsAddress(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	array, err := newNamespace("array")
	if err != nil {
		t.Fatal(err)
	}
	defer array.close()
	if err := array.bridge("10.77.0.1/24"); err != nil {
		t.Fatal(err)
	}
	h, ns, err := array.handle()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	defer h.Close()
	for i := range 6 { // the chance that none of them is the lowest so far is small
		host, err := newNamespace("host")
		if err != nil {
			t.Fatal(err)
		}
		defer host.close()
		if err := array.connect(host, i+1, fmt.Sprintf("10.77.0.%d/24", 11+i)); err != nil {
			t.Fatal(err)
		}
		br, err := h.LinkByName("san0")
		if err != nil {
			t.Fatal(err)
		}
		if got := br.Attrs().HardwareAddr; !bytes.Equal(got, bridgeAddr) {
			t.Errorf("with %d hosts the bridge is %s, was %s", i+1, got, bridgeAddr)
		}
	}
}
