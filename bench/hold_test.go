package bench

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// Limits of the hold window: times the bare program's, and times the script's.
const (
	limitBare   = 1.2
	limitScript = 0.5
	limitMany   = 1.1 // of the bare program, for a volume of very many extents
)

// BenchmarkHold is the hold window of whole volumes.
func BenchmarkHold(b *testing.B) {
	for _, n := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("volumes=%d", n), func(b *testing.B) {
			l := theLab(b)
			var vs []*volume
			for i := range n {
				v, err := l.volume(fmt.Sprintf("v%d", i), "64M", "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
				must(b, err)
				vs = append(vs, v)
			}
			l.hold(b, fmt.Sprintf("hold, volumes: %d", n), vs, limitBare, limitScript)
		})
	}
}

// BenchmarkHoldExtents is the hold window of one volume whose LUN is in pieces.
func BenchmarkHoldExtents(b *testing.B) {
	for _, c := range []struct {
		extents int
		size    string
	}{{10_000, "512M"}, {100_000, "2G"}} {
		b.Run(fmt.Sprintf("extents=%d", c.extents), func(b *testing.B) {
			l := theLab(b)
			v, err := l.volume(fmt.Sprintf("x%d", c.extents), c.size, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
			must(b, err)
			must(b, v.fragment(c.extents))
			l.hold(b, "hold, volumes: 1", []*volume{v}, limitMany, 0)
		})
	}
}

// hold takes turns between Umbra, the bare program with its clones in parallel
// and in series, and the script.
func (l *lab) hold(b *testing.B, what string, vs []*volume, limit, limitScript float64) {
	defer func() {
		if b.Failed() {
			_ = each(vs, func(v *volume) error { v.rescue(); return nil })
		}
	}()
	ready := func() {
		must(b, l.settle())
		must(b, each(vs, (*volume).dirty))
	}
	turns := []*turn{
		{name: "umbra", take: func() (time.Duration, error) { return l.umbraHold(vs) }},
		{name: "bare, parallel clones", take: func() (time.Duration, error) { return l.with(l.job(vs, true, false), bareHold) }},
		{name: "bare, serial clones", take: func() (time.Duration, error) { return l.with(l.job(vs, false, false), bareHold) }},
		{name: "bare expedited, parallel clones", take: func() (time.Duration, error) { return l.with(l.job(vs, true, true), bareHold) }},
		{name: "bare expedited, serial clones", take: func() (time.Duration, error) { return l.with(l.job(vs, false, true), bareHold) }},
		{name: "script", take: func() (time.Duration, error) { return l.with(l.job(vs, false, false), scriptHold) }},
	}
	// The first freeze of a mount and the first clone of a file take longer.
	for _, t := range turns[:2] {
		ready()
		_, err := t.take()
		must(b, err)
	}
	total := 0
	must(b, each(vs, func(v *volume) error { n, err := extents(v.lun); total += n; return err }))
	for round := 0; b.Loop(); round++ {
		for i := range turns {
			ready()
			t := turns[(round+i)%len(turns)]
			d, err := t.take()
			must(b, err)
			t.got = append(t.got, d)
		}
	}
	umbra, bare, expedited, script := turns[0], better(turns[1], turns[2]), better(turns[3], turns[4]), turns[5]
	what = fmt.Sprintf("%s, extents: %d", what, total)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(total), "extents")
	b.ReportMetric(ms(umbra.got.median()), "umbra-ms")
	for _, o := range []struct {
		unit  string
		than  *turn
		limit float64
	}{{"bare", bare, limit}, {"expedited", expedited, 0}, {"script", script, limitScript}} {
		x := ratio(umbra.got.median(), o.than.got.median())
		b.ReportMetric(ms(o.than.got.median()), o.unit+"-ms")
		b.ReportMetric(x, "x-"+o.unit)
		results.add(row{what, msText(umbra.got.median()), o.than.name + " " + msText(o.than.got.median()), x, o.limit, "x"})
	}
	for _, t := range turns {
		b.Logf("%s: %v", t.name, t.got)
	}
}

// turn is one contender.
type turn struct {
	name string
	take func() (time.Duration, error)
	got  samples
}

func better(a, b *turn) *turn {
	if b.got.median() < a.got.median() {
		return b
	}
	return a
}

// umbraHold makes a set, takes its hold window from the timeline, and deletes
// the set.
func (l *lab) umbraHold(vs []*volume) (time.Duration, error) {
	s, err := l.create(vs)
	if err != nil {
		return 0, err
	}
	held := phase(s.timeline, "held")
	if held == 0 {
		return 0, errors.New("the timeline has no phase held")
	}
	return held, l.remove(l.a, s.id)
}

// with runs another contender and removes its clones.
func (l *lab) with(j bareJob, run func(context.Context, bareJob) (time.Duration, error)) (time.Duration, error) {
	d, err := run(l.ctx, j)
	return d, errors.Join(err, j.remove())
}
