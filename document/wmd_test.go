package document

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

const writerSchema = "../docs/writer-metadata-1.xsd"

func diffWriter(a, b *WriterMetadata) string { return cmp.Diff(a, b, cmpopts.EquateEmpty()) }

func writerXML(t testing.TB, w *WriterMetadata) []byte {
	t.Helper()
	b, err := MarshalWriterMetadata(w)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWriterGolden(t *testing.T) {
	b := writerXML(t, sampleWriter())
	golden(t, "writer.xml", b)
	back, err := UnmarshalWriterMetadata(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := diffWriter(sampleWriter(), back); d != "" {
		t.Fatal(d)
	}
}

func TestRoundTripOfAnyWriter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWriter().Draw(t, "writer")
		b, err := MarshalWriterMetadata(w)
		if err != nil {
			t.Fatal(err)
		}
		back, err := UnmarshalWriterMetadata(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if s := diffWriter(w, back); s != "" {
			t.Fatal(s)
		}
		if again, err := MarshalWriterMetadata(back); err != nil || !bytes.Equal(b, again) {
			t.Fatalf("equal metadata, different bytes: %v", err)
		}
	})
}

func brokenWriters() []brokenRow {
	return []brokenRow{
		{"nothing", "", "", "empty", true},
		{"a backup components document", "", `<backupComponents xmlns="urn:umbra-vss:backup-components:1"/>`, "document element is backupComponents", true},
		{"next namespace", WriterNamespace, "urn:umbra-vss:writer-metadata:2", "namespace", true},
		{"next version", `schemaVersion="1.0"`, `schemaVersion="1.1"`, `"1.1" is not 1.0`, true},
		{"document type", "<writerMetadata", "<!DOCTYPE writerMetadata>\n<writerMetadata", "document type", false},
		{"more after it", "</writerMetadata>", "</writerMetadata><x/>", "follows", true},
		{"unknown attribute", "<restorePlan", `<restorePlan x=""`, "unknown attribute x", true},
		{"unknown element", "<includeFile", "<extra/><includeFile", "element extra", true},
		{"element of another namespace", "<component ", `<component xmlns="urn:umbra-vss:backup-components:1" `, "namespace", true},
		{"wrong order", "<includeFile", `<volume mountPoint="/x"/><includeFile`, "element component is missing", true},
		{"no restore plan", "<restorePlan ", "<plan ", "element plan", true},
		{"null class", `writerId="{aaaaaaaa-0000-4000-8000-000000000001}"`, `writerId="{00000000-0000-0000-0000-000000000000}"`, "GUID_NULL", false},
		{"null instance", `instanceId="{bbbbbbbb-0000-4000-8000-000000000001}"`, `instanceId="{00000000-0000-0000-0000-000000000000}"`, "GUID_NULL", false},
		{"no name", `name="Orders &amp; more"`, `name=""`, "the name is empty", true},
		{"usage undefined", `usage="userData"`, `usage="undefined"`, "not one of", true},
		{"no usage", `usage="userData"`, `usage=""`, "not one of", true},
		{"source", `source="transactedDatabase"`, `source="database"`, "not one of", true},
		{"version", `majorVersion="3"`, `majorVersion="4294967296"`, "decimal", true},
		{"backup schema", `backupSchema="0x0000003a"`, `backupSchema="0x0001003a"`, "unknown backup schema bits 0x00010000", false},
		{"exclusive without both", `backupSchema="0x0000003a"`, `backupSchema="0x0000003e"`, "without having both", false},
		{"stamps without increments", `backupSchema="0x0000003a"`, `backupSchema="0x00000020"`, "neither incremental nor", false},
		{"logs without log files", "databaseLogFile", "databaseFile", "no component has log files", false},
		{"method undefined", `method="stopRestoreStart"`, `method="undefined"`, "not one of", true},
		{"no service", `service="orders.service"`, `service=""`, "names no service", false},
		{"a service too many", `method="stopRestoreStart"`, `method="custom"`, "stops no service", false},
		{"writer restore", `writerRestore="always"`, `writerRestore=""`, "not one of", true},
		{"mapping of nobody's files", `<alternateLocationMapping path="/etc/orders"`, `<alternateLocationMapping path="/etc/order"`, "no component has the files", false},
		{"mapping twice", `<alternateLocationMapping `, `<alternateLocationMapping path="/etc/orders/" fileSpec="*" recursive="true" alternatePath="/x"/><alternateLocationMapping `, "two alternate locations", false},
		{"mapping to nowhere", `alternatePath="/etc/orders.restored"`, `alternatePath=""`, "alternate path is empty", true},
		{"relative exclusion", `<excludeFile path="/srv`, `<excludeFile path="srv`, "not absolute", true},
		{"volume twice", `mountPoint="/srv/log"`, `mountPoint="/srv/db"`, "there twice", true},
		{"volume not clean", `mountPoint="/srv/log"`, `mountPoint="/srv/../log"`, "shortest form", false},
		{"relative volume", `mountPoint="/srv/log"`, `mountPoint="srv/log"`, "shortest form", true},
		{"component type", `<component type="database"`, `<component type="undefined"`, "not one of", true},
		{"database with a file group's files", `<component type="filegroup" logicalPath="" name="config"`, `<component type="database" logicalPath="" name="config"`, "files of a file group", false},
		{"file group with a database's files", `<component type="database"`, `<component type="filegroup"`, "has database files", false},
		{"recursive database", `fileSpec="*.dat" recursive="false"`, `fileSpec="*.dat" recursive="true"`, "neither recursive", false},
		{"component name", `name="config"`, `name="con\\fig"`, "has a backslash", true},
		{"component twice", `name="rest"`, `name="part"`, "there twice", true},
		{"icon", `icon="00ff"`, `icon="00f"`, "hexadecimal", true},
		{"flags", `flags="0x00000002"`, `flags="0x00000008"`, "unknown component flags", false},
		{"files twice", `path="/srv/db" fileSpec="b?r\xff" recursive="false"`, `path="/etc/./orders" fileSpec="*" recursive="true"`, "belong to the writer twice", false},
		{"folder in a file specification", `fileSpec="*.dat"`, `fileSpec="base/*.dat"`, "not the name of a file", true},
		{"backup type", `backupType="0x00010000"`, `backupType="0x00020000"`, "unknown backup type bits", false},
		{"relative alternate path", `alternatePath="/srv/dump"`, `alternatePath="dump"`, "not absolute", false},
		{"dependency on itself", `<dependency writerId="{aaaaaaaa-0000-4000-8000-000000000002}"`, `<dependency writerId="{aaaaaaaa-0000-4000-8000-000000000001}"`, "its own writer", false},
		{"dependency on nothing", `logicalPath="\\\\host\\files" name="\xff"`, `logicalPath="\\\\host\\files" name=""`, "the name is empty", true},
		{"long name", `name="Orders &amp; more"`, `name="` + strings.Repeat("x", maxText+1) + `"`, "4097 bytes", false},
	}
}

