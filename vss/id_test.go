package vss

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestIDText(t *testing.T) {
	const text = "{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f}"
	id, err := ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	if id[0] != 0x0d || id[15] != 0x5f {
		t.Fatal("bytes are not in the order of the text")
	}
	if id.String() != text || id.Bare() != text[1:37] {
		t.Fatal(id, id.Bare())
	}
	if b, err := json.Marshal(map[string]ID{"id": id}); err != nil || string(b) != `{"id":"`+text+`"}` {
		t.Fatal(string(b), err)
	}
	if !GUIDNull.IsNull() || id.IsNull() || GUIDNull.String() != "{00000000-0000-0000-0000-000000000000}" {
		t.Fatal("GUID_NULL")
	}
	if a, b := NewID(), NewID(); a == b || a.IsNull() {
		t.Fatal("new IDs are not new")
	}
}

func TestIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		for _, s := range []string{id.String(), id.Bare(), strings.ToUpper(id.String())} {
			if back, err := ParseID(s); err != nil || back != id {
				t.Fatalf("%s: %v, %v", s, back, err)
			}
		}
		var back ID
		b, err := json.Marshal(id)
		if err != nil || json.Unmarshal(b, &back) != nil || back != id {
			t.Fatalf("%s: %v", b, back)
		}
	})
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{
		"", "{}", "0d6a4f0e7c0d4f0f8a530a1b2c3d4e5f", "{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f", "0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f}",
		"{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5g}", "0d6a4f0e-7c0d-4f0f-8a530a1b2c3d4e5f-", " 0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f",
		"urn:uuid:0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f", "{{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f}}", "-0d6a4f-e-7c0d-4f0f-8a53-0a1b2c3d4e5",
		"0d6a4f0e--c0d-4f0f-8a53-0a1b2c3d4e5f",
	} {
		id, err := ParseID(s)
		if CodeOf(err) != E_INVALIDARG || !id.IsNull() {
			t.Errorf("%q: %v, %v", s, id, err)
		}
		keep := NewID()
		was := keep
		if keep.UnmarshalText([]byte(s)) == nil || keep != was {
			t.Errorf("%q: UnmarshalText changed the ID to %v", s, keep)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f}")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && !strings.EqualFold(strings.Trim(s, "{}"), id.Bare()) {
			t.Fatalf("%q was read as %s", s, id)
		}
	})
}
