package conformance

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

// trial is one call with an input of its own, in a state that may be prepared
// further.
type trial struct {
	method, what, state string
	prepare             func(*place)
	with                func(*place, *input)
	want                vss.HResult // of the call
	result              vss.HResult // of the operation; S_OK: it is not waited for
	source              string
}

// long is longer than anything that is taken.
var long = strings.Repeat("x", 1<<20+1)

func calls(names ...string) func(*place) {
	return func(p *place) {
		for _, n := range names {
			p.do(n)
		}
	}
}

func both(fs ...func(*place)) func(*place) {
	return func(p *place) {
		for _, f := range fs {
			f(p)
		}
	}
}

// inContext is a new backup in that context.
func inContext(c vss.Context) func(*place) {
	return func(p *place) {
		p.do("InitializeForBackup")
		p.do("SetContext", func(i *input) { i.context = c })
	}
}

const writerless = vss.CTX_NAS_ROLLBACK | vss.Context(vss.ATTR_TRANSPORTABLE)

// fails makes a method of array A fail as long as the place is there.
func fails(method string, code vss.HResult) func(*place) {
	return func(p *place) {
		p.w.m.A.Fail(method, &vss.Error{Code: code, Op: method, Reason: "the test wants it", Remedy: "None"})
		p.undo = append(p.undo, func() { p.w.m.A.On(method, nil) })
	}
}

// thaws makes the hold fail at its end.
func thaws(code vss.HResult) func(*place) {
	return func(p *place) {
		p.w.m.Host.Fail("Thaw", &vss.Error{Code: code, Op: "Thaw", Reason: "the test wants it", Remedy: "None"})
		p.undo = append(p.undo, func() { p.w.m.Host.On("Thaw", nil) })
	}
}

// loaded is an object with the document of a new set, changed by f.
func loaded(f func(*place, *document.Document)) func(*place) {
	return func(p *place) {
		d := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, p.w.m.A, p.w.m.A)
		if f != nil {
			f(p, d)
		}
		p.do("InitializeForBackup", func(i *input) { i.xml = string(p.w.m.XML(d)) })
	}
}

// never makes copies of a set not arrive.
func never(which ...int) func(*place) {
	return loaded(func(p *place, d *document.Document) {
		for _, i := range which {
			p.w.m.Host.Delay(d.Set.Snapshots[i].LUNs[0].Target.Name(), servicetest.Never)
		}
	})
}

// copies imports a persistent set, in context all, and gives rows its IDs.
func (p *place) copies(c vss.Context) (set vss.ID, copy vss.ID) {
	d := servicetest.NewSet(c, p.w.m.A)
	p.do("InitializeForBackup", func(i *input) { i.xml = string(p.w.m.XML(d)) })
	p.do("SetContext", func(i *input) { i.context = vss.CTX_ALL })
	p.do("ImportSnapshots")
	return d.Set.ID, d.Set.Snapshots[0].ID
}

func onCopy(c vss.Context, f func(*place, *input)) func(*place, *input) {
	return func(p *place, i *input) {
		_, i.id = p.copies(c)
		if f != nil {
			f(p, i)
		}
	}
}

func (p *place) folder(i *input) {
	dir, err := os.MkdirTemp(p.w.m.Dir, "f")
	if err != nil {
		p.w.t.Fatal(err)
	}
	i.name = dir
}

func xml(f func(string) string) func(*place, *input) {
	return func(p *place, i *input) {
		i.xml = f(string(p.w.m.XML(servicetest.NewSet(vss.CTX_NAS_ROLLBACK, p.w.m.A))))
	}
}

func with(f func(*input)) func(*place, *input) { return func(_ *place, i *input) { f(i) } }

// replace must change something.
func replace(old, now string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("the document has no " + old)
		}
		return strings.Replace(s, old, now, 1)
	}
}

const (
	ok       = vss.S_OK
	bad      = vss.VSS_E_BAD_STATE
	inv      = vss.E_INVALIDARG
	noXML    = vss.VSS_E_INVALID_XML_DOCUMENT
	notFound = vss.VSS_E_OBJECT_NOT_FOUND
	finished = vss.VSS_S_ASYNC_FINISHED
)

