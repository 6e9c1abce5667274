package document

import "github.com/umbra-vss/umbra/vss"

// writers writes the components. Elements that would say nothing (a component
// without backup options, …) are not there.
func (w *writer) writers(d *Document) {
	if d.RestoreState != vss.RTYPE_UNDEFINED {
		w.element("restoreState", []string{"type", restoreTypes.write(d.RestoreState)}, nil)
	}
	for i := range d.Components {
		wc := &d.Components[i]
		w.element("writerComponents", []string{"instanceId", wc.InstanceID.String(), "writerId", wc.WriterID.String()}, func() {
			for k := range wc.Components {
				w.component(&wc.Components[k])
			}
		})
	}
}

func (w *writer) component(c *Component) {
	w.element("component", []string{
		"type", componentTypes.write(c.Type),
		"logicalPath", escape(c.LogicalPath),
		"name", escape(c.Name),
		"backupSucceeded", writeBool(c.BackupSucceeded),
	}, w.componentBody(c))
}

func (w *writer) componentBody(c *Component) func() {
	if c.items() == 0 && c.saysNothing("backup") && c.saysNothing("restore") && c.saysNothing("failures") && c.saysNothing("failure") {
		return nil
	}
	return func() {
		if !c.saysNothing("backup") {
			w.element("backup", []string{
				"options", escape(c.BackupOptions),
				"previousStamp", escape(c.PreviousBackupStamp),
				"stamp", escape(c.BackupStamp),
				"metadata", escape(c.BackupMetadata),
			}, nil)
		}
		if !c.saysNothing("restore") {
			w.element("restore", []string{
				"selected", writeBool(c.SelectedForRestore),
				"instanceId", c.RestoreInstanceID.String(),
				"options", escape(c.RestoreOptions),
				"additional", writeBool(c.AdditionalRestores),
				"fileStatus", fileRestoreStatuses.write(c.FileRestoreStatus),
				"authoritative", writeBool(c.AuthoritativeRestore),
				"rollForward", rollForwardTypes.write(c.RollForward.Type),
				"rollForwardPoint", escape(c.RollForward.Point),
				"name", escape(c.RestoreName),
				"target", restoreTargets.write(c.RestoreTarget),
				"metadata", escape(c.RestoreMetadata),
			}, nil)
		}
		for _, s := range c.RestoreSubcomponents {
			w.element("subcomponent", []string{"logicalPath", escape(s.LogicalPath), "name", escape(s.Name)}, nil)
		}
		for _, t := range c.NewTargets {
			w.target("newTarget", t)
		}
		for _, t := range c.AlternateLocationMappings {
			w.target("alternateLocationMapping", t)
		}
		for _, p := range c.PartialFiles {
			w.element("partialFile", []string{
				"path", escape(p.Path), "fileName", escape(p.FileName), "ranges", escape(p.Ranges),
				"metadata", escape(p.Metadata), "rangesFile", escape(p.RangesFile),
			}, nil)
		}
		for _, x := range c.DifferencedFiles {
			w.element("differencedFiles", []string{
				"path", escape(x.Path), "fileSpec", escape(x.FileSpec), "recursive", writeBool(x.Recursive),
				"lastModify", writeTime(x.LastModify),
			}, nil)
		}
		for _, x := range c.DirectedTargets {
			w.element("directedTarget", []string{
				"sourcePath", escape(x.SourcePath), "sourceFileName", escape(x.SourceFileName), "sourceRanges", escape(x.SourceRanges),
				"targetPath", escape(x.TargetPath), "targetFileName", escape(x.TargetFileName), "targetRanges", escape(x.TargetRanges),
			}, nil)
		}
		if !c.saysNothing("failures") {
			w.element("failures", []string{
				"prepareForBackup", escape(c.Failures.PrepareForBackup), "postSnapshot", escape(c.Failures.PostSnapshot),
				"preRestore", escape(c.Failures.PreRestore), "postRestore", escape(c.Failures.PostRestore),
			}, nil)
		}
		if !c.saysNothing("failure") {
			w.element("failure", []string{
				"code", writeBits(uint32(c.Failure.Code)), "applicationCode", writeBits(uint32(c.Failure.ApplicationCode)),
				"message", escape(c.Failure.Message),
			}, nil)
		}
	}
}

func (w *writer) target(name string, t FileTarget) {
	w.element(name, []string{
		"path", escape(t.Path), "fileSpec", escape(t.FileSpec), "recursive", writeBool(t.Recursive),
		"alternatePath", escape(t.AlternatePath),
	}, nil)
}

// saysNothing reports whether all values of an element that is there at most
// once are the zero ones.
func (c *Component) saysNothing(element string) bool {
	switch element {
	case "backup":
		return c.BackupOptions == "" && c.PreviousBackupStamp == "" && c.BackupStamp == "" && c.BackupMetadata == ""
	case "restore":
		return !c.SelectedForRestore && c.RestoreInstanceID.IsNull() && c.RestoreOptions == "" && !c.AdditionalRestores &&
			c.FileRestoreStatus == vss.RS_UNDEFINED && !c.AuthoritativeRestore && c.RollForward == RollForward{} &&
			c.RestoreName == "" && c.RestoreTarget == vss.RT_UNDEFINED && c.RestoreMetadata == ""
	case "failures":
		return c.Failures == FailureMessages{}
	case "failure":
		return c.Failure == ComponentFailure{}
	}
	panic("no such element: " + element)
}

