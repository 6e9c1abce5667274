package vssapi

import (
	"sync"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/vss"
)

// object is what only reads something that is already here.
type object struct{ references }

func (o *object) Release() uint32 {
	left, _ := o.release()
	return left
}

// usable is the answer to a call, as far as it is not about its work.
func (o *object) usable(nilOut bool) vss.HResult {
	switch {
	case nilOut:
		return vss.E_INVALIDARG
	case o.released():
		return vss.VSS_E_BAD_STATE
	}
	return vss.S_OK
}

// get gives a value through an out parameter.
func get[T any](o *object, p *T, v func() T) vss.HResult {
	if code := o.usable(p == nil); code != vss.S_OK {
		return code
	}
	*p = v()
	return vss.S_OK
}

func as[I IUnknown](self I, ppv any) vss.HResult {
	if code, done := query[I](self, ppv); done {
		return code
	}
	code, _ := query[IUnknown](self, ppv)
	return code
}

type examine struct {
	object
	mu sync.Mutex
	m  *document.ExaminedWriterMetadata
}

func (e *examine) QueryInterface(ppv any) vss.HResult {
	return as[IVssExamineWriterMetadata](e, ppv)
}

func (e *examine) doc() *document.ExaminedWriterMetadata {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.m
}

func (e *examine) GetIdentity(pidInstance, pidWriter *vss.ID, pbstrWriterName *string, pUsage *vss.UsageType, pSource *vss.SourceType) vss.HResult {
	var name string
	return e.GetIdentityEx(pidInstance, pidWriter, pbstrWriterName, &name, pUsage, pSource)
}

func (e *examine) GetIdentityEx(pidInstance, pidWriter *vss.ID, pbstrWriterName, pbstrInstanceName *string, pUsage *vss.UsageType, pSource *vss.SourceType) vss.HResult {
	if code := e.usable(pidInstance == nil || pidWriter == nil || pbstrWriterName == nil || pbstrInstanceName == nil || pUsage == nil || pSource == nil); code != vss.S_OK {
		return code
	}
	*pidInstance, *pidWriter, *pbstrWriterName, *pbstrInstanceName, *pUsage, *pSource = e.doc().GetIdentityEx()
	return vss.S_OK
}

func (e *examine) GetVersion(pdwMajorVersion, pdwMinorVersion *uint32) vss.HResult {
	if code := e.usable(pdwMajorVersion == nil || pdwMinorVersion == nil); code != vss.S_OK {
		return code
	}
	*pdwMajorVersion, *pdwMinorVersion = e.doc().GetVersion()
	return vss.S_OK
}

func (e *examine) GetFileCounts(pcIncludeFiles, pcExcludeFiles, pcComponents *uint32) vss.HResult {
	if code := e.usable(pcIncludeFiles == nil || pcExcludeFiles == nil || pcComponents == nil); code != vss.S_OK {
		return code
	}
	in, ex, cs := e.doc().GetFileCounts()
	*pcIncludeFiles, *pcExcludeFiles, *pcComponents = uint32(in), uint32(ex), uint32(cs)
	return vss.S_OK
}

