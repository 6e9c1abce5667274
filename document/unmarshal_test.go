package document

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// brokenDocument is the sample with one thing wrong.
type brokenDocument struct {
	name     string
	old, new string           // the first old is replaced; new stands alone where old is ""
	reason   string           // part of the message
	schema   bool             // the XSD refuses it as well
	of       func() *Document // the sample
}

func (c brokenDocument) xml(t testing.TB) string {
	t.Helper()
	b, err := Marshal(c.of())
	if err != nil {
		t.Fatal(err)
	}
	if c.old == "" {
		return c.new
	}
	if !strings.Contains(string(b), c.old) {
		t.Fatalf("%s: the sample has no %q", c.name, c.old)
	}
	return strings.Replace(string(b), c.old, c.new, 1)
}

// brokenRow is a brokenDocument in a table.
type brokenRow struct {
	name, old, new, reason string
	schema                 bool
}

func broke(of func() *Document, rows []brokenRow) []brokenDocument {
	var out []brokenDocument
	for _, r := range rows {
		out = append(out, brokenDocument{r.name, r.old, r.new, r.reason, r.schema, of})
	}
	return out
}

func broken() []brokenDocument {
	const provider, second = `providerId="{5f3c3b1e-2f5a-4c5d-9a43-6a7b11d0c001}"`, `id="{66666666-7777-4888-9999-aaaaaaaaaaaa}"`
	return broke(sample, []brokenRow{
		{"nothing", "", " ", "empty", true},
		{"no XML", "", "umbra", "text where only elements", true},
		{"half a tag", "", "<backupComponents", "not well-formed", true},
		{"another document element", "<backupComponents", "<components", "document element is components", true},
		{"another namespace", "urn:umbra-vss:backup-components:1", "urn:x", `namespace "urn:x"`, true},
		{"next namespace", "urn:umbra-vss:backup-components:1", "urn:umbra-vss:backup-components:2", "namespace", true},
		{"next version", `schemaVersion="1.0"`, `schemaVersion="1.3" more="x"`, `"1.3" is not 1.0, 1.1 or 1.2`, true},
		{"no version", `schemaVersion="1.0"`, ``, "schemaVersion is missing", true},
		{"document type", "<backupComponents", "<!DOCTYPE backupComponents>\n<backupComponents", "document type", false},
		{"entity", "<backupComponents", "<!DOCTYPE x [<!ENTITY a \"b\">]>\n<backupComponents", "document type", false},
		{"entity reference", `"db1.example"`, `"&host;"`, "not well-formed", true},
		{"processing instruction", "<backupState", "<?php x?><backupState", "processing instruction", false},
		{"second declaration", "<backupState", "<?xml version=\"1.0\"?><backupState", "processing instruction", true},
		{"another encoding", "UTF-8", "ISO-8859-1", "not well-formed", false},
		{"invalid UTF-8", `"db1.example"`, "\"\xff\"", "not well-formed", true},
		{"forbidden character", `"db1.example"`, `"&#1;"`, "not well-formed", true},
		{"raw tab", `"db1.example"`, "\"db1\texample\"", "canonical", false},
		{"second spelling", `"db1.example"`, `"db1\x2eexample"`, "canonical", false},
		{"bad escape", `"db1.example"`, `"db1\nexample"`, "backslash", true},
		{"text between", "<backupState", "hello<backupState", "text where", true},
		{"text in an element", `partialFiles="false"/>`, `partialFiles="false">x</backupState>`, "text where", true},
		{"element in a ticket", "pQD/pQD/", "<a/>pQD/pQD/", "element where only text", true},
		{"unknown element", "<backupState", "<extra/><backupState", "element extra", true},
		{"unknown element inside", "<identifier", "<extra/><identifier", "element extra", true},
		{"element of another namespace", "<extent ", `<extent xmlns="urn:x" `, `namespace "urn:x"`, true},
		{"unknown attribute", "<backupState", `<backupState extra="1"`, "unknown attribute extra", true},
		{"attribute of a namespace", "<backupState", `<backupState xml:lang="en"`, "unknown attribute lang", true},
		{"declared namespace", "<backupState", `<backupState xmlns:x="urn:x"`, `namespace "urn:x"`, false},
		{"attribute twice", "<backupState", `<backupState bootable="true"`, "bootable comes twice", true},
		{"attribute missing", ` bootable="true"`, ``, "bootable is missing", true},
		{"element missing", `<backupState selectComponents="true" bootable="true" type="full" partialFiles="false"/>`, ``, "element backupState is missing", true},
		{"filesystem missing", `<filesystem type="ext4" uuid="3d1f8f0c-5d2e-4b93-8c0b-8f9a7a6b5c4d" label="pg &amp; &lt;data&gt;" size="1072693248" deviceCount="1"/>`, ``, "filesystem is missing", true},
		{"extents missing", `<extent offset="1048576" length="1072693248"/>`, ``, "extent is missing", true},
		{"element twice", "<backupState", `<backupState selectComponents="true" bootable="true" type="full" partialFiles="false"/><backupState`, "comes more than 1", true},
		{"wrong order", "<extent ", `<source/><extent `, "source does not belong", true},
		{"more after it", "</backupComponents>", "</backupComponents>\n<backupComponents/>", "follows", true},
		{"text after it", "</backupComponents>", "</backupComponents>\nx", "text where", true},
		{"cut short", "</snapshotSet>\n</backupComponents>\n", "", "not well-formed", true},
		{"upper-case GUID", `{0d6a4f0e-`, `{0D6A4F0E-`, "GUID", true},
		{"GUID without braces", `"{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f}"`, `"0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f"`, "GUID", true},
		{"null set", `id="{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f}"`, `id="{00000000-0000-0000-0000-000000000000}"`, "GUID_NULL", false},
		{"bits without 0x", `context="0x00000029"`, `context="00000029"`, "hexadecimal", true},
		{"short bits", `context="0x00000029"`, `context="0x29"`, "hexadecimal", true},
		{"no such context", `context="0x00000029"`, `context="0x00000001"`, "context", false},
		{"set of no context", `attributes="0x00000029"`, `attributes="0x00000021"`, "no context", false},
		{"unknown attribute bit", `attributes="0x00030069"`, `attributes="0x80030069"`, "unknown attribute bits 0x80000000", false},
		{"another context", `attributes="0x00030069"`, `attributes="0x00030060"`, "not those of the set", false},
		{"boolean as number", `bootable="true"`, `bootable="1"`, "neither true nor false", true},
		{"backup type", `type="full"`, `type="Full"`, "backup type", true},
		{"leading zero", `count="2"`, `count="02"`, "decimal", true},
		{"plus sign", `count="2"`, `count="+2"`, "decimal", true},
		{"blank", `count="2"`, `count=" 2"`, "decimal", false},
		{"count 0", `count="2"`, `count="0"`, "count of 0", true},
		{"count 65", `count="2"`, `count="65"`, "decimal", true},
		{"fewer than there are", `count="2"`, `count="1"`, "2 shadow copies in a set of 1", false},
		{"too large", `generation="18446744073709551615"`, `generation="18446744073709551616"`, "decimal", true},
		{"octet", `busType="9"`, `busType="256"`, "decimal", true},
		{"time zone", `12:30:00.1234567Z`, `12:30:00.1234567+01:00`, "UTC", true},
		{"time precision", `12:30:00.1234567Z`, `12:30:00Z`, "UTC", true},
		{"no such day", `2026-03-01T`, `2026-02-30T`, "UTC", true},
		{"before 1601", `2026-03-01T`, `1600-12-31T`, "1601", false},
		{"odd hex", `value="6001405a000000000000000000000001"`, `value="6001405a00000000000000000000001"`, "hexadecimal", true},
		{"upper-case hex", `6001405a000000000000000000000001`, `6001405A000000000000000000000001`, "hexadecimal", true},
		{"empty identifier", `value="6001405a000000000000000000000001"`, `value=""`, "0 bytes", true},
		{"no machine", `originatingMachine="db1.example"`, `originatingMachine=""`, "machine is empty", true},
		{"no volume", `originalVolumeName="/srv/postgresql"`, `originalVolumeName=""`, "volume name is empty", true},
		{"long name", `serviceMachine="db1.example"`, `serviceMachine="` + strings.Repeat("a", maxText+1) + `"`, "4097 bytes", false},
		{"LUN information version", `<source version="1"`, `<source version="2"`, "version 2", true},
		{"LUN without size", `<lunMapping size="1073741824" generation="7">`, `<lunMapping size="0" generation="7">`, "no size", true},
		{"extent beyond the LUN", `offset="1048576" length="1072693248"`, `offset="1048577" length="1072693248"`, "do not fit", false},
		{"extent that wraps", `offset="1048576" length="1072693248"`, `offset="18446744073709551615" length="2"`, "do not fit", false},
		{"empty extent", `length="1072693248"`, `length="0"`, "empty", true},
		{"extents overlap", `<extent offset="536870912" length="536870912"/>`, `<extent offset="268435455" length="536870912"/>`, "overlap", false},
		{"device UUIDs", `deviceCount="2"`, `deviceCount="1"`, "2 device UUIDs for 1", false},
		{"snapshot ID twice", second, `id="{11111111-2222-4333-8444-555555555555}"`, "used twice", true},
		{"set and snapshot ID", second, `id="{0d6a4f0e-7c0d-4f0f-8a53-0a1b2c3d4e5f}"`, "used twice", false},
		{"ticket of nobody", `<ticket ` + provider, `<ticket providerId="{5f3c3b1e-2f5a-4c5d-9a43-6a7b11d0c002}"`, "no shadow copy", false},
		{"ticket twice", `<ticket `, `<ticket ` + provider + `>AA==</ticket><ticket `, "second ticket", true},
		{"empty ticket", `<ticket `, `<ticket ` + provider + `/><ticket `, "0 bytes", true},
		{"ticket not base64", "pQD/pQD/", "*", "base64", true},
		{"ticket on two lines", "pQD/pQD/", "pQD/\npQD/", "base64", false},
		{"snapshot after ticket", "</snapshotSet>", "<snapshot/></snapshotSet>", "snapshot does not belong", true},
		{"altered size", `size="1072693248"`, `size="1072693249"`, "digest does not fit", false},
		{"altered name", `"/srv/postgresql"`, `"/srv/postgresq1"`, "digest does not fit", false},
		{"altered digest", `digest="4`, `digest="5`, "digest does not fit", false},
		{"short digest", `digest="43`, `digest="`, "64 lower-case", true},
	})
}