// documents are what may be given as one.
func documents(method string) []trial {
	return []trial{
		{method, "something else than XML", "NEW", nil, with(func(i *input) { i.xml = "\x00\x01" }), noXML, 0, "2.3"},
		{method, "XML of something else", "NEW", nil, with(func(i *input) { i.xml = "<x/>" }), noXML, 0, "2.3"},
		{method, "a document that is cut off", "NEW", nil, xml(func(s string) string { return s[:len(s)/2] }), noXML, 0, "2.3"},
		{method, "a document of a newer version", "NEW", nil, xml(replace(`schemaVersion="1.`, `schemaVersion="9.`)), noXML, 0, "2.3"},
		{method, "an altered document", "NEW", nil, xml(replace("/srv/0", "/srv/9")), noXML, 0, "8 row 21"},
		{method, "a document with a DTD", "NEW", nil, xml(func(s string) string { return `<!DOCTYPE x [<!ENTITY e "e">]>` + s }), noXML, 0, "2.3"},
		{method, "more than any document", "NEW", nil, with(func(i *input) { i.xml = strings.Repeat(" ", document.MaxSize+1) }), noXML, 0, "2.3"},
		{method, "a document", "NEW", nil, xml(strings.Clone), ok, 0, "2.3"},
	}
}

// onComponent are what a method that names a component in the document answers.
func onComponent(method, state string) []trial {
	return []trial{
		{method, "of another component", state, nil, with(func(i *input) { i.component.Name = "none" }), notFound, 0, "2.3, 2.6"},
		{method, "of another path", state, nil, with(func(i *input) { i.component.LogicalPath = "none" }), notFound, 0, "2.3, 2.6"},
		{method, "of another writer", state, nil, with(func(i *input) { i.component.WriterID = vss.NewID() }), notFound, 0, "2.3, 2.6"},
		{method, "without a writer", state, nil, with(func(i *input) { i.component.WriterID = vss.GUIDNull }), inv, 0, "2.3, 2.6"},
		{method, "without a name", state, nil, with(func(i *input) { i.component.Name = "" }), inv, 0, "2.3: path may be NULL, name not"},
		{method, "of no type", state, nil, with(func(i *input) { i.component.Type = vss.CT_UNDEFINED }), inv, 0, "2.3, 2.6"},
		{method, "of an unknown type", state, nil, with(func(i *input) { i.component.Type = 99 }), inv, 0, "2.3, 2.6"},
		{method, "of a name of 1 MiB", state, nil, with(func(i *input) { i.component.Name = long }), inv, 0, "2.3, 2.6"},
		{method, "of a name that is no text", state, nil, with(func(i *input) { i.component.Name = "\xff" }), inv, 0, "2.3, 2.6"},
	}
}

