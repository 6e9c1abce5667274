package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
	"github.com/umbra-vss/umbra/vssapi"
)

// input is what methods are called with. Which of it one takes is its own
// business.
type input struct {
	xml              string
	context          vss.Context
	backup           vss.BackupType
	restore          vss.RestoreType
	volume           string
	id, provider     vss.ID // of a copy, a set
	queried          vss.ID
	from, kind       vss.ObjectType
	attr             vss.Attributes
	root, name       string
	component        requester.Component
	text, path, spec string
	flag             bool
	status           vss.FileRestoreStatus
	roll             vss.RollForwardType
	index            int
	ids              []vss.ID
	flags            uint32
	nilOut           bool // vssapi: an out parameter is nil; requester: the context
}

// operation is an asynchronous operation, by either face.
type operation interface {
	result() vss.HResult // waits
	release()
	status() (code, hr vss.HResult) // QueryStatus
	wait(ms uint32) vss.HResult
	cancel() vss.HResult
}

// object is a BackupComponents object, by either face. has is false for a
// method that the face does not have.
type object interface {
	call(method string, in input) (code vss.HResult, op operation, has bool)
	close()
}

type face struct {
	name string
	open func(t testing.TB, m *servicetest.Machine) object
}

var faces = []face{{"requester", openRequester}, {"vssapi", openVSSAPI}}

type goObject struct{ bc *requester.BackupComponents }

func openRequester(t testing.TB, m *servicetest.Machine) object {
	bc, err := requester.CreateBackupComponents(t.Context(), requester.Endpoint(m.Socket))
	if err != nil {
		t.Fatal(err)
	}
	return goObject{bc}
}

func (o goObject) close() { _ = o.bc.Close() }

type goOperation struct{ *requester.Async }

func (a goOperation) result() vss.HResult {
	code, err := a.Wait(context.Background())
	if code == vss.S_OK {
		code = vss.CodeOf(err)
	}
	return code
}
func (a goOperation) release() { _ = a.Release(context.Background()) }

func (a goOperation) status() (code, hr vss.HResult) {
	s, err := a.Status(context.Background())
	return vss.CodeOf(err), s.Code
}

// wait is IVssAsync::Wait by what WaitFor says (requester.md 8, row 6).
func (a goOperation) wait(ms uint32) vss.HResult {
	s, err := a.WaitFor(context.Background(), time.Duration(ms)*time.Millisecond)
	if err == nil && s.Code.Failed() && !s.EndedBeforeCall {
		return s.Code
	}
	return vss.CodeOf(err)
}

func (a goOperation) cancel() vss.HResult {
	code, _ := a.Cancel(context.Background())
	return code
}

func (o goObject) call(method string, in input) (vss.HResult, operation, bool) {
	f, ok := goMethods[method]
	if !ok {
		return 0, nil, false
	}
	ctx := context.Background()
	if in.nilOut {
		ctx = nil
	}
	switch out := f(ctx, o.bc, in).(type) {
	case nil:
		return vss.S_OK, nil, true
	case error:
		return vss.CodeOf(out), nil, true
	case *requester.Async:
		return vss.S_OK, goOperation{out}, true
	default:
		panic(method)
	}
}

// of drops what a call returned beside its error.
func of[T any](_ T, err error) any { return orNil(err) }

func of2[T, U any](_ T, _ U, err error) any { return orNil(err) }

func orNil(err error) any {
	if err == nil {
		return nil
	}
	return err
}

func begun(a *requester.Async, err error) any {
	if err != nil {
		return err
	}
	return a
}

type bcs = *requester.BackupComponents

