package freeze_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/freeze/freezetest"
)

// BenchmarkHold is one whole hold of clean filesystems, and its parts.
func BenchmarkHold(b *testing.B) {
	program := freezetest.Build(b)
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("ext4-%d", n), func(b *testing.B) {
			var vs []*volume
			for range n {
				vs = append(vs, newVolume(b, "ext4"))
			}
			fss := open(b, vs...)
			var start, frz, thaw, end time.Duration
			for b.Loop() {
				t0 := freeze.Now()
				g, err := freeze.StartGuard(context.Background(), fss, freeze.Options{Binary: program})
				if err != nil {
					b.Fatal(err)
				}
				t1 := freeze.Now()
				if err := g.Freeze(context.Background()); err != nil {
					b.Fatal(err)
				}
				t2 := freeze.Now()
				r := g.Thaw()
				t3 := freeze.Now()
				if r.Err != nil {
					b.Fatal(r.Err)
				}
				g.Close()
				start, frz, thaw, end = start+t1-t0, frz+t2-t1, thaw+t3-t2, end+freeze.Now()-t3
			}
			for name, d := range map[string]time.Duration{"start": start, "freeze": frz, "thaw": thaw, "close": end} {
				b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), name+"-ms")
			}
		})
	}
}

// BenchmarkIoctl is the same without any guard: what the kernel alone takes.
func BenchmarkIoctl(b *testing.B) {
	v := newVolume(b, "ext4")
	for b.Loop() {
		if errno := v.freeze(); errno != 0 {
			b.Fatal(errno)
		}
		if errno := v.thaw(); errno != 0 {
			b.Fatal(errno)
		}
	}
}