func (r brokenRow) writer(t *testing.T) []byte {
	if r.old == "" {
		return []byte(r.new)
	}
	b := string(writerXML(t, sampleWriter()))
	if !strings.Contains(b, r.old) {
		t.Fatalf("%s: the sample has no %q", r.name, r.old)
	}
	return []byte(strings.Replace(b, r.old, r.new, 1))
}

func TestUnmarshalWriterRefuses(t *testing.T) {
	for _, c := range brokenWriters() {
		t.Run(c.name, func(t *testing.T) {
			w, err := UnmarshalWriterMetadata(c.writer(t))
			var e *vss.Error
			if w != nil || !errors.As(err, &e) || e.Code != vss.VSS_E_INVALID_XML_DOCUMENT || !strings.Contains(e.Reason, c.reason) {
				t.Fatalf("%v, %v, want %q", w, err, c.reason)
			}
			if !position.MatchString(e.Reason) || !strings.HasPrefix(e.Object, writerDocument) || e.Op == "" || e.Remedy == "" {
				t.Errorf("incomplete: %#v", e)
			}
			if _, err := ExamineWriterMetadata(c.writer(t)); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
				t.Errorf("examined: %v", err)
			}
		})
	}
	for _, s := range []string{strings.Repeat(" ", MaxWriterMetadata+1), strings.Repeat("<a>", 1<<20), "<writerMetadata " + strings.Repeat("x='1' ", 1<<18) + "/>"} {
		if _, err := UnmarshalWriterMetadata([]byte(s)); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT || len(err.Error()) > 4096 {
			t.Errorf("%.20q: %.200v", s, err)
		}
	}
	b := writerXML(t, sampleWriter())
	for n := 0; n < len(b)-1; n += 7 {
		if _, err := UnmarshalWriterMetadata(b[:n]); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestMarshalWriterRefuses(t *testing.T) {
	many := func(n int) []FileSet {
		out := make([]FileSet, n)
		for i := range out {
			out[i] = FileSet{Path: "/a", FileSpec: "b"}
		}
		return out
	}
	for name, change := range map[string]func(*WriterMetadata){
		"no components":         func(w *WriterMetadata) { w.Components = nil },
		"too many components":   func(w *WriterMetadata) { w.Components = make([]MetadataComponent, maxMetadataComponents+1) },
		"too many file sets":    func(w *WriterMetadata) { w.Exclude = many(maxFileSets) },
		"too many dependencies": func(w *WriterMetadata) { w.Components[1].Dependencies = make([]Dependency, maxDependencies) },
		"too many volumes":      func(w *WriterMetadata) { w.Volumes = make([]string, maxVolumes+1) },
		"large icon":            func(w *WriterMetadata) { w.Components[0].Icon = make([]byte, maxIcon+1) },
		"too large": func(w *WriterMetadata) {
			for range 1100 {
				w.Exclude = append(w.Exclude, FileSet{Path: "/" + strings.Repeat("x", maxText-1), FileSpec: "y"})
			}
		},
		"usage undefined":      func(w *WriterMetadata) { w.Usage = vss.UT_UNDEFINED },
		"source unknown":       func(w *WriterMetadata) { w.Source = 4 },
		"method undefined":     func(w *WriterMetadata) { w.Restore.Method = vss.RME_UNDEFINED },
		"restore undefined":    func(w *WriterMetadata) { w.Restore.WriterRestore = vss.WRE_UNDEFINED },
		"mask on an inclusion": func(w *WriterMetadata) { w.Include[0].BackupType = 1 },
		"path of an exclusion": func(w *WriterMetadata) { w.ExcludeFromSnapshot[0].AlternatePath = "/x" },
		"mask on a mapping":    func(w *WriterMetadata) { w.Restore.AlternateLocations[0].BackupType = 1 },
		"no alternate location": func(w *WriterMetadata) {
			w.Restore = RestorePlan{Method: vss.RME_RESTORE_TO_ALTERNATE_LOCATION, WriterRestore: vss.WRE_NEVER}
		},
	} {
		w := sampleWriter()
		change(w)
		b, err := MarshalWriterMetadata(w)
		var e *vss.Error
		if b != nil || !errors.As(err, &e) || e.Code != vss.VSS_E_INVALID_XML_DOCUMENT || !strings.HasPrefix(e.Object, writerDocument) || e.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
		if name != "too large" && vss.CodeOf(w.Validate()) != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Errorf("%s: valid", name)
		}
		if out := new(bytes.Buffer); WriteBundle(out, sample(), w) == nil || out.Len() > 0 {
			t.Errorf("%s: a bundle was written", name)
		}
	}
}

