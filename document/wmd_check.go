package document

import (
	"path"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

var (
	usageTypes    = spellings[vss.UsageType]{"", "bootableSystemState", "systemService", "userData", "other"}
	sourceTypes   = spellings[vss.SourceType]{"", "transactedDatabase", "nontransactedDatabase", "other"}
	writerRestore = spellings[vss.WriterRestore]{"", "never", "ifReplaceFails", "always"}
	restoreMethod = spellings[vss.RestoreMethod]{
		vss.RME_RESTORE_IF_NOT_THERE:                "restoreIfNotThere",
		vss.RME_RESTORE_IF_CAN_REPLACE:              "restoreIfCanReplace",
		vss.RME_STOP_RESTORE_START:                  "stopRestoreStart",
		vss.RME_RESTORE_TO_ALTERNATE_LOCATION:       "restoreToAlternateLocation",
		vss.RME_RESTORE_AT_REBOOT:                   "restoreAtReboot",
		vss.RME_RESTORE_AT_REBOOT_IF_CANNOT_REPLACE: "restoreAtRebootIfCannotReplace",
		vss.RME_CUSTOM:                              "custom",
		vss.RME_RESTORE_STOP_START:                  "restoreStopStart",
	}
)

const (
	knownBackupSchema = vss.BS_DIFFERENTIAL | vss.BS_INCREMENTAL | vss.BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL | vss.BS_LOG |
		vss.BS_COPY | vss.BS_TIMESTAMPED | vss.BS_LAST_MODIFY | vss.BS_LSN | vss.BS_WRITER_SUPPORTS_NEW_TARGET |
		vss.BS_WRITER_SUPPORTS_RESTORE_WITH_MOVE | vss.BS_INDEPENDENT_SYSTEM_STATE | vss.BS_ROLLFORWARD_RESTORE |
		vss.BS_RESTORE_RENAME | vss.BS_AUTHORITATIVE_RESTORE | vss.BS_WRITER_SUPPORTS_PARALLEL_RESTORES
	knownComponentFlags = vss.CF_BACKUP_RECOVERY | vss.CF_APP_ROLLBACK_RECOVERY | vss.CF_NOT_SYSTEM_STATE
)

func (w *WriterMetadata) check() *fault {
	if f := firstFault(
		checkID("", "writer", w.WriterID),
		checkID("", "writer instance", w.InstanceID),
		checkText("", "name", w.Name, 1),
		checkText("", "instance name", w.InstanceName, 0),
	); f != nil {
		return f
	}
	switch {
	case !usageTypes.has(w.Usage):
		return faultAt("", "%s is not a usage a writer can have", w.Usage)
	case !sourceTypes.has(w.Source):
		return faultAt("", "%s is not a source a writer can have", w.Source)
	}
	if f := w.checkCounts(); f != nil {
		return f
	}
	places := map[FileSet]bool{} // of all components' file sets
	names := map[[2]string]bool{}
	logs := 0
	for i := range w.Components {
		c, at := &w.Components[i], step("component", i+1, true)
		if f := c.check(at, w.WriterID); f != nil {
			return f
		}
		if n := [2]string{c.LogicalPath, c.Name}; names[n] {
			return faultAt(at, "the component %s is there twice", shown(fullName(c.LogicalPath, c.Name)))
		} else {
			names[n] = true
		}
		for _, l := range c.fileLists() {
			for k, s := range l.sets {
				if places[s.same()] {
					return faultAt(at+"/"+step(l.element, k+1, true), "the files %s of %s belong to the writer twice", shown(s.FileSpec), shown(s.Path))
				}
				places[s.same()] = true
			}
		}
		logs += len(c.LogFiles)
	}
	for _, l := range w.fileLists() {
		for i, s := range l.sets {
			if f := s.checkPlain(step(l.element, i+1, true)); f != nil {
				return f
			}
		}
	}
	volumes := map[string]bool{}
	for i, v := range w.Volumes {
		at := step("volume", i+1, true)
		if f := checkText(at, "volume", v, 1); f != nil {
			return f
		}
		if !path.IsAbs(v) || path.Clean(v) != v || volumes[v] {
			return faultAt(at, "%s is not a mount point in its shortest form, or there twice", shown(v))
		}
		volumes[v] = true
	}
	return firstFault(w.Restore.check(places), checkBackupSchema(w.BackupSchema, logs))
}

func (w *WriterMetadata) checkCounts() *fault {
	sets, dependencies := len(w.Restore.AlternateLocations), 0
	for _, l := range w.fileLists() {
		sets += len(l.sets)
	}
	for i := range w.Components {
		for _, l := range w.Components[i].fileLists() {
			sets += len(l.sets)
		}
		dependencies += len(w.Components[i].Dependencies)
	}
	switch {
	case len(w.Components) < 1 || len(w.Components) > maxMetadataComponents:
		return faultAt("", "%d components, a writer has 1 to %d", len(w.Components), maxMetadataComponents)
	case sets > maxFileSets:
		return faultAt("", "%d file sets, %d is the limit", sets, maxFileSets)
	case dependencies > maxDependencies:
		return faultAt("", "%d dependencies, %d is the limit", dependencies, maxDependencies)
	case len(w.Volumes) > maxVolumes:
		return faultAt("", "%d volumes, %d is the limit", len(w.Volumes), maxVolumes)
	}
	return nil
}

// fileList is one list of file sets and the element they are written as.
type fileList struct {
	element string
	sets    []FileSet
}

func (w *WriterMetadata) fileLists() []fileList {
	return []fileList{{"includeFile", w.Include}, {"excludeFile", w.Exclude}, {"excludeFromSnapshot", w.ExcludeFromSnapshot}}
}

func (c *MetadataComponent) fileLists() []fileList {
	return []fileList{{"file", c.Files}, {"databaseFile", c.DatabaseFiles}, {"databaseLogFile", c.LogFiles}}
}

func (p *RestorePlan) check(places map[FileSet]bool) *fault {
	const at = "restorePlan"
	if f := firstFault(checkText(at, "service", p.Service, 0), checkText(at, "user procedure", p.UserProcedure, 0)); f != nil {
		return f
	}
	stops := p.Method == vss.RME_STOP_RESTORE_START || p.Method == vss.RME_RESTORE_STOP_START
	switch {
	case !restoreMethod.has(p.Method):
		return faultAt(at, "%s is not a restore method a writer can have", p.Method)
	case !writerRestore.has(p.WriterRestore):
		return faultAt(at, "%s does not say when the writer takes part in a restore", p.WriterRestore)
	case stops && p.Service == "":
		return faultAt(at, "%s names no service", p.Method)
	case !stops && p.Service != "":
		return faultAt(at, "%s stops no service, and one is named", p.Method)
	case p.Method == vss.RME_RESTORE_TO_ALTERNATE_LOCATION && len(p.AlternateLocations) == 0:
		return faultAt(at, "%s has no alternate location", p.Method)
	}
	seen := map[FileSet]bool{}
	for i, s := range p.AlternateLocations {
		at := at + "/" + step("alternateLocationMapping", i+1, true)
		if f := firstFault(s.checkPlace(at), checkPath(at, "alternate path", s.AlternatePath)); f != nil {
			return f
		}
		switch {
		case s.BackupType != 0:
			return faultAt(at, "a mapping has no backup type")
		case !places[s.same()]:
			return faultAt(at, "no component has the files %s of %s", shown(s.FileSpec), shown(s.Path))
		case seen[s.same()]:
			return faultAt(at, "the files %s of %s have two alternate locations", shown(s.FileSpec), shown(s.Path))
		}
		seen[s.same()] = true
	}
	return nil
}

func checkBackupSchema(b vss.BackupSchema, logs int) *fault {
	const both = vss.BS_DIFFERENTIAL | vss.BS_INCREMENTAL
	switch {
	case b&^knownBackupSchema != 0:
		return faultAt("", "unknown backup schema bits 0x%08x", uint32(b&^knownBackupSchema)).withRemedy(remedyUpdate)
	case b&vss.BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL != 0 && b&both != both:
		return faultAt("", "the backup schema excludes incremental and differential backups from each other without having both")
	case b&(vss.BS_TIMESTAMPED|vss.BS_LAST_MODIFY) != 0 && b&both == 0:
		return faultAt("", "the backup schema has stamps or times but neither incremental nor differential backups")
	case b&vss.BS_LOG != 0 && logs == 0:
		return faultAt("", "the backup schema has log backups, but no component has log files")
	}
	return nil
}

func (c *MetadataComponent) check(at string, writer vss.ID) *fault {
	if f := firstFault(
		checkText(at, "logical path", c.LogicalPath, 0),
		checkText(at, "name", c.Name, 1),
		checkText(at, "caption", c.Caption, 0),
	); f != nil {
		return f
	}
	switch {
	case !componentTypes.has(c.Type):
		return faultAt(at, "%s is not a component type", c.Type)
	case strings.Contains(c.Name, `\`):
		return faultAt(at, "the name %s has a backslash: what is before it is the logical path", shown(c.Name))
	case len(c.Icon) > maxIcon:
		return faultAt(at, "an icon of %d bytes, %d is the limit", len(c.Icon), maxIcon)
	case c.Flags&^knownComponentFlags != 0:
		return faultAt(at, "unknown component flags 0x%08x", uint32(c.Flags&^knownComponentFlags)).withRemedy(remedyUpdate)
	case c.Type == vss.CT_FILEGROUP && len(c.DatabaseFiles)+len(c.LogFiles) > 0:
		return faultAt(at, "a file group has database files")
	case c.Type == vss.CT_DATABASE && len(c.Files) > 0:
		return faultAt(at, "a database has files of a file group")
	}
	for _, l := range c.fileLists() {
		for i, s := range l.sets {
			at := at + "/" + step(l.element, i+1, true)
			if f := s.checkPlace(at); f != nil {
				return f
			}
			if unknown := s.BackupType &^ knownFileSpecBackupTypes; unknown != 0 {
				return faultAt(at, "unknown backup type bits 0x%08x", uint32(unknown)).withRemedy(remedyUpdate)
			}
			if c.Type == vss.CT_DATABASE && (s.Recursive || s.AlternatePath != "") {
				return faultAt(at, "files of a database are neither recursive nor read from elsewhere")
			}
			if s.AlternatePath != "" {
				if f := checkPath(at, "alternate path", s.AlternatePath); f != nil {
					return f
				}
			}
		}
	}
	for i, d := range c.Dependencies {
		at := at + "/" + step("dependency", i+1, true)
		if f := firstFault(checkID(at, "writer", d.WriterID), checkText(at, "logical path", d.LogicalPath, 0),
			checkText(at, "name", d.Name, 1)); f != nil {
			return f
		}
		if d.WriterID == writer {
			return faultAt(at, "the component depends on one of its own writer")
		}
	}
	return nil
}

// checkPlain checks a file set that is a place only.
func (f FileSet) checkPlain(at string) *fault {
	if bad := f.checkPlace(at); bad != nil {
		return bad
	}
	if f.BackupType != 0 || f.AlternatePath != "" {
		return faultAt(at, "the files have a backup type or an alternate path, which belong to components")
	}
	return nil
}
