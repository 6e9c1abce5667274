package identity

import (
	"testing"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func TestNamesCarryTheirArray(t *testing.T) {
	p := NewPrefix()
	seen := map[lun.NAA]bool{}
	for range 100 {
		n, err := New(p)
		if err != nil {
			t.Fatal(err)
		}
		if seen[n] {
			t.Fatalf("%s drawn twice", n)
		}
		seen[n] = true
		if got, ok := PrefixOf(n); !ok || got != p {
			t.Fatalf("PrefixOf(%s) = %q, %v; want %q", n, got, ok, p)
		}
		info := Info(n)
		if back, ok := info.NAA(); !ok || back != n {
			t.Fatalf("Info(%s) carries %s", n, back)
		}
		if len(info.SerialNumber) != 25 || "naa."+OUI+info.SerialNumber != n.String() {
			t.Fatalf("serial %q does not complete %s", info.SerialNumber, n)
		}
		if !info.DiskSignature.IsNull() || len(info.Interconnects) != 0 {
			t.Fatal("a provider gives no disk signature and no interconnects")
		}
	}
}

func TestForeignNames(t *testing.T) {
	foreign, _ := lun.ParseNAA("naa.60060e80123456000000123400001234")
	if p, ok := PrefixOf(foreign); ok {
		t.Fatalf("a foreign name has prefix %q", p)
	}
	for _, p := range []string{"", "12345678", "1234567890", "12345678g", "12345678A"} {
		if _, err := New(p); vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("New(%q): %v", p, err)
		}
	}
}
