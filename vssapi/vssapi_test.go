package vssapi_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
	"github.com/umbra-vss/umbra/vssapi"
)

func live(t *testing.T) *servicetest.Machine {
	m := servicetest.NewMachine(t)
	vssapi.SetEndpoint(m.Socket)
	t.Cleanup(func() { vssapi.SetEndpoint("") })
	return m
}

func newComponents(t *testing.T) vssapi.IVssBackupComponentsEx4 {
	t.Helper()
	var bc vssapi.IVssBackupComponents
	is(t, "CreateVssBackupComponents", vssapi.CreateVssBackupComponents(&bc), vss.S_OK)
	var ex4 vssapi.IVssBackupComponentsEx4
	is(t, "QueryInterface", bc.QueryInterface(&ex4), vss.S_OK)
	bc.Release()
	t.Cleanup(func() {
		for ex4.Release() > 0 {
		}
	})
	return ex4
}

func is(t *testing.T, what string, got, want vss.HResult) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestFlows walks both published flows against a service.
func TestFlows(t *testing.T) {
	m := live(t)
	v, w := m.Volume("db"), m.Volume("log")
	set, err := create(v, w)
	if err != nil {
		t.Fatal(err)
	}
	props, err := importSet(set.xml, set.copies)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range props {
		if p.SnapshotID != set.copies[i] || p.OriginalVolumeName != []string{v, w}[i] || !p.Attributes.Has(vss.ATTR_IMPORTED) || p.DeviceObject == "" || p.Status != vss.SS_CREATED {
			t.Errorf("%+v", p)
		}
	}
	if err := set.complete(); err != nil {
		t.Error(err)
	}
	if _, err := importSet(set.xml, nil); !errors.Is(err, vss.VSS_E_BAD_STATE) {
		t.Errorf("a second import: %v", err)
	}
	m.A.Fail("EndPrepareSnapshots", &vss.Error{Code: vss.VSS_E_INSUFFICIENT_STORAGE, Op: "x", Reason: "r", Remedy: "R"})
	if _, err := create(v); !errors.Is(err, vss.VSS_E_INSUFFICIENT_STORAGE) {
		t.Errorf("a full array: %v", err)
	}
	if _, err := create("/nowhere"); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("no volume: %v", err)
	}
}

// nothing calls every method of an object with nothing, and returns the codes.
func nothing(o any) (withOut, others map[string]vss.HResult) {
	withOut, others = map[string]vss.HResult{}, map[string]vss.HResult{}
	v := reflect.ValueOf(o)
	for i := range v.NumMethod() {
		name, m := v.Type().Method(i).Name, v.Method(i)
		if m.Type().NumOut() != 1 || m.Type().Out(0) != reflect.TypeFor[vss.HResult]() || name == "QueryInterface" {
			continue
		}
		var args []reflect.Value
		out := false
		for j := range m.Type().NumIn() {
			in := m.Type().In(j)
			out = out || in.Kind() == reflect.Pointer
			args = append(args, reflect.Zero(in))
		}
		code := m.Call(args)[0].Interface().(vss.HResult)
		if out {
			withOut[name] = code
		} else {
			others[name] = code
		}
	}
	return
}

// oneMissing calls every method of an object with all out parameters but one,
// for each one, and returns the codes.
func oneMissing(o any) map[string]vss.HResult {
	codes := map[string]vss.HResult{}
	v := reflect.ValueOf(o)
	for i := range v.NumMethod() {
		name, m := v.Type().Method(i).Name, v.Method(i)
		if name == "QueryInterface" || name == "QueryStatus" { // whose second must be nil
			continue
		}
		for missing := range m.Type().NumIn() {
			if m.Type().In(missing).Kind() != reflect.Pointer || name == "GetWriterStatusEx" && missing > 5 { // may be left out
				continue
			}
			var args []reflect.Value
			for j := range m.Type().NumIn() {
				if in := m.Type().In(j); in.Kind() == reflect.Pointer && j != missing {
					args = append(args, reflect.New(in.Elem()))
				} else {
					args = append(args, reflect.Zero(in))
				}
			}
			codes[fmt.Sprintf("%s %d", name, missing)] = m.Call(args)[0].Interface().(vss.HResult)
		}
	}
	return codes
}

