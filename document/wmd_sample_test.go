package document

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

// sampleWriter is a database's metadata, with something of everything.
func sampleWriter() *WriterMetadata {
	return &WriterMetadata{
		WriterID: testWriter, InstanceID: testInstance, Name: "Orders & more", InstanceName: "main", Version: WriterVersion{3, 14},
		Usage: vss.UT_USERDATA, Source: vss.ST_TRANSACTEDDB,
		Restore: RestorePlan{Method: vss.RME_STOP_RESTORE_START, Service: "orders.service", WriterRestore: vss.WRE_ALWAYS, RebootRequired: true,
			AlternateLocations: []FileSet{{Path: "/etc/orders", FileSpec: "*", Recursive: true, AlternatePath: "/etc/orders.restored"}}},
		BackupSchema:        vss.BS_INCREMENTAL | vss.BS_TIMESTAMPED | vss.BS_LOG | vss.BS_COPY,
		Include:             []FileSet{{Path: "/etc/orders.d", FileSpec: "*.conf"}},
		Exclude:             []FileSet{{Path: "/srv/db/tmp", FileSpec: "*", Recursive: true}},
		ExcludeFromSnapshot: []FileSet{{Path: "/srv/db/cache", FileSpec: "*.tmp"}},
		Components: []MetadataComponent{
			{
				Type: vss.CT_DATABASE, LogicalPath: `main\db`, Name: "orders", Caption: "the orders\n", Icon: []byte{0, 255}, Selectable: true,
				SelectableForRestore: true, NotifyOnBackupComplete: true, Flags: vss.CF_APP_ROLLBACK_RECOVERY,
				DatabaseFiles: []FileSet{{Path: "/srv/db/base", FileSpec: "*.dat", BackupType: DefaultBackupType}},
				LogFiles:      []FileSet{{Path: "/srv/log", FileSpec: "*.log", BackupType: vss.FSBT_LOG_BACKUP_REQUIRED | vss.FSBT_LOG_SNAPSHOT_REQUIRED}},
				Dependencies:  []Dependency{{otherWriter, `\\host\files`, "\xff"}},
			},
			{
				Type: vss.CT_FILEGROUP, Name: "config", RestoreMetadata: true,
				Files: []FileSet{
					{Path: "/etc/orders", FileSpec: "*", Recursive: true, BackupType: DefaultBackupType},
					{Path: "/srv/db", FileSpec: "b?r\xff", BackupType: vss.FSBT_CREATED_DURING_BACKUP, AlternatePath: "/srv/dump"},
				},
			},
			{Type: vss.CT_FILEGROUP, LogicalPath: `main\db\orders`, Name: "part", Selectable: true},
			{Type: vss.CT_FILEGROUP, LogicalPath: `main\db\orders`, Name: "rest"},
		},
		Volumes: []string{"/", "/srv/db", "/srv/log"},
	}
}

func anyPlaces(t *rapid.T, what string) []FileSet {
	var out []FileSet
	for range rapid.IntRange(0, 2).Draw(t, what) {
		out = append(out, FileSet{Path: anyPath().Draw(t, "path"), FileSpec: anyFileSpec().Draw(t, "spec"), Recursive: rapid.Bool().Draw(t, "recursive")})
	}
	return out
}

