package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
)

// Rate predicts how long cloning takes. It is safe for concurrent use.
type Rate struct {
	mu        sync.Mutex
	base      time.Duration // of cloning a file of one extent
	perExtent float64       // nanoseconds
	parallel  int
	last      time.Duration // the last batch took this long
}

// margin is what predictions are multiplied by: a source may gain extents
// between counting and cloning, and a clone may wait for the log.
const margin = 1.25

// Predict returns how long cloning this many files with this many extents
// altogether is expected to hold writes.
func (r *Rate) Predict(files int, extents uint64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	ns := float64(r.base)*float64(files) + r.perExtent*float64(extents)
	return time.Duration(ns * margin)
}

// Extent returns the measured time for one extent, File for one file.
func (r *Rate) Extent() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Duration(r.perExtent)
}

// File returns the measured time for one file of one extent.
func (r *Rate) File() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.base
}

// Last returns how long the last committed batch took, 0 before the first.
func (r *Rate) Last() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Parallel is how many clones the store runs at a time.
func (r *Rate) Parallel() int { return r.parallel }

// learn refines the rate with a batch that was really committed. Large batches
// say something about extents, batches of small files about files. Slower is
// believed at once, faster by and by: a wrong refusal costs a retry, a wrong
// promise costs the hold.
func (r *Rate) learn(files int, extents uint64, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = took
	blend := func(old, seen float64) float64 {
		if seen > old {
			return (old + seen) / 2
		}
		return 0.9*old + 0.1*seen
	}
	switch {
	case extents >= 1000 && extents >= 50*uint64(files):
		seen := (float64(took) - float64(r.base)*float64(files)) / float64(extents)
		r.perExtent = blend(r.perExtent, max(seen, minPerExtent))
	case extents <= 10*uint64(files):
		r.base = time.Duration(blend(float64(r.base), float64(took)/float64(files)))
	}
}

const minPerExtent = 200 // ns; below this a measurement is noise

// measure clones small files in dir: one of a single extent for the cost of a
// file, and fragmented ones in series and in parallel for the cost of an extent
// and the worth of parallelism. It takes about 50 ms.
func measure(ctx context.Context, dir string) (*Rate, error) {
	tmp, err := os.MkdirTemp(dir, ".measure-*")
	if err != nil {
		return nil, failed("measure store", dir, "no file can be made", "Check that the store has free space", err)
	}
	defer os.RemoveAll(tmp)
	const probes, extents = 4, 500
	var sources []*os.File
	defer func() {
		for _, f := range sources {
			f.Close()
		}
	}()
	for i := range probes + 1 {
		n := extents
		if i == probes {
			n = 1
		}
		f, err := fragmented(filepath.Join(tmp, fmt.Sprint("source", i)), n)
		if err != nil {
			return nil, failed("measure store", dir, "a test file cannot be written", "Check that the store has free space", err)
		}
		sources = append(sources, f)
	}
	if ctx.Err() != nil {
		return nil, given(ctx, "measure store", dir)
	}
	round := 0
	clone := func(files []*os.File, together bool) (time.Duration, error) {
		round++
		var targets []*os.File
		defer func() {
			for _, t := range targets {
				t.Close()
			}
		}()
		for i := range files {
			t, err := os.Create(filepath.Join(tmp, fmt.Sprint("target", round, "-", i)))
			if err != nil {
				return 0, err
			}
			targets = append(targets, t)
		}
		errs := make(chan error, len(files))
		start := time.Now()
		for i := range files {
			one := func() { errs <- unix.IoctlFileClone(int(targets[i].Fd()), int(files[i].Fd())) }
			if together {
				go one()
			} else {
				one()
			}
		}
		var first error
		for range files {
			if err := <-errs; err != nil && first == nil {
				first = err
			}
		}
		return time.Since(start), first
	}
	small, err := clone(sources[probes:], false)
	var serial, together time.Duration
	if err == nil {
		serial, err = clone(sources[:probes], false)
	}
	if err == nil {
		together, err = clone(sources[:probes], true)
	}
	if err != nil {
		return nil, failed("measure store", dir, "a clone failed", "Check the store with dmesg", err)
	}
	r := &Rate{base: max(small, 20*time.Microsecond), parallel: 1}
	r.perExtent = max(float64(serial-probes*min(small, serial/probes))/(probes*extents), minPerExtent)
	if together < serial*3/4 {
		r.parallel = probes
	}
	return r, nil
}

// fragmented makes a file with this many extents of one block: every other
// block is a hole.
func fragmented(path string, extents int) (*os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	block := make([]byte, backend.Align)
	for i := range extents {
		if _, err := f.WriteAt(block, int64(i)*2*backend.Align); err != nil {
			f.Close()
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