// TestNilOutParameters: every one of every method, before anything else is
// looked at; IVssEnumObject::Next says E_POINTER.
func TestNilOutParameters(t *testing.T) {
	m := live(t)
	bc := newComponents(t)
	check := func(what string, codes map[string]vss.HResult, want vss.HResult) {
		t.Helper()
		for name, code := range codes {
			if want := want; name == "Next" {
				is(t, what+"::Next", code, vss.E_POINTER)
			} else if code != want {
				t.Errorf("%s::%s: %v, want %v", what, name, code, want)
			}
		}
	}
	outs, others := nothing(bc)
	if len(outs)+len(others) < 62 || len(outs) < 25 {
		t.Errorf("%d methods with out parameters, %d without", len(outs), len(others))
	}
	check("IVssBackupComponents", outs, vss.E_INVALIDARG)
	check("IVssBackupComponents", oneMissing(bc), vss.E_INVALIDARG)

	is(t, "InitializeForBackup", newComponents(t).InitializeForBackup("x"), vss.VSS_E_INVALID_XML_DOCUMENT)
	b := newComponents(t)
	is(t, "InitializeForBackup", b.InitializeForBackup(""), vss.S_OK)
	is(t, "SetContext", b.SetContext(vss.CTX_ALL), vss.S_OK)
	var enum vssapi.IVssEnumObject
	is(t, "Query", b.Query(vss.GUIDNull, vss.OBJECT_NONE, vss.OBJECT_PROVIDER, &enum), vss.S_OK)
	outs, _ = nothing(enum)
	check("IVssEnumObject", outs, vss.E_INVALIDARG)
	var n uint32
	is(t, "Next without room", enum.Next(2, make([]vss.ObjectProp, 1), &n), vss.E_POINTER)
	var async vssapi.IVssAsync
	is(t, "GatherWriterMetadata", b.GatherWriterMetadata(&async), vss.S_OK)
	outs, _ = nothing(async)
	check("IVssAsync", outs, vss.E_INVALIDARG)
	var hr vss.HResult
	var reserved int32
	is(t, "QueryStatus with something reserved", async.QueryStatus(&hr, &reserved), vss.E_INVALIDARG)
	is(t, "QueryInterface(nil)", async.QueryInterface((*vssapi.IVssAsync)(nil)), vss.E_INVALIDARG)
	is(t, "QueryInterface of something else", async.QueryInterface(&enum), vssapi.E_NOINTERFACE)
	is(t, "QueryInterface of nothing", async.QueryInterface(nil), vssapi.E_NOINTERFACE)

	for what, code := range map[string]vss.HResult{
		"CreateVssBackupComponents":      vssapi.CreateVssBackupComponents(nil),
		"CreateVssExamineWriterMetadata": vssapi.CreateVssExamineWriterMetadata("", nil),
		"IsVolumeSnapshotted":            vssapi.IsVolumeSnapshotted("/x", nil, nil),
		"ShouldBlockRevert":              vssapi.ShouldBlockRevert("/x", nil),
	} {
		is(t, what, code, vss.E_INVALIDARG)
	}
	vssapi.VssFreeSnapshotProperties(nil)

	// Released objects answer VSS_E_BAD_STATE; nobody brings them back.
	async.AddRef()
	if n := async.Release(); n != 1 {
		t.Errorf("%d references", n)
	}
	is(t, "QueryStatus", async.QueryStatus(&hr, nil), vss.S_OK)
	async.Release()
	is(t, "QueryStatus of a released Async", async.QueryStatus(&hr, nil), vss.VSS_E_BAD_STATE)
	is(t, "Wait", async.Wait(0), vss.VSS_E_BAD_STATE)
	is(t, "Cancel", async.Cancel(), vss.VSS_E_BAD_STATE)
	if async.AddRef() != 0 || async.Release() != 0 {
		t.Error("a released object was brought back")
	}
	is(t, "QueryInterface", async.QueryInterface(&async), vss.VSS_E_BAD_STATE)
	enum.Release()
	_, others = nothing(enum)
	check("released IVssEnumObject", others, vss.VSS_E_BAD_STATE)
	is(t, "Next", enum.Next(0, nil, &n), vss.VSS_E_BAD_STATE)
	var clone vssapi.IVssEnumObject
	is(t, "Clone", enum.Clone(&clone), vss.VSS_E_BAD_STATE)
	for b.Release() > 0 {
	}
	_, others = nothing(b)
	check("released IVssBackupComponents", others, vss.VSS_E_BAD_STATE)
	is(t, "ImportSnapshots", b.ImportSnapshots(&async), vss.VSS_E_BAD_STATE)

	v := m.Volume("v")
	yes, mask := true, vss.SC_DISABLE_DEFRAG
	is(t, "IsVolumeSnapshotted", vssapi.IsVolumeSnapshotted(v, &yes, &mask), vss.S_OK)
	if yes || mask != 0 {
		t.Error(yes, mask)
	}
	yes = true
	is(t, "ShouldBlockRevert", vssapi.ShouldBlockRevert(v, &yes), vss.S_OK)
	is(t, "IsVolumeSnapshotted of nothing", vssapi.IsVolumeSnapshotted("/nowhere", &yes, &mask), vss.VSS_E_OBJECT_NOT_FOUND)
	is(t, "ShouldBlockRevert of nothing", vssapi.ShouldBlockRevert("/nowhere", &yes), vss.VSS_E_OBJECT_NOT_FOUND)
}

