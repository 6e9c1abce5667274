package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/catalog/catalogtest"
	"github.com/umbra-vss/umbra/internal/site/sitetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// Limits of a large catalogue: times the cost at a small one, and MiB.
const (
	limitScale       = 2
	limitScaleMemory = 200
)

// The catalogues. A volume has as many copies in one as in the other, so that
// the answers are equally long.
const (
	smallSets = 100
	largeSets = 10000
	perVolume = 10
	calls     = 200 // of each kind in a turn
)

// BenchmarkScale is what questions cost at 100 sets and at 10,000, with 5
// copies each, and what memory the daemon of the large catalogue has.
func BenchmarkScale(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("a daemon needs root")
	}
	dir := b.TempDir()
	program, err := sitetest.Program("..", dir)
	must(b, err)
	small := startScaled(b, program, filepath.Join(dir, "small"), smallSets)
	large := startScaled(b, program, filepath.Join(dir, "large"), largeSets)
	questions := []struct {
		name string
		ask  func(bc *requester.BackupComponents, set int) (int, error)
		want int
	}{
		{"Query by set", func(bc *requester.BackupComponents, set int) (int, error) {
			ps, err := bc.QuerySnapshotsOf(b.Context(), requester.QueryFilter{Set: catalogtest.SetID(set)})
			return len(ps), err
		}, catalogtest.Volumes},
		{"Query by volume", func(bc *requester.BackupComponents, set int) (int, error) {
			ps, err := bc.QuerySnapshotsOf(b.Context(), requester.QueryFilter{Volume: catalogtest.VolumeOf(set, set%catalogtest.Volumes, perVolume)})
			return len(ps), err
		}, perVolume},
		{"GetSnapshotProperties", func(bc *requester.BackupComponents, set int) (int, error) {
			p, err := bc.GetSnapshotProperties(b.Context(), catalogtest.CopyID(set, set%catalogtest.Volumes))
			if err == nil && p.SnapshotSetID != catalogtest.SetID(set) {
				err = errors.New("another copy's properties")
			}
			return 1, err
		}, 1},
	}
	times := make([][2]samples, len(questions))
	rest, query := 0, 0
	turn := 0
	for b.Loop() {
		turn++
		rest = max(rest, large.resident(b))
		for i, q := range questions {
			for call := range calls { // in turn, one here and one there
				for where, d := range []*scaled{small, large} {
					set := (turn*calls + call) * 7919 % d.sets // all over the file
					begin := time.Now()
					n, err := q.ask(d.bc, set)
					times[i][where] = append(times[i][where], time.Since(begin))
					if err != nil || n != q.want {
						b.Fatalf("%s of set %d of %d: %d answers, %v", q.name, set, d.sets, n, err)
					}
				}
			}
		}
		query = max(query, large.peak(b, func() {
			n := 0
			for _, err := range large.bc.EachSnapshot(b.Context(), requester.QueryFilter{}) {
				must(b, err)
				n++
			}
			if n != largeSets*catalogtest.Volumes {
				b.Fatalf("%d copies", n)
			}
		}))
	}
	b.ReportMetric(0, "ns/op")
	for i, q := range questions {
		s, l := times[i][0].median(), times[i][1].median()
		b.ReportMetric(ratio(l, s), strings.ReplaceAll(q.name, " ", "-")+"-x")
		results.add(row{what: fmt.Sprintf("%s, %d sets", q.name, largeSets), measured: msText(l), against: fmt.Sprintf("%d sets %s", smallSets, msText(s)), value: ratio(l, s), limit: limitScale, unit: "x"})
	}
	mib := func(kib int) float64 { return float64(kib) / 1024 }
	b.ReportMetric(mib(rest), "rest-MiB")
	b.ReportMetric(mib(query), "query-MiB")
	b.ReportMetric(mib(large.hwm(b)), "most-MiB")
	copies := largeSets * catalogtest.Volumes
	results.add(row{what: fmt.Sprintf("daemon at rest, %d copies", copies), measured: "most of all rounds", value: mib(rest), limit: limitScaleMemory, unit: " MiB"})
	results.add(row{what: fmt.Sprintf("daemon, Query of all %d", copies), measured: "peak", value: mib(query), limit: limitScaleMemory, unit: " MiB"})
	results.add(row{what: fmt.Sprintf("daemon, %d copies", copies), measured: "peak since its start", value: mib(large.hwm(b)), limit: limitScaleMemory, unit: " MiB"})
	results.add(row{what: fmt.Sprintf("start, %d copies", copies), measured: "LUNs all missing", value: large.start.Seconds(), unit: " s"})
}

