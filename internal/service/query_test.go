package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/catalog/catalogtest"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// filled is a machine with sets of a larger life; 10 sets have the same volumes.
func filled(t *testing.T, sets int) *servicetest.Machine {
	t.Helper()
	m := servicetest.NewMachine(t)
	if err := catalogtest.Fill(t.Context(), m.Catalog, 0, sets, 10); err != nil {
		t.Fatal(err)
	}
	return m
}

func ids(ps []vss.SnapshotProp) (out []vss.ID) {
	for _, p := range ps {
		out = append(out, p.SnapshotID)
	}
	return out
}

// TestQueryFilters: by set, by volume, by both, and what no copy is of.
func TestQueryFilters(t *testing.T) {
	m := filled(t, 30)
	bc := m.Initialised(vss.CTX_ALL)
	copiesOf := func(sets ...int) (out []vss.ID) {
		for _, n := range sets {
			for v := range catalogtest.Volumes {
				out = append(out, catalogtest.CopyID(n, v))
			}
		}
		return out
	}
	ofVolume := func(v int, sets ...int) (out []vss.ID) {
		for _, n := range sets {
			out = append(out, catalogtest.CopyID(n, v))
		}
		return out
	}
	var all []int
	for n := range 30 {
		all = append(all, n)
	}
	for name, c := range map[string]struct {
		f    requester.QueryFilter
		want []vss.ID
	}{
		"all":              {requester.QueryFilter{}, copiesOf(all...)},
		"set":              {requester.QueryFilter{Set: catalogtest.SetID(7)}, copiesOf(7)},
		"volume":           {requester.QueryFilter{Volume: catalogtest.VolumeOf(12, 3, 10)}, ofVolume(3, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)},
		"both":             {requester.QueryFilter{Set: catalogtest.SetID(12), Volume: catalogtest.VolumeOf(12, 3, 10)}, ofVolume(3, 12)},
		"another's volume": {requester.QueryFilter{Set: catalogtest.SetID(7), Volume: catalogtest.VolumeOf(12, 3, 10)}, nil},
		"no set":           {requester.QueryFilter{Set: vss.NewID()}, nil},
		"no volume":        {requester.QueryFilter{Volume: "/srv/none"}, nil},
		"no text":          {requester.QueryFilter{Volume: "/srv/\xff"}, nil},
	} {
		got, err := bc.QuerySnapshotsOf(t.Context(), c.f)
		slices.SortFunc(c.want, func(a, b vss.ID) int { return bytes.Compare(a[:], b[:]) })
		if err != nil || !slices.Equal(ids(got), c.want) {
			t.Errorf("%s: %v, %v, want %v", name, ids(got), err, c.want)
		}
	}
	// The context still counts: none of them was made in this one.
	if got, err := m.Initialised(vss.CTX_NAS_ROLLBACK).QuerySnapshotsOf(t.Context(), requester.QueryFilter{Set: catalogtest.SetID(7)}); err != nil || len(got) != 0 {
		t.Errorf("in another context: %d, %v", len(got), err)
	}
	if s, err := m.Initialised(vss.CTX_APP_ROLLBACK).QuerySnapshotsOf(t.Context(), requester.QueryFilter{Set: catalogtest.SetID(7)}); err != nil || len(s) != catalogtest.Volumes {
		t.Errorf("in its context: %d, %v", len(s), err)
	}
}