// goMethods are the methods of requester.BackupComponents, by their names in
// Microsoft's interfaces.
var goMethods = map[string]func(context.Context, bcs, input) any{
	"InitializeForBackup":  func(c context.Context, b bcs, i input) any { return orNil(b.InitializeForBackup(c, []byte(i.xml))) },
	"InitializeForRestore": func(c context.Context, b bcs, i input) any { return orNil(b.InitializeForRestore(c, []byte(i.xml))) },
	"SetContext":           func(c context.Context, b bcs, i input) any { return orNil(b.SetContext(c, i.context)) },
	"SetBackupState": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetBackupState(c, true, false, i.backup, false))
	},
	"SetRestoreState":      func(c context.Context, b bcs, i input) any { return orNil(b.SetRestoreState(c, i.restore)) },
	"EnableWriterClasses":  func(c context.Context, b bcs, i input) any { return orNil(b.EnableWriterClasses(c, i.ids...)) },
	"DisableWriterClasses": func(c context.Context, b bcs, i input) any { return orNil(b.DisableWriterClasses(c, i.ids...)) },
	"DisableWriterInstances": func(c context.Context, b bcs, i input) any {
		return orNil(b.DisableWriterInstances(c, i.ids...))
	},
	"GatherWriterMetadata":     func(c context.Context, b bcs, _ input) any { return begun(b.GatherWriterMetadata(c)) },
	"GetWriterMetadataCount":   func(c context.Context, b bcs, _ input) any { return of(b.GetWriterMetadataCount(c)) },
	"GetWriterMetadata":        func(c context.Context, b bcs, i input) any { return of2(b.GetWriterMetadata(c, i.index)) },
	"GetWriterMetadataEx":      func(c context.Context, b bcs, i input) any { return of2(b.GetWriterMetadataEx(c, i.index)) },
	"FreeWriterMetadata":       func(c context.Context, b bcs, _ input) any { return orNil(b.FreeWriterMetadata(c)) },
	"GatherWriterStatus":       func(c context.Context, b bcs, _ input) any { return begun(b.GatherWriterStatus(c)) },
	"GetWriterStatusCount":     func(c context.Context, b bcs, _ input) any { return of(b.GetWriterStatusCount(c)) },
	"GetWriterStatus":          func(c context.Context, b bcs, i input) any { return of(b.GetWriterStatus(c, i.index)) },
	"GetWriterStatusEx":        func(c context.Context, b bcs, i input) any { return of(b.GetWriterStatusEx(c, i.index)) },
	"FreeWriterStatus":         func(c context.Context, b bcs, _ input) any { return orNil(b.FreeWriterStatus(c)) },
	"GetWriterComponentsCount": func(c context.Context, b bcs, _ input) any { return of(b.GetWriterComponentsCount(c)) },
	"GetWriterComponents":      func(c context.Context, b bcs, i input) any { return of(b.GetWriterComponents(c, i.index)) },
	"AddComponent":             func(c context.Context, b bcs, i input) any { return orNil(b.AddComponent(c, i.component)) },
	"SetBackupOptions":         func(c context.Context, b bcs, i input) any { return orNil(b.SetBackupOptions(c, i.component, i.text)) },
	"SetPreviousBackupStamp": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetPreviousBackupStamp(c, i.component, i.text))
	},
	"SetBackupSucceeded": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetBackupSucceeded(c, i.component, i.flag))
	},
	"IsVolumeSupported": func(c context.Context, b bcs, i input) any { return of(b.IsVolumeSupported(c, i.provider, i.volume)) },
	"StartSnapshotSet":  func(c context.Context, b bcs, _ input) any { return of(b.StartSnapshotSet(c)) },
	"AddToSnapshotSet":  func(c context.Context, b bcs, i input) any { return of(b.AddToSnapshotSet(c, i.volume, i.provider)) },
	"PrepareForBackup":  func(c context.Context, b bcs, _ input) any { return begun(b.PrepareForBackup(c)) },
	"DoSnapshotSet":     func(c context.Context, b bcs, _ input) any { return begun(b.DoSnapshotSet(c)) },
	"BackupComplete":    func(c context.Context, b bcs, _ input) any { return begun(b.BackupComplete(c)) },
	"AbortBackup":       func(c context.Context, b bcs, _ input) any { return orNil(b.AbortBackup(c)) },
	"SaveAsXML":         func(c context.Context, b bcs, _ input) any { return of(b.SaveAsXML(c)) },
	"ImportSnapshots":   func(c context.Context, b bcs, _ input) any { return begun(b.ImportSnapshots(c)) },
	"Query":             func(c context.Context, b bcs, i input) any { return of(b.Query(c, i.queried, i.from, i.kind)) },
	"GetSnapshotProperties": func(c context.Context, b bcs, i input) any {
		return of(b.GetSnapshotProperties(c, i.id))
	},
	"DeleteSnapshots": func(c context.Context, b bcs, i input) any { return of2(b.DeleteSnapshots(c, i.id, i.kind, i.flag)) },
	"ExposeSnapshot": func(c context.Context, b bcs, i input) any {
		return of(b.ExposeSnapshot(c, i.id, i.root, i.attr, i.name))
	},
	"UnexposeSnapshot": func(c context.Context, b bcs, i input) any { return orNil(b.UnexposeSnapshot(c, i.id)) },
	"BreakSnapshotSet": func(c context.Context, b bcs, i input) any { return orNil(b.BreakSnapshotSet(c, i.id)) },
	"BreakSnapshotSetEx": func(c context.Context, b bcs, i input) any {
		return begun(b.BreakSnapshotSetEx(c, i.id, vss.HardwareOptions(i.flags)))
	},
	"RevertToSnapshot":  func(c context.Context, b bcs, i input) any { return orNil(b.RevertToSnapshot(c, i.id, i.flag)) },
	"QueryRevertStatus": func(c context.Context, b bcs, i input) any { return begun(b.QueryRevertStatus(c, i.volume)) },
	"SetSelectedForRestore": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetSelectedForRestore(c, i.component, true))
	},
	"SetSelectedForRestoreEx": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetSelectedForRestoreEx(c, i.component, true))
	},
	"AddRestoreSubcomponent": func(c context.Context, b bcs, i input) any {
		return orNil(b.AddRestoreSubcomponent(c, i.component, i.path, i.name, i.flag))
	},
	"SetRestoreOptions": func(c context.Context, b bcs, i input) any { return orNil(b.SetRestoreOptions(c, i.component, i.text)) },
	"SetAdditionalRestores": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetAdditionalRestores(c, i.component, i.flag))
	},
	"AddNewTarget": func(c context.Context, b bcs, i input) any {
		return orNil(b.AddNewTarget(c, i.component, i.path, i.spec, true, i.text))
	},
	"SetRangesFilePath": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetRangesFilePath(c, i.component, i.index, i.path))
	},
	"SetAuthoritativeRestore": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetAuthoritativeRestore(c, i.component, i.flag))
	},
	"SetRollForward": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetRollForward(c, i.component, i.roll, i.text))
	},
	"SetRestoreName": func(c context.Context, b bcs, i input) any { return orNil(b.SetRestoreName(c, i.component, i.name)) },
	"PreRestore":     func(c context.Context, b bcs, _ input) any { return begun(b.PreRestore(c)) },
	"PostRestore":    func(c context.Context, b bcs, _ input) any { return begun(b.PostRestore(c)) },
	"SetFileRestoreStatus": func(c context.Context, b bcs, i input) any {
		return orNil(b.SetFileRestoreStatus(c, i.component, i.status))
	},
	"AddAlternativeLocationMapping": func(c context.Context, b bcs, i input) any {
		return orNil(b.AddAlternativeLocationMapping(c, i.component, i.path, i.spec, true, i.text))
	},
	"PreFastRecovery": func(c context.Context, b bcs, _ input) any { return begun(b.PreFastRecovery(c)) },
	"FastRecovery":    func(c context.Context, b bcs, _ input) any { return begun(b.FastRecovery(c)) },
	"AddSnapshotToRecoverySet": func(c context.Context, b bcs, i input) any {
		return orNil(b.AddSnapshotToRecoverySet(c, i.id, i.flags, i.volume))
	},
	"RecoverSet": func(c context.Context, b bcs, i input) any {
		return begun(b.RecoverSet(c, vss.RecoveryOptions(i.flags)))
	},
	"GetSessionId": func(c context.Context, b bcs, _ input) any { return of(b.GetSessionID(c)) },
	"GetRootAndLogicalPrefixPaths": func(c context.Context, b bcs, i input) any {
		return of2(b.GetRootAndLogicalPrefixPaths(c, i.volume, false))
	},

	// Umbra's own.
	"CheckImport":   func(c context.Context, b bcs, _ input) any { return of(b.CheckImport(c)) },
	"CleanupImport": func(c context.Context, b bcs, i input) any { return of(b.CleanupImport(c, i.id, requester.Mask)) },
}