func (e *examine) GetIncludeFile(iFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult {
	return e.file(iFile, ppFiledesc, e.doc().GetIncludeFile)
}

func (e *examine) GetExcludeFile(iFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult {
	return e.file(iFile, ppFiledesc, e.doc().GetExcludeFile)
}

func (e *examine) GetExcludeFromSnapshotCount(pcExcludedFromSnapshot *uint32) vss.HResult {
	return get(&e.object, pcExcludedFromSnapshot, func() uint32 { return uint32(e.doc().GetExcludeFromSnapshotCount()) })
}

func (e *examine) GetExcludeFromSnapshotFile(iFile uint32, ppFiledesc *IVssWMFiledesc) vss.HResult {
	return e.file(iFile, ppFiledesc, e.doc().GetExcludeFromSnapshotFile)
}

func (e *examine) GetAlternateLocationMapping(iMapping uint32, ppFiledesc *IVssWMFiledesc) vss.HResult {
	return e.file(iMapping, ppFiledesc, e.doc().GetAlternateLocationMapping)
}

func (o *object) file(i uint32, pp *IVssWMFiledesc, f func(int) (document.FileSet, error)) vss.HResult {
	if code := o.usable(pp == nil); code != vss.S_OK {
		return code
	}
	*pp = nil
	s, err := f(index(i))
	if err == nil {
		*pp = &filedesc{s: s}
	}
	return vss.CodeOf(err)
}

func (e *examine) GetComponent(iComponent uint32, ppComponent *IVssWMComponent) vss.HResult {
	if code := e.usable(ppComponent == nil); code != vss.S_OK {
		return code
	}
	*ppComponent = nil
	c, err := e.doc().GetComponent(index(iComponent))
	if err == nil {
		*ppComponent = &wmComponent{c: c}
	}
	return vss.CodeOf(err)
}

func (e *examine) GetRestoreMethod(pMethod *vss.RestoreMethod, pbstrService, pbstrUserProcedure *string, pwriterRestore *vss.WriterRestore, pbRebootRequired *bool, pcMappings *uint32) vss.HResult {
	if code := e.usable(pMethod == nil || pbstrService == nil || pbstrUserProcedure == nil || pwriterRestore == nil || pbRebootRequired == nil || pcMappings == nil); code != vss.S_OK {
		return code
	}
	var n int
	*pMethod, *pbstrService, *pbstrUserProcedure, *pwriterRestore, *pbRebootRequired, n = e.doc().GetRestoreMethod()
	*pcMappings = uint32(n)
	return vss.S_OK
}

func (e *examine) GetBackupSchema(pdwSchemaMask *vss.BackupSchema) vss.HResult {
	return get(&e.object, pdwSchemaMask, func() vss.BackupSchema { return e.doc().GetBackupSchema() })
}

func (e *examine) SaveAsXML(pbstrXML *string) vss.HResult {
	return get(&e.object, pbstrXML, func() string { return string(e.doc().SaveAsXML()) })
}

func (e *examine) LoadFromXML(bstrXML string) vss.HResult {
	if code := e.usable(false); code != vss.S_OK {
		return code
	}
	m, err := document.ExamineWriterMetadata([]byte(bstrXML))
	if err == nil {
		e.mu.Lock()
		e.m = m
		e.mu.Unlock()
	}
	return vss.CodeOf(err)
}

type filedesc struct {
	object
	s document.FileSet
}

func (f *filedesc) QueryInterface(ppv any) vss.HResult { return as[IVssWMFiledesc](f, ppv) }

func (f *filedesc) GetPath(p *string) vss.HResult {
	return get(&f.object, p, func() string { return f.s.Path })
}

func (f *filedesc) GetFilespec(p *string) vss.HResult {
	return get(&f.object, p, func() string { return f.s.FileSpec })
}

func (f *filedesc) GetRecursive(p *bool) vss.HResult {
	return get(&f.object, p, func() bool { return f.s.Recursive })
}

func (f *filedesc) GetAlternateLocation(p *string) vss.HResult {
	return get(&f.object, p, func() string { return f.s.AlternatePath })
}

func (f *filedesc) GetBackupTypeMask(p *vss.FileSpecBackupType) vss.HResult {
	return get(&f.object, p, func() vss.FileSpecBackupType { return f.s.BackupType })
}

type wmComponent struct {
	object
	c document.MetadataComponent
}

func (c *wmComponent) QueryInterface(ppv any) vss.HResult { return as[IVssWMComponent](c, ppv) }

func (c *wmComponent) GetComponentInfo(pInfo *VSS_COMPONENTINFO) vss.HResult {
	return get(&c.object, pInfo, func() VSS_COMPONENTINFO {
		return VSS_COMPONENTINFO{Type: c.c.Type, BstrLogicalPath: c.c.LogicalPath, BstrComponentName: c.c.Name, BstrCaption: c.c.Caption, PbIcon: c.c.Icon,
			BRestoreMetadata: c.c.RestoreMetadata, BNotifyOnBackupComplete: c.c.NotifyOnBackupComplete, BSelectable: c.c.Selectable, BSelectableForRestore: c.c.SelectableForRestore,
			DwComponentFlags: c.c.Flags, CFileCount: uint32(len(c.c.Files)), CDatabases: uint32(len(c.c.DatabaseFiles)), CLogFiles: uint32(len(c.c.LogFiles)), CDependencies: uint32(len(c.c.Dependencies))}
	})
}

func (c *wmComponent) GetFile(i uint32, pp *IVssWMFiledesc) vss.HResult {
	return c.file(i, pp, of(c.c.Files))
}

func (c *wmComponent) GetDatabaseFile(i uint32, pp *IVssWMFiledesc) vss.HResult {
	return c.file(i, pp, of(c.c.DatabaseFiles))
}

func (c *wmComponent) GetDatabaseLogFile(i uint32, pp *IVssWMFiledesc) vss.HResult {
	return c.file(i, pp, of(c.c.LogFiles))
}

func of[T any](list []T) func(int) (T, error) {
	return func(i int) (T, error) {
		if i >= len(list) {
			var none T
			return none, vss.VSS_E_OBJECT_NOT_FOUND
		}
		return list[i], nil
	}
}

func (c *wmComponent) GetDependency(i uint32, pWriterId *vss.ID, pbstrLogicalPath, pbstrComponentName *string) vss.HResult {
	if code := c.usable(pWriterId == nil || pbstrLogicalPath == nil || pbstrComponentName == nil); code != vss.S_OK {
		return code
	}
	d, err := of(c.c.Dependencies)(index(i))
	*pWriterId, *pbstrLogicalPath, *pbstrComponentName = d.WriterID, d.LogicalPath, d.Name
	return vss.CodeOf(err)
}

type writerComponents struct {
	object
	w *document.WriterComponents
}

func (w *writerComponents) QueryInterface(ppv any) vss.HResult {
	return as[IVssWriterComponents](w, ppv)
}

func (w *writerComponents) GetComponentCount(pcComponents *uint32) vss.HResult {
	return get(&w.object, pcComponents, func() uint32 { return uint32(len(w.w.Components)) })
}

func (w *writerComponents) GetWriterInfo(pidInstance, pidWriter *vss.ID) vss.HResult {
	if code := w.usable(pidInstance == nil || pidWriter == nil); code != vss.S_OK {
		return code
	}
	*pidInstance, *pidWriter = w.w.InstanceID, w.w.WriterID
	return vss.S_OK
}

func (w *writerComponents) GetComponent(iComponent uint32, ppComponent *IVssComponent) vss.HResult {
	if code := w.usable(ppComponent == nil); code != vss.S_OK {
		return code
	}
	*ppComponent = nil
	c, err := of(w.w.Components)(index(iComponent))
	if err == nil {
		*ppComponent = &component{c: c}
	}
	return vss.CodeOf(err)
}

type component struct {
	object
	c document.Component
}

func (c *component) QueryInterface(ppv any) vss.HResult { return as[IVssComponent](c, ppv) }

func (c *component) GetLogicalPath(p *string) vss.HResult {
	return get(&c.object, p, func() string { return c.c.LogicalPath })
}

func (c *component) GetComponentType(p *vss.ComponentType) vss.HResult {
	return get(&c.object, p, func() vss.ComponentType { return c.c.Type })
}

func (c *component) GetComponentName(p *string) vss.HResult {
	return get(&c.object, p, func() string { return c.c.Name })
}

func (c *component) GetBackupSucceeded(p *bool) vss.HResult {
	return get(&c.object, p, func() bool { return c.c.BackupSucceeded })
}

func (c *component) GetBackupStamp(p *string) vss.HResult {
	return get(&c.object, p, func() string { return c.c.BackupStamp })
}

func (c *component) GetBackupMetadata(p *string) vss.HResult {
	return get(&c.object, p, func() string { return c.c.BackupMetadata })
}

func (c *component) GetRestoreMetadata(p *string) vss.HResult {
	return get(&c.object, p, func() string { return c.c.RestoreMetadata })
}

func (c *component) IsSelectedForRestore(p *bool) vss.HResult {
	return get(&c.object, p, func() bool { return c.c.SelectedForRestore })
}

func (c *component) GetFileRestoreStatus(p *vss.FileRestoreStatus) vss.HResult {
	return get(&c.object, p, func() vss.FileRestoreStatus { return c.c.FileRestoreStatus })
}
