package document

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const schema = "../docs/backup-components-1.xsd"

func xmllint(t *testing.T) string {
	t.Helper()
	name, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint is not installed (Debian package libxml2-utils)")
	}
	return name
}

// TestMarshalFitsSchema writes many documents and validates them all with one
// process.
func TestMarshalFitsSchema(t *testing.T) {
	lint, dir := xmllint(t), t.TempDir()
	args := []string{"--noout", "--nonet", "--huge", "--schema", schema}
	add := func(name string, d *Document) {
		b, err := Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	add("sample.xml", sample())
	add("empty.xml", &Document{})
	add("components.xml", sampleComponents())
	add("devices.xml", sampleDevices())
	add("limits.xml", atTheLimits())
	add("limits-components.xml", withFullComponents(sample()))
	for i := range 60 {
		add("any"+string(rune('A'+i))+".xml", anyDocument().Example(i))
	}
	if out, err := exec.Command(lint, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%.4000s", err, out)
	}
}

// TestSchemaIsAsStrict lets the schema and Unmarshal judge the same broken
// documents: what the schema refuses, Unmarshal refuses.
func TestSchemaIsAsStrict(t *testing.T) {
	lint, dir := xmllint(t), t.TempDir()
	for _, c := range append(append(broken(), brokenComponents()...), brokenDevices()...) {
		if !c.schema {
			continue
		}
		name := filepath.Join(dir, "broken.xml")
		if err := os.WriteFile(name, []byte(c.xml(t)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(lint, "--noout", "--nonet", "--schema", schema, name).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "fails to validate") && !strings.Contains(string(out), "parser error") {
			t.Errorf("%s: the schema accepts it: %v %s", c.name, err, out)
		}
	}
}

// atTheLimits is a document as large as its limits in every direction that
// does not multiply.
func atTheLimits() *Document {
	d := sample()
	long := strings.Repeat("\xff", maxText)
	s := d.Set
	s.Count = MaxSnapshots
	s.OriginatingMachine, s.ServiceMachine = long, strings.Repeat("ü", maxText/2)
	s.Snapshots[0].OriginalVolumeName = strings.Repeat(`\`, maxText)
	m := &s.Snapshots[0].LUNs[0]
	m.Source.VendorID = long
	for len(m.Source.StorageIDs) < maxIdentifiers {
		id := m.Source.StorageIDs[0]
		id.Identifier = []byte(strings.Repeat("x", 255))
		m.Source.StorageIDs = append(m.Source.StorageIDs, id)
	}
	for len(m.Source.Interconnects) < maxInterconnects {
		c := m.Source.Interconnects[0]
		c.Port, c.Address = make([]byte, maxAddress), make([]byte, maxAddress)
		m.Source.Interconnects = append(m.Source.Interconnects, c)
	}
	fs := &s.Snapshots[1].Filesystem
	fs.DeviceCount = maxDevices
	for len(fs.DeviceUUIDs) < maxDevices {
		fs.DeviceUUIDs = append(fs.DeviceUUIDs, "x")
	}
	s.Tickets[0].Data = make([]byte, MaxTicket)
	s.CreationTimestamp = latest
	s.Snapshots[0].CreationTimestamp = earliest
	for n := len(s.Snapshots); n < MaxSnapshots; n++ {
		sn := s.Snapshots[0]
		sn.LUNs = nil
		sn.ID[0], sn.ID[1] = byte(n), 0xee
		s.Snapshots = append(s.Snapshots, sn)
	}
	m.Extents = nil
	for i := range uint64(maxExtents - 3) {
		x := sample().Set.Snapshots[0].LUNs[0].Extents[0]
		x.Offset, x.Length = i*2, 1
		m.Extents = append(m.Extents, x)
	}
	return d
}

func TestLimitsFit(t *testing.T) {
	b, err := Marshal(atTheLimits())
	if err != nil {
		t.Fatal(err)
	}
	back, err := Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if back.Set.Digest() != atTheLimits().Set.Digest() {
		t.Fatal("another document")
	}
}