type comObject struct {
	bc vssapi.IVssBackupComponentsEx4
}

func openVSSAPI(t testing.TB, m *servicetest.Machine) object {
	vssapi.SetEndpoint(m.Socket)
	t.Cleanup(func() { vssapi.SetEndpoint("") })
	var bc vssapi.IVssBackupComponents
	var ex4 vssapi.IVssBackupComponentsEx4
	if hr := vssapi.CreateVssBackupComponents(&bc); hr != vss.S_OK {
		t.Fatal(hr)
	}
	if hr := bc.QueryInterface(&ex4); hr != vss.S_OK {
		t.Fatal(hr)
	}
	bc.Release()
	return comObject{ex4}
}

func (o comObject) close() { o.bc.Release() }

type comOperation struct{ vssapi.IVssAsync }

func (a comOperation) result() vss.HResult {
	if hr := a.Wait(vssapi.INFINITE); hr == vss.VSS_E_UNEXPECTED {
		return hr // else the status says it
	}
	var hr vss.HResult
	if code := a.QueryStatus(&hr, nil); code != vss.S_OK {
		return code
	}
	return hr
}
func (a comOperation) release() { a.Release() }

func (a comOperation) status() (code, hr vss.HResult) {
	code = a.QueryStatus(&hr, nil)
	return code, hr
}