func trials() []trial {
	var ts []trial
	add := func(more ...trial) { ts = append(ts, more...) }

	add(documents("InitializeForBackup")...)
	add(documents("InitializeForRestore")...)
	add(trial{"InitializeForRestore", "no document", "NEW", nil, with(func(i *input) { i.xml = "" }), noXML, 0, "2.6: XML mandatory"})

	for c, want := range map[vss.Context]vss.HResult{
		vss.CTX_BACKUP: ok, vss.CTX_FILE_SHARE_BACKUP: ok, vss.CTX_NAS_ROLLBACK: ok, vss.CTX_APP_ROLLBACK: ok, vss.CTX_CLIENT_ACCESSIBLE: ok,
		vss.CTX_CLIENT_ACCESSIBLE_WRITERS: ok, vss.CTX_ALL: ok, writerContext: ok, writerless | vss.Context(vss.ATTR_PLEX): ok,
		writerContext | vss.Context(vss.ATTR_DIFFERENTIAL): ok, writerContext | vss.Context(vss.ATTR_NOT_TRANSACTED|vss.ATTR_NO_AUTORECOVERY): ok,
		vss.CTX_APP_ROLLBACK | vss.Context(vss.ATTR_ROLLBACK_RECOVERY):          ok,
		vss.CTX_APP_ROLLBACK | vss.Context(vss.ATTR_DIFFERENTIAL|vss.ATTR_PLEX): inv, vss.CTX_CLIENT_ACCESSIBLE | vss.Context(vss.ATTR_TRANSPORTABLE): inv,
		vss.Context(vss.ATTR_PERSISTENT): inv, 0x40000000: inv, vss.CTX_BACKUP | vss.Context(vss.ATTR_IMPORTED): inv,
		writerContext | vss.Context(vss.ATTR_ROLLBACK_RECOVERY): vss.VSS_E_UNSUPPORTED_CONTEXT, writerContext | vss.Context(vss.ATTR_AUTORECOVER): vss.VSS_E_UNSUPPORTED_CONTEXT,
	} {
		add(trial{"SetContext", c.String(), "NEW", calls("InitializeForBackup"), with(func(i *input) { i.context = c }), want, 0, "5.1, 5.2, 8 row 25"})
	}
	add(
		trial{"SetContext", "a second time", "NEW", calls("InitializeForBackup", "SetContext"), nil, bad, 0, "2.3: at most once"},
		trial{"SetContext", "once a set is open", "SET_OPEN", nil, nil, bad, 0, "2.3: before snapshot functions"},
	)
	for i, want := range []vss.HResult{inv, ok, ok, ok, ok, ok, ok, inv} {
		add(trial{"SetBackupState", "type " + strconv.Itoa(i), "B_INIT", nil, with(func(in *input) { in.backup = vss.BackupType(i) }), want, 0, "5.5"})
	}
	add(trial{"SetBackupState", "type -1", "B_INIT", nil, with(func(in *input) { in.backup = -1 }), inv, 0, "5.5"})
	for i, want := range []vss.HResult{ok, ok, ok, ok, inv} {
		add(trial{"SetRestoreState", "type " + strconv.Itoa(i), "R_INIT", nil, with(func(in *input) { in.restore = vss.RestoreType(i) }), want, 0, "5.5"})
	}

	// Writers.
	for _, m := range []string{"EnableWriterClasses", "DisableWriterClasses", "DisableWriterInstances"} {
		add(
			trial{m, "GUID_NULL", "B_INIT", nil, with(func(i *input) { i.ids = append(i.ids, vss.GUIDNull) }), inv, 0, "2.3"},
			trial{m, "5000 writers", "B_INIT", nil, with(func(i *input) { i.ids = make([]vss.ID, 5000) }), inv, 0, "2.3"},
		)
	}
	for _, m := range []string{"GetWriterMetadata", "GetWriterMetadataEx"} {
		add(
			trial{m, "of the largest index", "META", nil, with(func(i *input) { i.index = 1<<32 - 1 }), notFound, 0, "2.3"},
			trial{m, "after FreeWriterMetadata", "META", calls("FreeWriterMetadata"), nil, bad, 0, "2.3"},
		)
	}
	add(
		trial{"GetWriterMetadataCount", "after FreeWriterMetadata", "META", calls("FreeWriterMetadata"), nil, bad, 0, "2.3"},
		trial{"GetWriterStatusCount", "after GatherWriterStatus", "PREPARED", calls("GatherWriterStatus"), nil, ok, 0, "2.3"},
		trial{"GetWriterStatus", "after GatherWriterStatus", "PREPARED", calls("GatherWriterStatus"), nil, notFound, 0, "2.3: bad index"},
		trial{"GetWriterStatusEx", "after GatherWriterStatus", "PREPARED", calls("GatherWriterStatus"), nil, notFound, 0, "2.3: bad index"},
		trial{"GetWriterStatusCount", "after FreeWriterStatus", "PREPARED", calls("GatherWriterStatus", "FreeWriterStatus"), nil, bad, 0, "2.3"},
		trial{"GetWriterComponents", "of the second writer of one", "META", nil, with(func(i *input) { i.index = 1 }), notFound, 0, "6.1"},
		trial{"GatherWriterMetadata", "to its end", "B_INIT", nil, nil, ok, finished, "4.3"},
		trial{"GatherWriterStatus", "to its end", "B_INIT", nil, nil, ok, finished, "4.3"},
	)

	// Components of a backup.
	for _, t := range onComponent("AddComponent", "META") {
		if t.want == notFound {
			continue // it is what is added
		}
		add(t)
	}
	notByComponent := func(p *place) {
		// Both faces choose component mode here whenever they call SetBackupState;
		// so it is not called.
		inContext(writerContext)(p)
		p.do("GatherWriterMetadata")
	}
	add(
		trial{"AddComponent", "twice", "META", calls("AddComponent"), nil, vss.VSS_E_OBJECT_ALREADY_EXISTS, 0, "2.3"},
		trial{"AddComponent", "without an instance", "META", nil, with(func(i *input) { i.component.InstanceID = vss.GUIDNull }), inv, 0, "2.3"},
		trial{"AddComponent", "of a name with a backslash", "META", nil, with(func(i *input) { i.component.Name = `a\b` }), inv, 0, "2.3"},
		trial{"AddComponent", "without component mode", "NEW", notByComponent, nil, bad, 0, "2.3: component mode"},
		trial{"AddComponent", "without writers", "NEW", both(inContext(writerless), calls("SetBackupState", "GatherWriterMetadata")), nil, bad, 0, "2.2 B"},
		trial{"AddComponent", "before GatherWriterMetadata", "B_INIT", calls("SetBackupState", "StartSnapshotSet"), nil, bad, 0, "2.3"},
	)
	for _, m := range []string{"SetBackupOptions", "SetPreviousBackupStamp"} {
		add(onComponent(m, "META")...)
		add(
			trial{m, "of 1 MiB", "META", nil, with(func(i *input) { i.text = long }), inv, 0, "2.3"},
			trial{m, "in a restore", "R_META", nil, nil, bad, 0, "2.3: backup mode only"},
		)
	}
	add(onComponent("SetBackupSucceeded", "CREATED")...)
	add(trial{"SetBackupSucceeded", "of another instance", "CREATED", nil, with(func(i *input) { i.component.InstanceID = vss.NewID() }), notFound, 0, "2.3"})

	// Creation.
	for _, m := range []string{"IsVolumeSupported", "GetRootAndLogicalPrefixPaths", "QueryRevertStatus"} {
		add(
			trial{m, "of no volume", "B_INIT", nil, with(func(i *input) { i.volume = "/nowhere" }), notFound, 0, "2.3, 2.5"},
			trial{m, "of a name of 1 MiB", "B_INIT", nil, with(func(i *input) { i.volume = "/" + long }), inv, 0, "2.3, 2.5"},
		)
	}
	second := func(p *place) { // another object has a set open
		other := p.w.reach("SET_OPEN")
		p.undo = append(p.undo, other.leave)
	}
	alien := func(p *place, i *input) { // on a LUN of no array
		l := servicetest.NewArray(9, p.w.m.Journal).Add(servicetest.Size, servicetest.Ext4())
		i.volume = "/alien"
		p.w.m.Host.AddVolume(i.volume, l)
	}
	full := func(p *place) {
		for n := range 63 {
			name := filepath.Join("/volumes", strconv.Itoa(n))
			p.w.m.Host.AddVolume(name, p.w.m.A.Add(servicetest.Size, servicetest.Ext4()))
			p.do("AddToSnapshotSet", func(i *input) { i.volume = name })
		}
	}
	add(
		trial{"IsVolumeSupported", "of a provider that is not there", "B_INIT", nil, with(func(i *input) { i.provider = vss.NewID() }), vss.VSS_E_PROVIDER_NOT_REGISTERED, 0, "open"},
		trial{"IsVolumeSupported", "of a provider that cannot", "B_INIT", nil, func(p *place, i *input) { i.provider = p.w.m.B.ID }, ok, 0, "2.3"},
		trial{"StartSnapshotSet", "in context all", "NEW", inContext(vss.CTX_ALL), nil, bad, 0, "8 row 15"},
		trial{"StartSnapshotSet", "while another has one open", "B_INIT", second, nil, vss.VSS_E_SNAPSHOT_SET_IN_PROGRESS, 0, "2.0 G8"},
		trial{"AddToSnapshotSet", "no volume", "SET_OPEN", nil, with(func(i *input) { i.volume = "/nowhere" }), notFound, 0, "2.3"},
		trial{"AddToSnapshotSet", "a name of 1 MiB", "SET_OPEN", nil, with(func(i *input) { i.volume = "/" + long }), inv, 0, "2.3"},
		trial{"AddToSnapshotSet", "a name that is no text", "SET_OPEN", nil, with(func(i *input) { i.volume = "/\xff" }), inv, 0, "2.3"},
		trial{"AddToSnapshotSet", "a provider that is not there", "SET_OPEN", nil, with(func(i *input) { i.provider = vss.NewID() }), vss.VSS_E_PROVIDER_NOT_REGISTERED, 0, "2.3"},
		trial{"AddToSnapshotSet", "a provider that cannot", "SET_OPEN", nil, func(p *place, i *input) { i.provider = p.w.m.B.ID }, vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER, 0, "2.3"},
		trial{"AddToSnapshotSet", "a volume no provider can copy", "SET_OPEN", nil, alien, vss.VSS_E_VOLUME_NOT_SUPPORTED, 0, "2.3"},
		trial{"AddToSnapshotSet", "a provider's veto", "SET_OPEN", fails("BeginPrepareSnapshot", vss.VSS_E_PROVIDER_VETO), nil, vss.VSS_E_PROVIDER_VETO, 0, "2.3"},
		trial{"AddToSnapshotSet", "a provider's limit", "SET_OPEN", fails("BeginPrepareSnapshot", vss.VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED), nil, vss.VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED, 0, "2.3"},
		trial{"AddToSnapshotSet", "a code no provider may answer", "SET_OPEN", fails("BeginPrepareSnapshot", vss.E_FAIL), nil, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, 0, "5.7"},
		trial{"AddToSnapshotSet", "a volume twice", "SET_OPEN", nil, func(p *place, i *input) { i.volume = p.w.volume }, vss.VSS_E_OBJECT_ALREADY_EXISTS, 0, "open"},
		trial{"AddToSnapshotSet", "the 65th volume", "SET_OPEN", full, nil, vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, 0, "7"},
		trial{"PrepareForBackup", "without SetBackupState", "B_INIT", calls("GatherWriterMetadata", "StartSnapshotSet"), nil, bad, 0, "2.3"},
		trial{"PrepareForBackup", "without GatherWriterMetadata", "B_INIT", calls("SetBackupState", "StartSnapshotSet"), nil, bad, 0, "2.2 A 6"},
		trial{"PrepareForBackup", "without writers", "NEW", both(inContext(writerless), calls("SetBackupState", "GatherWriterMetadata", "StartSnapshotSet")), nil, bad, 0, "2.2 B"},
		trial{"PrepareForBackup", "to its end", "SET_OPEN", nil, nil, ok, finished, "4.3"},
		trial{"DoSnapshotSet", "without writers", "NEW", both(inContext(writerless), calls("StartSnapshotSet", "AddToSnapshotSet")), nil, ok, finished, "2.2 B"},
		trial{"DoSnapshotSet", "of a set that stays", "NEW", both(inContext(vss.CTX_NAS_ROLLBACK), calls("StartSnapshotSet", "AddToSnapshotSet")), nil, ok, finished, "2.2 E"},
		trial{"DoSnapshotSet", "to its end", "PREPARED", nil, nil, ok, finished, "2.3.1"},
		trial{"DoSnapshotSet", "on an array that is full", "PREPARED", fails("EndPrepareSnapshots", vss.VSS_E_INSUFFICIENT_STORAGE), nil, ok, vss.VSS_E_INSUFFICIENT_STORAGE, "2.3.1"},
		trial{"DoSnapshotSet", "with a veto", "PREPARED", fails("EndPrepareSnapshots", vss.VSS_E_PROVIDER_VETO), nil, ok, vss.VSS_E_PROVIDER_VETO, "2.3.1"},
		trial{"DoSnapshotSet", "with a veto in the hold", "PREPARED", fails("CommitSnapshots", vss.VSS_E_PROVIDER_VETO), nil, ok, vss.VSS_E_PROVIDER_VETO, "2.3.1"},
		trial{"DoSnapshotSet", "with a code no provider may answer", "PREPARED", fails("CommitSnapshots", vss.E_ABORT), nil, ok, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, "2.3.1"},
		trial{"DoSnapshotSet", "with a hold that broke", "PREPARED", thaws(vss.VSS_E_HOLD_WRITES_TIMEOUT), nil, ok, vss.VSS_E_HOLD_WRITES_TIMEOUT, "2.3.1"},
		trial{"SaveAsXML", "without writers, before DoSnapshotSet", "NEW", both(inContext(writerless), calls("StartSnapshotSet", "AddToSnapshotSet")), nil, bad, 0, "8 row 8"},
		trial{"SaveAsXML", "without writers, after DoSnapshotSet", "NEW", both(inContext(writerless), calls("StartSnapshotSet", "AddToSnapshotSet", "DoSnapshotSet")), nil, ok, 0, "8 row 8"},
		trial{"BackupComplete", "without writers", "NEW", both(inContext(writerless), calls("StartSnapshotSet", "AddToSnapshotSet", "DoSnapshotSet")), nil, bad, 0, "2.2 B"},
		trial{"BackupComplete", "to its end", "CREATED", nil, nil, ok, finished, "4.3"},
	)

	// Import.
	importing := func(p *place) {
		other := p.w.reach("IMPORTING")
		p.undo = append(p.undo, other.leave)
	}
	add(
		trial{"ImportSnapshots", "to its end", "B_LOADED", nil, nil, ok, finished, "3.4"},
		trial{"ImportSnapshots", "without a context", "NEW", loaded(nil), nil, ok, finished, "3.2 P2"},
		trial{"ImportSnapshots", "a document without a set", "NEW", func(p *place) { p.do("InitializeForBackup", func(i *input) { i.xml = p.w.saved }) }, nil, ok, vss.VSS_E_NONTRANSPORTABLE_BCD, "3.2 P4, 8 row 5"},
		trial{"ImportSnapshots", "one of whose copies does not arrive", "NEW", never(1), nil, ok, vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED, "3.4"},
		trial{"ImportSnapshots", "none of whose copies arrives", "NEW", never(0, 1), nil, ok, vss.VSS_E_NO_SNAPSHOTS_IMPORTED, "3.4"},
		trial{"ImportSnapshots", "with a veto", "B_LOADED", fails("LocateLUNs", vss.VSS_E_PROVIDER_VETO), nil, ok, vss.VSS_E_PROVIDER_VETO, "3.4"},
		trial{"ImportSnapshots", "with a code no provider may answer", "B_LOADED", fails("LocateLUNs", vss.E_ABORT), nil, ok, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, "3.4"},
		trial{"ImportSnapshots", "of a set that was imported", "NEW", loaded(func(p *place, d *document.Document) {
			other := &place{object: p.w.f.open(p.w.t, p.w.m), w: p.w}
			other.do("InitializeForBackup", func(i *input) { i.xml = string(p.w.m.XML(d)) })
			other.do("ImportSnapshots")
			p.undo = append(p.undo, other.leave)
		}), nil, ok, bad, "3.2 P5, 8 row 2"},
		trial{"ImportSnapshots", "of a set bound to another machine", "NEW", loaded(func(p *place, d *document.Document) { p.w.m.A.Bind(d.Set.ID) }), nil, ok, bad, "8 row 28"},
		trial{"ImportSnapshots", "while another import runs", "B_LOADED", importing, nil, bad, 0, "3.2 P6, 8 row 3"},
		trial{"CleanupImport", "while an import runs", "B_INIT", importing, nil, bad, 0, "3.5"},
		trial{"CleanupImport", "GUID_NULL", "B_INIT", nil, with(func(i *input) { i.id = vss.GUIDNull }), notFound, 0, "3.5"},
	)

	// Copies.
	add(
		trial{"Query", "of one object", "B_INIT", nil, with(func(i *input) { i.queried = vss.NewID() }), inv, 0, "2.4: 1st arg must be GUID_NULL"},
		trial{"Query", "from a set", "B_INIT", nil, with(func(i *input) { i.from = vss.OBJECT_SNAPSHOT_SET }), inv, 0, "2.4: 2nd must be NONE"},
		trial{"Query", "for providers", "B_INIT", nil, with(func(i *input) { i.kind = vss.OBJECT_PROVIDER }), ok, 0, "2.4"},
		trial{"Query", "without a context", "NEW", calls("InitializeForBackup"), nil, bad, 0, "2.4"},
	)
	for _, k := range []vss.ObjectType{vss.OBJECT_UNKNOWN, vss.OBJECT_NONE, vss.OBJECT_SNAPSHOT_SET, 99, -1} {
		add(trial{"Query", "for type " + strconv.Itoa(int(k)), "B_INIT", nil, with(func(i *input) { i.kind = k }), inv, 0, "2.4: 3rd only SNAPSHOT or PROVIDER"})
		add(trial{"DeleteSnapshots", "of type " + strconv.Itoa(int(k)), "B_INIT", nil, with(func(i *input) { i.kind = k }), map[bool]vss.HResult{true: notFound, false: inv}[k == vss.OBJECT_SNAPSHOT_SET], 0, "2.5"})
	}
	for _, m := range []string{"GetSnapshotProperties", "DeleteSnapshots", "ExposeSnapshot", "UnexposeSnapshot"} {
		add(trial{m, "GUID_NULL", "B_INIT", nil, with(func(i *input) { i.id = vss.GUIDNull }), notFound, 0, "2.4, 2.5; open"})
	}
	exposed := onCopy(vss.CTX_NAS_ROLLBACK, func(p *place, i *input) {
		p.folder(i)
		p.do("ExposeSnapshot", func(e *input) { e.id, e.name = i.id, i.name })
	})
	add(
		trial{"GetSnapshotProperties", "of an imported copy", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, nil), ok, 0, "2.4"},
		trial{"DeleteSnapshots", "of a copy", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, nil), ok, 0, "2.5"},
		trial{"DeleteSnapshots", "of a set", "NEW", nil, func(p *place, i *input) { i.id, _ = p.copies(vss.CTX_NAS_ROLLBACK); i.kind = vss.OBJECT_SNAPSHOT_SET }, ok, 0, "2.5"},
		trial{"DeleteSnapshots", "with a veto", "NEW", fails("OnLUNEmpty", vss.VSS_E_PROVIDER_VETO), onCopy(vss.CTX_NAS_ROLLBACK, nil), vss.VSS_E_PROVIDER_VETO, 0, "2.5"},
		trial{"DeleteSnapshots", "with a code no provider may answer", "NEW", fails("OnLUNEmpty", vss.E_ABORT), onCopy(vss.CTX_NAS_ROLLBACK, nil), vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, 0, "2.5"},
		trial{"ExposeSnapshot", "on a folder", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, (*place).folder), ok, 0, "2.5"},
		trial{"ExposeSnapshot", "a second time", "NEW", nil, exposed, vss.VSS_E_OBJECT_ALREADY_EXISTS, 0, "open"},
		trial{"ExposeSnapshot", "an auto-release copy", "NEW", nil, onCopy(vss.CTX_FILE_SHARE_BACKUP, (*place).folder), vss.VSS_E_UNSUPPORTED_CONTEXT, 0, "8 row 12"},
		trial{"ExposeSnapshot", "neither locally nor remotely", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, func(p *place, i *input) { p.folder(i); i.attr = 0 }), inv, 0, "2.5"},
		trial{"ExposeSnapshot", "locally and remotely", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, func(p *place, i *input) { p.folder(i); i.attr |= vss.ATTR_EXPOSED_REMOTELY }), inv, 0, "2.5"},
		trial{"ExposeSnapshot", "a subtree, locally", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, func(p *place, i *input) { p.folder(i); i.root = "sub" }), inv, 0, "2.5: pathFromRoot must be NULL"},
		trial{"ExposeSnapshot", "on no folder", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, nil), inv, 0, "2.5"},
		trial{"ExposeSnapshot", "on a relative path", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, func(_ *place, i *input) { i.name = "folder" }), inv, 0, "2.5"},
		trial{"ExposeSnapshot", "on a full folder", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, func(_ *place, i *input) { i.name = "/proc" }), inv, 0, "2.5: EMPTY folder"},
		trial{"ExposeSnapshot", "on a name of 1 MiB", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, func(_ *place, i *input) { i.name = "/" + long }), inv, 0, "2.5"},
		trial{"UnexposeSnapshot", "of a copy that is not exposed", "NEW", nil, onCopy(vss.CTX_NAS_ROLLBACK, nil), notFound, 0, "2.5"},
		trial{"UnexposeSnapshot", "of one that is", "NEW", nil, exposed, ok, 0, "2.5"},
	)

	// Restore.
	for _, m := range []string{"SetSelectedForRestore", "SetSelectedForRestoreEx", "AddRestoreSubcomponent", "SetRestoreOptions", "SetAdditionalRestores",
		"AddNewTarget", "SetRangesFilePath", "SetAuthoritativeRestore", "SetRollForward", "SetRestoreName"} {
		add(onComponent(m, "R_META")...)
	}
	for _, m := range []string{"SetFileRestoreStatus", "AddAlternativeLocationMapping"} {
		add(onComponent(m, "R_PRE")...)
	}
	for i, want := range []vss.HResult{inv, ok, ok, ok, inv} {
		add(trial{"SetFileRestoreStatus", "status " + strconv.Itoa(i), "R_PRE", nil, with(func(in *input) { in.status = vss.FileRestoreStatus(i) }), want, 0, "5.5"})
	}
	for i, want := range []vss.HResult{inv, ok, ok, inv, inv} { // PARTIAL needs a point
		add(trial{"SetRollForward", "type " + strconv.Itoa(i) + " without a point", "R_META", nil, with(func(in *input) { in.roll = vss.RollForwardType(i) }), want, 0, "5.5"})
	}
	unselect := func(p *place) {
		// R_META, but for the selection.
		p.do("InitializeForRestore")
		p.do("GatherWriterMetadata")
	}
	add(
		trial{"SetRollForward", "to a point", "R_META", nil, with(func(i *input) { i.roll, i.text = vss.RF_PARTIAL, "then" }), ok, 0, "5.5"},
		trial{"AddRestoreSubcomponent", "with repair", "R_META", nil, with(func(i *input) { i.flag = true }), inv, 0, "2.6: bRepair false"},
		trial{"AddRestoreSubcomponent", "without a name", "R_META", nil, with(func(i *input) { i.name = "" }), inv, 0, "2.6: not NULL"},
		trial{"AddRestoreSubcomponent", "of what is not selected", "NEW", unselect, nil, notFound, 0, "2.6: parent already selected"},
		trial{"SetRangesFilePath", "of a partial file that is not there", "R_META", nil, with(func(i *input) { i.index = 1 }), notFound, 0, "2.6"},
		trial{"SetRangesFilePath", "of the largest index", "R_META", nil, with(func(i *input) { i.index = 1<<32 - 1 }), notFound, 0, "2.6"},
		trial{"SetRestoreOptions", "of 1 MiB", "R_META", nil, with(func(i *input) { i.text = long }), inv, 0, "2.6"},
		trial{"PreRestore", "to its end", "R_META", nil, nil, ok, finished, "4.3"},
		trial{"PostRestore", "to its end", "R_PRE", nil, nil, ok, finished, "4.3"},
		trial{"ImportSnapshots", "in a restore", "R_INIT", nil, nil, bad, 0, "3.2 P1"},
	)
	return ts
}

