package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// The budget of an import, in units measured beside it, and how much longer
// large ones may take.
const (
	budgetFsyncs = 16
	budgetTrips  = 6
	limit16      = 6   // 16 LUNs, times one
	limitSparse  = 1.2 // 4 TiB, times 1 GiB
)

// XFS, since mkfs.ext4 and the kernel after it would write gigabytes of inode
// tables to the largest.
var mkfsImport = []string{"mkfs.xfs", "-q", "-f", "-K", "-l", "size=64m"}

// BenchmarkImport is the time from the call of ImportSnapshots to verified
// block nodes, of one LUN, of 16 in a set, and of one that is large.
func BenchmarkImport(b *testing.B) {
	must(b, closeLab()) // not among the LUNs of other benchmarks
	l := theLab(b)
	volumes := func(n int, name, size string) (vs []*volume) {
		for i := range n {
			v, err := l.volume(fmt.Sprintf("%s%d", name, i), size, mkfsImport...)
			must(b, err)
			vs = append(vs, v)
		}
		return vs
	}
	all := volumes(16, "i", "1G")
	cases := []*importCase{
		{what: "1 LUN of 1 GiB", volumes: all[:1]},
		{what: "16 LUNs of 1 GiB", volumes: all},
		{what: "1 LUN of 4 TiB", volumes: volumes(1, "huge", "4T")},
	}
	home := requester.NewHost(requester.Endpoint(l.b.Socket()))
	defer home.Close()
	var budget, loops, fsyncs, trips samples
	for range 2 { // the first import of a process connects, grows and reads
		_, err := l.importSet(cases[0].volumes)
		must(b, err)
	}
	// The short ones take several turns for each of the long one, since what
	// else a machine does shows in a few milliseconds.
	turns := []*importCase{cases[0], cases[2], cases[0], cases[1], cases[2], cases[0], cases[2]}
	for b.Loop() {
		for _, c := range turns {
			m, err := l.importSet(c.volumes)
			must(b, err)
			c.took, c.mount = append(c.took, m.took), append(c.mount, m.mount)
			c.last = m.timeline
			if c == cases[0] {
				f, err := l.fsyncs(budgetFsyncs)
				must(b, err)
				t, err := roundTrips(l.ctx, home, budgetTrips)
				must(b, err)
				loops, fsyncs, trips = append(loops, m.loop), append(fsyncs, f), append(trips, t)
				budget = append(budget, m.loop+f+t)
			}
		}
	}
	one := cases[0].took.median()
	x := ratio(one, budget.median())
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(one), "one-ms")
	b.ReportMetric(ms(budget.median()), "budget-ms")
	b.ReportMetric(x, "x-budget")
	parts := fmt.Sprintf("LOOP_CONFIGURE %s + %d fsyncs %s + %d round trips %s",
		msText(loops.median()), budgetFsyncs, msText(fsyncs.median()), budgetTrips, msText(trips.median()))
	results.add(row{"import, " + cases[0].what, msText(one), parts, x, 1, "x"})
	for i, limit := range []float64{1: limit16, 2: limitSparse} {
		if i > 0 {
			x := ratio(cases[i].took.median(), one)
			b.ReportMetric(x, []string{1: "x-16", 2: "x-sparse"}[i])
			results.add(row{"import, " + cases[i].what, msText(cases[i].took.median()), cases[0].what + " " + msText(one), x, limit, "x"})
		}
	}
	for _, c := range cases {
		results.add(row{what: "mount of " + c.what, measured: msText(c.mount.median()), value: ms(c.mount.median()), unit: " ms"})
		b.Logf("%s: %v", c.what, c.took)
		for _, p := range c.last {
			b.Logf("   %-10s at %9v %9v", p.Name, p.Start.Round(time.Microsecond), p.Duration.Round(time.Microsecond))
		}
	}
	b.Logf("LOOP_CONFIGURE %v, %d fsyncs %v, %d round trips %v", loops, budgetFsyncs, fsyncs, budgetTrips, trips)
}

type importCase struct {
	what        string
	volumes     []*volume
	took, mount samples
	last        []requester.Phase
}

type imported struct {
	took     time.Duration // the wall clock of ImportSnapshots and Wait, less what follows the record
	mount    time.Duration
	loop     time.Duration // bare LOOP_CONFIGURE of the first copy's file
	timeline []requester.Phase
}

// importSet makes a set on A, imports it on B and deletes it there.
func (l *lab) importSet(vs []*volume) (m imported, err error) {
	s, err := l.create(vs)
	if err != nil {
		return m, err
	}
	if err := l.settle(); err != nil {
		return m, err
	}
	if m.loop, err = l.bareLoop(s.document); err != nil {
		return m, err
	}
	bc, err := requester.CreateBackupComponents(l.ctx, requester.Endpoint(l.b.Socket()))
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, bc.Close()) }()
	if err := bc.InitializeForBackup(l.ctx, s.document); err != nil {
		return m, err
	}
	begin := time.Now()
	op, err := bc.ImportSnapshots(l.ctx)
	if err != nil {
		return m, err
	}
	st, err := op.WaitFor(l.ctx, requester.Infinite)
	wall := time.Since(begin)
	if err != nil {
		return m, err
	}
	if st.Code != vss.VSS_S_ASYNC_FINISHED {
		return m, fmt.Errorf("import: %s: %w", st.Code.Name(), st.Err)
	}
	m.mount, m.timeline = phase(st.Timeline, "mount"), st.Timeline
	m.took = wall - m.mount - phase(st.Timeline, "finish")
	return m, l.remove(l.b, s.id)
}

// roundTrips times calls on a connection that is open.
func roundTrips(ctx context.Context, h *requester.Host, n int) (time.Duration, error) {
	if _, err := h.Status(ctx); err != nil {
		return 0, err
	}
	begin := time.Now()
	for range n {
		if _, err := h.Status(ctx); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// fsyncs times appends of 4 KiB, each with fsync, where the daemon's state is.
func (l *lab) fsyncs(n int) (time.Duration, error) {
	f, err := os.CreateTemp(l.b.Path(l.b.StateDir()), "bench-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	data := make([]byte, block)
	begin := time.Now()
	for range n {
		if _, err := f.Write(data); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// bareLoop times LOOP_CONFIGURE of the first copy's file, as the host's
// initiator will call it, and takes the device back.
func (l *lab) bareLoop(doc []byte) (time.Duration, error) {
	d, err := document.Unmarshal(doc)
	if err != nil {
		return 0, err
	}
	file, err := os.Open(l.store(filepath.Join("luns", d.Set.Snapshots[0].LUNs[0].Target.Name())))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: 512, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_DIRECT_IO | unix.LO_FLAGS_READ_ONLY}}
	for try := 0; ; try++ {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return 0, err
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
		if err != nil {
			return 0, err
		}
		begin := time.Now()
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		took := time.Since(begin)
		if err == nil {
			err = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0)
			return took, errors.Join(err, dev.Close())
		}
		_ = dev.Close()
		if !errors.Is(err, unix.EBUSY) || try == 100 { // somebody else was faster
			return 0, err
		}
	}
}