// TestInterfaces: one object is all interfaces there are.
func TestInterfaces(t *testing.T) {
	live(t)
	var bc vssapi.IVssBackupComponents
	is(t, "Create", vssapi.CreateVssBackupComponents(&bc), vss.S_OK)
	var ex vssapi.IVssBackupComponentsEx
	var ex2 vssapi.IVssBackupComponentsEx2
	var ex3 vssapi.IVssBackupComponentsEx3
	var ex4 vssapi.IVssBackupComponentsEx4
	var unknown vssapi.IUnknown
	for _, pp := range []any{&bc, &ex, &ex2, &ex3, &ex4, &unknown} {
		is(t, reflect.TypeOf(pp).String(), bc.QueryInterface(pp), vss.S_OK)
	}
	if n := bc.AddRef(); n != 8 {
		t.Errorf("%d references", n)
	}
	var id vss.ID
	is(t, "GetSessionId", ex3.GetSessionId(&id), vss.S_OK)
	if id.IsNull() {
		t.Error("no session ID")
	}
	for range 7 {
		if ex4.Release() == 0 {
			t.Error("released too soon")
		}
	}
	is(t, "GetSessionId", ex3.GetSessionId(&id), vss.S_OK)
	if ex.Release() != 0 {
		t.Error("not released")
	}
	is(t, "GetSessionId", ex3.GetSessionId(&id), vss.VSS_E_BAD_STATE)
	if !id.IsNull() {
		t.Error("the out parameter was left as it was")
	}
}

