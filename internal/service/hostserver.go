package service

import (
	"context"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Status says who this service is.
func (v Server) Status(ctx context.Context, _ *connect.Request[vssv1.Empty]) (*connect.Response[vssv1.StatusResponse], error) {
	v.S.mu.Lock()
	n := len(v.S.sessions)
	v.S.mu.Unlock()
	return connect.NewResponse(&vssv1.StatusResponse{HostName: v.S.HostName, Version: v.S.Version, StartedUnixNs: v.S.started.UnixNano(),
		Warnings: v.S.Warnings, StateDir: v.S.StateDir, RunDir: v.S.RunDir, Sessions: int32(n)}), nil
}

// Join takes an array's bundle.
func (v Server) Join(ctx context.Context, req *connect.Request[vssv1.JoinRequest]) (*connect.Response[vssv1.JoinResponse], error) {
	id, name, err := v.S.Arrays.Join(ctx, req.Msg.Bundle, v.S.Originals.Cover)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.JoinResponse{ArrayId: id, ArrayName: name}), nil
}

// ListArrays lists the joined arrays.
func (v Server) ListArrays(ctx context.Context, _ *connect.Request[vssv1.Empty]) (*connect.Response[vssv1.ListArraysResponse], error) {
	out := &vssv1.ListArraysResponse{}
	for _, a := range v.S.Arrays.List(ctx) {
		out.Arrays = append(out.Arrays, &vssv1.Array{Id: a.ID, Name: a.Name, Endpoints: a.Endpoints, Reachable: a.Err == nil, Error: rpc.ErrorToProto(a.Err)})
	}
	return connect.NewResponse(out), nil
}

// Rescan attaches LUNs unmasked to this machine.
func (v Server) Rescan(ctx context.Context, req *connect.Request[vssv1.RescanRequest]) (*connect.Response[vssv1.ListLUNsResponse], error) {
	var named []lun.NAA
	for _, s := range req.Msg.Luns {
		n, err := lun.ParseNAA(s)
		if err != nil {
			return nil, err
		}
		named = append(named, n)
	}
	// Those of providers that are programs of their own come when these are loaded.
	lerr := v.S.Providers.Load(ctx)
	ds, err := v.S.Originals.Rescan(ctx, named...)
	err = vss.Join("", err, lerr)
	out := &vssv1.ListLUNsResponse{Error: rpc.ErrorToProto(err)}
	for _, d := range ds {
		out.Luns = append(out.Luns, v.originalProto(ctx, d, req.Msg.Partitions))
	}
	return connect.NewResponse(out), nil
}

// DetachLUN removes an original LUN from this machine.
func (v Server) DetachLUN(ctx context.Context, req *connect.Request[vssv1.DetachLUNRequest]) (*connect.Response[vssv1.Empty], error) {
	n, err := lun.ParseNAA(req.Msg.Lun)
	if err == nil {
		err = v.S.Originals.Detach(ctx, n)
	}
	if err != nil {
		return nil, err
	}
	return empty, nil
}

func deviceProto(d block.Device) *vssv1.LUN {
	l := &vssv1.LUN{Name: d.LUN.Name(), Device: d.Path, Size: d.Size, ReadOnly: d.ReadOnly, DiskSeq: d.DiskSeq, State: "original"}
	if d.Going() {
		l.State, l.Reason = "detaching", "it is detached and goes when its last user has closed it"
	}
	return l
}

// contentsTime bounds the look at what an original holds: its storage may hang.
const contentsTime = 2 * time.Second

