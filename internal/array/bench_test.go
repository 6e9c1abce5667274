package array

import (
	"fmt"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// BenchmarkSet times every call of a set and of its import, as a connected host
// sees them.
func BenchmarkSet(b *testing.B) {
	r := newRig(b)
	a, h := r.enroll("a", ""), r.enroll("b", "")
	for _, count := range []int{1, 16, 64} {
		var src []client.Source
		for range count {
			n, _ := r.lun(16*mib, "a")
			src = append(src, client.Source{NAA: n, Snapshots: []vss.ID{vss.NewID()}})
		}
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			ctx := b.Context()
			spent := map[string]time.Duration{}
			timed := func(what string, f func() error) {
				start := time.Now()
				if err := f(); err != nil {
					b.Fatal(err)
				}
				spent[what] += time.Since(start)
			}
			for b.Loop() {
				set := vss.NewID()
				var copies []lun.NAA
				var tk []byte
				var open []client.Opened
				timed("prepare", func() error {
					p, err := a.PrepareSet(ctx, set, transportable, src)
					for _, n := range p.Targets {
						copies = append(copies, n)
					}
					return err
				})
				timed("precommit", func() error { return a.PreCommitSet(ctx, set) })
				timed("commit", func() error { took, err := a.CommitSet(ctx, set); spent["ficlone"] += took; return err })
				timed("postcommit", func() error { _, err := a.PostCommitSet(ctx, set); return err })
				timed("ticket", func() (err error) { tk, err = a.IssueTicket(ctx, set, digest, "", 0); return err })
				timed("locate", func() error {
					_, err := h.LocateLUNs(ctx, client.Location{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies})
					return err
				})
				timed("open", func() (err error) { open, err = h.OpenLUNs(ctx, copies); return err })
				closeOpened(open)
				timed("delete", func() error { return h.DeleteLUNs(ctx, copies) })
			}
			for what, d := range spent {
				b.ReportMetric(float64(d)/1e6/float64(b.N), what+"-ms")
			}
		})
		for _, s := range src {
			if err := r.admin.DeleteLUN(b.Context(), s.NAA.String(), true); err != nil {
				b.Fatal(err)
			}
		}
	}
}
