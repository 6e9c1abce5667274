package requester

import (
	"context"
	"iter"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// QueryFilter says which copies are asked for: those of a set, those of a
// volume (the name it had where the copy was made), or those that are both. The
// zero filter means all.
type QueryFilter struct {
	Set    vss.ID
	Volume string
}

// QuerySnapshots lists the completed copies on this machine that belong to the
// object's context; CTX_ALL shows all.
func (b *BackupComponents) QuerySnapshots(ctx context.Context) ([]vss.SnapshotProp, error) {
	return b.QuerySnapshotsOf(ctx, QueryFilter{})
}

// QuerySnapshotsOf lists those of them that the filter means; none is no error.
// VSS has no such call, but with many copies this one looks at few.
func (b *BackupComponents) QuerySnapshotsOf(ctx context.Context, f QueryFilter) ([]vss.SnapshotProp, error) {
	var out []vss.SnapshotProp
	for p, err := range b.EachSnapshot(ctx, f) {
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// EachSnapshot yields the same copies in the order of their IDs, and asks for
// them by and by: a copy that is there all the time is yielded once, one that
// comes or goes meanwhile may be or not. An error is the last it yields.
func (b *BackupComponents) EachSnapshot(ctx context.Context, f QueryFilter) iter.Seq2[vss.SnapshotProp, error] {
	return func(yield func(vss.SnapshotProp, error) bool) {
		// The service keeps a name as text, each byte that is none replaced.
		m := question(vss.OBJECT_SNAPSHOT)
		m.Volume = string([]rune(f.Volume))
		if !f.Set.IsNull() {
			m.SetId = f.Set[:]
		}
		for {
			r, err := b.query(ctx, m)
			if err != nil {
				yield(vss.SnapshotProp{}, err)
				return
			}
			for _, p := range r.Snapshots {
				if !yield(propOf(p), nil) {
					return
				}
			}
			if m.After = r.Next; len(m.After) == 0 {
				return
			}
		}
	}
}

// question is the one VSS has: all objects of a kind.
func question(kind vss.ObjectType) *vssv1.QueryRequest {
	return &vssv1.QueryRequest{QueriedObjectId: vss.GUIDNull[:], QueriedObjectType: int32(vss.OBJECT_NONE), ReturnedObjectsType: int32(kind)}
}

// query asks for a page of the answer.
func (b *BackupComponents) query(ctx context.Context, m *vssv1.QueryRequest) (*vssv1.QueryResponse, error) {
	m.Token = b.sessionToken()
	return call(ctx, b, "Query", rpcs.Query, m)
}

// EachSet yields the sets created or imported on this machine as Sets lists
// them, and asks for them by and by, as EachSnapshot does.
func (h *Host) EachSet(ctx context.Context) iter.Seq2[Set, error] {
	return func(yield func(Set, error) bool) {
		m := &vssv1.ListSetsRequest{}
		for {
			r, err := askHost(ctx, h, "ListSets", hostRPCs.ListSets, m)
			if err != nil {
				yield(Set{}, err)
				return
			}
			for _, p := range r.Sets {
				if !yield(setOf(p), nil) {
					return
				}
			}
			if m.After = r.Next; len(m.After) == 0 {
				return
			}
		}
	}
}
