package requester

import (
	"context"
	"fmt"
	"sync"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// Query is IVssBackupComponents::Query, after SetContext: all completed copies
// on this machine that belong to the object's context (CTX_ALL: all), or all
// providers. E_INVALIDARG unless it is asked for GUID_NULL, OBJECT_NONE and
// one of OBJECT_SNAPSHOT and OBJECT_PROVIDER. When there is nothing, the Enum
// is empty.
func (b *BackupComponents) Query(ctx context.Context, id vss.ID, queried, returned vss.ObjectType) (*Enum, error) {
	m := &vssv1.QueryRequest{QueriedObjectId: id[:], QueriedObjectType: int32(queried), ReturnedObjectsType: int32(returned)}
	var found []vss.ObjectProp
	for {
		r, err := b.query(ctx, m)
		if err != nil {
			return nil, err
		}
		for _, p := range r.Snapshots {
			s := propOf(p)
			found = append(found, vss.ObjectProp{Type: vss.OBJECT_SNAPSHOT, Snapshot: &s})
		}
		for _, p := range r.Providers {
			v := providerOf(p)
			found = append(found, vss.ObjectProp{Type: vss.OBJECT_PROVIDER, Provider: &v})
		}
		if m.After = r.Next; len(m.After) == 0 {
			break
		}
	}
	return &Enum{found: found}, nil
}

// Enum is IVssEnumObject: what a Query found when it was made, one after the
// other. It is safe for concurrent use; a nil one answers E_POINTER.
type Enum struct {
	found []vss.ObjectProp // shared by clones, never changed

	mu   sync.Mutex
	next int
}

// Next returns the next n objects: S_OK if there were n, S_FALSE if there were
// fewer, perhaps none. E_INVALIDARG for a negative n.
func (e *Enum) Next(n int) ([]vss.ObjectProp, vss.HResult, error) {
	found, code, err := e.advance("Next", n)
	out := make([]vss.ObjectProp, len(found))
	for i, o := range found { // the caller's own
		out[i] = o
		if o.Snapshot != nil {
			s := *o.Snapshot
			out[i].Snapshot = &s
		}
		if o.Provider != nil {
			p := *o.Provider
			out[i].Provider = &p
		}
	}
	return out, code, err
}

// Skip passes over n objects: S_OK, or S_FALSE if there were fewer.
// E_INVALIDARG for a negative n.
func (e *Enum) Skip(n int) (vss.HResult, error) {
	_, code, err := e.advance("Skip", n)
	return code, err
}

func (e *Enum) advance(op string, n int) ([]vss.ObjectProp, vss.HResult, error) {
	if e == nil {
		return nil, vss.E_POINTER, noEnum(op)
	}
	if n < 0 {
		return nil, vss.E_INVALIDARG, &vss.Error{Code: vss.E_INVALIDARG, Op: "IVssEnumObject::" + op, Object: fmt.Sprint(n), Reason: "a count cannot be negative", Remedy: "Give 0 or more"}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	code := vss.S_OK
	if left := len(e.found) - e.next; n > left {
		n, code = left, vss.S_FALSE
	}
	out := e.found[e.next : e.next+n]
	e.next += n
	return out, code, nil
}

// Reset begins again.
func (e *Enum) Reset() error {
	if e == nil {
		return noEnum("Reset")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = 0
	return nil
}

// Clone is another Enum at the same place.
func (e *Enum) Clone() (*Enum, error) {
	if e == nil {
		return nil, noEnum("Clone")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return &Enum{found: e.found, next: e.next}, nil
}

func noEnum(op string) error {
	return &vss.Error{Code: vss.E_POINTER, Op: "IVssEnumObject::" + op, Reason: "there is no enumerator", Remedy: "Use the one that Query returned"}
}
