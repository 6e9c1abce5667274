package document

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

func brokenComponents() []brokenDocument {
	const first = `<writerComponents instanceId="{bbbbbbbb-0000-4000-8000-000000000001}" writerId="{aaaaaaaa-0000-4000-8000-000000000001}">`
	const second = `<writerComponents instanceId="{bbbbbbbb-0000-4000-8000-000000000002}" writerId="{aaaaaaaa-0000-4000-8000-000000000002}">`
	const config = `<component type="filegroup" logicalPath="" name="config" backupSucceeded="false"/>`
	return broke(sampleComponents, []brokenRow{
		{"components in 1.0", `schemaVersion="1.1"`, `schemaVersion="1.0"`, "element restoreState does not belong", false},
		{"components of a newer version", `schemaVersion="1.1"`, `schemaVersion="1.3"`, `"1.3" is not 1.0, 1.1 or 1.2`, true},
		{"no restore state", `<restoreState type="byCopy"/>`, `<restoreState type="undefined"/>`, "says nothing", true},
		{"another restore state", `<restoreState type="byCopy"/>`, `<restoreState type="bycopy"/>`, "not one of undefined, byCopy", true},
		{"restore state twice", `<restoreState type="byCopy"/>`, `<restoreState type="byCopy"/><restoreState type="byCopy"/>`, "comes more than 1", true},
		{"null writer", first, strings.Replace(first, `writerId="{aaaaaaaa-0000-4000-8000-000000000001}"`, `writerId="{00000000-0000-0000-0000-000000000000}"`, 1), "writer ID is GUID_NULL", false},
		{"null instance", first, strings.Replace(first, `instanceId="{bbbbbbbb-0000-4000-8000-000000000001}"`, `instanceId="{00000000-0000-0000-0000-000000000000}"`, 1), "instance ID is GUID_NULL", false},
		{"writer twice", second, first, "listed twice", true},
		{"component of type undefined", config, strings.Replace(config, "filegroup", "undefined", 1), "not one of database, filegroup", true},
		{"component of no type", config, strings.Replace(config, "filegroup", "", 1), "not one of", true},
		{"component without a name", config, strings.Replace(config, "config", "", 1), "the name is empty", true},
		{"name with a backslash", config, strings.Replace(config, "config", `a\\b`, 1), "has a backslash", true},
		{"component twice", config, config + config, "component config is listed twice", true},
		{"writer without components", second, second[:len(second)-1] + `/>` + second, "element component is missing", true},
		{"empty backup", config, config[:len(config)-2] + `><backup options="" previousStamp="" stamp="" metadata=""/></component>`, "says nothing", false},
		{"empty failures", config, config[:len(config)-2] + `><failures prepareForBackup="" postSnapshot="" preRestore="" postRestore=""/></component>`, "says nothing", false},
		{"empty failure", config, config[:len(config)-2] + `><failure code="0x00000000" applicationCode="0x00000000" message=""/></component>`, "says nothing", false},
		{"restore not complete", ` target="directed"`, ``, "target is missing", true},
		{"no such status", `fileStatus="all"`, `fileStatus="some"`, "not one of", true},
		{"no such roll-forward", `rollForward="partial"`, `rollForward="half"`, "not one of", true},
		{"point without partial", `rollForward="partial"`, `rollForward="all"`, "not partial has a point", false},
		{"partial without point", `rollForwardPoint="2026-03-01 12:00"`, `rollForwardPoint=""`, "has no point", false},
		{"instance of a component not selected", `selected="true"`, `selected="false"`, "not selected for restore", false},
		{"subcomponent elsewhere", `<subcomponent logicalPath="main`, `<subcomponent logicalPath="mains`, "not below the component", false},
		{"subcomponent without path", `<subcomponent `, `<subcomponent logicalPath="" name="x"/><subcomponent `, "logical path is empty", true},
		{"subcomponent name with a backslash", `name="part"`, `name="pa\\rt"`, "has a backslash", true},
		{"relative path", `<newTarget path="/srv/db"`, `<newTarget path="srv/db"`, "not absolute", true},
		{"wildcard in a path", `<newTarget path="/srv/db"`, `<newTarget path="/srv/*"`, "wildcard", true},
		{"zero byte in a path", `<newTarget path="/srv/db"`, `<newTarget path="/srv\x00db"`, "zero byte", false},
		{"folder in a file specification", `fileSpec="*.dat"`, `fileSpec="x/*.dat"`, "not the name of a file", true},
		{"file specification ..", `fileSpec="*.dat"`, `fileSpec=".."`, "not the name of a file", false},
		{"target to a relative path", `alternatePath="/srv/new"`, `alternatePath="new"`, "not absolute", true},
		{"target twice", `<alternateLocationMapping `, `<newTarget path="/srv/db" fileSpec="*.dat" recursive="false" alternatePath="/x"/><alternateLocationMapping `, "says again", false},
		{"wildcard in a file name", `fileName="big"`, `fileName="b?g"`, "wildcard", true},
		{"no ranges", `ranges="0:4096,8192:512"`, `ranges=""`, "ranges is empty", true},
		{"relative ranges file", `rangesFile="/tmp/ranges"`, `rangesFile="ranges"`, "not absolute", false},
		{"wrong order of components' children", `<failure `, `<newTarget path="/a" fileSpec="b" recursive="false" alternatePath="/c"/><failure `, "newTarget does not belong", true},
		{"long options", `options="compress"`, `options="` + strings.Repeat("a", maxOpaque+1) + `"`, "65537 bytes", false},
		{"long restore name", `name="orders2"`, `name="` + strings.Repeat("a", maxText+1) + `"`, "4097 bytes", false},
		{"components after the set", "</backupComponents>", second + config + "</writerComponents></backupComponents>", "writerComponents does not belong", true},
	})
}

