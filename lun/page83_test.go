package lun

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

// page is the identification page of a LUN behind an iSCSI target: a T10 and
// an NAA name of the unit, the relative port, the port group, the name of the
// target and one designator of a type that no standard knows yet.
func page(t testing.TB) []byte {
	t.Helper()
	body := []byte{}
	add := func(codeSet, association, kind byte, id []byte) {
		body = append(body, codeSet, association<<4|kind, 0, byte(len(id)))
		body = append(body, id...)
	}
	add(2, 0, 1, []byte("UMBRA   disk0001"))
	add(1, 0, 3, []byte{0x60, 0x01, 0x40, 0x5a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	add(1, 1, 4, []byte{0, 0, 0, 1})
	add(1, 1, 5, []byte{0, 0, 0, 0})
	add(3, 2, 8, []byte("iqn.2026-01.example:t\x00\x00\x00"))
	add(1, 0, 0xb, []byte{9, 9})
	add(1, 0, 2, nil)
	body[0] |= 0x50 // protocol identifier: not ours to look at
	return append([]byte{0x00, 0x83, 0, byte(len(body))}, body...)
}

func TestParsePage83(t *testing.T) {
	ids, err := ParsePage83(page(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []StorageID{
		{CodeSetASCII, IDVendorID, []byte("UMBRA   disk0001")},
		{CodeSetBinary, IDFCPHName, []byte{0x60, 0x01, 0x40, 0x5a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		{CodeSetBinary, 0xb, []byte{9, 9}},
	}
	if d := cmp.Diff(want, ids); d != "" {
		t.Fatal(d)
	}
}

func TestParsePage83DoesNotAlias(t *testing.T) {
	b := page(t)
	ids, err := ParsePage83(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if ids[1].Identifier[0] != 0x60 {
		t.Fatal("the identifiers share the caller's buffer, which callers reuse")
	}
}

func TestParsePage83Strict(t *testing.T) {
	whole := page(t)
	for n := range whole {
		if _, err := ParsePage83(whole[:n]); !errors.Is(err, vss.E_INVALIDARG) {
			t.Errorf("first %d of %d bytes: %v, want E_INVALIDARG", n, len(whole), err)
		}
	}
	edit := func(i int, v byte) []byte { b := bytes.Clone(whole); b[i] = v; return b }
	for name, b := range map[string][]byte{
		"no logical unit":        edit(0, 0x7f),
		"another page":           edit(1, 0x80),
		"designator past page":   edit(len(whole)-1, 1),
		"page ends in a header":  edit(3, whole[3]-2),
		"page ends in a payload": edit(3, whole[3]-5),
	} {
		ids, err := ParsePage83(b)
		if vss.CodeOf(err) != vss.E_INVALIDARG || ids != nil {
			t.Errorf("%s: %v, %v", name, ids, err)
		}
	}
	if ids, err := ParsePage83(append(whole, make([]byte, 100)...)); err != nil || len(ids) != 3 {
		t.Errorf("a buffer larger than the page: %v, %v", ids, err)
	}
}

func TestPage83RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfN(storageID(), 0, 40).Draw(t, "ids")
		b, err := EncodePage83(ids)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParsePage83(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ids, back, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func TestEncodePage83Refuses(t *testing.T) {
	for name, ids := range map[string][]StorageID{
		"empty":    {{CodeSetBinary, IDFCPHName, nil}},
		"long":     {{CodeSetBinary, IDFCPHName, make([]byte, 256)}},
		"type":     {{CodeSetBinary, 16, []byte{1}}},
		"code set": {{16, IDFCPHName, []byte{1}}},
		"too many": slicesRepeat(StorageID{CodeSetBinary, IDFCPHName, make([]byte, 255)}, 300),
	} {
		if b, err := EncodePage83(ids); vss.CodeOf(err) != vss.E_INVALIDARG || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func slicesRepeat(s StorageID, n int) []StorageID {
	out := make([]StorageID, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestParsePage80(t *testing.T) {
	for _, c := range []struct {
		page string
		want string
		ok   bool
	}{
		{"\x00\x80\x00\x08  AB12  ", "AB12", true},
		{"\x00\x80\x00\x00", "", true},
		{"\x00\x80\x00\x04\x00\x00\x00\x00", "", true},
		{"\x00\x80\x00\x02ABCD", "AB", true},
		{"\x00\x80\x00\x05ABCD", "", false},
		{"\x00\x83\x00\x04ABCD", "", false},
		{"\x00\x80\x00", "", false},
		{"", "", false},
	} {
		got, err := ParsePage80([]byte(c.page))
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: %q, %v", c.page, got, err)
		}
		if !c.ok && vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%q: %v", c.page, err)
		}
	}
}

func FuzzParsePage83(f *testing.F) {
	f.Add(page(f))
	f.Add([]byte{0, 0x83, 0, 0})
	f.Add([]byte{0, 0x83, 0, 4, 1, 3, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := ParsePage83(b)
		if err != nil {
			if vss.CodeOf(err) != vss.E_INVALIDARG || ids != nil {
				t.Fatalf("%v, %v", ids, err)
			}
			return
		}
		again, err := EncodePage83(ids)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParsePage83(again)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ids, back, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}
