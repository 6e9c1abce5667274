package array

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"

	"github.com/umbra-vss/umbra/internal/array/backend"
	arrayv1 "github.com/umbra-vss/umbra/internal/gen/umbra/array/v1"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func parseNAAs(in []string) ([]lun.NAA, error) {
	out := make([]lun.NAA, 0, len(in))
	for _, s := range in {
		n, err := lun.ParseNAA(s)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func naaStrings(in []lun.NAA) []string {
	out := make([]string, len(in))
	for i, n := range in {
		out[i] = n.String()
	}
	return out
}

func parseDigest(b []byte) (d [32]byte, err error) {
	if len(b) != len(d) {
		return d, &vss.Error{Code: vss.E_INVALIDARG, Op: "read digest", Reason: "a digest has 32 bytes", Remedy: "Use a provider of the array's version"}
	}
	return [32]byte(b), nil
}

func sortedLUNs(in []*lunRecord) []*lunRecord {
	slices.SortFunc(in, func(x, y *lunRecord) int {
		if c := x.Created.Compare(y.Created); c != 0 {
			return c
		}
		return bytes.Compare(x.NAA[:], y.NAA[:])
	})
	return in
}

// lunMessage is a LUN without who has it attached.
func (a *Array) lunMessage(l *lunRecord) *arrayv1.LUN {
	m := &arrayv1.LUN{Naa: l.NAA.String(), Name: l.Name, Size: l.Size, Allocated: a.store.Allocated(l.NAA), Copy: l.Copy,
		Generation: l.Generation, ReadOnly: l.ReadOnly, Created: l.Created.UnixNano(), MadeBy: l.MadeBy, Masks: slices.Clone(l.Masks)}
	if l.Source != (lun.NAA{}) {
		m.Source = l.Source.String()
	}
	if !l.Set.IsNull() {
		m.SetId = l.Set.String()
	}
	return m
}

func targetMessages(in []target) []*arrayv1.Target {
	var out []*arrayv1.Target
	for _, t := range in {
		m := &arrayv1.Target{Source: t.Source.String(), Target: t.Target.String(), Size: t.Size}
		for _, s := range t.Snapshots {
			m.SnapshotIds = append(m.SnapshotIds, s.String())
		}
		out = append(out, m)
	}
	return out
}

// backingStores are the filesystems the array needs: the store's, and the one
// of its database and log, with what is beneath them.
func (a *Array) backingStores(ctx context.Context) map[uint64]string {
	out := a.store.Devices(ctx)
	backend.Beneath(ctx, filepath.Join(a.cfg.Dir, "array.db"), out)
	return out
}