// TestListsGoInPages: a long list comes in messages of a bounded size, has
// everything once, and stands deletions of what it has not come to, of what it
// has passed, and of the very copy it goes on from.
func TestListsGoInPages(t *testing.T) {
	m := filled(t, 1000)
	client := vssv1connect.NewHostServiceClient(rpc.UnixClient(m.Socket), "http://x", connect.WithInterceptors(rpc.Interceptor()))
	var after []byte
	sets, pages := map[string]bool{}, 0
	for {
		r, err := client.ListSets(t.Context(), connect.NewRequest(&vssv1.ListSetsRequest{After: after}))
		if err != nil {
			t.Fatal(err)
		}
		pages++
		if n := proto.Size(r.Msg); n > 600<<10 {
			t.Errorf("a page of sets has %d bytes", n)
		}
		for _, s := range r.Msg.Sets {
			sets[string(s.SetId)] = true
		}
		if after = r.Msg.Next; len(after) == 0 {
			break
		}
	}
	if len(sets) != 1000 || pages < 2 {
		t.Errorf("%d sets in %d pages", len(sets), pages)
	}
	h := requester.NewHost(requester.Endpoint(m.Socket))
	defer h.Close()
	if got, err := h.Sets(t.Context()); err != nil || len(got) != 1000 {
		t.Errorf("%d sets, %v", len(got), err)
	}

	bc := m.Initialised(vss.CTX_ALL)
	all, err := bc.QuerySnapshots(t.Context())
	if err != nil || len(all) != 1000*catalogtest.Volumes || !slices.IsSortedFunc(ids(all), func(a, b vss.ID) int { return bytes.Compare(a[:], b[:]) }) {
		t.Fatalf("%d copies, %v", len(all), err)
	}
	gone := map[vss.ID]bool{}
	deleted := false
	seen := map[vss.ID]int{}
	for p, err := range bc.EachSnapshot(t.Context(), requester.QueryFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[p.SnapshotID]++
		if deleted {
			continue
		}
		deleted = true
		// Wherever the page ends, what it goes on from is among these.
		if err := m.Catalog.Update(t.Context(), func(tx *catalog.Tx) error {
			for i := 0; i < 4000; i++ {
				if i%10 != 0 {
					gone[all[i].SnapshotID] = true
					if err := tx.DeleteCopy(all[i].SnapshotID); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range all {
		if n := seen[p.SnapshotID]; n > 1 || (n == 0 && !gone[p.SnapshotID]) {
			t.Fatalf("copy %s was listed %d times", p.SnapshotID, n)
		}
	}
	if len(seen) == len(all) {
		t.Error("it was one page")
	}
}

// TestQueryRefuses: what a filter cannot be.
func TestQueryRefuses(t *testing.T) {
	m := servicetest.NewMachine(t)
	client := vssv1connect.NewShadowCopyServiceClient(rpc.UnixClient(m.Socket), "http://x", connect.WithInterceptors(rpc.Interceptor()))
	session, err := client.OpenSession(t.Context(), connect.NewRequest(&vssv1.OpenSessionRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if !session.Receive() {
		t.Fatal(session.Err())
	}
	token := session.Msg().Token
	if _, err := client.InitializeForBackup(t.Context(), connect.NewRequest(&vssv1.InitializeRequest{Token: token})); err != nil {
		t.Fatal(err)
	}
	if _, err := client.SetContext(t.Context(), connect.NewRequest(&vssv1.SetContextRequest{Token: token, Context: uint32(vss.CTX_ALL)})); err != nil {
		t.Fatal(err)
	}
	id := vss.NewID()
	for name, q := range map[string]*vssv1.QueryRequest{
		"a long volume":         {ReturnedObjectsType: int32(vss.OBJECT_SNAPSHOT), Volume: "/" + strings.Repeat("x", 1<<20)},
		"short set":             {ReturnedObjectsType: int32(vss.OBJECT_SNAPSHOT), SetId: id[:5]},
		"null set":              {ReturnedObjectsType: int32(vss.OBJECT_SNAPSHOT), SetId: vss.GUIDNull[:]},
		"long after":            {ReturnedObjectsType: int32(vss.OBJECT_SNAPSHOT), After: bytes.Repeat(id[:], 2)},
		"providers of a set":    {ReturnedObjectsType: int32(vss.OBJECT_PROVIDER), SetId: id[:]},
		"providers of a volume": {ReturnedObjectsType: int32(vss.OBJECT_PROVIDER), Volume: "/srv"},
		"providers, page 2":     {ReturnedObjectsType: int32(vss.OBJECT_PROVIDER), After: id[:]},
		"sets":                  {ReturnedObjectsType: int32(vss.OBJECT_SNAPSHOT_SET), SetId: id[:]},
	} {
		q.Token = token
		_, err := client.Query(t.Context(), connect.NewRequest(q))
		if e := vss.AsError("", err); vss.CodeOf(err) != vss.E_INVALIDARG || e.Reason == "" || e.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHundredRequesters: a hundred are connected at once, every one gets its
// answers, and nothing of them stays.
func TestHundredRequesters(t *testing.T) {
	const requesters = 100
	m := filled(t, 100)
	round := func() {
		var connected, done sync.WaitGroup
		connected.Add(requesters)
		errs := make([]error, requesters)
		for i := range requesters {
			done.Go(func() {
				here := sync.OnceFunc(connected.Done)
				defer here()
				errs[i] = func() (err error) {
					ctx := context.Background()
					bc, err := requester.CreateBackupComponents(ctx, requester.Endpoint(m.Socket))
					if err != nil {
						return err
					}
					defer func() { err = errors.Join(err, bc.Close()) }()
					if err := errors.Join(bc.InitializeForBackup(ctx, nil), bc.SetContext(ctx, vss.CTX_ALL)); err != nil {
						return err
					}
					here()
					connected.Wait() // all are, before the first leaves
					set := i % 100
					ps, err := bc.QuerySnapshotsOf(ctx, requester.QueryFilter{Set: catalogtest.SetID(set)})
					if err != nil || len(ps) != catalogtest.Volumes {
						return fmt.Errorf("query: %d copies, %w", len(ps), err)
					}
					for v := range catalogtest.Volumes {
						p, err := bc.GetSnapshotProperties(ctx, catalogtest.CopyID(set, v))
						if err != nil || p.SnapshotSetID != catalogtest.SetID(set) {
							return fmt.Errorf("properties: %v, %w", p, err)
						}
					}
					all, err := bc.QuerySnapshots(ctx)
					if err != nil || len(all) != 100*catalogtest.Volumes {
						return fmt.Errorf("query: %d copies, %w", len(all), err)
					}
					return nil
				}()
			})
		}
		done.Wait()
		for i, err := range errs {
			if err != nil {
				t.Errorf("requester %d: %v", i, err)
			}
		}
	}
	descriptors := func() int {
		fs, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fs)
	}
	goroutines, open := runtime.NumGoroutine(), descriptors()
	round()
	round()
	// One or two may come and go by the runtime's own doing; a requester that
	// stays has a goroutine for its lease and one for its connection.
	m.Eventually("a machine without its requesters", func() bool {
		return runtime.NumGoroutine() <= goroutines+2 && descriptors() <= open
	})
}
