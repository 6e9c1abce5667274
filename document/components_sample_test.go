package document

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

var (
	testWriter   = mustID("{aaaaaaaa-0000-4000-8000-000000000001}")
	testInstance = mustID("{bbbbbbbb-0000-4000-8000-000000000001}")
	otherWriter  = mustID("{aaaaaaaa-0000-4000-8000-000000000002}")
)

// sampleComponents is the sample with everything that two writers can have in
// a document.
func sampleComponents() *Document {
	d := sample()
	d.SchemaVersion = componentsSchema
	d.RestoreState = vss.RTYPE_BY_COPY
	d.Components = []WriterComponents{
		{InstanceID: testInstance, WriterID: testWriter, Components: []Component{
			{
				Type: vss.CT_DATABASE, LogicalPath: `main\db`, Name: "orders & <more>", BackupSucceeded: true,
				BackupOptions: "compress", PreviousBackupStamp: "0/16B3740", BackupStamp: "0/16B3748", BackupMetadata: "a\x00b\n\"",
				SelectedForRestore: true, RestoreInstanceID: mustID("{bbbbbbbb-0000-4000-8000-000000000009}"), RestoreOptions: "replace",
				AdditionalRestores: true, FileRestoreStatus: vss.RS_ALL, AuthoritativeRestore: true,
				RollForward: RollForward{vss.RF_PARTIAL, "2026-03-01 12:00"}, RestoreName: "orders2", RestoreTarget: vss.RT_DIRECTED, RestoreMetadata: "x",
				RestoreSubcomponents:      []Subcomponent{{`main\db\orders & <more>`, "part"}},
				NewTargets:                []FileTarget{{"/srv/db", "*.dat", false, "/srv/new"}},
				AlternateLocationMappings: []FileTarget{{"/srv/db", "*.log", false, "/srv/alt"}},
				PartialFiles:              []PartialFile{{"/srv/db", "big", "0:4096,8192:512", "m", ""}, {"/srv/db", "big2", "/srv/db/ranges", "", "/tmp/ranges"}},
				DifferencedFiles:          []DifferencedFiles{{"/srv/db", "*.d?f", true, 0}},
				DirectedTargets:           []DirectedTarget{{"/srv/db", "a", "0:1", "/srv/db", "b", "1:1"}},
				Failures:                  FailureMessages{"no", "space", "left", "here"},
				Failure:                   ComponentFailure{vss.VSS_E_WRITERERROR_RETRYABLE, vss.HResult(28), "disk full"},
			},
			{Type: vss.CT_FILEGROUP, Name: "config"},
		}},
		{InstanceID: mustID("{bbbbbbbb-0000-4000-8000-000000000002}"), WriterID: otherWriter, Components: []Component{
			{Type: vss.CT_FILEGROUP, LogicalPath: "files", Name: "\xff"},
		}},
	}
	return d
}

func anyPath() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`/[a-z]{0,4}(/[a-z.\\ü"<]{0,5}){0,3}`),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return "/" + without(string(b), "*?\x00") }),
	)
}

func anyFileName() *rapid.Generator[string] {
	return rapid.Map(anyBytes(0), func(s string) string { return "f" + without(s, "*?\x00/") })
}

func anyFileSpec() *rapid.Generator[string] {
	return rapid.OneOf(anyFileName(), rapid.Just("*"), rapid.StringMatching(`[a-z*?]{1,5}\.[a-z*?]{0,3}`))
}

