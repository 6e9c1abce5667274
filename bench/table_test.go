package bench

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// table collects what the benchmarks found, for one look at the end.
type table struct {
	mu   sync.Mutex
	rows []row
}

type row struct {
	what, measured, against string
	value, limit            float64 // 0: no limit
	unit                    string
}

var results table

func (t *table) add(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

func (r row) verdict() string {
	switch {
	case r.limit == 0:
		return ""
	case r.value <= r.limit:
		return "ok"
	default:
		return "MISSED"
	}
}

// print writes it as a table that is Markdown, too.
func (t *table) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(tw, "\n| what\t| measured\t| against\t| value\t| limit\t| verdict\t|")
	fmt.Fprintln(tw, "|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range t.rows {
		limit := ""
		if r.limit != 0 {
			limit = fmt.Sprintf("%.4g%s", r.limit, r.unit)
		}
		fmt.Fprintf(tw, "| %s\t| %s\t| %s\t| %.3g%s\t| %s\t| %s\t|\n", r.what, r.measured, r.against, r.value, r.unit, limit, r.verdict())
	}
	tw.Flush()
	fmt.Fprintln(w)
}

// samples are the durations of one contender.
type samples []time.Duration

func (s samples) median() time.Duration {
	if len(s) == 0 {
		return 0
	}
	o := slices.Sorted(slices.Values(s))
	if n := len(o); n%2 == 0 {
		return (o[n/2-1] + o[n/2]) / 2
	}
	return o[len(o)/2]
}

func ratio(a, b time.Duration) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func msText(d time.Duration) string { return fmt.Sprintf("%.2f ms", ms(d)) }

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   samples
		want time.Duration
	}{{nil, 0}, {samples{3}, 3}, {samples{4, 2}, 3}, {samples{9, 1, 5}, 5}} {
		if got := c.in.median(); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.in, got, c.want)
		}
	}
}