// scaled is a daemon with a catalogue of so many sets, and a requester.
type scaled struct {
	sets  int
	pid   int
	start time.Duration // until it answered
	bc    *requester.BackupComponents
}

// startScaled fills a catalogue and starts a daemon on it. Of its copies' arrays
// none is joined, so recovery finds them all missing and goes on looking.
func startScaled(b *testing.B, program, dir string, sets int) *scaled {
	b.Helper()
	state, socket := filepath.Join(dir, "state"), filepath.Join(dir, "s")
	cat, err := catalog.Open(filepath.Join(state, "catalog.db"))
	must(b, err)
	must(b, errors.Join(catalogtest.Fill(b.Context(), cat, 0, sets, perVolume), cat.Close()))
	cmd := exec.Command(program, "daemon", "--state-dir", state, "--run-dir", filepath.Join(dir, "run"), "--socket", socket,
		"--host-name", "bench"+fmt.Sprint(sets), "--udev-rules-dir", filepath.Join(dir, "rules"), "--exit-with-stdin")
	log := &ready{seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = log, log
	stdin, err := cmd.StdinPipe()
	must(b, err)
	begin := time.Now()
	must(b, cmd.Start())
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	b.Cleanup(func() { stopScaled(cmd, stdin, done) })
	select {
	case <-log.seen:
	case <-done:
		b.Fatalf("the daemon ended:\n%s", log)
	case <-time.After(2 * time.Minute):
		b.Fatalf("the daemon of %d sets does not serve", sets)
	}
	s := &scaled{sets: sets, pid: cmd.Process.Pid, start: time.Since(begin)}
	s.bc, err = requester.CreateBackupComponents(b.Context(), requester.Endpoint(socket))
	must(b, err)
	b.Cleanup(func() { _ = s.bc.Close() }) // before the daemon ends
	must(b, errors.Join(s.bc.InitializeForBackup(b.Context(), nil), s.bc.SetContext(b.Context(), vss.CTX_ALL)))
	return s
}

func stopScaled(cmd *exec.Cmd, stdin io.Closer, done chan struct{}) {
	_ = stdin.Close()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
}

// ready waits in what a daemon writes for the word that it serves.
type ready struct {
	mu   sync.Mutex
	text strings.Builder
	once sync.Once
	seen chan struct{}
}

func (r *ready) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.Write(p)
	if strings.Contains(r.text.String(), "umbra: ready") {
		r.once.Do(func() { close(r.seen) })
	}
	return len(p), nil
}

func (r *ready) String() string { r.mu.Lock(); defer r.mu.Unlock(); return r.text.String() }

func (s *scaled) resident(b *testing.B) int {
	b.Helper()
	kib, err := statusKiB(s.pid, "VmRSS")
	must(b, err)
	return kib
}

func (s *scaled) hwm(b *testing.B) int {
	b.Helper()
	kib, err := statusKiB(s.pid, "VmHWM")
	must(b, err)
	return kib
}

// peak is the most that the daemon has resident while something is done.
func (s *scaled) peak(b *testing.B, do func()) int {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	most := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil {
			if kib, err := statusKiB(s.pid, "VmRSS"); err == nil {
				n = max(n, kib)
			}
			time.Sleep(time.Millisecond)
		}
		most <- n
	}()
	defer stop()
	do()
	stop()
	return <-most
}
