package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// The states of requester.md 2.1, with those in which an operation runs.
var states = []string{"NEW", "B_INIT", "B_LOADED", "GATHERING", "META", "SET_OPEN", "PREPARING", "PREPARED", "CREATING", "CREATED", "FAILED",
	"COMPLETING", "COMPLETE", "ABORTED", "IMPORTING", "IMPORTED", "IMPORT_FAILED",
	"R_INIT", "R_GATHERING", "R_META", "R_PREPARING", "R_PRE", "R_COMPLETING", "R_POST"}

// writerContext has writers and can be served by the arrays of the test.
const writerContext = vss.CTX_APP_ROLLBACK | vss.Context(vss.ATTR_TRANSPORTABLE)

// world is a live service, and one face of it.
type world struct {
	t      testing.TB
	m      *servicetest.Machine
	f      face
	volume string // in every set
	other  string // added by rows
	c, c2  requester.Component
	saved  string // a document of a restore, with c in it
}

func newWorld(t testing.TB, f face) *world {
	w := &world{t: t, m: servicetest.NewMachine(t), f: f}
	w.volume, w.other = w.m.Volume("one"), w.m.Volume("other")
	w.c = requester.Component{InstanceID: vss.NewID(), WriterID: vss.NewID(), Type: vss.CT_FILEGROUP, LogicalPath: "path", Name: "component"}
	w.c2 = w.c
	w.c2.Name = "second"
	d := &document.Document{Context: writerContext, State: document.BackupState{SelectComponents: true, Type: vss.BT_FULL}}
	if err := d.AddComponent(w.c.InstanceID, w.c.WriterID, w.c.Type, w.c.LogicalPath, w.c.Name); err != nil {
		t.Fatal(err)
	}
	err := d.UpdateComponent(w.c.InstanceID, w.c.WriterID, w.c.Type, w.c.LogicalPath, w.c.Name, func(c *document.Component) error {
		c.PartialFiles = []document.PartialFile{{Path: "/srv/db", FileName: "f", Ranges: "0:1"}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.saved = string(w.m.XML(d))
	return w
}

// good is an input with which every method does its work, as far as there is
// any; what there is none of is named by an ID that nothing has.
func (w *world) good(method string) input {
	in := input{context: writerContext, backup: vss.BT_FULL, restore: vss.RTYPE_BY_COPY, volume: w.volume, id: vss.NewID(),
		from: vss.OBJECT_NONE, kind: vss.OBJECT_SNAPSHOT, attr: vss.ATTR_EXPOSED_LOCALLY, name: "/nowhere", component: w.c,
		text: "/elsewhere", path: "/srv/db", spec: "*", status: vss.RS_ALL, roll: vss.RF_ALL, ids: []vss.ID{vss.NewID()}}
	switch method {
	case "InitializeForRestore":
		in.xml = w.saved
	case "AddToSnapshotSet":
		in.volume = w.other
	case "AddComponent":
		in.component = w.c2
	case "AddRestoreSubcomponent":
		in.path, in.name = `path\component`, "part"
	case "SetRollForward":
		in.text = ""
	case "SetRestoreName":
		in.name = "new"
	}
	return in
}

// place is an object in a state; leave lets go of both.
type place struct {
	object
	w    *world
	undo []func()
}

func (p *place) leave() {
	for i := len(p.undo) - 1; i >= 0; i-- {
		p.undo[i]()
	}
	p.close()
}

// do calls a method that must do its work, and waits for its result.
func (p *place) do(method string, change ...func(*input)) {
	p.w.t.Helper()
	p.ends(method, vss.VSS_S_ASYNC_FINISHED, change...)
}

func (p *place) ends(method string, want vss.HResult, change ...func(*input)) {
	p.w.t.Helper()
	op := p.begins(method, change...)
	if op == nil {
		return
	}
	if code := op.result(); code != want {
		p.w.t.Fatalf("%s: %s ended with %v, want %v", p.w.f.name, method, code, want)
	}
	op.release()
}

func (p *place) begins(method string, change ...func(*input)) operation {
	p.w.t.Helper()
	in := p.w.good(method)
	for _, f := range change {
		f(&in)
	}
	code, op, has := p.call(method, in)
	if !has || code != vss.S_OK {
		p.w.t.Fatalf("%s: %s: %v", p.w.f.name, method, code)
	}
	return op
}

// held begins an operation that goes on until the place is left.
func (p *place) held(method string, hold func() (release func(), entered <-chan struct{})) {
	p.w.t.Helper()
	release, entered := hold()
	p.undo = append(p.undo, release)
	op := p.begins(method)
	if entered != nil {
		select {
		case <-entered:
		case <-time.After(10 * time.Second):
			p.w.t.Fatalf("%s does not come to where it is held", method)
		}
	}
	p.undo = append(p.undo, op.release)
}

// hook holds a method of the array.
func (w *world) hook(method string) func() (func(), <-chan struct{}) {
	return func() (func(), <-chan struct{}) {
		gate, entered := make(chan struct{}), make(chan struct{})
		w.m.A.On(method, func(ctx context.Context) error {
			close(entered)
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
		return func() { w.m.A.On(method, nil); close(gate) }, entered
	}
}

// telling holds the event that writers are told of.
func (w *world) telling() (func(), <-chan struct{}) {
	disarm, err := failpoint.Arm("writers.tell=sleep(1h)")
	if err != nil {
		w.t.Fatal(err)
	}
	return disarm, nil
}

// reach brings a new object into a state, by the calls the specification has
// for it: with writers, in component mode, with the component w.c.
func (w *world) reach(state string) *place {
	w.t.Helper()
	p := &place{object: w.f.open(w.t, w.m), w: w}
	as := func(previous string) {
		w.t.Helper()
		p.close()
		p = w.reach(previous)
	}
	switch state {
	case "NEW":
	case "B_INIT":
		p.do("InitializeForBackup")
		p.do("SetContext")
	case "B_LOADED":
		d := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, w.m.A)
		p.do("InitializeForBackup", func(i *input) { i.xml = string(w.m.XML(d)) })
	case "GATHERING":
		as("B_INIT")
		p.held("GatherWriterMetadata", w.telling)
	case "META":
		as("B_INIT")
		p.do("SetBackupState")
		p.do("GatherWriterMetadata")
		p.do("AddComponent", func(i *input) { i.component = w.c })
	case "SET_OPEN":
		as("META")
		p.do("StartSnapshotSet")
		p.do("AddToSnapshotSet", func(i *input) { i.volume = w.volume })
	case "PREPARING":
		as("SET_OPEN")
		p.held("PrepareForBackup", w.telling)
	case "PREPARED":
		as("SET_OPEN")
		p.do("PrepareForBackup")
	case "CREATING":
		as("PREPARED")
		p.held("DoSnapshotSet", w.hook("EndPrepareSnapshots"))
	case "CREATED":
		as("PREPARED")
		p.do("DoSnapshotSet")
	case "FAILED":
		as("PREPARED")
		w.m.A.Fail("EndPrepareSnapshots", &vss.Error{Code: vss.VSS_E_INSUFFICIENT_STORAGE, Op: "EndPrepareSnapshots", Reason: "it is full", Remedy: "Delete copies"})
		p.ends("DoSnapshotSet", vss.VSS_E_INSUFFICIENT_STORAGE)
		w.m.A.On("EndPrepareSnapshots", nil)
	case "COMPLETING":
		as("CREATED")
		p.held("BackupComplete", w.telling)
	case "COMPLETE":
		as("CREATED")
		p.do("BackupComplete")
	case "ABORTED":
		as("SET_OPEN")
		p.do("AbortBackup")
	case "IMPORTING":
		as("B_LOADED")
		p.held("ImportSnapshots", w.hook("LocateLUNs"))
	case "IMPORTED":
		as("B_LOADED")
		p.do("ImportSnapshots")
	case "IMPORT_FAILED":
		as("B_LOADED")
		w.m.A.Fail("LocateLUNs", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "no", Remedy: "Ask"})
		p.ends("ImportSnapshots", vss.VSS_E_PROVIDER_VETO)
		w.m.A.On("LocateLUNs", nil)
	case "R_INIT":
		p.do("InitializeForRestore")
	case "R_GATHERING":
		as("R_INIT")
		p.held("GatherWriterMetadata", w.telling)
	case "R_META":
		as("R_INIT")
		p.do("GatherWriterMetadata")
		p.do("SetSelectedForRestore")
	case "R_PREPARING":
		as("R_META")
		p.held("PreRestore", w.telling)
	case "R_PRE":
		as("R_META")
		p.do("PreRestore")
	case "R_COMPLETING":
		as("R_PRE")
		p.held("PostRestore", w.telling)
	case "R_POST":
		as("R_PRE")
		p.do("PostRestore")
	default:
		w.t.Fatalf("nobody knows how to get to %s", state)
	}
	return p
}