// TestOldDocumentsStay: what needs no components is what it always was.
func TestOldDocumentsStay(t *testing.T) {
	for _, c := range []struct {
		change func(*Document)
		want   string
	}{
		{func(*Document) {}, firstSchema},
		{func(d *Document) { d.SchemaVersion = CurrentSchema }, CurrentSchema},
		{func(d *Document) { d.SchemaVersion = componentsSchema }, componentsSchema},
		{func(d *Document) { d.RestoreState = vss.RTYPE_OTHER }, componentsSchema},
		{func(d *Document) { d.Components = sampleComponents().Components }, componentsSchema},
	} {
		d := sample()
		c.change(d)
		b, err := Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(b)
		if err != nil || back.SchemaVersion != c.want {
			t.Fatalf("%v, want %s", err, c.want)
		}
	}
}

// TestComponentsAreNotSigned: SetBackupSucceeded comes after the set was
// signed, and must not break that.
func TestComponentsAreNotSigned(t *testing.T) {
	d := sample()
	want := d.Set.Digest()
	b, err := Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if d, err = Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		d.AddComponent(testInstance, testWriter, vss.CT_DATABASE, "p", "n"),
		d.SetBackupSucceeded(testInstance, testWriter, vss.CT_DATABASE, "p", "n", true),
		d.SetRestoreState(vss.RTYPE_BY_COPY),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if b, err = Marshal(d); err != nil {
		t.Fatal(err)
	}
	back, err := Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if back.Set.Digest() != want || !back.Writer(testInstance, testWriter).Component("p", "n").BackupSucceeded {
		t.Fatal("the digest changed, or the component was lost")
	}
}

func TestJSONKeepsComponents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDocument().Draw(t, "document")
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		back := new(Document)
		if err := json.Unmarshal(b, back); err != nil {
			t.Fatal(err)
		}
		if s := diff(d, back); s != "" {
			t.Fatal(s)
		}
	})
	d := sampleComponents()
	if _, err := json.Marshal(d); err != nil || diff(d, sampleComponents()) != "" {
		t.Fatalf("marshalling changed the components: %v", err)
	}
	if err := json.Unmarshal([]byte(`{"Name":"\\x"}`), new(Component)); err == nil {
		t.Fatal("a broken escape was read")
	}
}

