package importing

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
)

// readContents reads what is on the LUNs that arrived and are not just one volume
// of the set: the others came as well, hidden and read-only, and are listed.
func (r *run) readContents(ctx context.Context) map[string]*catalog.Contents {
	var g errgroup.Group
	g.SetLimit(8)
	var mu sync.Mutex
	all := map[string]*catalog.Contents{}
	asked := map[string]bool{}
	for _, s := range r.set.Snapshots {
		for _, m := range s.LUNs {
			k := key(m.Target)
			f, ok := r.found[k]
			if !ok || f.err != nil || asked[k] || whole(m) {
				continue
			}
			asked[k] = true
			g.Go(func() error {
				c := &catalog.Contents{}
				err := registry.Guard("ImportSnapshots: contents", func() error {
					got, err := r.im.Host.Contents(ctx, f.device)
					*c = ContentsOf(got, r.set, k)
					return err
				})
				if err != nil {
					c.Fault = err.Error() // the import does not depend on it
				}
				mu.Lock()
				defer mu.Unlock()
				all[k] = c
				return nil
			})
		}
	}
	_ = g.Wait()
	return all
}

func whole(m document.LUNMapping) bool {
	return len(m.Extents) == 1 && m.Extents[0] == (lun.Extent{LUN: m.Extents[0].LUN, Length: m.Size})
}
