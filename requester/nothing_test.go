package requester

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// every calls each method of v with that context and otherwise with nothing,
// and returns their errors.
func every(t *testing.T, v any, ctx context.Context, except ...string) map[string]error {
	t.Helper()
	out := map[string]error{}
	rv := reflect.ValueOf(v)
	for i := range rv.NumMethod() {
		m := rv.Method(i)
		name := rv.Type().Method(i).Name
		mt := m.Type()
		if slices.Contains(except, name) {
			continue
		}
		if mt.NumOut() == 0 || mt.Out(mt.NumOut()-1) != reflect.TypeFor[error]() {
			continue // cannot fail; that it does not panic is tested below
		}
		var args []reflect.Value
		for j := range mt.NumIn() {
			switch in := mt.In(j); {
			case mt.IsVariadic() && j == mt.NumIn()-1:
			case in == reflect.TypeFor[context.Context]() && ctx != nil:
				args = append(args, reflect.ValueOf(ctx))
			default:
				args = append(args, reflect.Zero(in))
			}
		}
		results := m.Call(args)
		err, _ := results[len(results)-1].Interface().(error)
		out[name] = err
	}
	if len(out) == 0 {
		t.Fatalf("%T has no methods that can fail", v)
	}
	return out
}

func all(t *testing.T, what string, errs map[string]error, want vss.HResult) {
	t.Helper()
	for name, err := range errs {
		e := vss.AsError("", err)
		if e == nil || e.Code != want || e.Op == "" || e.Reason == "" || e.Remedy == "" {
			t.Errorf("%s: %s: %+v, want %v", what, name, e, want)
		}
	}
}

// TestNothing calls every method there is on objects that are none. A method
// that comes later is tested with the others.
func TestNothing(t *testing.T) {
	live := func() *BackupComponents {
		return &BackupComponents{client: vssv1connect.NewShadowCopyServiceClient(rpc.UnixClient("/nowhere"), "http://x"), http: rpc.UnixClient("/nowhere"), end: func() {}}
	}
	ctx := t.Context()
	none := every(t, (*BackupComponents)(nil), ctx)
	if len(none) < 60 {
		t.Errorf("%d methods; IVssBackupComponents to Ex4 has more", len(none))
	}
	all(t, "nil object", none, vss.VSS_E_BAD_STATE)
	all(t, "nil object, nil context", every(t, (*BackupComponents)(nil), nil), vss.VSS_E_BAD_STATE)
	all(t, "zero object", every(t, &BackupComponents{}, ctx), vss.VSS_E_BAD_STATE)
	all(t, "nil context", every(t, live(), nil, "Close"), vss.E_INVALIDARG)
	closed := live()
	closed.closed.Store(true)
	closed.closeOnce.Do(func() {})
	all(t, "closed object", every(t, closed, ctx, "Close"), vss.VSS_E_BAD_STATE)
	if (*BackupComponents)(nil).SessionID() != vss.GUIDNull {
		t.Error("nothing has a session")
	}

	all(t, "nil Async", every(t, (*Async)(nil), ctx), vss.E_INVALIDARG)
	all(t, "nil Async, nil context", every(t, (*Async)(nil), nil), vss.E_INVALIDARG)
	all(t, "zero Async", every(t, &Async{}, ctx), vss.E_INVALIDARG)
	all(t, "Async, nil context", every(t, &Async{b: live()}, nil), vss.E_INVALIDARG)
	all(t, "Async of a closed object", every(t, &Async{b: closed}, ctx), vss.VSS_E_BAD_STATE)
	released := &Async{b: live()}
	released.released.Store(true)
	all(t, "released Async", every(t, released, ctx), vss.VSS_E_BAD_STATE)
	if err := (&Async{b: live()}).Follow(ctx, nil); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("Follow without a function: %v", err)
	}

	all(t, "nil Host", every(t, (*Host)(nil), ctx), vss.VSS_E_BAD_STATE)
	all(t, "zero Host", every(t, &Host{}, ctx), vss.VSS_E_BAD_STATE)
	all(t, "Host, nil context", every(t, NewHost(Endpoint("/nowhere")), nil), vss.E_INVALIDARG)
	(*Host)(nil).Close()
	(&Host{}).Close()

	all(t, "nil Enum", every(t, (*Enum)(nil), ctx), vss.E_POINTER)
	var noContext context.Context
	if _, err := CreateBackupComponents(noContext); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("create without a context: %v", err)
	}
}

