package lun

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

func nibbled(format byte, rest ...byte) StorageID {
	id := make([]byte, 8)
	if format == 6 {
		id = make([]byte, 16)
	}
	id[0] = format << 4
	copy(id[1:], rest)
	return StorageID{CodeSetBinary, IDFCPHName, id}
}

func text(t IDType, s string) StorageID { return StorageID{CodeSetASCII, t, []byte(s)} }

func disk(ids ...StorageID) Info {
	return Info{Version: InfoVersion, VendorID: "UMBRA   ", ProductID: "LUN             ", SerialNumber: "0001", StorageIDs: ids}
}

func with(i Info, f func(*Info)) Info { f(&i); return i }

func TestMatchFields(t *testing.T) {
	base := disk(nibbled(6, 1))
	for _, c := range []struct {
		name   string
		change func(*Info)
		field  string // "" = still the same LUN
	}{
		{"nothing", func(*Info) {}, ""},
		{"bus type", func(i *Info) { i.BusType = BusISCSI }, ""},
		{"disk signature", func(i *Info) { i.DiskSignature = vss.NewID() }, ""},
		{"revision", func(i *Info) { i.ProductRevision = "2.0" }, ""},
		{"interconnects", func(i *Info) { i.Interconnects = []Interconnect{{AddressSCSI, []byte{1}, []byte{2}}} }, ""},
		{"command queueing", func(i *Info) { i.CommandQueueing = true }, ""},
		{"vendor padding", func(i *Info) { i.VendorID = "UMBRA" }, ""},
		{"product padding", func(i *Info) { i.ProductID = "LUN\x00" }, ""},
		{"serial padding", func(i *Info) { i.SerialNumber = "  0001 " }, ""},
		{"serial absent", func(i *Info) { i.SerialNumber = "" }, ""},
		{"one more kind", func(i *Info) { i.StorageIDs = append([]StorageID{text(IDVendorID, "UMBRA x")}, i.StorageIDs...) }, ""},
		{"version", func(i *Info) { i.Version = 2 }, "version"},
		{"device type", func(i *Info) { i.DeviceType = 5 }, "device type"},
		{"modifier", func(i *Info) { i.DeviceTypeModifier = 1 }, "device type modifier"},
		{"vendor", func(i *Info) { i.VendorID = "OTHER" }, "vendor"},
		{"vendor absent", func(i *Info) { i.VendorID = "" }, "vendor"},
		{"product", func(i *Info) { i.ProductID = "lun" }, "product"},
		{"serial", func(i *Info) { i.SerialNumber = "0002" }, "serial number"},
		{"identifier", func(i *Info) { i.StorageIDs = []StorageID{nibbled(6, 2)} }, "identifier"},
		{"no identifier", func(i *Info) { i.StorageIDs = nil }, "identifier"},
		{"code set", func(i *Info) { i.StorageIDs = []StorageID{{CodeSetASCII, IDFCPHName, nibbled(6, 1).Identifier}} }, "identifier"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for dir, err := range map[string]error{
				"forth": Match(base, with(base, c.change)),
				"back":  Match(with(base, c.change), base),
			} {
				if c.field == "" {
					if err != nil {
						t.Errorf("%s: %v", dir, err)
					}
					continue
				}
				var e *vss.Error
				if !errors.As(err, &e) || e.Code != vss.VSS_E_MISSING_DISK || !strings.HasPrefix(e.Reason, c.field+" differs") || e.Remedy == "" {
					t.Errorf("%s: %v, want the %s named", dir, err, c.field)
				}
			}
		})
	}
}

func TestMatchVersionOfBoth(t *testing.T) {
	if Match(Info{}, Info{}) == nil {
		t.Fatal("two empty descriptions are not one LUN")
	}
	if Match(disk(), disk()) == nil {
		t.Fatal("two LUNs without identifiers are not known to be one")
	}
}

