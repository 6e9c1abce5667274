package file

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
)

// BenchmarkBatch times the phases of copying LUNs of 20 extents, and the bare
// FICLONE calls they are made of.
func BenchmarkBatch(b *testing.B) {
	s, _ := newStore(b)
	for _, luns := range []int{1, 16, 64} {
		var sources []backend.Source
		for range luns {
			n := newLUN(b, s, 16<<20)
			fragment(b, s, n, 20)
			sources = append(sources, backend.Source{NAA: n, Size: 16 << 20})
		}
		b.Run(fmt.Sprint(luns), func(b *testing.B) {
			var prepare, commit, persist, bare time.Duration
			for b.Loop() {
				t0 := time.Now()
				batch := begin(b, s, sources)
				t1 := time.Now()
				took, err := batch.Commit(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				t2 := time.Now()
				if err := batch.Persist(b.Context(), took); err != nil {
					b.Fatal(err)
				}
				prepare, commit, persist = prepare+t1.Sub(t0), commit+t2.Sub(t1), persist+time.Since(t2)
				if err := batch.Discard(b.Context()); err != nil {
					b.Fatal(err)
				}

				batch = begin(b, s, sources)
				t3 := time.Now()
				for i := range sources {
					if err := unix.IoctlFileClone(int(batch.dst[i].Fd()), int(batch.src[i].Fd())); err != nil {
						b.Fatal(err)
					}
				}
				bare += time.Since(t3)
				if err := batch.Discard(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			ms := func(d time.Duration) float64 { return float64(d) / 1e6 / float64(b.N) }
			b.ReportMetric(ms(prepare), "prepare-ms")
			b.ReportMetric(ms(commit), "commit-ms")
			b.ReportMetric(ms(bare), "bare-ficlone-ms")
			b.ReportMetric(ms(persist), "persist-ms")
		})
		for _, p := range sources {
			os.Remove(s.Path(p.NAA))
		}
	}
}
