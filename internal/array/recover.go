package array

import (
	"context"
	"time"

	"github.com/umbra-vss/umbra/lun"
)

// recover finishes what an earlier process left: sets that are not recorded as
// committed are aborted, files of deleted LUNs removed. It changes nothing that
// anybody was told exists.
func (a *Array) recover(ctx context.Context) error {
	for _, r := range a.state.allSets() {
		if r.State == setCommitted {
			continue
		}
		for _, tg := range r.Targets {
			if err := a.store.Remove(ctx, tg.Target); err != nil {
				return err
			}
		}
		if err := a.state.update(ctx, "abort set", func(t *txn) error { t.dropSet(r.ID); return nil }); err != nil {
			return err
		}
		a.log.Info("a set that was not committed is aborted", "set", r.ID, "host", r.Host, "copies", len(r.Targets))
	}
	if len(a.state.trash) > 0 {
		err := a.state.update(ctx, "empty trash", func(t *txn) error {
			for n := range a.state.trash {
				if err := a.store.Remove(ctx, n); err != nil {
					return err
				}
				t.setTrash(n, false)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	have, _, err := a.store.List(ctx)
	if err != nil {
		return err
	}
	files := map[lun.NAA]bool{}
	for _, n := range have {
		files[n] = true
	}
	for _, l := range a.state.allLUNs() {
		if !files[l.NAA] {
			a.lost[l.NAA] = true
			a.log.Error("a LUN's file is missing", "lun", l.NAA)
		}
	}
	return nil
}

// strays lists files in the store that no record explains.
func (a *Array) strays(ctx context.Context) ([]string, error) {
	have, others, err := a.store.List(ctx)
	if err != nil {
		return nil, err
	}
	known := map[lun.NAA]bool{}
	for _, r := range a.state.allSets() {
		for _, tg := range r.Targets {
			known[tg.Target] = true
		}
	}
	for _, n := range have {
		if !known[n] && a.state.lun(n) == nil && !a.state.trashed(n) {
			others = append(others, n.String())
		}
	}
	return others, nil
}

// reap aborts sets whose host went away.
func (a *Array) reap(ctx context.Context) {
	tick := time.NewTicker(min(time.Minute, max(a.cfg.Lease/4, time.Millisecond)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		dead := a.now().Add(-a.cfg.Lease)
		for _, p := range a.unfinished(func(p *pending) bool { return p.idleSince(dead) }) {
			a.log.Warn("a set nobody finishes is aborted", "set", p.id, "host", p.host)
			if err := a.abortPending(ctx, p); err != nil {
				a.log.Warn("a set cannot be aborted", "set", p.id, "error", err)
			}
		}
	}
}
