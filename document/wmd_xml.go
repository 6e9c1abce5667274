package document

import (
	"math"

	"github.com/umbra-vss/umbra/vss"
)

func (w *writer) metadata(m *WriterMetadata) {
	w.element("writerMetadata", []string{
		"xmlns", WriterNamespace,
		"schemaVersion", WriterSchema,
		"writerId", m.WriterID.String(),
		"instanceId", m.InstanceID.String(),
		"name", escape(m.Name),
		"instanceName", escape(m.InstanceName),
		"majorVersion", writeNumber(uint64(m.Version.Major)),
		"minorVersion", writeNumber(uint64(m.Version.Minor)),
		"usage", usageTypes.write(m.Usage),
		"source", sourceTypes.write(m.Source),
		"backupSchema", writeBits(uint32(m.BackupSchema)),
	}, func() {
		p := &m.Restore
		var mappings func()
		if len(p.AlternateLocations) > 0 {
			mappings = func() {
				for _, s := range p.AlternateLocations {
					w.element("alternateLocationMapping", append(place(s), "alternatePath", escape(s.AlternatePath)), nil)
				}
			}
		}
		w.element("restorePlan", []string{
			"method", restoreMethod.write(p.Method),
			"service", escape(p.Service),
			"userProcedure", escape(p.UserProcedure),
			"writerRestore", writerRestore.write(p.WriterRestore),
			"rebootRequired", writeBool(p.RebootRequired),
		}, mappings)
		for _, l := range m.fileLists() {
			for _, s := range l.sets {
				w.element(l.element, place(s), nil)
			}
		}
		for i := range m.Components {
			w.metadataComponent(&m.Components[i])
		}
		for _, v := range m.Volumes {
			w.element("volume", []string{"mountPoint", escape(v)}, nil)
		}
	})
}

func place(s FileSet) []string {
	return []string{"path", escape(s.Path), "fileSpec", escape(s.FileSpec), "recursive", writeBool(s.Recursive)}
}

func (w *writer) metadataComponent(c *MetadataComponent) {
	var body func()
	if len(c.Files)+len(c.DatabaseFiles)+len(c.LogFiles)+len(c.Dependencies) > 0 {
		body = func() {
			for _, l := range c.fileLists() {
				for _, s := range l.sets {
					w.element(l.element, append(place(s), "backupType", writeBits(uint32(s.BackupType)),
						"alternatePath", escape(s.AlternatePath)), nil)
				}
			}
			for _, d := range c.Dependencies {
				w.element("dependency", []string{"writerId", d.WriterID.String(), "logicalPath", escape(d.LogicalPath), "name", escape(d.Name)}, nil)
			}
		}
	}
	w.element("component", []string{
		"type", componentTypes.write(c.Type),
		"logicalPath", escape(c.LogicalPath),
		"name", escape(c.Name),
		"caption", escape(c.Caption),
		"icon", writeHex(c.Icon),
		"restoreMetadata", writeBool(c.RestoreMetadata),
		"notifyOnBackupComplete", writeBool(c.NotifyOnBackupComplete),
		"selectable", writeBool(c.Selectable),
		"selectableForRestore", writeBool(c.SelectableForRestore),
		"flags", writeBits(uint32(c.Flags)),
	}, body)
}

func (r *xmlReader) metadata(a *attributes, m *WriterMetadata) *fault {
	m.WriterID, m.InstanceID = a.id("writerId"), a.id("instanceId")
	m.Name, m.InstanceName = a.text("name"), a.text("instanceName")
	m.Version.Major = uint32(a.number("majorVersion", math.MaxUint32))
	m.Version.Minor = uint32(a.number("minorVersion", math.MaxUint32))
	m.Usage = take(a, "usage", usageTypes.read)
	m.Source = take(a, "source", sourceTypes.read)
	m.BackupSchema = vss.BackupSchema(a.bits("backupSchema"))
	if f := a.done(); f != nil {
		return f
	}
	return r.body(
		child{"restorePlan", 1, 1, func(a *attributes) *fault { return r.restorePlan(a, &m.Restore) }},
		r.files("includeFile", &m.Include, readPlace),
		r.files("excludeFile", &m.Exclude, readPlace),
		r.files("excludeFromSnapshot", &m.ExcludeFromSnapshot, readPlace),
		child{"component", 1, maxMetadataComponents, func(a *attributes) *fault {
			m.Components = append(m.Components, MetadataComponent{})
			return r.metadataComponent(a, &m.Components[len(m.Components)-1])
		}},
		child{"volume", 0, maxVolumes, func(a *attributes) *fault {
			m.Volumes = append(m.Volumes, a.text("mountPoint"))
			return r.empty(a)
		}},
	)
}

func (r *xmlReader) restorePlan(a *attributes, p *RestorePlan) *fault {
	p.Method = take(a, "method", restoreMethod.read)
	p.Service, p.UserProcedure = a.text("service"), a.text("userProcedure")
	p.WriterRestore = take(a, "writerRestore", writerRestore.read)
	p.RebootRequired = a.flag("rebootRequired")
	if f := a.done(); f != nil {
		return f
	}
	return r.body(r.files("alternateLocationMapping", &p.AlternateLocations, func(a *attributes) FileSet {
		s := readPlace(a)
		s.AlternatePath = a.text("alternatePath")
		return s
	}))
}

func (r *xmlReader) metadataComponent(a *attributes, c *MetadataComponent) *fault {
	c.Type = take(a, "type", componentTypes.read)
	c.LogicalPath, c.Name, c.Caption = a.text("logicalPath"), a.text("name"), a.text("caption")
	c.Icon = a.hex("icon")
	c.RestoreMetadata, c.NotifyOnBackupComplete = a.flag("restoreMetadata"), a.flag("notifyOnBackupComplete")
	c.Selectable, c.SelectableForRestore = a.flag("selectable"), a.flag("selectableForRestore")
	c.Flags = vss.ComponentFlags(a.bits("flags"))
	if f := a.done(); f != nil {
		return f
	}
	return r.body(
		r.files("file", &c.Files, readFileSet),
		r.files("databaseFile", &c.DatabaseFiles, readFileSet),
		r.files("databaseLogFile", &c.LogFiles, readFileSet),
		child{"dependency", 0, maxDependencies, func(a *attributes) *fault {
			c.Dependencies = append(c.Dependencies, Dependency{WriterID: a.id("writerId"), LogicalPath: a.text("logicalPath"), Name: a.text("name")})
			return r.empty(a)
		}},
	)
}

func (r *xmlReader) files(name string, into *[]FileSet, read func(*attributes) FileSet) child {
	return child{name, 0, maxFileSets, func(a *attributes) *fault {
		*into = append(*into, read(a))
		return r.empty(a)
	}}
}

func readPlace(a *attributes) FileSet {
	return FileSet{Path: a.text("path"), FileSpec: a.text("fileSpec"), Recursive: a.flag("recursive")}
}

func readFileSet(a *attributes) FileSet {
	s := readPlace(a)
	s.BackupType = vss.FileSpecBackupType(a.bits("backupType"))
	s.AlternatePath = a.text("alternatePath")
	return s
}