var position = regexp.MustCompile(`^line \d+, column \d+: `)

func TestUnmarshalRefuses(t *testing.T) {
	for _, c := range append(broken(), brokenComponents()...) {
		t.Run(c.name, func(t *testing.T) {
			d, err := Unmarshal([]byte(c.xml(t)))
			var e *vss.Error
			if d != nil || !errors.As(err, &e) || e.Code != vss.VSS_E_INVALID_XML_DOCUMENT {
				t.Fatalf("%v, %v", d, err)
			}
			if !strings.Contains(e.Reason, c.reason) {
				t.Errorf("%q does not say %q", e.Reason, c.reason)
			}
			if !position.MatchString(e.Reason) || e.Op == "" || e.Object == "" || e.Remedy == "" {
				t.Errorf("incomplete: %#v", e)
			}
		})
	}
}

func TestUnmarshalSaysWhere(t *testing.T) {
	for _, c := range []struct{ old, new, object, at string }{
		// Found while reading, and found afterwards.
		{`<device uuid="02020202`, `<device x="1" uuid="02020202`, "snapshotSet/snapshot[2]/filesystem/device[2]", "line 23, column 9: "},
		{`offset="1048576"`, `offset="1048577"`, "snapshotSet/snapshot[1]/lunMapping[1]/extent[1]", "line 17, column 9: "},
		{`offset="0" length="268435456"`, `offset="0" length="1268435456"`, "snapshotSet/snapshot[2]/lunMapping[2]/extent[2]", "line 46, column 9: "},
		{`context="0x00000029"`, `context="0x00000001"`, "backup components document", "line 2, column 1: "},
	} {
		_, err := Unmarshal([]byte(brokenDocument{of: sample, old: c.old, new: c.new}.xml(t)))
		var e *vss.Error
		if !errors.As(err, &e) || !strings.HasSuffix(e.Object, c.object) || !strings.HasPrefix(e.Reason, c.at) {
			t.Errorf("%q, want %q at %q", err, c.object, c.at)
		}
	}
}