// TestWait is requester.md 8, rows 6 and 7.
func TestWait(t *testing.T) {
	m := live(t)
	gate := make(chan struct{})
	m.A.On("LocateLUNs", func(ctx context.Context) error {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "no", Remedy: "Ask"}
	})
	bc := newComponents(t)
	is(t, "InitializeForBackup", bc.InitializeForBackup(string(m.XML(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)))), vss.S_OK)
	var async vssapi.IVssAsync
	is(t, "ImportSnapshots", bc.ImportSnapshots(&async), vss.S_OK)
	var hr vss.HResult
	is(t, "Wait that times out", async.Wait(10), vss.S_OK)
	is(t, "QueryStatus", async.QueryStatus(&hr, nil), vss.S_OK)
	is(t, "pHrResult", hr, vss.VSS_S_ASYNC_PENDING)
	time.AfterFunc(20*time.Millisecond, func() { close(gate) })
	is(t, "Wait for what fails meanwhile", async.Wait(vssapi.INFINITE), vss.VSS_E_PROVIDER_VETO)
	is(t, "Wait for what has failed", async.Wait(vssapi.INFINITE), vss.S_OK)
	is(t, "QueryStatus", async.QueryStatus(&hr, nil), vss.S_OK)
	is(t, "pHrResult", hr, vss.VSS_E_PROVIDER_VETO)
	is(t, "Cancel", async.Cancel(), vss.VSS_E_PROVIDER_VETO)

	var nobody vssapi.IVssBackupComponents
	vssapi.SetEndpoint(m.Socket + "x")
	is(t, "Create where nobody is", vssapi.CreateVssBackupComponents(&nobody), vss.VSS_E_UNEXPECTED)
	vssapi.SetEndpoint("")
	t.Setenv("UMBRA_SOCKET", m.Socket)
	is(t, "Create where the environment says", vssapi.CreateVssBackupComponents(&nobody), vss.S_OK)
	nobody.Release()
}

// TestDeleteCounts: the counts are valid beside a failure.
func TestDeleteCounts(t *testing.T) {
	m := live(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B)
	m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	last := d.Set.Snapshots[1].ID
	// Copies are deleted in the order of their IDs.
	failing := m.B
	if d.Set.Snapshots[0].ID.String() > last.String() {
		failing, last = m.A, d.Set.Snapshots[0].ID
	}
	failing.Fail("OnLUNEmpty", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "OnLUNEmpty", Reason: "no", Remedy: "Ask"})
	bc := newComponents(t)
	is(t, "InitializeForBackup", bc.InitializeForBackup(""), vss.S_OK)
	is(t, "SetContext", bc.SetContext(vss.CTX_ALL), vss.S_OK)
	var n int32
	var id vss.ID
	is(t, "DeleteSnapshots", bc.DeleteSnapshots(d.Set.ID, vss.OBJECT_SNAPSHOT_SET, false, &n, &id), vss.VSS_E_PROVIDER_VETO)
	if n != 1 || id != last {
		t.Errorf("%d deleted, %v failed, want 1 and %v", n, id, last)
	}
}