// originalProto is an original with what it holds, which nobody keeps: it
// changes.
//
// With reach its partitions get block devices where the kernel has made none.
func (v Server) originalProto(ctx context.Context, d block.Device, reach bool) *vssv1.LUN {
	p := deviceProto(d)
	if p.State != "original" {
		return p
	}
	ctx, cancel := context.WithTimeout(ctx, contentsTime)
	defer cancel()
	c, err := v.S.Host.Contents(ctx, d)
	if err != nil {
		c.Fault = err.Error()
	}
	kept := importing.ContentsOf(c, nil, "")
	putContents(p, &kept)
	for _, o := range p.Volumes {
		if o.Number == 0 {
			continue
		}
		n, found, err := v.S.Host.Reach(ctx, d, o.Offset, o.Length, reach)
		if found {
			o.Device = n.Path
		} else if err != nil && o.Fault == "" {
			o.Fault = err.Error()
		}
	}
	return p
}

// ListLUNs joins what is attached with what the catalogue knows.
func (v Server) ListLUNs(ctx context.Context, req *connect.Request[vssv1.ListLUNsRequest]) (*connect.Response[vssv1.ListLUNsResponse], error) {
	ds, err := v.S.Host.Enumerate(ctx)
	if err != nil {
		return nil, err
	}
	devices := map[string]block.Device{}
	for _, d := range ds {
		devices[d.LUN.Name()] = d
	}
	out := &vssv1.ListLUNsResponse{}
	known := map[string]bool{}
	err = v.S.Catalog.View(func(t *catalog.Tx) error {
		luns, err := t.LUNs()
		for _, l := range luns {
			known[l.Name] = true
			if req.Msg.Orphaned && l.State != catalog.LUNOrphaned {
				continue
			}
			p := lunProto(l)
			if d, ok := devices[l.Name]; ok {
				p.Device, p.Size, p.ReadOnly, p.DiskSeq = d.Path, d.Size, d.ReadOnly, d.DiskSeq
			}
			out.Luns = append(out.Luns, p)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !req.Msg.Orphaned {
		for _, d := range ds {
			if len(d.LUN.StorageIDs) > 0 && !known[d.LUN.Name()] {
				out.Luns = append(out.Luns, v.originalProto(ctx, d, false))
			}
		}
	}
	return connect.NewResponse(out), nil
}

// ShowSet returns one set, the imported role before the created one.
func (v Server) ShowSet(ctx context.Context, req *connect.Request[vssv1.SetRequest]) (*connect.Response[vssv1.Set], error) {
	id := idOf(req.Msg.SetId)
	var out *vssv1.Set
	err := v.S.Catalog.View(func(t *catalog.Tx) error {
		for _, role := range []catalog.Role{catalog.Imported, catalog.Created} {
			s, found, err := t.Set(role, id)
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			out = setProto(s)
			luns, err := t.LUNsOf(id)
			if err != nil {
				return err
			}
			for _, p := range out.Luns {
				if i := slices.IndexFunc(luns, func(l catalog.LUN) bool { return l.Name == p.Name }); i >= 0 {
					putContents(p, luns[i].Contents)
				}
			}
			cs, err := t.CopiesOf(id)
			for _, c := range cs {
				out.Snapshots = append(out.Snapshots, snapshotProto(c.Prop))
			}
			out.LogicalVolumes = logicalProto(s.Description, cs)
			return err
		}
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "ShowSet", Object: id.String(), Reason: "this machine neither created nor imported such a set", Remedy: "See umbra list sets"}
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// GetDocument writes the document of a set that was created here again, so
// that a lost file is not a lost set. It holds the set, its ticket and the
// context, which is what an import needs; components are not kept.
func (v Server) GetDocument(ctx context.Context, req *connect.Request[vssv1.SetRequest]) (*connect.Response[vssv1.DocumentResponse], error) {
	const op = "GetDocument"
	id := idOf(req.Msg.SetId)
	var set catalog.Set
	err := v.S.Catalog.View(func(t *catalog.Tx) (err error) {
		var found bool
		if set, found, err = t.Set(catalog.Created, id); err == nil && (!found || set.State != catalog.SetCreated || set.Description == nil) {
			err = &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: id.String(), Reason: "this machine has created no such set, or not completely, or it was deleted",
				Remedy: "See umbra list sets; ask on the machine that created it"}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	b, err := document.Marshal(&document.Document{Context: contextOf(set.Description.Attributes), Set: set.Description})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&vssv1.DocumentResponse{Document: b}), nil
}

// contextOf is the context a set with these attributes was created in.
func contextOf(a vss.Attributes) vss.Context {
	return vss.Context(a).Base() | vss.Context(a&vss.ATTR_TRANSPORTABLE)
}

func setProto(s catalog.Set) *vssv1.Set {
	p := &vssv1.Set{SetId: s.ID[:], State: string(s.State), Role: string(s.Role), Error: rpc.ErrorToProto(s.Failure.Err()), CreationTimestamp: int64(vss.TimestampOf(s.Begun))}
	if d := s.Description; d != nil {
		p.Attributes, p.CreationTimestamp, p.OriginatingMachine, p.SnapshotsCount = uint32(d.Attributes), int64(d.CreationTimestamp), d.OriginatingMachine, int32(d.Count)
		for _, sn := range d.Snapshots {
			for _, m := range sn.LUNs {
				p.Luns = append(p.Luns, &vssv1.LUN{Name: m.Target.Name(), Size: m.Size, SetId: s.ID[:], SnapshotId: sn.ID[:]})
			}
		}
	}
	for _, ph := range s.Timeline {
		p.Timeline = append(p.Timeline, phaseProto(ph))
	}
	for _, c := range s.Copies {
		p.Copies = append(p.Copies, copyStatusProto(c))
	}
	return p
}

// ListEvents lists the newest of the chosen events first.
func (v Server) ListEvents(_ context.Context, req *connect.Request[vssv1.ListEventsRequest]) (*connect.Response[vssv1.ListEventsResponse], error) {
	q, err := eventQuery(req.Msg)
	if err != nil {
		return nil, err
	}
	out := &vssv1.ListEventsResponse{}
	err = v.S.Catalog.View(func(t *catalog.Tx) error {
		es, err := t.FindEvents(q)
		for _, e := range es {
			out.Events = append(out.Events, eventProto(e))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// eventQuery reads what is asked for. A name that no event has is refused:
// whoever misspells it must not read "nothing happened".
func eventQuery(m *vssv1.ListEventsRequest) (catalog.EventQuery, error) {
	q := catalog.EventQuery{ID: m.Id, Set: idOf(m.SetId), Session: idOf(m.Session), Name: m.Name, Level: catalog.Level(m.Level),
		Limit: int(min(m.Limit, catalog.MaxEvents))}
	if m.SinceUnixNs != 0 {
		q.Since = time.Unix(0, m.SinceUnixNs)
	}
	if m.UntilUnixNs != 0 {
		q.Until = time.Unix(0, m.UntilUnixNs)
	}
	bad := func(object, reason, remedy string) (catalog.EventQuery, error) {
		return q, &vss.Error{Code: vss.E_INVALIDARG, Op: "ListEvents", Object: object, Reason: reason, Remedy: remedy}
	}
	_, err := strconv.ParseUint(m.Id, 10, 64)
	switch {
	case m.Id != "" && err != nil:
		return bad("event "+strconv.Quote(m.Id), "an event's ID is a number", "See the first column of umbra list events")
	case m.Level != "" && !q.Level.Valid():
		return bad("level "+strconv.Quote(m.Level), "there is no such level", "The levels are info, warning and error")
	case m.Name != "" && !catalog.KnownName(m.Name):
		return bad("event "+strconv.Quote(m.Name), "no event has this name", "Give a name such as import.done, or its first part; docs/operations.md lists them")
	case !q.Since.IsZero() && !q.Until.IsZero() && q.Until.Before(q.Since):
		return bad("until "+q.Until.Format(time.RFC3339), "it is before the beginning, "+q.Since.Format(time.RFC3339), "Give the earlier time as the beginning")
	}
	return q, nil
}
