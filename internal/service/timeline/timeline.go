// Package timeline records how long each step of a pipeline took and tells
// clients how far it is.
package timeline

import (
	"slices"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/vss"
)

// Recorder collects phases. It is safe for concurrent use; recording writes
// to memory only, so it may be used while writes are held.
type Recorder struct {
	mu     sync.Mutex
	begin  time.Time
	phases []catalog.Phase
}

// New returns a recorder whose zero is now.
func New() *Recorder { return &Recorder{begin: time.Now(), phases: make([]catalog.Phase, 0, 64)} }

// Start begins a phase; the returned function ends it.
func (r *Recorder) Start(name, object string) (end func()) {
	t := time.Now()
	return func() { r.Add(name, object, t, time.Since(t)) }
}

// Add records a phase that was timed elsewhere.
func (r *Recorder) Add(name, object string, start time.Time, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phases = append(r.phases, catalog.Phase{Name: name, Object: object, Start: start.Sub(r.begin), Duration: d})
}

// Phases returns what was recorded, in order of start.
func (r *Recorder) Phases() []catalog.Phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.phases)
	slices.SortStableFunc(out, func(a, b catalog.Phase) int { return int(a.Start - b.Start) })
	return out
}

// Update is one report of progress.
type Update struct {
	Phase, Object string
	Done, Total   int64
	Since         time.Time   // when the phase began
	Result        vss.HResult // VSS_S_ASYNC_PENDING until the last
}

// Progress holds the newest report and wakes those who follow it. A slow
// follower misses reports, never the last one.
type Progress struct {
	mu      sync.Mutex
	last    Update
	changed chan struct{}
}

// NewProgress returns an empty one.
func NewProgress() *Progress {
	return &Progress{last: Update{Result: vss.VSS_S_ASYNC_PENDING}, changed: make(chan struct{})}
}

func (p *Progress) set(fn func(*Update)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn(&p.last)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Report says that done of total of a phase are done.
func (p *Progress) Report(phase, object string, done, total int) {
	p.set(func(u *Update) {
		if u.Phase != phase {
			u.Since = time.Now()
		}
		u.Phase, u.Object, u.Done, u.Total = phase, object, int64(done), int64(total)
	})
}

// Close makes the last report.
func (p *Progress) Close(result vss.HResult) { p.set(func(u *Update) { u.Result = result }) }

// Next returns the newest report and a channel that closes when there is a newer one.
func (p *Progress) Next() (Update, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, p.changed
}