// anyName is a component's name.
func anyName() *rapid.Generator[string] {
	return rapid.Map(anyBytes(0), func(s string) string { return "n" + without(s, `\`) })
}

// without drops bytes from a string.
func without(s, bytes string) string {
	var out []byte
next:
	for _, c := range []byte(s) {
		for _, d := range []byte(bytes) {
			if c == d {
				continue next
			}
		}
		out = append(out, c)
	}
	return string(out)
}

func anyTargets() *rapid.Generator[[]FileTarget] {
	return rapid.Custom(func(t *rapid.T) []FileTarget {
		var out []FileTarget
		for i := range rapid.IntRange(0, 2).Draw(t, "targets") {
			out = append(out, FileTarget{anyPath().Draw(t, "path"), fmt.Sprint(i) + anyFileSpec().Draw(t, "spec"),
				rapid.Bool().Draw(t, "recursive"), anyPath().Draw(t, "alternate")})
		}
		return out
	})
}

func anyComponent() *rapid.Generator[Component] {
	return rapid.Custom(func(t *rapid.T) Component {
		text := func(what string) string {
			if rapid.Bool().Draw(t, "has "+what) {
				return anyBytes(0).Draw(t, what)
			}
			return ""
		}
		c := Component{
			Type: vss.ComponentType(rapid.Int32Range(1, 2).Draw(t, "type")), LogicalPath: text("path"), Name: anyName().Draw(t, "name"),
			BackupSucceeded: rapid.Bool().Draw(t, "succeeded"), BackupOptions: text("options"), PreviousBackupStamp: text("previous"),
			BackupStamp: text("stamp"), BackupMetadata: text("metadata"),
			SelectedForRestore: rapid.Bool().Draw(t, "selected"), RestoreOptions: text("restore options"),
			AdditionalRestores: rapid.Bool().Draw(t, "more"), FileRestoreStatus: vss.FileRestoreStatus(rapid.Int32Range(0, 3).Draw(t, "status")),
			AuthoritativeRestore: rapid.Bool().Draw(t, "authoritative"), RestoreName: text("restore name"),
			RestoreTarget: vss.RestoreTarget(rapid.Int32Range(0, 4).Draw(t, "target")), RestoreMetadata: text("restore metadata"),
			NewTargets: anyTargets().Draw(t, "new"), AlternateLocationMappings: anyTargets().Draw(t, "mappings"),
			Failures: FailureMessages{text("1"), text("2"), text("3"), text("4")},
			Failure:  ComponentFailure{vss.HResult(rapid.Uint32().Draw(t, "code")), vss.HResult(rapid.Uint32().Draw(t, "app")), text("message")},
		}
		c.RollForward.Type = vss.RollForwardType(rapid.Int32Range(0, 3).Draw(t, "roll"))
		if c.RollForward.Type == vss.RF_PARTIAL {
			c.RollForward.Point = anyBytes(1).Draw(t, "point")
		}
		if c.SelectedForRestore {
			if rapid.Bool().Draw(t, "instance") {
				c.RestoreInstanceID = anyID().Draw(t, "restore instance")
			}
			for i := range rapid.IntRange(0, 2).Draw(t, "subcomponents") {
				c.RestoreSubcomponents = append(c.RestoreSubcomponents, Subcomponent{fullName(c.LogicalPath, c.Name), fmt.Sprint(i) + anyName().Draw(t, "sub")})
			}
		}
		for range rapid.IntRange(0, 2).Draw(t, "files") {
			c.PartialFiles = append(c.PartialFiles, PartialFile{anyPath().Draw(t, "path"), anyFileName().Draw(t, "name"), anyBytes(1).Draw(t, "ranges"), text("metadata"), ""})
			c.DifferencedFiles = append(c.DifferencedFiles, DifferencedFiles{anyPath().Draw(t, "path"), anyFileSpec().Draw(t, "spec"), rapid.Bool().Draw(t, "r"), anyTime().Draw(t, "t")})
			c.DirectedTargets = append(c.DirectedTargets, DirectedTarget{anyPath().Draw(t, "s"), anyFileName().Draw(t, "sf"), anyBytes(1).Draw(t, "sr"),
				anyPath().Draw(t, "d"), anyFileName().Draw(t, "df"), anyBytes(1).Draw(t, "dr")})
		}
		return c
	})
}

func anyComponents() *rapid.Generator[[]WriterComponents] {
	return rapid.Custom(func(t *rapid.T) []WriterComponents {
		var out []WriterComponents
		for i := range rapid.IntRange(0, 2).Draw(t, "writers") {
			w := WriterComponents{InstanceID: anyID().Draw(t, "instance"), WriterID: anyID().Draw(t, "writer")}
			w.InstanceID[15] = byte(i)
			for k := range rapid.IntRange(1, 3).Draw(t, "components") {
				c := anyComponent().Draw(t, "component")
				c.Name, c.RestoreSubcomponents = fmt.Sprint(k)+c.Name, nil
				w.Components = append(w.Components, c)
			}
			out = append(out, w)
		}
		return out
	})
}
