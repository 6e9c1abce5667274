package servicetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Journal is the list of calls that changed something, in order. It is safe
// for concurrent use.
type Journal struct {
	mu    sync.Mutex
	calls []string
}

func (j *Journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, fmt.Sprintf(format, args...))
}

// Calls returns the calls so far.
func (j *Journal) Calls() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.calls)
}

// Count returns how many calls begin with prefix.
func (j *Journal) Count(prefix string) int {
	n := 0
	for _, c := range j.Calls() {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// Index returns the place of the first call that begins with prefix, -1 if
// there is none.
func (j *Journal) Index(prefix string) int {
	return slices.IndexFunc(j.Calls(), func(c string) bool { return strings.HasPrefix(c, prefix) })
}

// Reset forgets the calls.
func (j *Journal) Reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = nil
}
