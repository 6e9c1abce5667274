package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
	"github.com/umbra-vss/umbra/vssapi"
)

// TestAsync is IVssAsync, requester.md 4.2 and 8, rows 6, 7 and 26.
func TestAsync(t *testing.T) {
	const (
		query, wait, cancel = "IVssAsync::QueryStatus", "IVssAsync::Wait", "IVssAsync::Cancel"
		pending, cancelled  = vss.VSS_S_ASYNC_PENDING, vss.VSS_S_ASYNC_CANCELLED
		veto                = vss.VSS_E_PROVIDER_VETO
	)
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, f)
			status := func(op operation, what string, want vss.HResult) {
				t.Helper()
				code, hr := op.status()
				row(t, f, query, what, code, ok, "4.2")
				row(t, f, query, what+": pHrResult", hr, want, "4.2")
			}
			running := func(state, method, hook string) (*place, operation) {
				p := w.reach(state)
				release, entered := w.hook(hook)()
				p.undo = append(p.undo, release)
				op := p.begins(method)
				<-entered
				return p, op
			}
			for _, r := range []struct{ state, method, hook string }{{"PREPARED", "DoSnapshotSet", "EndPrepareSnapshots"}, {"B_LOADED", "ImportSnapshots", "LocateLUNs"}} {
				p, op := running(r.state, r.method, r.hook)
				status(op, r.method+" runs", pending)
				row(t, f, wait, r.method+" runs on", op.wait(5), ok, "8 row 7")
				status(op, r.method+" ran on", pending)
				row(t, f, cancel, r.method+" runs", op.cancel(), ok, "4.2: cancelled now")
				status(op, r.method+" was cancelled", cancelled)
				row(t, f, cancel, r.method+" was cancelled", op.cancel(), cancelled, "4.2: was already cancelled")
				row(t, f, wait, r.method+" was cancelled", op.wait(1000), ok, "4.2")
				p.leave()
			}

			p := w.reach("PREPARED")
			op := p.begins("DoSnapshotSet")
			op.result()
			status(op, "finished", finished)
			row(t, f, cancel, "finished", op.cancel(), finished, "4.2: had completed")
			row(t, f, wait, "finished", op.wait(0), ok, "4.2")
			op.release()
			code, _ := op.status()
			row(t, f, query, "released", code, bad, "2.0 G1")
			row(t, f, wait, "released", op.wait(0), bad, "2.0 G1")
			row(t, f, cancel, "released", op.cancel(), bad, "2.0 G1")
			p.leave()

			// A failure while it is waited for, and after.
			p = w.reach("B_LOADED")
			gate := make(chan struct{})
			w.m.A.On("LocateLUNs", func(context.Context) error {
				<-gate
				return &vss.Error{Code: veto, Op: "LocateLUNs", Reason: "no", Remedy: "Ask"}
			})
			op = p.begins("ImportSnapshots")
			time.AfterFunc(50*time.Millisecond, func() { close(gate) })
			row(t, f, wait, "fails meanwhile", op.wait(30_000), veto, "8 row 6")
			row(t, f, wait, "had failed", op.wait(30_000), ok, "8 row 6")
			status(op, "failed", veto)
			row(t, f, cancel, "failed", op.cancel(), veto, "4.2: the error it had ended with")
			w.m.A.On("LocateLUNs", nil)
			if c, is := op.(comOperation); is {
				var reserved int32
				var hr vss.HResult
				row(t, f, query, "a reserved argument", c.QueryStatus(&hr, &reserved), inv, "8 row 26")
				row(t, f, query, "NULL", c.QueryStatus(nil, nil), inv, "4.2")
			} else {
				row(t, f, query, "of nothing", vss.CodeOf(second((*requester.Async)(nil).Status(t.Context()))), inv, "4.2")
			}
			op.release()
			p.leave()
		})
	}
}

func second[T any](_ T, err error) error { return err }