func TestWriterSaysWhere(t *testing.T) {
	b := strings.Replace(string(writerXML(t, sampleWriter())), `backupType="0x00010000"`, `backupType="0x00020000"`, 1)
	_, err := UnmarshalWriterMetadata([]byte(b))
	var e *vss.Error
	if !errors.As(err, &e) || e.Object != "writer metadata document, component[2]/file[2]" || !strings.HasPrefix(e.Reason, "line 16, column 5: ") || e.Remedy != remedyUpdate {
		t.Fatalf("%v", err)
	}
}

func TestWriterFitsSchema(t *testing.T) {
	lint, dir := xmllint(t), t.TempDir()
	args := []string{"--noout", "--nonet", "--huge", "--schema", writerSchema}
	for i := range 61 {
		w := sampleWriter()
		if i > 0 {
			w = anyWriter().Example(i)
		}
		name := filepath.Join(dir, string(rune('A'+i))+".xml")
		if err := os.WriteFile(name, writerXML(t, w), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	if out, err := exec.Command(lint, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%.4000s", err, out)
	}
	for _, c := range brokenWriters() {
		if !c.schema {
			continue
		}
		name := filepath.Join(dir, "broken.xml")
		if err := os.WriteFile(name, c.writer(t), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(lint, "--noout", "--nonet", "--schema", writerSchema, name).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "fails to validate") && !strings.Contains(string(out), "parser error") {
			t.Errorf("%s: the schema accepts it: %v %s", c.name, err, out)
		}
	}
}

func TestInclusion(t *testing.T) {
	w := sampleWriter()
	for name, want := range map[string]Inclusion{"orders": InclusionOptional, "config": InclusionMandatory, "part": InclusionEither, "rest": InclusionImplicit} {
		for i := range w.Components {
			if c := &w.Components[i]; c.Name == name {
				if got := w.Inclusion(c); got != want || w.Component(c.LogicalPath, name) != c {
					t.Errorf("%s: %d, want %d", name, got, want)
				}
			}
		}
	}
	// By element: main\db\ordersX is not below main\db\orders.
	c := &MetadataComponent{LogicalPath: `main\db\ordersX`, Name: "x"}
	if got := w.Inclusion(c); got != InclusionMandatory {
		t.Error(got)
	}
}

func TestExamine(t *testing.T) {
	w := sampleWriter()
	xml := writerXML(t, w)
	e, err := ExamineWriterMetadata(xml)
	if err != nil {
		t.Fatal(err)
	}
	i, c, name, instance, usage, source := e.GetIdentityEx()
	if i != w.InstanceID || c != w.WriterID || name != w.Name || instance != "main" || usage != vss.UT_USERDATA || source != vss.ST_TRANSACTEDDB {
		t.Error("identity")
	}
	if i, c, name, usage, source := e.GetIdentity(); i != w.InstanceID || c != w.WriterID || name != w.Name || usage != w.Usage || source != w.Source {
		t.Error("identity")
	}
	if major, minor := e.GetVersion(); major != 3 || minor != 14 || w.Version.String() != "3.14" {
		t.Error("version")
	}
	if in, ex, n := e.GetFileCounts(); in != 1 || ex != 1 || n != 4 || e.GetExcludeFromSnapshotCount() != 1 {
		t.Error("counts")
	}
	method, service, procedure, restore, reboot, mappings := e.GetRestoreMethod()
	if method != w.Restore.Method || service != "orders.service" || procedure != "" || restore != vss.WRE_ALWAYS || !reboot || mappings != 1 {
		t.Error("restore method")
	}
	if e.GetBackupSchema() != w.BackupSchema {
		t.Error("backup schema")
	}
	for name, c := range map[string]struct {
		get  func(int) (FileSet, error)
		want FileSet
	}{
		"include":       {e.GetIncludeFile, w.Include[0]},
		"exclude":       {e.GetExcludeFile, w.Exclude[0]},
		"from snapshot": {e.GetExcludeFromSnapshotFile, w.ExcludeFromSnapshot[0]},
		"mapping":       {e.GetAlternateLocationMapping, w.Restore.AlternateLocations[0]},
	} {
		if got, err := c.get(0); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		for _, i := range []int{-1, 1, 1 << 30} {
			if _, err := c.get(i); vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
				t.Errorf("%s, index %d: %v", name, i, err)
			}
		}
	}
	if _, err := e.GetComponent(4); vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
		t.Error(err)
	}
	// Read-only: what was returned is the caller's.
	got, err := e.GetComponent(0)
	if err != nil || cmp.Diff(w.Components[0], got, cmpopts.EquateEmpty()) != "" {
		t.Fatalf("component: %v", err)
	}
	got.DatabaseFiles[0].Path, got.Icon[0], got.Dependencies[0].Name = "/evil", 7, "x"
	d := e.GetDocument()
	d.Components[1].Files[0].Path, d.Exclude[0].Path, d.Volumes[0], d.Restore.AlternateLocations[0].Path = "/evil", "/evil", "/evil", "/evil"
	e.SaveAsXML()[0] = 'x'
	xml[0] = 'x'
	if diffWriter(e.GetDocument(), w) != "" || !bytes.Equal(e.SaveAsXML(), writerXML(t, w)) {
		t.Error("it was changed from outside")
	}
	again, err := w.Examine()
	if err != nil || diffWriter(again.GetDocument(), w) != "" || !bytes.Equal(again.SaveAsXML(), e.SaveAsXML()) {
		t.Errorf("examined in place: %v", err)
	}
	w.Name = "changed"
	if diffWriter(again.GetDocument(), sampleWriter()) != "" {
		t.Error("it follows the original")
	}
	if w.Name = ""; true {
		if _, err := w.Examine(); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Error(err)
		}
	}
}

func FuzzWMD(f *testing.F) {
	b := writerXML(f, sampleWriter())
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(writerXML(f, &WriterMetadata{WriterID: testWriter, InstanceID: testInstance, Name: "x", Usage: vss.UT_OTHER, Source: vss.ST_OTHER,
		Restore:    RestorePlan{Method: vss.RME_CUSTOM, WriterRestore: vss.WRE_NEVER},
		Components: []MetadataComponent{{Type: vss.CT_FILEGROUP, Name: "x", Files: []FileSet{{Path: "/srv/../..", FileSpec: "*"}}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := UnmarshalWriterMetadata(b)
		if err != nil {
			if w != nil || vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
				t.Fatalf("%v, %v", w, err)
			}
			return
		}
		again, err := MarshalWriterMetadata(w)
		if err != nil {
			if len(b) < MaxWriterMetadata/8 { // escaping may make a large one too large
				t.Fatalf("read but not writable: %v", err)
			}
			return
		}
		back, err := UnmarshalWriterMetadata(again)
		if err != nil {
			t.Fatal(err)
		}
		if s := diffWriter(w, back); s != "" {
			t.Fatal(s)
		}
		staysInside(t, w)
	})
}
