package loop

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func TestWithoutLoopDriver(t *testing.T) {
	_, err := folder(t.TempDir()).control()
	if !errors.Is(err, vss.VSS_E_NOT_SUPPORTED) {
		t.Errorf("control = %v", err)
	}
	i := New("00000000", nil)
	i.dev = folder(t.TempDir())
	if _, err := i.configure(t.Context(), Opened{NAA: lun.NAA{0x60}}); !errors.Is(err, vss.VSS_E_NOT_SUPPORTED) {
		t.Errorf("configure = %v", err)
	}
}

func TestNodeIsMade(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a device node")
	}
	d := folder(t.TempDir())
	for range 2 { // the second time it is there
		node, err := d.ensureNode(5)
		if err != nil {
			t.Fatal(err)
		}
		st, err := unixStat(node)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(7, 5) {
			t.Errorf("%s: %v, mode %o, device %x", node, err, st.Mode, st.Rdev)
		}
	}
}