func anyWriter() *rapid.Generator[*WriterMetadata] {
	return rapid.Custom(func(t *rapid.T) *WriterMetadata {
		w := &WriterMetadata{
			WriterID: anyID().Draw(t, "writer"), InstanceID: anyID().Draw(t, "instance"), Name: anyBytes(1).Draw(t, "name"),
			InstanceName: anyBytes(0).Draw(t, "instance name"), Version: WriterVersion{rapid.Uint32().Draw(t, "major"), rapid.Uint32().Draw(t, "minor")},
			Usage: vss.UsageType(rapid.Int32Range(1, 4).Draw(t, "usage")), Source: vss.SourceType(rapid.Int32Range(1, 3).Draw(t, "source")),
			Include: anyPlaces(t, "include"), Exclude: anyPlaces(t, "exclude"), ExcludeFromSnapshot: anyPlaces(t, "from snapshot"),
		}
		w.WriterID[15] = 1
		n := 0
		sets := func(database bool) []FileSet {
			s := anyPlaces(t, "files")
			for i := range s {
				n++
				s[i].FileSpec = fmt.Sprint(n) + s[i].FileSpec // no file twice
				s[i].BackupType = vss.FileSpecBackupType(rapid.Uint32().Draw(t, "mask")) & knownFileSpecBackupTypes
				if database {
					s[i].Recursive = false
				} else if rapid.Bool().Draw(t, "alternate") {
					s[i].AlternatePath = anyPath().Draw(t, "alternate path")
				}
				if rapid.IntRange(0, 3).Draw(t, "mapped") == 0 {
					m := s[i]
					m.BackupType, m.AlternatePath = 0, anyPath().Draw(t, "location")
					w.Restore.AlternateLocations = append(w.Restore.AlternateLocations, m)
				}
			}
			return s
		}
		logs := 0
		for i := range rapid.IntRange(1, 3).Draw(t, "components") {
			c := MetadataComponent{
				Type: vss.ComponentType(rapid.Int32Range(1, 2).Draw(t, "type")), LogicalPath: anyBytes(0).Draw(t, "path"), Name: fmt.Sprint(i) + anyName().Draw(t, "name"),
				Caption: anyBytes(0).Draw(t, "caption"), Icon: rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "icon"),
				RestoreMetadata: rapid.Bool().Draw(t, "r"), NotifyOnBackupComplete: rapid.Bool().Draw(t, "n"), Selectable: rapid.Bool().Draw(t, "s"),
				SelectableForRestore: rapid.Bool().Draw(t, "sr"), Flags: vss.ComponentFlags(rapid.Uint32Range(0, 7).Draw(t, "flags")),
			}
			if c.Type == vss.CT_DATABASE {
				c.DatabaseFiles, c.LogFiles = sets(true), sets(true)
			} else {
				c.Files = sets(false)
			}
			logs += len(c.LogFiles)
			for range rapid.IntRange(0, 2).Draw(t, "dependencies") {
				d := Dependency{anyID().Draw(t, "on"), anyBytes(0).Draw(t, "path"), anyBytes(1).Draw(t, "name")}
				d.WriterID[15] = 2
				c.Dependencies = append(c.Dependencies, d)
			}
			w.Components = append(w.Components, c)
		}
		b := vss.BackupSchema(rapid.Uint32().Draw(t, "schema")) & knownBackupSchema
		if b&(vss.BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL|vss.BS_TIMESTAMPED|vss.BS_LAST_MODIFY) != 0 {
			b |= vss.BS_INCREMENTAL | vss.BS_DIFFERENTIAL
		}
		if logs == 0 {
			b &^= vss.BS_LOG
		}
		w.BackupSchema = b
		p := &w.Restore
		p.Method, p.WriterRestore = vss.RestoreMethod(rapid.Int32Range(1, 8).Draw(t, "method")), vss.WriterRestore(rapid.Int32Range(1, 3).Draw(t, "writer restore"))
		if p.Method == vss.RME_RESTORE_TO_ALTERNATE_LOCATION && len(p.AlternateLocations) == 0 {
			p.Method = vss.RME_CUSTOM
		}
		if p.Method == vss.RME_STOP_RESTORE_START || p.Method == vss.RME_RESTORE_STOP_START {
			p.Service = anyBytes(1).Draw(t, "service")
		}
		p.UserProcedure, p.RebootRequired = anyBytes(0).Draw(t, "procedure"), rapid.Bool().Draw(t, "reboot")
		w.Volumes = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"/", "/a", "/a/b", "/ü", "/\xff"}), 0, 4, rapid.ID).Draw(t, "volumes")
		if err := w.Validate(); err != nil {
			panic(fmt.Sprintf("the generator made invalid metadata: %v", err))
		}
		return w
	})
}