func (a comOperation) wait(ms uint32) vss.HResult { return a.Wait(ms) }
func (a comOperation) cancel() vss.HResult        { return a.Cancel() }

func (o comObject) call(method string, in input) (vss.HResult, operation, bool) {
	f, ok := comMethods[method]
	if !ok {
		return 0, nil, false
	}
	code, async := f(o.bc, in)
	if async == nil {
		return code, nil, true
	}
	return code, comOperation{async}, true
}

type com = vssapi.IVssBackupComponentsEx4

// out is where a result goes, or nil.
func out[T any](in input) *T {
	if in.nilOut {
		return nil
	}
	return new(T)
}

func atOnce(f func(com, input) vss.HResult) func(com, input) (vss.HResult, vssapi.IVssAsync) {
	return func(c com, i input) (vss.HResult, vssapi.IVssAsync) { return f(c, i), nil }
}

func begins(f func(com, input, *vssapi.IVssAsync) vss.HResult) func(com, input) (vss.HResult, vssapi.IVssAsync) {
	return func(c com, i input) (vss.HResult, vssapi.IVssAsync) {
		p := out[vssapi.IVssAsync](i)
		code := f(c, i, p)
		if p == nil {
			return code, nil
		}
		return code, *p
	}
}

var comMethods = map[string]func(com, input) (vss.HResult, vssapi.IVssAsync){
	"InitializeForBackup":    atOnce(func(c com, i input) vss.HResult { return c.InitializeForBackup(i.xml) }),
	"InitializeForRestore":   atOnce(func(c com, i input) vss.HResult { return c.InitializeForRestore(i.xml) }),
	"SetContext":             atOnce(func(c com, i input) vss.HResult { return c.SetContext(i.context) }),
	"SetBackupState":         atOnce(func(c com, i input) vss.HResult { return c.SetBackupState(true, false, i.backup, false) }),
	"SetRestoreState":        atOnce(func(c com, i input) vss.HResult { return c.SetRestoreState(i.restore) }),
	"EnableWriterClasses":    atOnce(func(c com, i input) vss.HResult { return c.EnableWriterClasses(i.ids) }),
	"DisableWriterClasses":   atOnce(func(c com, i input) vss.HResult { return c.DisableWriterClasses(i.ids) }),
	"DisableWriterInstances": atOnce(func(c com, i input) vss.HResult { return c.DisableWriterInstances(i.ids) }),
	"GatherWriterMetadata":   begins(func(c com, _ input, p *vssapi.IVssAsync) vss.HResult { return c.GatherWriterMetadata(p) }),
	"GetWriterMetadataCount": atOnce(func(c com, i input) vss.HResult { return c.GetWriterMetadataCount(out[uint32](i)) }),
	"GetWriterMetadata": atOnce(func(c com, i input) vss.HResult {
		return c.GetWriterMetadata(uint32(i.index), out[vss.ID](i), out[vssapi.IVssExamineWriterMetadata](i))
	}),
	"GetWriterMetadataEx": atOnce(func(c com, i input) vss.HResult {
		return c.GetWriterMetadataEx(uint32(i.index), out[vss.ID](i), out[vssapi.IVssExamineWriterMetadata](i))
	}),
	"FreeWriterMetadata":   atOnce(func(c com, _ input) vss.HResult { return c.FreeWriterMetadata() }),
	"GatherWriterStatus":   begins(func(c com, _ input, p *vssapi.IVssAsync) vss.HResult { return c.GatherWriterStatus(p) }),
	"GetWriterStatusCount": atOnce(func(c com, i input) vss.HResult { return c.GetWriterStatusCount(out[uint32](i)) }),
	"GetWriterStatus": atOnce(func(c com, i input) vss.HResult {
		return c.GetWriterStatus(uint32(i.index), out[vss.ID](i), out[vss.ID](i), out[string](i), out[vss.WriterState](i), out[vss.HResult](i))
	}),
	"GetWriterStatusEx": atOnce(func(c com, i input) vss.HResult {
		return c.GetWriterStatusEx(uint32(i.index), out[vss.ID](i), out[vss.ID](i), out[string](i), out[vss.WriterState](i), out[vss.HResult](i), nil, nil)
	}),
	"FreeWriterStatus":         atOnce(func(c com, _ input) vss.HResult { return c.FreeWriterStatus() }),
	"GetWriterComponentsCount": atOnce(func(c com, i input) vss.HResult { return c.GetWriterComponentsCount(out[uint32](i)) }),
	"GetWriterComponents": atOnce(func(c com, i input) vss.HResult {
		return c.GetWriterComponents(uint32(i.index), out[vssapi.IVssWriterComponents](i))
	}),
	"AddComponent": atOnce(func(c com, i input) vss.HResult {
		return c.AddComponent(i.component.InstanceID, i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name)
	}),
	"SetBackupOptions": atOnce(func(c com, i input) vss.HResult {
		return c.SetBackupOptions(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.text)
	}),
	"SetPreviousBackupStamp": atOnce(func(c com, i input) vss.HResult {
		return c.SetPreviousBackupStamp(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.text)
	}),
	"SetBackupSucceeded": atOnce(func(c com, i input) vss.HResult {
		return c.SetBackupSucceeded(i.component.InstanceID, i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.flag)
	}),
	"IsVolumeSupported": atOnce(func(c com, i input) vss.HResult { return c.IsVolumeSupported(i.provider, i.volume, out[bool](i)) }),
	"StartSnapshotSet":  atOnce(func(c com, i input) vss.HResult { return c.StartSnapshotSet(out[vss.ID](i)) }),
	"AddToSnapshotSet":  atOnce(func(c com, i input) vss.HResult { return c.AddToSnapshotSet(i.volume, i.provider, out[vss.ID](i)) }),
	"PrepareForBackup":  begins(func(c com, _ input, p *vssapi.IVssAsync) vss.HResult { return c.PrepareForBackup(p) }),
	"DoSnapshotSet":     begins(func(c com, _ input, p *vssapi.IVssAsync) vss.HResult { return c.DoSnapshotSet(p) }),
	"BackupComplete":    begins(func(c com, _ input, p *vssapi.IVssAsync) vss.HResult { return c.BackupComplete(p) }),
	"AbortBackup":       atOnce(func(c com, _ input) vss.HResult { return c.AbortBackup() }),
	"SaveAsXML":         atOnce(func(c com, i input) vss.HResult { return c.SaveAsXML(out[string](i)) }),
	"ImportSnapshots":   begins(func(c com, _ input, p *vssapi.IVssAsync) vss.HResult { return c.ImportSnapshots(p) }),
	"Query": atOnce(func(c com, i input) vss.HResult {
		return c.Query(i.queried, i.from, i.kind, out[vssapi.IVssEnumObject](i))
	}),
	"GetSnapshotProperties": atOnce(func(c com, i input) vss.HResult {
		return c.GetSnapshotProperties(i.id, out[vss.SnapshotProp](i))
	}),
	"DeleteSnapshots": atOnce(func(c com, i input) vss.HResult {
		return c.DeleteSnapshots(i.id, i.kind, i.flag, out[int32](i), out[vss.ID](i))
	}),
	"ExposeSnapshot": atOnce(func(c com, i input) vss.HResult {
		return c.ExposeSnapshot(i.id, i.root, i.attr, i.name, out[string](i))
	}),
	"UnexposeSnapshot": atOnce(func(c com, i input) vss.HResult { return c.UnexposeSnapshot(i.id) }),
	"BreakSnapshotSet": atOnce(func(c com, i input) vss.HResult { return c.BreakSnapshotSet(i.id) }),
	"BreakSnapshotSetEx": begins(func(c com, i input, p *vssapi.IVssAsync) vss.HResult {
		return c.BreakSnapshotSetEx(i.id, vss.HardwareOptions(i.flags), p)
	}),
	"RevertToSnapshot":  atOnce(func(c com, i input) vss.HResult { return c.RevertToSnapshot(i.id, i.flag) }),
	"QueryRevertStatus": begins(func(c com, i input, p *vssapi.IVssAsync) vss.HResult { return c.QueryRevertStatus(i.volume, p) }),
	"SetSelectedForRestore": atOnce(func(c com, i input) vss.HResult {
		return c.SetSelectedForRestore(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, true)
	}),
	"SetSelectedForRestoreEx": atOnce(func(c com, i input) vss.HResult {
		return c.SetSelectedForRestoreEx(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, true, i.component.InstanceID)
	}),
	"AddRestoreSubcomponent": atOnce(func(c com, i input) vss.HResult {
		return c.AddRestoreSubcomponent(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.path, i.name, i.flag)
	}),
	"SetRestoreOptions": atOnce(func(c com, i input) vss.HResult {
		return c.SetRestoreOptions(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.text)
	}),
	"SetAdditionalRestores": atOnce(func(c com, i input) vss.HResult {
		return c.SetAdditionalRestores(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.flag)
	}),
	"AddNewTarget": atOnce(func(c com, i input) vss.HResult {
		return c.AddNewTarget(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.path, i.spec, true, i.text)
	}),
	"SetRangesFilePath": atOnce(func(c com, i input) vss.HResult {
		return c.SetRangesFilePath(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, uint32(i.index), i.path)
	}),
	"SetAuthoritativeRestore": atOnce(func(c com, i input) vss.HResult {
		return c.SetAuthoritativeRestore(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.flag)
	}),
	"SetRollForward": atOnce(func(c com, i input) vss.HResult {
		return c.SetRollForward(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.roll, i.text)
	}),
	"SetRestoreName": atOnce(func(c com, i input) vss.HResult {
		return c.SetRestoreName(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.name)
	}),
	"PreRestore":  begins(func(c com, _ input, p *vssapi.IVssAsync) vss.HResult { return c.PreRestore(p) }),
	"PostRestore": begins(func(c com, _ input, p *vssapi.IVssAsync) vss.HResult { return c.PostRestore(p) }),
	"SetFileRestoreStatus": atOnce(func(c com, i input) vss.HResult {
		return c.SetFileRestoreStatus(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.status)
	}),
	"AddAlternativeLocationMapping": atOnce(func(c com, i input) vss.HResult {
		return c.AddAlternativeLocationMapping(i.component.WriterID, i.component.Type, i.component.LogicalPath, i.component.Name, i.path, i.spec, true, i.text)
	}),
	"PreFastRecovery":          begins(func(c com, i input, p *vssapi.IVssAsync) vss.HResult { return c.PreFastRecovery(i.id, i.flags, p) }),
	"FastRecovery":             begins(func(c com, i input, p *vssapi.IVssAsync) vss.HResult { return c.FastRecovery(i.id, i.flags, p) }),
	"AddSnapshotToRecoverySet": atOnce(func(c com, i input) vss.HResult { return c.AddSnapshotToRecoverySet(i.id, i.flags, i.volume) }),
	"RecoverSet": begins(func(c com, i input, p *vssapi.IVssAsync) vss.HResult {
		return c.RecoverSet(vss.RecoveryOptions(i.flags), p)
	}),
	"GetSessionId": atOnce(func(c com, i input) vss.HResult { return c.GetSessionId(out[vss.ID](i)) }),
	"GetRootAndLogicalPrefixPaths": atOnce(func(c com, i input) vss.HResult {
		return c.GetRootAndLogicalPrefixPaths(i.volume, out[string](i), out[string](i), false)
	}),
}