// TestEnumObject is IVssEnumObject, requester.md 2.4: the two providers of the
// world, one after the other.
func TestEnumObject(t *testing.T) {
	const next, skip, reset, clone = "IVssEnumObject::Next", "IVssEnumObject::Skip", "IVssEnumObject::Reset", "IVssEnumObject::Clone"
	type steps struct {
		next  func(n int) (int, vss.HResult)
		skip  func(n int) vss.HResult
		reset func() vss.HResult
	}
	walk := func(t *testing.T, f face, s steps) {
		for _, r := range []struct {
			what   string
			n, got int
			want   vss.HResult
		}{{"none", 0, 0, ok}, {"the first", 1, 1, ok}, {"more than are left", 2, 1, vss.S_FALSE}, {"after the last", 1, 0, vss.S_FALSE}} {
			n, code := s.next(r.n)
			row(t, f, next, r.what, code, r.want, "2.4")
			if n != r.got {
				t.Errorf("%s: %s: %d objects", f.name, r.what, n)
			}
		}
		row(t, f, reset, "at the end", s.reset(), ok, "2.4")
		row(t, f, skip, "one of two", s.skip(1), ok, "2.4")
		row(t, f, skip, "two of one", s.skip(2), vss.S_FALSE, "2.4")
		s.reset()
	}
	f := faces[0]
	w := newWorld(t, f)
	p := w.reach("B_INIT")
	e, err := p.object.(goObject).bc.Query(t.Context(), vss.GUIDNull, vss.OBJECT_NONE, vss.OBJECT_PROVIDER)
	if err != nil {
		t.Fatal(err)
	}
	walk(t, f, steps{
		func(n int) (int, vss.HResult) { os, code, _ := e.Next(n); return len(os), code },
		func(n int) vss.HResult { code, _ := e.Skip(n); return code },
		func() vss.HResult { return vss.CodeOf(e.Reset()) },
	})
	c, err := e.Clone()
	row(t, f, clone, "at the beginning", vss.CodeOf(err), ok, "2.4")
	if os, _, _ := c.Next(2); len(os) != 2 {
		t.Errorf("the clone has %d", len(os))
	}
	_, code, _ := (*requester.Enum)(nil).Next(1)
	row(t, f, next, "of nothing", code, vss.E_POINTER, "2.4")
	p.leave()

	f = faces[1]
	w = newWorld(t, f)
	p = w.reach("B_INIT")
	var ie vssapi.IVssEnumObject
	if hr := p.object.(comObject).bc.Query(vss.GUIDNull, vss.OBJECT_NONE, vss.OBJECT_PROVIDER, &ie); hr != ok {
		t.Fatal(hr)
	}
	walk(t, f, steps{
		func(n int) (int, vss.HResult) {
			var fetched uint32
			code := ie.Next(uint32(n), make([]vss.ObjectProp, n), &fetched)
			return int(fetched), code
		},
		func(n int) vss.HResult { return ie.Skip(uint32(n)) }, ie.Reset,
	})
	var fetched uint32
	row(t, f, next, "no room", ie.Next(1, nil, &fetched), vss.E_POINTER, "2.4")
	row(t, f, next, "no count", ie.Next(1, make([]vss.ObjectProp, 1), nil), vss.E_POINTER, "2.4")
	var ic vssapi.IVssEnumObject
	row(t, f, clone, "at the beginning", ie.Clone(&ic), ok, "2.4")
	row(t, f, clone, "NULL", ie.Clone(nil), inv, "2.4")
	ie.Release()
	row(t, f, next, "released", ie.Next(0, nil, &fetched), bad, "2.0 G1")
	row(t, f, skip, "released", ie.Skip(0), bad, "2.0 G1")
	row(t, f, reset, "released", ie.Reset(), bad, "2.0 G1")
	if hr := ic.Next(2, make([]vss.ObjectProp, 2), &fetched); hr != ok || fetched != 2 {
		t.Errorf("the clone: %v, %d", hr, fetched)
	}
	p.leave()
}

// TestFreeFunctions need no object (requester.md 2.4).
func TestFreeFunctions(t *testing.T) {
	const snapshotted, block = "IsVolumeSnapshotted", "ShouldBlockRevert"
	w := newWorld(t, faces[1])
	p := w.reach("NEW") // says where the service is
	defer p.leave()
	h := requester.NewHost(requester.Endpoint(w.m.Socket))
	defer h.Close()
	for _, r := range []struct {
		what, volume string
		want         vss.HResult
	}{{"a volume", w.volume, ok}, {"no volume", "/nowhere", notFound}, {"1 MiB", "/" + long, inv}, {"no text", "/\xff", inv}} {
		_, _, err := h.IsVolumeSnapshotted(t.Context(), r.volume)
		row(t, faces[0], snapshotted, r.what, vss.CodeOf(err), r.want, "2.4")
		_, err = h.ShouldBlockRevert(t.Context(), r.volume)
		row(t, faces[0], block, r.what, vss.CodeOf(err), r.want, "2.4")
		var yes bool
		var mask vss.SnapshotCompatibility
		row(t, faces[1], snapshotted, r.what, vssapi.IsVolumeSnapshotted(r.volume, &yes, &mask), r.want, "2.4")
		row(t, faces[1], block, r.what, vssapi.ShouldBlockRevert(r.volume, &yes), r.want, "2.4")
	}
	row(t, faces[1], snapshotted, "NULL", vssapi.IsVolumeSnapshotted(w.volume, nil, nil), inv, "2.4")
	row(t, faces[1], block, "NULL", vssapi.ShouldBlockRevert(w.volume, nil), inv, "2.4")
	row(t, faces[1], "CreateVssBackupComponents", "NULL", vssapi.CreateVssBackupComponents(nil), inv, "2.3")
	var none context.Context
	_, err := requester.CreateBackupComponents(none, requester.Endpoint(w.m.Socket))
	row(t, faces[0], "CreateVssBackupComponents", "no context", vss.CodeOf(err), inv, "2.3")
	w.m.Service.Limits.Sessions = 1 // the place's own
	_, err = requester.CreateBackupComponents(t.Context(), requester.Endpoint(w.m.Socket))
	row(t, faces[0], "CreateVssBackupComponents", "one too many", vss.CodeOf(err), vss.E_OUTOFMEMORY, "8 row 22")
	var bc vssapi.IVssBackupComponents
	row(t, faces[1], "CreateVssBackupComponents", "one too many", vssapi.CreateVssBackupComponents(&bc), vss.E_OUTOFMEMORY, "8 row 22")
}