// empty reads the end of an element that has attributes only.
func (r *xmlReader) empty(a *attributes) *fault {
	if f := a.done(); f != nil {
		return f
	}
	return r.body()
}

func (r *xmlReader) restoreState(a *attributes, d *Document) *fault {
	d.RestoreState = take(a, "type", restoreTypes.read)
	if a.bad == nil && d.RestoreState == vss.RTYPE_UNDEFINED {
		return r.fault("the element says nothing")
	}
	return r.empty(a)
}

func (r *xmlReader) writer(a *attributes, w *WriterComponents) *fault {
	w.InstanceID, w.WriterID = a.id("instanceId"), a.id("writerId")
	if f := a.done(); f != nil {
		return f
	}
	return r.body(child{"component", 1, maxComponents, func(a *attributes) *fault {
		w.Components = append(w.Components, Component{})
		return r.component(a, &w.Components[len(w.Components)-1])
	}})
}

func (r *xmlReader) component(a *attributes, c *Component) *fault {
	c.Type = take(a, "type", componentTypes.read)
	c.LogicalPath = a.text("logicalPath")
	c.Name = a.text("name")
	c.BackupSucceeded = a.flag("backupSucceeded")
	if f := a.done(); f != nil {
		return f
	}
	said := func(element string, read func(*attributes)) child {
		return child{element, 0, 1, func(a *attributes) *fault {
			read(a)
			if a.bad == nil && c.saysNothing(element) {
				return r.fault("the element says nothing")
			}
			return r.empty(a)
		}}
	}
	return r.body(
		said("backup", func(a *attributes) {
			c.BackupOptions = a.text("options")
			c.PreviousBackupStamp = a.text("previousStamp")
			c.BackupStamp = a.text("stamp")
			c.BackupMetadata = a.text("metadata")
		}),
		said("restore", func(a *attributes) {
			c.SelectedForRestore = a.flag("selected")
			c.RestoreInstanceID = a.id("instanceId")
			c.RestoreOptions = a.text("options")
			c.AdditionalRestores = a.flag("additional")
			c.FileRestoreStatus = take(a, "fileStatus", fileRestoreStatuses.read)
			c.AuthoritativeRestore = a.flag("authoritative")
			c.RollForward.Type = take(a, "rollForward", rollForwardTypes.read)
			c.RollForward.Point = a.text("rollForwardPoint")
			c.RestoreName = a.text("name")
			c.RestoreTarget = take(a, "target", restoreTargets.read)
			c.RestoreMetadata = a.text("metadata")
		}),
		list(r, "subcomponent", &c.RestoreSubcomponents, func(a *attributes) Subcomponent {
			return Subcomponent{LogicalPath: a.text("logicalPath"), Name: a.text("name")}
		}),
		list(r, "newTarget", &c.NewTargets, readTarget),
		list(r, "alternateLocationMapping", &c.AlternateLocationMappings, readTarget),
		list(r, "partialFile", &c.PartialFiles, func(a *attributes) PartialFile {
			return PartialFile{Path: a.text("path"), FileName: a.text("fileName"), Ranges: a.text("ranges"),
				Metadata: a.text("metadata"), RangesFile: a.text("rangesFile")}
		}),
		list(r, "differencedFiles", &c.DifferencedFiles, func(a *attributes) DifferencedFiles {
			return DifferencedFiles{Path: a.text("path"), FileSpec: a.text("fileSpec"), Recursive: a.flag("recursive"),
				LastModify: a.time("lastModify")}
		}),
		list(r, "directedTarget", &c.DirectedTargets, func(a *attributes) DirectedTarget {
			return DirectedTarget{
				SourcePath: a.text("sourcePath"), SourceFileName: a.text("sourceFileName"), SourceRanges: a.text("sourceRanges"),
				TargetPath: a.text("targetPath"), TargetFileName: a.text("targetFileName"), TargetRanges: a.text("targetRanges"),
			}
		}),
		said("failures", func(a *attributes) {
			c.Failures = FailureMessages{PrepareForBackup: a.text("prepareForBackup"), PostSnapshot: a.text("postSnapshot"),
				PreRestore: a.text("preRestore"), PostRestore: a.text("postRestore")}
		}),
		said("failure", func(a *attributes) {
			c.Failure = ComponentFailure{Code: vss.HResult(a.bits("code")), ApplicationCode: vss.HResult(a.bits("applicationCode")),
				Message: a.text("message")}
		}),
	)
}

func readTarget(a *attributes) FileTarget {
	return FileTarget{Path: a.text("path"), FileSpec: a.text("fileSpec"), Recursive: a.flag("recursive"), AlternatePath: a.text("alternatePath")}
}

// list is the child elements, with attributes only, of which a list is made.
func list[T any](r *xmlReader, name string, into *[]T, read func(*attributes) T) child {
	return child{name, 0, maxComponentItems, func(a *attributes) *fault {
		*into = append(*into, read(a))
		return r.empty(a)
	}}
}
