package identity

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/lun"
)

// TestNamespaceNames: golden, because hosts and arrays of different versions
// must agree for ever.
func TestNamespaceNames(t *testing.T) {
	n, err := lun.ParseNAA("naa.6001405abcdef0120123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := GUIDText(NGUID(n)), "01234567-89ab-cdef-0014-05abcdef0126"; got != want {
		t.Errorf("NGUID %s, want %s", got, want)
	}
	if got, want := GUIDText(UUID(n)), "01405abc-def0-8120-8123-456789abcdef"; got != want {
		t.Errorf("UUID %s, want %s", got, want)
	}
}

func TestNamespaceNamesReverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.StringMatching("[0-9a-f]{9}").Draw(t, "prefix")
		n, err := New(prefix)
		if err != nil {
			t.Fatal(err)
		}
		var none [16]byte
		for _, g := range [][2][16]byte{{NGUID(n), UUID(n)}, {NGUID(n), none}, {none, UUID(n)}} {
			if got, ok := OfNamespace(g[0], g[1]); !ok || got != n {
				t.Fatalf("%s: %x is %s, %v", n, g, got, ok)
			}
		}
		text, ok := ParseGUID(GUIDText(UUID(n)))
		if !ok || text != UUID(n) {
			t.Fatalf("%x", text)
		}
		other, _ := New(prefix)
		if got, ok := OfNamespace(NGUID(n), UUID(other)); ok {
			t.Fatalf("names of two LUNs are %s", got)
		}
	})
}

func TestOtherNamespaces(t *testing.T) {
	var none [16]byte
	random, _ := ParseGUID("54c8ea15-70d3-492b-b296-a81ce386b64e")
	n, _ := New("000000000")
	foreign := NGUID(n)
	foreign[8] ^= 0xff // another company
	for what, g := range map[string][2][16]byte{"no names": {none, none}, "a random UUID": {none, random}, "ours and a random UUID": {NGUID(n), random}, "another company's NGUID": {foreign, none}, "another's and our UUID": {foreign, UUID(n)}} {
		if got, ok := OfNamespace(g[0], g[1]); ok {
			t.Errorf("%s is %s", what, got)
		}
	}
}

func TestNamespaceWWIDs(t *testing.T) {
	for digits, want := range map[string][]string{
		"6001405abcdef0120123456789abcdef": {"uuid.01405abc-def0-8120-8123-456789abcdef", "eui.0123456789abcdef001405abcdef0126"},
		"6001405abcdef012":                 {"uuid.01405abc-def0-812?-8???-????????????", "eui.????????????????001405abcdef0126"},
		"6001405":                          {"uuid.01405???-????-8???-8???-????????????", "eui.????????????????001405?????????6"},
		"6002222abcdef012":                 nil,
	} {
		if got := NamespaceWWIDs(digits); !slices.Equal(got, want) {
			t.Errorf("%s: %q", digits, got)
		}
	}
}