func TestMatchIdentifiers(t *testing.T) {
	a6, b6, c6 := nibbled(6, 1), nibbled(6, 2), nibbled(6, 3)
	array5, other5 := nibbled(5, 9), nibbled(5, 8)
	model := text(IDVendorID, "UMBRA   model")
	for _, c := range []struct {
		name      string
		want, got []StorageID
		same      bool
	}{
		{"two NAA names, both seen", []StorageID{a6, b6}, []StorageID{b6, a6}, true},
		{"two NAA names, one seen", []StorageID{a6, b6}, []StorageID{a6}, true},
		{"two NAA names each, one agrees", []StorageID{a6, b6}, []StorageID{a6, c6}, true},
		{"shared NAA 5 cannot vouch for another NAA 6", []StorageID{a6, array5}, []StorageID{b6, array5}, false},
		{"NAA 6 agrees, NAA 5 conflicts", []StorageID{a6, array5}, []StorageID{a6, other5}, false},
		{"shared T10 name cannot vouch", []StorageID{model, a6}, []StorageID{model, b6}, false},
		{"T10 name alone", []StorageID{model}, []StorageID{model}, true},
		{"no kind in common", []StorageID{a6}, []StorageID{model}, false},
		{"only unqualified in common", []StorageID{{1, IDPortRelative, []byte{1}}}, []StorageID{{1, IDPortRelative, []byte{1}}}, false},
		{"unqualified may differ", []StorageID{a6, {1, IDVendorSpecific, []byte{1}}}, []StorageID{a6, {1, IDVendorSpecific, []byte{2}}}, true},
		{"zeros name nothing", []StorageID{{1, IDEUI64, make([]byte, 8)}}, []StorageID{{1, IDEUI64, make([]byte, 8)}}, false},
		{"zeros conflict with nothing", []StorageID{a6, {1, IDEUI64, make([]byte, 8)}}, []StorageID{a6, {1, IDEUI64, []byte{1, 2, 3, 4, 5, 6, 7, 8}}}, true},
		{"blanks name nothing", []StorageID{text(IDVendorID, "        ")}, []StorageID{text(IDVendorID, "        ")}, false},
		{"EUI-64 of 8 and of 16 bytes", []StorageID{a6, {1, IDEUI64, []byte{1, 2, 3, 4, 5, 6, 7, 8}}},
			[]StorageID{a6, {1, IDEUI64, bytes.Repeat([]byte{7}, 16)}}, true},
		{"EUI-64 conflict", []StorageID{a6, {1, IDEUI64, []byte{1, 2, 3, 4, 5, 6, 7, 8}}},
			[]StorageID{a6, {1, IDEUI64, []byte{1, 2, 3, 4, 5, 6, 7, 9}}}, false},
		{"SCSI names of two kinds", []StorageID{a6, text(IDSCSINameString, "naa.60")}, []StorageID{a6, text(IDSCSINameString, "eui.00")}, true},
		{"SCSI names conflict", []StorageID{a6, text(IDSCSINameString, "naa.60")}, []StorageID{a6, text(IDSCSINameString, "naa.61")}, false},
		{"a prefix of an identifier is another one", []StorageID{text(IDVendorID, "UMBRA1")}, []StorageID{text(IDVendorID, "UMBRA12")}, false},
	} {
		for dir, err := range map[string]error{
			"forth": Match(disk(c.want...), disk(c.got...)),
			"back":  Match(disk(c.got...), disk(c.want...)),
		} {
			if (err == nil) != c.same {
				t.Errorf("%s (%s): %v", c.name, dir, err)
			}
		}
	}
}

func storageID() *rapid.Generator[StorageID] {
	return rapid.Custom(func(t *rapid.T) StorageID {
		return StorageID{
			CodeSet:    CodeSet(rapid.IntRange(0, 15).Draw(t, "code set")),
			Type:       IDType(rapid.IntRange(0, 15).Draw(t, "type")),
			Identifier: rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "identifier"),
		}
	})
}