func TestNewerVersionsSayUpdate(t *testing.T) {
	for _, name := range []string{"next namespace", "next version", "unknown attribute bit"} {
		for _, c := range broken() {
			if c.name != name {
				continue
			}
			_, err := Unmarshal([]byte(c.xml(t)))
			var e *vss.Error
			if !errors.As(err, &e) || e.Remedy != remedyUpdate {
				t.Errorf("%s: %#v", name, err)
			}
		}
	}
}

func TestTruncatedAnywhere(t *testing.T) {
	b, err := Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(b)-1; n += 7 {
		if _, err := Unmarshal(b[:n]); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// TestHostileIsCheap feeds shapes that make lenient readers slow or large.
func TestHostileIsCheap(t *testing.T) {
	head := `<backupComponents xmlns="` + Namespace + `" schemaVersion="1.0" context="0x00000000">`
	many := strings.Repeat("x='1' ", MaxSize/32)
	for name, s := range map[string]string{
		"too large":       strings.Repeat(" ", MaxSize+1),
		"deep":            strings.Repeat("<a>", MaxSize/4),
		"wide":            head + strings.Repeat("<a/>", MaxSize/8),
		"many attributes": "<a " + many + "/>",
		"comments":        head + strings.Repeat("<!---->", MaxSize/32),
		"long name":       head + "<" + strings.Repeat("a", MaxSize/2),
	} {
		start := time.Now()
		if _, err := Unmarshal([]byte(s)); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Errorf("%s: %.200v", name, err)
		} else if len(err.Error()) > 4096 {
			t.Errorf("%s: a message of %d bytes", name, len(err.Error()))
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("%s: %v", name, d)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	shared := func(d *Document) *SnapshotSet { // both volumes on the first one's LUN
		m := d.Set.Snapshots[0].LUNs[0]
		m.Extents = []lun.Extent{{LUN: 0, Offset: 0, Length: 4096}}
		d.Set.Snapshots[1].LUNs = []LUNMapping{m}
		return d.Set
	}
	for _, c := range []struct {
		name   string
		change func(*Document)
		reason string // "" = accepted
	}{
		{"sample", func(*Document) {}, ""},
		{"version", func(d *Document) { d.SchemaVersion = "2.0" }, "schema version"},
		{"all contexts", func(d *Document) { d.Context = vss.CTX_ALL }, ""},
		{"backup type", func(d *Document) { d.State.Type = 7 }, "backup type"},
		{"negative count", func(d *Document) { d.Set.Count = -1 }, "count"},
		{"no snapshots", func(d *Document) { d.Set.Snapshots = nil }, "0 shadow copies"},
		{"part of a set", func(d *Document) { d.Set.Snapshots = d.Set.Snapshots[:1] }, ""},
		{"extent of another LUN", func(d *Document) { d.Set.Snapshots[1].LUNs[1].Extents[0].LUN = 0 }, "names LUN 0"},
		{"too many extents", func(d *Document) {
			m := &d.Set.Snapshots[0].LUNs[0]
			m.Extents = make([]lun.Extent, maxExtents)
			for i := range m.Extents {
				m.Extents[i] = lun.Extent{Offset: uint64(i), Length: 1}
			}
		}, "extents"},
		{"negative devices", func(d *Document) { d.Set.Snapshots[0].Filesystem.DeviceCount = -1 }, "devices"},
		{"timestamp", func(d *Document) { d.Set.CreationTimestamp = latest + 1 }, "timestamp"},
		{"negative timestamp", func(d *Document) { d.Set.Snapshots[0].CreationTimestamp = -1 }, "timestamp"},
		{"not transportable", func(d *Document) {
			d.Set.Attributes &^= vss.ATTR_TRANSPORTABLE
			for i := range d.Set.Snapshots {
				d.Set.Snapshots[i].Attributes &^= vss.ATTR_TRANSPORTABLE
				d.Set.Snapshots[i].LUNs[0].Source.StorageIDs = nil
			}
		}, ""},
		{"without LUNs", func(d *Document) { d.Set.Snapshots[0].LUNs = nil }, ""},
		{"two volumes on one LUN", func(d *Document) { shared(d) }, ""},
		{"shared, seen over another path", func(d *Document) { shared(d).Snapshots[1].LUNs[0].Source.Interconnects = nil }, ""},
		{"shared, another size", func(d *Document) { shared(d).Snapshots[1].LUNs[0].Size++ }, "another original, size or generation"},
		{"shared, another generation", func(d *Document) { shared(d).Snapshots[1].LUNs[0].Generation++ }, "another original, size or generation"},
		{"shared, another original", func(d *Document) { shared(d).Snapshots[1].LUNs[0].Source = testLUN(9) }, "another original, size or generation"},
		{"twice in one volume", func(d *Document) {
			m := d.Set.Snapshots[0].LUNs[0]
			m.Extents = []lun.Extent{{LUN: 1, Length: 4096}}
			d.Set.Snapshots[0].LUNs = append(d.Set.Snapshots[0].LUNs, m)
		}, "listed twice"},
		{"copy is its original", func(d *Document) { d.Set.Snapshots[0].LUNs[0].Target = testLUN(1) }, "also an original"},
		{"copy with its original's names", func(d *Document) {
			d.Set.Snapshots[0].LUNs[0].Target.StorageIDs = testLUN(1).StorageIDs
		}, "no identifier of its own"},
		{"two copies with one name", func(d *Document) {
			d.Set.Snapshots[0].LUNs[0].Target.StorageIDs = testLUN(102).StorageIDs
		}, "no identifier of its own"},
		{"source without names", func(d *Document) { d.Set.Snapshots[0].LUNs[0].Source.StorageIDs = nil }, "no identifier of its own"},
		{"target with names that do not count", func(d *Document) {
			d.Set.Snapshots[0].LUNs[0].Target.StorageIDs = []lun.StorageID{
				{CodeSet: 1, Type: lun.IDVendorSpecific, Identifier: []byte{1}},
				{CodeSet: 1, Type: lun.IDEUI64, Identifier: make([]byte, 8)},
			}
		}, "no identifier of its own"},
		{"a name that all LUNs share", func(d *Document) {
			for i := range d.Set.Snapshots {
				for k := range d.Set.Snapshots[i].LUNs {
					m := &d.Set.Snapshots[i].LUNs[k]
					all := lun.StorageID{CodeSet: 2, Type: lun.IDVendorID, Identifier: []byte("UMBRA   array")}
					m.Source.StorageIDs = append([]lun.StorageID{all}, m.Source.StorageIDs...)
					m.Target.StorageIDs = append([]lun.StorageID{all}, m.Target.StorageIDs...)
				}
			}
		}, ""},
		{"too many LUNs", func(d *Document) { d.Set.Snapshots[0].LUNs = make([]LUNMapping, maxLUNs+1) }, "257 LUNs"},
		{"too many identifiers", func(d *Document) {
			d.Set.Snapshots[0].LUNs[0].Source.StorageIDs = make([]lun.StorageID, maxIdentifiers+1)
		}, "65 identifiers"},
		{"too many interconnects", func(d *Document) {
			d.Set.Snapshots[0].LUNs[0].Source.Interconnects = make([]lun.Interconnect, maxInterconnects+1)
		}, "257 interconnects"},
		{"long address", func(d *Document) {
			d.Set.Snapshots[0].LUNs[0].Source.Interconnects[0].Port = make([]byte, maxAddress+1)
		}, "port or address"},
		{"large ticket", func(d *Document) { d.Set.Tickets[0].Data = make([]byte, MaxTicket+1) }, "ticket of 65537"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := sample()
			c.change(d)
			b, err := Marshal(d)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if back, err := Unmarshal(b); err != nil || diff(d, back) != "" {
					t.Fatalf("it does not come back: %v", err)
				}
				return
			}
			var e *vss.Error
			if b != nil || !errors.As(err, &e) || e.Code != vss.VSS_E_INVALID_XML_DOCUMENT || !strings.Contains(e.Reason, c.reason) || e.Remedy == "" {
				t.Fatalf("%v, want %q", err, c.reason)
			}
			if vss.CodeOf(d.Validate()) != vss.VSS_E_INVALID_XML_DOCUMENT {
				t.Fatal("Validate accepts what Marshal refuses")
			}
			if w := new(bytes.Buffer); WriteBundle(w, d) == nil || w.Len() > 0 {
				t.Fatal("a bundle was written")
			}
		})
	}
}