// TestInputs gives methods what nobody should, and what everybody may.
func TestInputs(t *testing.T) {
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, f)
			for _, tr := range trials() {
				p := w.reach(tr.state)
				if tr.prepare != nil {
					tr.prepare(p)
				}
				in := w.good(tr.method)
				if tr.with != nil {
					tr.with(p, &in)
				}
				code, op, has := p.call(tr.method, in)
				if has {
					row(t, f, tr.method, tr.what, code, tr.want, tr.source)
				}
				if op != nil {
					if tr.result != 0 {
						row(t, f, tr.method, tr.what+": pHrResult", op.result(), tr.result, tr.source)
					}
					op.release()
				}
				p.leave()
			}
		})
	}
}

// TestNothing: an out parameter, or a context, that is nil; and an object that
// was released. All methods, whatever they are.
func TestNothing(t *testing.T) {
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, f)
			p := w.reach("B_INIT")
			for _, m := range methods() {
				in := w.good(m)
				in.nilOut = true
				code, _, has := p.call(m, in)
				want := vss.E_INVALIDARG
				if f.name == "vssapi" && !hasOut(m) {
					continue
				}
				if has {
					row(t, f, m, "with nil for what must be given", code, want, "2.3: NULL out pointer")
				}
			}
			p.leave()
			for _, m := range methods() {
				if code, _, has := p.call(m, w.good(m)); has {
					row(t, f, m, "of a released object", code, bad, "2.0 G1")
				}
			}
		})
	}
}

// hasOut reports whether a method of the literal interfaces has an out
// parameter: those of which none is asked change with nil.
func hasOut(method string) bool {
	for _, prefix := range []string{"Get", "Gather", "Query", "IsVolume", "StartSnapshotSet", "AddToSnapshotSet", "PrepareForBackup", "DoSnapshotSet", "BackupComplete",
		"SaveAsXML", "ImportSnapshots", "DeleteSnapshots", "ExposeSnapshot", "BreakSnapshotSetEx", "PreRestore", "PostRestore", "PreFast", "FastRec", "RecoverSet"} {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return false
}