// fewIDs draws from so few values that matches and conflicts are both common.
func fewIDs() *rapid.Generator[[]StorageID] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) StorageID {
		k := rapid.SampledFrom([]IDType{IDVendorSpecific, IDVendorID, IDEUI64, IDFCPHName, IDSCSINameString}).Draw(t, "type")
		return StorageID{CodeSetBinary, k, []byte{byte(rapid.IntRange(0, 3).Draw(t, "value"))<<4 | 1}}
	}), 0, 4)
}

func TestMatchProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := disk(fewIDs().Draw(t, "a")...), disk(fewIDs().Draw(t, "b")...)
		forth, back := Match(a, b), Match(b, a)
		if (forth == nil) != (back == nil) {
			t.Fatalf("not symmetric: %v, %v", forth, back)
		}
		named := slices.ContainsFunc(a.StorageIDs, identifies)
		if self := Match(a, a); (self == nil) != named {
			t.Fatalf("a LUN is itself exactly when it has a name: %v", self)
		}
		if forth == nil && !intersect(qualifying(a.StorageIDs), qualifying(b.StorageIDs)) {
			t.Fatal("matched without an identifier in common")
		}
		// Order is nobody's identity.
		r := with(b, func(i *Info) { i.StorageIDs = slices.Clone(i.StorageIDs); slices.Reverse(i.StorageIDs) })
		if (Match(a, r) == nil) != (forth == nil) {
			t.Fatal("the order of the identifiers decided")
		}
		// What any host may see differently never decides.
		noise := with(b, func(i *Info) {
			i.BusType = BusType(rapid.Byte().Draw(t, "bus"))
			i.ProductRevision = rapid.String().Draw(t, "revision")
			i.CommandQueueing = rapid.Bool().Draw(t, "queueing")
			i.DiskSignature = vss.NewID()
		})
		if (Match(a, noise) == nil) != (forth == nil) {
			t.Fatal("an ignored field decided")
		}
	})
}

func TestNAAText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var n NAA
		copy(n[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "naa"))
		n[0] = 0x60 | n[0]&0xf
		for _, s := range []string{n.String(), strings.ToUpper(n.String()[4:]), " " + n.String() + "\n"} {
			back, err := ParseNAA(s)
			if err != nil || back != n {
				t.Fatalf("%q: %v, %v", s, back, err)
			}
		}
		var m NAA
		b, _ := n.MarshalText()
		if err := m.UnmarshalText(b); err != nil || m != n {
			t.Fatalf("%v, %v", m, err)
		}
		if got, ok := (Info{StorageIDs: []StorageID{text(IDVendorID, "x"), n.StorageID()}}).NAA(); !ok || got != n {
			t.Fatalf("%v, %v", got, ok)
		}
	})
	for _, s := range []string{"", "naa.", "naa.5001405a", strings.Repeat("5", 32), strings.Repeat("6", 31), strings.Repeat("6", 34), strings.Repeat("6g", 16)} {
		if _, err := ParseNAA(s); vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, ok := disk(nibbled(5)).NAA(); ok {
		t.Error("an 8-byte name is not a NAA")
	}
}

func TestNames(t *testing.T) {
	n := nibbled(6, 1)
	for want, i := range map[string]Info{
		"(no page 0x83 identifier)":         disk(StorageID{1, IDPortRelative, []byte{1}}),
		"t10.UMBRA x":                       disk(text(IDVendorID, "UMBRA x  ")),
		fmt.Sprintf("naa.%x", n.Identifier): disk(text(IDVendorID, "UMBRA x"), n),
		"eui.0102":                          disk(StorageID{1, IDEUI64, []byte{1, 2}}),
		"iqn.2026-01.example:t":             disk(text(IDSCSINameString, "iqn.2026-01.example:t\x00\x00")),
	} {
		if got := i.Name(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if s := (StorageID{1, IDMD5LogicalUnit, []byte{0xab}}).String(); s != "type7.ab" {
		t.Error(s)
	}
	if (StorageID{1, IDFCPHName, nil}).Qualifies() {
		t.Error("an empty name qualifies")
	}
}