// TestText: what the wire cannot carry is E_INVALIDARG wherever it stands, and
// never leaves the process.
func TestText(t *testing.T) {
	b := &BackupComponents{client: vssv1connect.NewShadowCopyServiceClient(rpc.UnixClient("/nowhere"), "http://x", connect.WithInterceptors(rpc.Interceptor()))}
	ctx := t.Context()
	long := strings.Repeat("x", 1<<20)
	for what, call := range map[string]func(s string) error{
		"AddToSnapshotSet": func(s string) error { _, err := b.AddToSnapshotSet(ctx, s, vss.GUIDNull); return err },
		"AddComponent":     func(s string) error { return b.AddComponent(ctx, Component{Name: s}) },
		"SetBackupOptions": func(s string) error { return b.SetBackupOptions(ctx, Component{Name: "x"}, s) },
		"AddNewTarget":     func(s string) error { return b.AddNewTarget(ctx, Component{Name: "x"}, "/x", "*", true, s) },
		"ExposeSnapshot":   func(s string) error { _, err := b.ExposeSnapshot(ctx, vss.NewID(), "", 0, s); return err },
	} {
		for _, s := range []string{long, "\xff"} {
			if err := call(s); !errors.Is(err, vss.E_INVALIDARG) || errors.Is(err, rpc.ErrNoAnswer) {
				t.Errorf("%s of %d bytes: %v", what, len(s), err)
			}
		}
		if err := call("/x"); !errors.Is(err, rpc.ErrNoAnswer) {
			t.Errorf("%s of a good string was not sent: %v", what, err)
		}
	}
	if err := b.EnableWriterClasses(ctx, make([]vss.ID, MaxWriterIDs+1)...); !errors.Is(err, vss.E_INVALIDARG) {
		t.Error(err)
	}
	for _, i := range []int{-1, 1 << 40} {
		for _, err := range []error{
			func() error { _, _, err := b.GetWriterMetadata(ctx, i); return err }(),
			func() error { _, err := b.GetWriterStatusEx(ctx, i); return err }(),
			func() error { _, err := b.GetWriterComponents(ctx, i); return err }(),
			b.SetRangesFilePath(ctx, Component{}, i, "/x"),
		} {
			if !errors.Is(err, vss.E_INVALIDARG) {
				t.Errorf("index %d: %v", i, err)
			}
		}
	}
}

func TestEnum(t *testing.T) {
	var found []vss.ObjectProp
	for i := range 5 {
		found = append(found, vss.ObjectProp{Type: vss.OBJECT_SNAPSHOT, Snapshot: &vss.SnapshotProp{SnapshotsCount: i}})
	}
	e := &Enum{found: found}
	next := func(e *Enum, n, first, got int, want vss.HResult) {
		t.Helper()
		os, code, err := e.Next(n)
		if code != want || vss.CodeOf(err) != want && err != nil || len(os) != got || got > 0 && os[0].Snapshot.SnapshotsCount != first {
			t.Errorf("Next(%d): %v, %v, %v; want %d from %d, %v", n, os, code, err, got, first, want)
		}
		for _, o := range os {
			o.Snapshot.SnapshotsCount = -1 // the caller's own
		}
	}
	next(e, 0, 0, 0, vss.S_OK)
	next(e, 2, 0, 2, vss.S_OK)
	c, err := e.Clone()
	if err != nil {
		t.Fatal(err)
	}
	if code, err := e.Skip(2); code != vss.S_OK || err != nil {
		t.Error(code, err)
	}
	next(e, 1, 4, 1, vss.S_OK)
	next(e, 1, 0, 0, vss.S_FALSE)
	next(c, 4, 2, 3, vss.S_FALSE)
	if code, _ := c.Skip(1); code != vss.S_FALSE {
		t.Error(code)
	}
	if err := c.Reset(); err != nil {
		t.Error(err)
	}
	next(c, 5, 0, 5, vss.S_OK)
	next(c, -1, 0, 0, vss.E_INVALIDARG)
	if code, err := c.Skip(-1); code != vss.E_INVALIDARG || !errors.Is(err, vss.E_INVALIDARG) {
		t.Error(code, err)
	}
}
