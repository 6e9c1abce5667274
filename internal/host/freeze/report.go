package freeze

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// Report says how a hold went. All times are CLOCK_MONOTONIC (see [Now]); a
// set is at one point in time only if every commit ended before FirstThaw.
type Report struct {
	FirstFreeze, LastFreeze time.Duration // first FIFREEZE issued, last one returned
	FirstThaw, LastThaw     time.Duration // first FITHAW issued, last one returned
	Filesystems             []FilesystemReport
	// ByDaemon: the guard did not answer or was dead, and the daemon thawed.
	ByDaemon bool
	// Released: every filesystem is known to be thawed. False means that one
	// may still be frozen, or become so: keep its hold intent.
	Released bool
	// Err is nil only if the hold was whole: every FITHAW found a frozen
	// filesystem, nothing was written meanwhile, and nobody but Thaw ended it.
	// Otherwise VSS_E_HOLD_WRITES_TIMEOUT, or the error Freeze returned.
	Err error
}

// FilesystemReport is one filesystem's part of a Report.
type FilesystemReport struct {
	Name                   string
	FreezeBegin, FreezeEnd time.Duration
	ThawBegin, ThawEnd     time.Duration
	ThawErrno              unix.Errno // EINVAL: it was not frozen any more
	SectorsWritten         uint64     // on its devices during the hold, 512 bytes each
	SectorsDiscarded       uint64     // likewise; of a filesystem mounted with discard they are space it had freed before
	Err                    error      // what was wrong with the hold of this one
}

// makeReport reads the page and the daemon's own part. g.mu is held.
func (g *Guard) makeReport() *Report {
	r := &Report{ByDaemon: g.taken, Released: true}
	var foreign, written, unknown, stuck []string
	for i, u := range g.units {
		f := g.reportUnit(i)
		names := u.names()
		if !g.settled(i) || f.ThawErrno != 0 && f.ThawErrno != unix.EINVAL {
			r.Released = false
		}
		switch {
		case g.freezeErr != nil:
		case !g.settled(i), f.ThawErrno != 0 && f.ThawErrno != unix.EINVAL:
			stuck = append(stuck, names...)
			f.Err = holdBroken(names, reasonStuck, f.ThawErrno)
		case f.ThawErrno == unix.EINVAL:
			foreign = append(foreign, names...)
			f.Err = holdBroken(names, reasonForeign, f.ThawErrno)
		case f.SectorsWritten != 0, f.SectorsDiscarded != 0 && !u.members[0].discards:
			written = append(written, names...)
			f.Err = holdBroken(names, reasonWritten, nil)
		case !g.countersKnown(i):
			unknown = append(unknown, names...)
			f.Err = holdBroken(names, reasonUnknown, nil)
		}
		r.add(f, names)
	}
	r.Err = g.verdict(foreign, written, unknown, stuck)
	return r
}

const (
	reasonStuck   = "it could not be thawed yet"
	reasonForeign = "thawed by somebody else"
	reasonWritten = "written to during the hold"
	reasonUnknown = "whether it was written to during the hold is not known"
)

func (u *unit) names() []string {
	names := make([]string, len(u.members))
	for i, f := range u.members {
		names[i] = f.Name()
	}
	return names
}

func (g *Guard) reportUnit(i int) FilesystemReport {
	u, s := g.units[i], &g.page.Slots[i]
	f := FilesystemReport{
		FreezeBegin: time.Duration(s.FreezeBegin.Load()), FreezeEnd: time.Duration(s.FreezeEnd.Load()),
		ThawBegin: time.Duration(s.ThawBegin.Load()), ThawEnd: time.Duration(s.ThawEnd.Load()),
		ThawErrno: unix.Errno(s.ThawErrno.Load()),
	}
	if u.rescued && (s.State.Load() != wire.StateThawed || f.ThawErrno != 0) {
		f.ThawBegin, f.ThawEnd, f.ThawErrno = u.begin, u.end, u.errno
	}
	before := wire.Counters{Written: s.SectorsBefore.Load(), Discarded: s.DiscardsBefore.Load()}
	after := wire.Counters{Written: s.SectorsAfter.Load(), Discarded: s.DiscardsAfter.Load()}
	if g.page.CountersRead.Load() == 0 {
		after = u.after
	}
	if g.countersKnown(i) {
		f.SectorsWritten, f.SectorsDiscarded = after.Written-before.Written, after.Discarded-before.Discarded
	}
	return f
}

func (g *Guard) countersKnown(i int) bool {
	if g.page.Slots[i].CounterErr.Load() != 0 {
		return false
	}
	return g.page.CountersRead.Load() == 1 || (g.held && g.units[i].afterOK)
}

// add enters a superblock once for each filesystem asked for.
func (r *Report) add(f FilesystemReport, names []string) {
	for _, f.Name = range names {
		r.Filesystems = append(r.Filesystems, f)
	}
	if f.FreezeBegin != 0 && (r.FirstFreeze == 0 || f.FreezeBegin < r.FirstFreeze) {
		r.FirstFreeze = f.FreezeBegin
	}
	if f.ThawBegin != 0 && (r.FirstThaw == 0 || f.ThawBegin < r.FirstThaw) {
		r.FirstThaw = f.ThawBegin
	}
	r.LastFreeze = max(r.LastFreeze, f.FreezeEnd)
	r.LastThaw = max(r.LastThaw, f.ThawEnd)
}

// verdict puts everything that was wrong in one error, the cause before its
// consequences.
func (g *Guard) verdict(foreign, written, unknown, stuck []string) error {
	if g.freezeErr != nil {
		return g.freezeErr
	}
	var objects, reasons []string
	find := func(names []string, reason string) {
		if len(names) == 0 {
			return
		}
		reasons = append(reasons, reason)
		for _, n := range names {
			if !slices.Contains(objects, n) {
				objects = append(objects, n)
			}
		}
	}
	var all []string
	for _, u := range g.units {
		all = append(all, u.names()...)
	}
	switch cause := g.page.Cause.Load(); {
	case g.broken != "":
		find(all, g.broken)
	case cause == wire.CauseLimit:
		find(all, exceeded(g.limit))
	case cause == wire.CauseParent:
		find(all, "the guard took the daemon for dead")
	case cause == wire.CauseFreeze:
		find(all, "it was not frozen")
	}
	findings := []struct {
		names  []string
		reason string
	}{{stuck, reasonStuck}, {foreign, reasonForeign}, {written, reasonWritten}, {unknown, reasonUnknown}}
	for _, f := range findings {
		reason := f.reason
		// Name the filesystems where others have another trouble.
		if len(f.names) < len(all) {
			reason += " (" + strings.Join(f.names, ", ") + ")"
		}
		find(f.names, reason)
	}
	if len(reasons) == 0 {
		return nil
	}
	return holdBroken(objects, strings.Join(reasons, "; "), nil)
}
