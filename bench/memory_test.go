package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Limits of resident memory, in MiB.
const (
	limitDaemon = 40
	limitGuard  = 10
)

// BenchmarkMemory is the resident memory of a daemon at rest and of the guard.
func BenchmarkMemory(b *testing.B) {
	l := theLab(b)
	var vs []*volume
	for i := range 16 {
		v, err := l.volume(fmt.Sprintf("i%d", i), "1G", mkfsImport...)
		must(b, err)
		vs = append(vs, v)
	}
	var daemon, guard int
	for b.Loop() {
		stop := make(chan struct{})
		peak := make(chan int)
		go func() { peak <- guardPeak(l.a.DaemonPID(), stop) }()
		_, err := l.importSet(vs)
		close(stop)
		guard = max(guard, <-peak)
		must(b, err)
		time.Sleep(2 * time.Second)
		for _, pid := range []int{l.a.DaemonPID(), l.b.DaemonPID()} {
			kb, err := statusKiB(pid, "VmRSS")
			must(b, err)
			daemon = max(daemon, kb)
		}
	}
	if guard == 0 {
		b.Fatal("the guard was not seen")
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(daemon)/1024, "daemon-MiB")
	b.ReportMetric(float64(guard)/1024, "guard-MiB")
	results.add(row{what: "daemon at rest", measured: "most of all rounds and both hosts", value: float64(daemon) / 1024, limit: limitDaemon, unit: " MiB"})
	results.add(row{what: "guard, 16 volumes", measured: "peak", value: float64(guard) / 1024, limit: limitGuard, unit: " MiB"})
}

// guardPeak watches for the daemon's guard and returns the most it had
// resident, in KiB.
func guardPeak(daemon int, stop <-chan struct{}) int {
	most := 0
	for {
		select {
		case <-stop:
			return most
		case <-time.After(time.Millisecond):
		}
		for _, pid := range children(daemon) {
			if cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); !bytes.HasPrefix(cmd, []byte("umbra-freeze-guard")) {
				continue
			}
			if kb, err := statusKiB(pid, "VmHWM"); err == nil {
				most = max(most, kb)
			}
		}
	}
}

func children(pid int) (out []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(s); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

func statusKiB(pid int, key string) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strconv.Atoi(strings.Fields(v)[0])
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, key)
}