// TestExamine reads a writer's saved metadata, without any service.
func TestExamine(t *testing.T) {
	w := &document.WriterMetadata{InstanceID: vss.NewID(), WriterID: vss.NewID(), Name: "db", InstanceName: "one", Usage: vss.UT_USERDATA, Source: vss.ST_TRANSACTEDDB,
		Restore: document.RestorePlan{Method: vss.RME_RESTORE_IF_NOT_THERE, WriterRestore: vss.WRE_NEVER}}
	w.Components = []document.MetadataComponent{{Type: vss.CT_FILEGROUP, LogicalPath: "p", Name: "c", Selectable: true,
		Files: []document.FileSet{{Path: "/srv/db", FileSpec: "*", Recursive: true, BackupType: document.DefaultBackupType}}}}
	xml, err := document.MarshalWriterMetadata(w)
	if err != nil {
		t.Fatal(err)
	}
	var e vssapi.IVssExamineWriterMetadata
	is(t, "of nonsense", vssapi.CreateVssExamineWriterMetadata("<x/>", &e), vss.VSS_E_INVALID_XML_DOCUMENT)
	is(t, "CreateVssExamineWriterMetadata", vssapi.CreateVssExamineWriterMetadata(string(xml), &e), vss.S_OK)
	for name, code := range oneMissing(e) {
		is(t, name, code, vss.E_INVALIDARG)
	}
	var instance, class vss.ID
	var name, instanceName, path, saved string
	var usage vss.UsageType
	var source vss.SourceType
	is(t, "GetIdentityEx", e.GetIdentityEx(&instance, &class, &name, &instanceName, &usage, &source), vss.S_OK)
	if instance != w.InstanceID || class != w.WriterID || name != "db" || instanceName != "one" || usage != w.Usage || source != w.Source {
		t.Error(instance, class, name, instanceName, usage, source)
	}
	var in, ex, n uint32
	is(t, "GetFileCounts", e.GetFileCounts(&in, &ex, &n), vss.S_OK)
	var c vssapi.IVssWMComponent
	is(t, "GetComponent", e.GetComponent(n-1, &c), vss.S_OK)
	var none vssapi.IVssWMComponent
	is(t, "GetComponent behind the last", e.GetComponent(n, &none), vss.VSS_E_OBJECT_NOT_FOUND)
	is(t, "GetComponent of the largest index", e.GetComponent(1<<32-1, &none), vss.VSS_E_OBJECT_NOT_FOUND)
	var info vssapi.VSS_COMPONENTINFO
	is(t, "GetComponentInfo", c.GetComponentInfo(&info), vss.S_OK)
	if info.BstrComponentName != "c" || info.CFileCount != 1 || !info.BSelectable {
		t.Errorf("%+v", info)
	}
	var f vssapi.IVssWMFiledesc
	is(t, "GetFile", c.GetFile(0, &f), vss.S_OK)
	is(t, "GetPath", f.GetPath(&path), vss.S_OK)
	if path != "/srv/db" {
		t.Error(path)
	}
	is(t, "GetDatabaseFile", c.GetDatabaseFile(0, &f), vss.VSS_E_OBJECT_NOT_FOUND)
	is(t, "GetDependency", c.GetDependency(0, &class, &name, &path), vss.VSS_E_OBJECT_NOT_FOUND)
	is(t, "SaveAsXML", e.SaveAsXML(&saved), vss.S_OK)
	if saved != string(xml) {
		t.Error("SaveAsXML gives another document")
	}
	is(t, "LoadFromXML of nonsense", e.LoadFromXML("x"), vss.VSS_E_INVALID_XML_DOCUMENT)
	is(t, "LoadFromXML", e.LoadFromXML(saved), vss.S_OK)
	e.Release()
	is(t, "SaveAsXML", e.SaveAsXML(&saved), vss.VSS_E_BAD_STATE)
	is(t, "LoadFromXML", e.LoadFromXML(saved), vss.VSS_E_BAD_STATE)
}

// TestImportSnapshots_E_INVALIDARG: "The ppAsync parameter does not point to a
// valid pointer; that is, it is NULL." In requester what can be NULL is the
// context.
func TestImportSnapshots_E_INVALIDARG(t *testing.T) {
	m := live(t)
	xml := m.XML(servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A))
	bc := newComponents(t)
	is(t, "ImportSnapshots(NULL) of a new object", bc.ImportSnapshots(nil), vss.E_INVALIDARG)
	is(t, "InitializeForBackup", bc.InitializeForBackup(string(xml)), vss.S_OK)
	is(t, "ImportSnapshots(NULL)", bc.ImportSnapshots(nil), vss.E_INVALIDARG)
	// Nothing was begun by it.
	if m.Journal.Count("LocateLUNs") != 0 {
		t.Error("an import was begun")
	}
	var async vssapi.IVssAsync
	is(t, "ImportSnapshots", bc.ImportSnapshots(&async), vss.S_OK)
	is(t, "Wait", async.Wait(vssapi.INFINITE), vss.S_OK)

	o := m.Open()
	var none context.Context
	if _, err := o.ImportSnapshots(none); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("no context: %v", err)
	}
}
