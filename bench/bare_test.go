package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bareEnv makes this test binary the bare program.
const bareEnv = "UMBRA_BENCH_BARE"

const (
	fifreeze = 0xC0045877
	fithaw   = 0xC0045878
)

// bareJob is what the bare program does. Mounts, Sources and Targets go
// together.
type bareJob struct {
	Mounts, Sources, Targets []string
	Parallel                 bool // the clones
	Expedite                 bool // the kernel's grace periods, as Umbra does
}

// bareHold runs the bare program and returns its hold window.
func bareHold(ctx context.Context, j bareJob) (time.Duration, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	in, err := json.Marshal(j)
	if err != nil {
		return 0, err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, exe)
	// A thread blocked in the kernel keeps its processor until the runtime
	// notices: none has to wait for another's.
	cmd.Env = append(os.Environ(), bareEnv+"=1", "GOGC=off", "GOMAXPROCS="+strconv.Itoa(len(j.Mounts)+4))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("bare program: %w: %s", err, errs.String())
	}
	var ns int64
	if _, err := fmt.Sscan(out.String(), &ns); err != nil {
		return 0, err
	}
	return time.Duration(ns), nil
}

// bareMain is the bare program.
func bareMain(in io.Reader, out io.Writer) error {
	var j bareJob
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return err
	}
	var mounts, sources, targets []int
	for i := range j.Mounts {
		m, err := unix.Open(j.Mounts[i], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", j.Mounts[i], err)
		}
		s, err := unix.Open(j.Sources[i], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", j.Sources[i], err)
		}
		t, err := unix.Open(j.Targets[i], unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return fmt.Errorf("%s: %w", j.Targets[i], err)
		}
		var st unix.Stat_t
		if err := errors.Join(unix.Fstat(s, &st), unix.Ftruncate(t, st.Size)); err != nil {
			return err
		}
		mounts, sources, targets = append(mounts, m), append(sources, s), append(targets, t)
	}
	// What Umbra does before its hold, too: the volumes are flushed, and the
	// files behind them.
	var g sync.WaitGroup
	for i := range mounts {
		g.Go(func() { _ = unix.Syncfs(mounts[i]) })
	}
	g.Wait()
	for _, s := range sources {
		if err := unix.Fsync(s); err != nil {
			return err
		}
	}
	if j.Expedite {
		const path = "/sys/kernel/rcu_expedited"
		if err := os.WriteFile(path, []byte("1"), 0); err != nil {
			return err
		}
		defer func() { _ = os.WriteFile(path, []byte("0"), 0) }()
	}
	window, err := bareWindow(mounts, sources, targets, j.Parallel)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, int64(window))
	return err
}

// bareWindow holds, clones and releases. Whatever fails, everything it froze
// is thawed when it returns.
func bareWindow(mounts, sources, targets []int, parallel bool) (time.Duration, error) {
	n := len(mounts)
	begins, ends := make([]time.Time, n), make([]time.Time, n)
	errs := make([]error, 3*n)
	var ready, frozen, done sync.WaitGroup
	freeze, thaw := make(chan struct{}), make(chan struct{})
	ready.Add(n)
	frozen.Add(n)
	for i := range n {
		done.Go(func() {
			runtime.LockOSThread()
			ready.Done()
			<-freeze
			begins[i] = time.Now()
			errs[i] = unix.IoctlSetInt(mounts[i], fifreeze, 0)
			frozen.Done()
			<-thaw
			if errs[i] == nil {
				errs[n+i] = unix.IoctlSetInt(mounts[i], fithaw, 0)
			}
			ends[i] = time.Now()
		})
	}
	ready.Wait()
	close(freeze)
	frozen.Wait()
	clone := func(i int) { errs[2*n+i] = unix.IoctlFileClone(targets[i], sources[i]) }
	var clones sync.WaitGroup
	for i := range n {
		if parallel {
			clones.Go(func() { clone(i) })
		} else {
			clone(i)
		}
	}
	clones.Wait()
	close(thaw)
	done.Wait()
	first, last := begins[0], ends[0]
	for i := range n {
		if begins[i].Before(first) {
			first = begins[i]
		}
		if ends[i].After(last) {
			last = ends[i]
		}
	}
	return last.Sub(first), errors.Join(errs...)
}
