package service

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/umbra-vss/umbra/internal/catalog"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// Long lists go in pages: a message of all copies would be tens of megabytes in
// this process and in the other, and a stream would keep a read transaction
// open for as long as its reader likes, for which the catalogue's file cannot
// grow. A page is one look. A copy that is there all the time is in the list
// once; one that comes or goes meanwhile may be in it or not.
type page struct {
	size  int
	items int
}

// Bounds of a page; what brings it over pageBytes is still in it.
const (
	pageBytes = 512 << 10
	pageItems = 2000
)

func (p *page) full() bool { return p.size >= pageBytes || p.items >= pageItems }

func (p *page) add(m proto.Message) {
	p.size += proto.Size(m)
	p.items++
}

// Query lists the copies of the object's context, or the providers. VSS knows
// no other question; that for the copies of one set or volume is Umbra's.
func (v Server) Query(ctx context.Context, req *connect.Request[vssv1.QueryRequest]) (*connect.Response[vssv1.QueryResponse], error) {
	o, _, err := v.enter(ctx, session.Query, req.Msg.Token)
	if err != nil {
		return nil, err
	}
	m := req.Msg
	kind := vss.ObjectType(m.ReturnedObjectsType)
	refuse := func(reason, remedy string) (*connect.Response[vssv1.QueryResponse], error) {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "Query", Reason: reason, Remedy: remedy}
	}
	if !idOf(m.QueriedObjectId).IsNull() || vss.ObjectType(m.QueriedObjectType) != vss.OBJECT_NONE || (kind != vss.OBJECT_SNAPSHOT && kind != vss.OBJECT_PROVIDER) {
		return refuse("only all snapshots or all providers can be queried", "Give GUID_NULL, OBJECT_NONE and OBJECT_SNAPSHOT or OBJECT_PROVIDER")
	}
	filter := catalog.CopyFilter{Set: idOf(m.SetId), Volume: m.Volume}
	if kind == vss.OBJECT_PROVIDER {
		if filter != (catalog.CopyFilter{}) || len(m.After) > 0 {
			return refuse("providers are of no set and no volume", "Filter snapshots")
		}
		out := &vssv1.QueryResponse{}
		for _, p := range v.S.Providers.List() {
			out.Providers = append(out.Providers, providerProto(p))
		}
		return connect.NewResponse(out), nil
	}
	for _, id := range [][]byte{m.SetId, m.After} { // else they would mean all
		if len(id) > 0 && idOf(id).IsNull() {
			return refuse("an ID to filter by, or to go on from, is none", "Leave it out to list all copies")
		}
	}
	out := &vssv1.QueryResponse{}
	var p page
	err = v.S.Keeper.Each(ctx, o.currentContext(), filter, idOf(m.After), func(c catalog.Copy) bool {
		if p.full() {
			out.Next = out.Snapshots[len(out.Snapshots)-1].SnapshotId
			return false
		}
		s := snapshotProto(c.Prop)
		p.add(s)
		out.Snapshots = append(out.Snapshots, s)
		return true
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// ListSets lists the sets created or imported here.
func (v Server) ListSets(_ context.Context, req *connect.Request[vssv1.ListSetsRequest]) (*connect.Response[vssv1.ListSetsResponse], error) {
	out := &vssv1.ListSetsResponse{}
	var p page
	err := v.S.Catalog.View(func(t *catalog.Tx) error {
		last := ""
		for s, err := range t.SetsAfter(string(req.Msg.After)) {
			if err != nil {
				return err
			}
			if p.full() {
				out.Next = []byte(last)
				return nil
			}
			m := setProto(s)
			p.add(m)
			out.Sets, last = append(out.Sets, m), s.Place()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}