// step of the setters' test: a call, the code it gives, and what must be so.
type setting struct {
	name string
	call func(d *Document) error
	want vss.HResult
	then func(c *Component) bool
}

func TestSetters(t *testing.T) {
	const db, group = vss.CT_DATABASE, vss.CT_FILEGROUP
	const path, name = `main\db`, "orders & <more>"
	i, w := testInstance, testWriter
	long := strings.Repeat("x", maxOpaque+1)
	at := func(f func(d *Document, t vss.ComponentType, path, name string) error) func(*Document) error {
		return func(d *Document) error { return f(d, db, path, name) }
	}
	settings := []setting{
		{"add", func(d *Document) error { return d.AddComponent(i, w, group, "a", "b") }, vss.S_OK, nil},
		{"add without a path", func(d *Document) error { return d.AddComponent(i, w, group, "", "b") }, vss.S_OK, nil},
		{"add, another instance", func(d *Document) error { return d.AddComponent(otherWriter, w, db, path, name) }, vss.S_OK, nil},
		{"add, another class", func(d *Document) error { return d.AddComponent(i, otherWriter, db, path, name) }, vss.S_OK, nil},
		{"add without a name", func(d *Document) error { return d.AddComponent(i, w, group, "a", "") }, vss.E_INVALIDARG, nil},
		{"add, type undefined", func(d *Document) error { return d.AddComponent(i, w, vss.CT_UNDEFINED, "a", "b") }, vss.E_INVALIDARG, nil},
		{"add, type unknown", func(d *Document) error { return d.AddComponent(i, w, 3, "a", "b") }, vss.E_INVALIDARG, nil},
		{"add, type negative", func(d *Document) error { return d.AddComponent(i, w, -1, "a", "b") }, vss.E_INVALIDARG, nil},
		{"add, no writer", func(d *Document) error { return d.AddComponent(i, vss.GUIDNull, group, "a", "b") }, vss.E_INVALIDARG, nil},
		{"add, no instance", func(d *Document) error { return d.AddComponent(vss.GUIDNull, w, group, "a", "b") }, vss.E_INVALIDARG, nil},
		{"add, backslash", func(d *Document) error { return d.AddComponent(i, w, group, "a", `b\c`) }, vss.E_INVALIDARG, nil},
		{"add, long path", func(d *Document) error { return d.AddComponent(i, w, group, strings.Repeat("x", maxText+1), "b") }, vss.E_INVALIDARG, nil},
		{"add twice", func(d *Document) error { return d.AddComponent(i, w, db, path, name) }, vss.VSS_E_OBJECT_ALREADY_EXISTS, nil},
		{"add twice, another type", func(d *Document) error { return d.AddComponent(i, w, group, path, name) }, vss.VSS_E_OBJECT_ALREADY_EXISTS, nil},

		{"not succeeded", func(d *Document) error { return d.SetBackupSucceeded(i, w, db, path, name, false) }, vss.S_OK, func(c *Component) bool { return !c.BackupSucceeded }},
		{"succeeded, another instance", func(d *Document) error { return d.SetBackupSucceeded(otherWriter, w, db, path, name, true) }, vss.VSS_E_OBJECT_NOT_FOUND, nil},
		{"succeeded, null instance", func(d *Document) error { return d.SetBackupSucceeded(vss.GUIDNull, w, db, path, name, true) }, vss.E_INVALIDARG, nil},

		{"backup options", at(func(d *Document, t vss.ComponentType, p, n string) error { return d.SetBackupOptions(w, t, p, n, "o") }), vss.S_OK, func(c *Component) bool { return c.BackupOptions == "o" }},
		{"long options", at(func(d *Document, t vss.ComponentType, p, n string) error { return d.SetBackupOptions(w, t, p, n, long) }), vss.E_INVALIDARG, nil},
		{"previous stamp", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetPreviousBackupStamp(w, t, p, n, "s")
		}), vss.S_OK, func(c *Component) bool { return c.PreviousBackupStamp == "s" && c.BackupStamp == "0/16B3748" }},
		{"restore options", at(func(d *Document, t vss.ComponentType, p, n string) error { return d.SetRestoreOptions(w, t, p, n, "o") }), vss.S_OK, func(c *Component) bool { return c.RestoreOptions == "o" }},
		{"additional restores", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetAdditionalRestores(w, t, p, n, false)
		}), vss.S_OK, func(c *Component) bool { return !c.AdditionalRestores }},

		{"select", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetSelectedForRestore(w, t, p, n, true)
		}), vss.S_OK, func(c *Component) bool {
			return c.SelectedForRestore && c.RestoreInstanceID.IsNull() && len(c.RestoreSubcomponents) == 1
		}},
		{"select for an instance", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetSelectedForRestoreEx(w, t, p, n, true, otherWriter)
		}), vss.S_OK, func(c *Component) bool { return c.RestoreInstanceID == otherWriter }},
		{"deselect", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetSelectedForRestoreEx(w, t, p, n, false, otherWriter)
		}), vss.S_OK, func(c *Component) bool {
			return !c.SelectedForRestore && c.RestoreInstanceID.IsNull() && len(c.RestoreSubcomponents) == 0
		}},

		{"subcomponent", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddRestoreSubcomponent(w, t, p, n, p+`\`+n+`\deep`, "s", false)
		}), vss.S_OK, func(c *Component) bool { return len(c.RestoreSubcomponents) == 2 }},
		{"subcomponent again", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddRestoreSubcomponent(w, t, p, n, p+`\`+n, "part", false)
		}), vss.S_OK, func(c *Component) bool { return len(c.RestoreSubcomponents) == 1 }},
		{"subcomponent, repair", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddRestoreSubcomponent(w, t, p, n, p+`\`+n, "s", true)
		}), vss.E_INVALIDARG, nil},
		{"subcomponent without path", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddRestoreSubcomponent(w, t, p, n, "", "s", false)
		}), vss.E_INVALIDARG, nil},
		{"subcomponent without name", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddRestoreSubcomponent(w, t, p, n, p+`\`+n, "", false)
		}), vss.E_INVALIDARG, nil},
		{"subcomponent elsewhere", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddRestoreSubcomponent(w, t, p, n, p+`\`+n+"x", "s", false)
		}), vss.E_INVALIDARG, nil},
		{"subcomponent of what is not selected", func(d *Document) error {
			return d.AddRestoreSubcomponent(w, group, "", "config", "config", "s", false)
		}, vss.VSS_E_OBJECT_NOT_FOUND, nil},

		{"status", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetFileRestoreStatus(w, t, p, n, vss.RS_FAILED)
		}), vss.S_OK, func(c *Component) bool { return c.FileRestoreStatus == vss.RS_FAILED }},
		{"status undefined", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetFileRestoreStatus(w, t, p, n, 0)
		}), vss.E_INVALIDARG, nil},
		{"status unknown", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetFileRestoreStatus(w, t, p, n, 4)
		}), vss.E_INVALIDARG, nil},

		{"new target", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddNewTarget(w, t, p, n, "/srv/x", "*", true, "/y")
		}), vss.S_OK, func(c *Component) bool { return c.NewTargets[1] == FileTarget{"/srv/x", "*", true, "/y"} }},
		{"new target again", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddNewTarget(w, t, p, n, "/srv/db", "*.dat", false, "/srv/new")
		}), vss.S_OK, func(c *Component) bool { return len(c.NewTargets) == 1 }},
		{"two new targets", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddNewTarget(w, t, p, n, "/srv/db", "*.dat", false, "/srv/newer")
		}), vss.E_INVALIDARG, nil},
		{"new target, relative", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddNewTarget(w, t, p, n, "srv", "*", true, "/y")
		}), vss.E_INVALIDARG, nil},
		{"new target to nowhere", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddNewTarget(w, t, p, n, "/srv", "*", true, "")
		}), vss.E_INVALIDARG, nil},
		{"new target, no file specification", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddNewTarget(w, t, p, n, "/srv", "", true, "/y")
		}), vss.E_INVALIDARG, nil},

		{"mapping", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddAlternativeLocationMapping(w, t, p, n, "/srv/db", "*.dat", false, "/alt")
		}), vss.S_OK, func(c *Component) bool { return len(c.AlternateLocationMappings) == 2 && len(c.NewTargets) == 1 }},
		{"mapping, bad file specification", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.AddAlternativeLocationMapping(w, t, p, n, "/srv", "a/b", false, "/alt")
		}), vss.E_INVALIDARG, nil},

		{"ranges file", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRangesFilePath(w, t, p, n, 1, "/tmp/other")
		}), vss.S_OK, func(c *Component) bool {
			return c.PartialFiles[1].RangesFile == "/tmp/other" && c.PartialFiles[0].RangesFile == ""
		}},
		{"ranges file, index", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRangesFilePath(w, t, p, n, 2, "/tmp/other")
		}), vss.VSS_E_OBJECT_NOT_FOUND, nil},
		{"ranges file, negative index", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRangesFilePath(w, t, p, n, -1, "/tmp/other")
		}), vss.VSS_E_OBJECT_NOT_FOUND, nil},
		{"ranges file, relative", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRangesFilePath(w, t, p, n, 1, "other")
		}), vss.E_INVALIDARG, nil},
		{"ranges file, empty", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRangesFilePath(w, t, p, n, 1, "")
		}), vss.E_INVALIDARG, nil},

		{"authoritative", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetAuthoritativeRestore(w, t, p, n, false)
		}), vss.S_OK, func(c *Component) bool { return !c.AuthoritativeRestore }},
		{"roll forward all", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRollForward(w, t, p, n, vss.RF_ALL, "")
		}), vss.S_OK, func(c *Component) bool { return c.RollForward == RollForward{vss.RF_ALL, ""} }},
		{"roll forward partly", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRollForward(w, t, p, n, vss.RF_PARTIAL, "x")
		}), vss.S_OK, func(c *Component) bool { return c.RollForward == RollForward{vss.RF_PARTIAL, "x"} }},
		{"roll forward to nowhere", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRollForward(w, t, p, n, vss.RF_PARTIAL, "")
		}), vss.E_INVALIDARG, nil},
		{"roll forward undefined", at(func(d *Document, t vss.ComponentType, p, n string) error {
			return d.SetRollForward(w, t, p, n, vss.RF_UNDEFINED, "")
		}), vss.E_INVALIDARG, nil},
		{"restore name", at(func(d *Document, t vss.ComponentType, p, n string) error { return d.SetRestoreName(w, t, p, n, "new") }), vss.S_OK, func(c *Component) bool { return c.RestoreName == "new" }},
		{"no restore name", at(func(d *Document, t vss.ComponentType, p, n string) error { return d.SetRestoreName(w, t, p, n, "") }), vss.E_INVALIDARG, nil},

		{"restore state", func(d *Document) error { return d.SetRestoreState(vss.RTYPE_IMPORT) }, vss.S_OK, nil},
		{"restore state unknown", func(d *Document) error { return d.SetRestoreState(4) }, vss.E_INVALIDARG, nil},

		{"writer's update", func(d *Document) error {
			return d.UpdateComponent(i, w, db, path, name, func(c *Component) error {
				c.BackupStamp, c.Name = "new", "renamed"
				return nil
			})
		}, vss.S_OK, func(c *Component) bool { return c.BackupStamp == "new" }},
		{"writer's invalid update", func(d *Document) error {
			return d.UpdateComponent(i, w, db, path, name, func(c *Component) error {
				c.PartialFiles[0].FileName = "a/b"
				return nil
			})
		}, vss.E_INVALIDARG, nil},
		{"writer's failed update", func(d *Document) error {
			return d.UpdateComponent(i, w, db, path, name, func(c *Component) error {
				c.PartialFiles[0].FileName = "ab"
				return &vss.Error{Code: vss.VSS_E_BAD_STATE}
			})
		}, vss.VSS_E_BAD_STATE, nil},
	}
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			d := sampleComponents()
			err := s.call(d)
			if got := vss.CodeOf(err); got != s.want {
				t.Fatalf("%v, want %v: %v", got, s.want, err)
			}
			if err := d.Validate(); err != nil {
				t.Fatal(err)
			}
			if s.want != vss.S_OK {
				var e *vss.Error
				if s.want != vss.VSS_E_BAD_STATE && (!errors.As(err, &e) || e.Op == "" || e.Object == "" || e.Reason == "" || e.Remedy == "") {
					t.Errorf("incomplete: %#v", err)
				}
				if x := diff(sampleComponents(), d); x != "" {
					t.Errorf("a refused call changed the document:\n%s", x)
				}
			} else if s.then != nil && !s.then(d.Writer(i, w).Component(path, name)) {
				t.Errorf("not done: %+v", d.Writer(i, w).Component(path, name))
			}
		})
	}
}

// classSetters are all that name a component by class.
func classSetters() map[string]func(d *Document, w vss.ID, t vss.ComponentType, path, name string) error {
	type D = *Document
	type T = vss.ComponentType
	return map[string]func(d *Document, w vss.ID, t vss.ComponentType, path, name string) error{
		"SetBackupOptions":        func(d D, w vss.ID, t T, p, n string) error { return d.SetBackupOptions(w, t, p, n, "x") },
		"SetPreviousBackupStamp":  func(d D, w vss.ID, t T, p, n string) error { return d.SetPreviousBackupStamp(w, t, p, n, "x") },
		"SetRestoreOptions":       func(d D, w vss.ID, t T, p, n string) error { return d.SetRestoreOptions(w, t, p, n, "x") },
		"SetAdditionalRestores":   func(d D, w vss.ID, t T, p, n string) error { return d.SetAdditionalRestores(w, t, p, n, true) },
		"SetSelectedForRestore":   func(d D, w vss.ID, t T, p, n string) error { return d.SetSelectedForRestore(w, t, p, n, true) },
		"SetSelectedForRestoreEx": func(d D, w vss.ID, t T, p, n string) error { return d.SetSelectedForRestoreEx(w, t, p, n, true, w) },
		"AddRestoreSubcomponent": func(d D, w vss.ID, t T, p, n string) error {
			return d.AddRestoreSubcomponent(w, t, p, n, fullName(p, n), "s", false)
		},
		"SetFileRestoreStatus": func(d D, w vss.ID, t T, p, n string) error { return d.SetFileRestoreStatus(w, t, p, n, vss.RS_ALL) },
		"AddNewTarget":         func(d D, w vss.ID, t T, p, n string) error { return d.AddNewTarget(w, t, p, n, "/a", "b", false, "/c") },
		"AddAlternativeLocationMapping": func(d D, w vss.ID, t T, p, n string) error {
			return d.AddAlternativeLocationMapping(w, t, p, n, "/a", "b", false, "/c")
		},
		"SetRangesFilePath":       func(d D, w vss.ID, t T, p, n string) error { return d.SetRangesFilePath(w, t, p, n, 0, "/a") },
		"SetAuthoritativeRestore": func(d D, w vss.ID, t T, p, n string) error { return d.SetAuthoritativeRestore(w, t, p, n, true) },
		"SetRollForward":          func(d D, w vss.ID, t T, p, n string) error { return d.SetRollForward(w, t, p, n, vss.RF_NONE, "") },
		"SetRestoreName":          func(d D, w vss.ID, t T, p, n string) error { return d.SetRestoreName(w, t, p, n, "x") },
	}
}

func TestEverySetterLooksForItsComponent(t *testing.T) {
	for name, set := range classSetters() {
		for _, c := range []struct {
			writer     vss.ID
			t          vss.ComponentType
			path, name string
			want       vss.HResult
		}{
			{testWriter, vss.CT_DATABASE, `main\db`, "orders & <more>", vss.S_OK},
			{otherWriter, vss.CT_DATABASE, `main\db`, "orders & <more>", vss.VSS_E_OBJECT_NOT_FOUND},
			{testWriter, vss.CT_FILEGROUP, `main\db`, "orders & <more>", vss.VSS_E_OBJECT_NOT_FOUND},
			{testWriter, vss.CT_DATABASE, `main`, "orders & <more>", vss.VSS_E_OBJECT_NOT_FOUND},
			{testWriter, vss.CT_DATABASE, `main\db`, "orders", vss.VSS_E_OBJECT_NOT_FOUND},
			{testWriter, vss.CT_DATABASE, `main\db`, "", vss.E_INVALIDARG},
			{testWriter, 9, `main\db`, "orders & <more>", vss.E_INVALIDARG},
			{vss.GUIDNull, vss.CT_DATABASE, `main\db`, "orders & <more>", vss.E_INVALIDARG},
		} {
			d := sampleComponents()
			if err := set(d, c.writer, c.t, c.path, c.name); vss.CodeOf(err) != c.want {
				t.Errorf("%s(%v): %v, want %v", name, c, err, c.want)
			}
		}
		d := sampleComponents()
		if err := d.AddComponent(otherWriter, testWriter, vss.CT_DATABASE, `main\db`, "orders & <more>"); err != nil {
			t.Fatal(err)
		}
		if err := set(d, testWriter, vss.CT_DATABASE, `main\db`, "orders & <more>"); vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%s guessed which of two instances is meant: %v", name, err)
		}
	}
}

// TestSettersLeaveValidDocuments makes any calls: a document that setters
// filled can be written, and a call that was refused changed nothing.
func TestSettersLeaveValidDocuments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := sample()
		text := rapid.OneOf(rapid.SampledFrom([]string{"", "a", `a\b`, "/a", "/a/*", "x/y", "a*"}), anyBytes(0))
		writers := []vss.ID{testWriter, otherWriter, vss.GUIDNull}
		for range rapid.IntRange(1, 12).Draw(t, "calls") {
			before := must(json.Marshal(d))
			w := rapid.SampledFrom(writers).Draw(t, "writer")
			i := rapid.SampledFrom(writers).Draw(t, "instance")
			ct := vss.ComponentType(rapid.Int32Range(0, 3).Draw(t, "type"))
			p, n := rapid.SampledFrom([]string{"", "a", `a\b`}).Draw(t, "path"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "name")
			a, b, c := text.Draw(t, "a"), text.Draw(t, "b"), text.Draw(t, "c")
			yes := rapid.Bool().Draw(t, "yes")
			number := rapid.Int32Range(-1, 5).Draw(t, "number")
			calls := []func() error{
				func() error { return d.AddComponent(i, w, ct, p, n) },
				func() error { return d.AddComponent(i, w, ct, a, b) },
				func() error { return d.SetBackupSucceeded(i, w, ct, p, n, yes) },
				func() error { return d.SetSelectedForRestoreEx(w, ct, p, n, yes, i) },
				func() error { return d.AddRestoreSubcomponent(w, ct, p, n, fullName(p, n), b, false) },
				func() error { return d.AddRestoreSubcomponent(w, ct, p, n, a, b, yes) },
				func() error { return d.AddNewTarget(w, ct, p, n, a, b, yes, c) },
				func() error { return d.AddAlternativeLocationMapping(w, ct, p, n, a, b, yes, c) },
				func() error { return d.SetRollForward(w, ct, p, n, vss.RollForwardType(number), a) },
				func() error { return d.SetFileRestoreStatus(w, ct, p, n, vss.FileRestoreStatus(number)) },
				func() error { return d.SetRestoreState(vss.RestoreType(number)) },
				func() error { return d.SetRestoreName(w, ct, p, n, a) },
				func() error {
					return d.UpdateComponent(i, w, ct, p, n, func(x *Component) error {
						x.PartialFiles = append(x.PartialFiles, PartialFile{Path: a, FileName: b, Ranges: c})
						return nil
					})
				},
				func() error { return d.SetRangesFilePath(w, ct, p, n, int(number), a) },
			}
			err := rapid.SampledFrom(calls).Draw(t, "call")()
			if err != nil && string(must(json.Marshal(d))) != string(before) {
				t.Fatalf("refused and changed: %v", err)
			}
		}
		xml, err := Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(xml)
		if err != nil {
			t.Fatal(err)
		}
		if x := cmp.Diff(d.Components, back.Components, cmpopts.EquateEmpty()); x != "" || back.RestoreState != d.RestoreState {
			t.Fatal(x)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// withFullComponents fills a document until setters refuse, with bytes that
// need the most room.
func withFullComponents(d *Document) *Document {
	for n := range maxComponents {
		instance := testInstance
		instance[0], instance[1] = byte(n%MaxWriters), 0xdd
		if err := d.AddComponent(instance, testWriter, vss.CT_DATABASE, "", "x"+string(rune(0x4e00+n))); err != nil {
			panic(err)
		}
	}
	c := func(n int) *Component { return &d.Components[n%MaxWriters].Components[n/MaxWriters] }
	for n := range maxComponents {
		*c(n) = Component{Type: vss.CT_DATABASE, Name: c(n).Name, BackupStamp: "s", RestoreOptions: "o",
			Failures: FailureMessages{PreRestore: "m"}, Failure: ComponentFailure{Message: "m"}}
	}
	for range maxComponentItems {
		c(0).DifferencedFiles = append(c(0).DifferencedFiles, DifferencedFiles{"/", "*", false, 0})
	}
	left := maxComponentText
	for i := range d.Components {
		for k := range d.Components[i].Components {
			for _, t := range d.Components[i].Components[k].texts() {
				left -= len(*t.s)
			}
		}
	}
	for n := 1; left > 0; n++ {
		size := min(left, maxOpaque)
		c(n).BackupMetadata = strings.Repeat(`"`, size)
		left -= size
	}
	return d
}

// TestFullDocumentCanBeSaved: the limits on components leave room for a set at
// its own limits.
func TestFullDocumentCanBeSaved(t *testing.T) {
	d := withFullComponents(atTheLimits())
	b, err := Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d bytes", len(b), MaxSize)
	if _, err := Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	last := &d.Components[0].Components[0]
	for name, err := range map[string]error{
		"component": d.AddComponent(testInstance, otherWriter, vss.CT_DATABASE, "", "one"),
		"text":      d.UpdateComponent(d.Components[0].InstanceID, testWriter, vss.CT_DATABASE, "", last.Name, func(c *Component) error { c.BackupStamp += "x"; return nil }),
		"items": d.UpdateComponent(d.Components[0].InstanceID, testWriter, vss.CT_DATABASE, "", last.Name, func(c *Component) error {
			c.DifferencedFiles = append(c.DifferencedFiles, DifferencedFiles{"/", "*", false, 0})
			return nil
		}),
	} {
		if vss.CodeOf(err) != vss.E_OUTOFMEMORY {
			t.Errorf("one %s more: %v", name, err)
		}
	}
	if again, err := Marshal(d); err != nil || len(again) != len(b) {
		t.Fatalf("a refused call changed the document: %v", err)
	}
}
