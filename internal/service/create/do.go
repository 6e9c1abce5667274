package create

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// CommitLimit is the longest the commit of all providers may take inside the
// hold; the guard's own limit (10 s) is the hard end.
const CommitLimit = 8 * time.Second

// guardTime bounds the start of the freeze guard, which takes some milliseconds.
const guardTime = 30 * time.Second

// mountTime bounds the mounting of a set's device objects.
const mountTime = 30 * time.Second

// Do makes the set and returns its description, tickets included. A set without
// volumes has none, in a context with writers; without writers it is
// VSS_E_BAD_STATE. When it
// returns an error nothing of the set is left: the volumes are released, the
// copies dropped.
func (s *Set) Do(ctx context.Context, tl *timeline.Recorder, pr *timeline.Progress) (desc *document.SnapshotSet, err error) {
	defer s.finish()
	if len(s.members) == 0 && s.Context.Writers() {
		return nil, nil // a backup of writers that have no files on volumes (requester.md 2.2 A)
	}
	if len(s.members) == 0 {
		return nil, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "DoSnapshotSet", Object: s.ID.String(), Reason: "the set has no volume",
			Remedy: "Call AddToSnapshotSet first"}
	}
	if !s.Context.Transportable() {
		// A machine that cannot attach LUNs must not hold writes for a set that
		// it has to drop again.
		if err := s.c.Importer.Host.Ready(ctx); err != nil {
			return nil, &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "DoSnapshotSet", Object: s.ID.String(), Reason: "this machine cannot attach the copies",
				Remedy: "See the reason; or create the set with --transportable and import it elsewhere", Err: err}
		}
	}
	rec := catalog.Set{ID: s.ID, Role: catalog.Created, State: catalog.SetCreating, Session: s.Session, Begun: time.Now(), AutoRelease: s.Context.AutoRelease()}
	err = s.c.Catalog.Update(ctx, func(t *catalog.Tx) error {
		in, err := t.OpenIntent(catalog.Intent{Kind: "create", Role: catalog.Created, SetID: s.ID, Session: s.Session, Begun: rec.Begun, BootID: s.c.BootID, Parts: s.parts()})
		s.intent = in.ID
		if err != nil {
			return err
		}
		return t.PutSet(rec)
	})
	if err != nil {
		return nil, vss.AsError("DoSnapshotSet: record intent", err)
	}

	durable := false
	defer func() {
		if err == nil {
			return
		}
		// The set is dropped on a context of its own: a cancelled creation is
		// cleaned up all the same.
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = s.stopped(ctx, err)
		var clean bool
		err, clean = s.drop(cctx, durable, err)
		rec.State, rec.Failure, rec.Timeline = catalog.SetFailed, catalog.FailureOf(err), tl.Phases()
		event := ""
		_ = s.c.Catalog.Update(cctx, func(t *catalog.Tx) error {
			id, err2 := t.AddEvent(catalog.Event{Level: "error", Name: "create.failed", Session: s.Session, SetID: s.ID,
				Message: "the shadow copy set could not be made; its volumes are released and its copies dropped", Failure: rec.Failure})
			if err2 != nil {
				return err2
			}
			event = id
			if err2 := t.PutSet(rec); err2 != nil {
				return err2
			}
			if !clean {
				return nil // with the intent open recovery drops the rest
			}
			return t.CloseIntent(s.intent)
		})
		if !clean && s.c.Leftovers != nil {
			s.c.Leftovers()
		}
		if e := *vss.AsError("DoSnapshotSet", err); e.EventID == "" {
			e.EventID = event
			err = &e
		}
	}()
	if err := fpAfterIntent.Hit(ctx); err != nil {
		return nil, err
	}

	pr.Report("prepare", "", 0, len(s.members))
	end := tl.Start("end-prepare", "")
	err = s.each(ctx, "EndPrepareSnapshots", func(ctx context.Context, p provider.Hardware) error { return p.EndPrepareSnapshots(ctx, s.ID) })
	end()
	if err != nil {
		return nil, err
	}
	if err := fpAfterEndPrepare.Hit(ctx); err != nil {
		return nil, err
	}

	instant, err := s.hold(ctx, tl, pr)
	if err != nil {
		return nil, err
	}
	if err := fpAfterRelease.Hit(ctx); err != nil {
		return nil, err
	}

	if err := s.unmoved(ctx); err != nil {
		return nil, err
	}

	pr.Report("post-commit", "", 0, len(s.members))
	end = tl.Start("post-commit", "")
	err = s.each(ctx, "PostCommitSnapshots", func(ctx context.Context, p provider.Hardware) error {
		return p.PostCommitSnapshots(ctx, s.ID, s.count(p))
	})
	end()
	durable = true
	if err != nil {
		return nil, err
	}
	if err := fpAfterPostCommit.Hit(ctx); err != nil {
		return nil, err
	}

	end = tl.Start("describe", "")
	desc, err = s.describe(ctx, instant)
	end()
	if err != nil {
		return nil, err
	}
	var local *importing.Local
	if !s.Context.Transportable() {
		if local, err = s.c.Importer.ImportLocal(ctx, s.Session, desc, tl, pr); err != nil {
			return nil, err
		}
	}
	for _, step := range []struct {
		name string
		call func(context.Context, provider.Hardware) error
	}{
		{"PreFinalCommitSnapshots", func(ctx context.Context, p provider.Hardware) error { return p.PreFinalCommitSnapshots(ctx, s.ID) }},
		{"PostFinalCommitSnapshots", func(ctx context.Context, p provider.Hardware) error { return p.PostFinalCommitSnapshots(ctx, s.ID) }},
	} {
		if err := s.each(ctx, step.name, step.call); err != nil {
			return nil, err
		}
	}
	if err := fpBeforeRecord.Hit(ctx); err != nil {
		return nil, err
	}
	rec.State, rec.Description, rec.Timeline = catalog.SetCreated, desc, tl.Phases()
	what := "left masked for import"
	if local != nil {
		what = "shown to this machine, hidden and read-only"
	}
	err = s.c.Catalog.Update(ctx, func(t *catalog.Tx) error {
		if _, err := t.AddEvent(catalog.Event{Level: "info", Name: "create.done", Session: s.Session, SetID: s.ID,
			Message: fmt.Sprintf("shadow copy set of %d volumes made, durable, and %s", len(s.members), what)}); err != nil {
			return err
		}
		if local != nil {
			if err := local.Record(t); err != nil {
				return err
			}
		}
		if err := t.PutSet(rec); err != nil {
			return err
		}
		return t.CloseIntent(s.intent)
	})
	if err != nil {
		return nil, vss.AsError("DoSnapshotSet: record the set", err)
	}
	// From here on a cancellation has lost: the set is on record.
	_ = fpAfterRecord.Hit(ctx)
	if local != nil {
		s.mount(context.WithoutCancel(ctx), local, tl)
	}
	pr.Report("created", "", len(s.members), len(s.members))
	return desc, nil
}

// mount makes the device objects of a set that is on record, and says in its
// record how long that took.
func (s *Set) mount(ctx context.Context, local *importing.Local, tl *timeline.Recorder) {
	ctx, cancel := context.WithTimeout(ctx, mountTime)
	defer cancel()
	_ = local.Mount(ctx) // what is missing is made at the next start
	_ = s.c.Catalog.Update(ctx, func(t *catalog.Tx) error {
		rec, found, err := t.Set(catalog.Created, s.ID)
		if err != nil || !found {
			return err
		}
		rec.Timeline = tl.Phases()
		return t.PutSet(rec)
	})
}

// hold flushes, freezes, commits and thaws. The filesystems are released when
// it returns, whatever it returns.
func (s *Set) hold(ctx context.Context, tl *timeline.Recorder, pr *timeline.Progress) (instant time.Time, err error) {
	var fss []*freeze.Filesystem
	defer func() {
		for _, f := range fss {
			_ = f.Close()
		}
	}()
	for _, m := range s.members {
		t := freeze.Target{Name: m.volume.Name, Path: m.volume.MountPoint, Dev: m.volume.RootDev, Ino: m.volume.RootIno, MountID: m.volume.MountID}
		for _, d := range m.volume.Members {
			t.Devices = append(t.Devices, freeze.DeviceNumber{Major: d.Device.Major, Minor: d.Device.Minor})
		}
		f, err := freeze.Open(t)
		if err != nil {
			return instant, err
		}
		fss = append(fss, f)
	}
	end := tl.Start("guard", "")
	gctx, cancelGuard := context.WithTimeout(ctx, guardTime)
	guard, err := s.c.Host.StartGuard(gctx, fss)
	cancelGuard()
	end()
	if err != nil {
		return instant, err
	}
	defer guard.Close()

	removeIntent, err := freeze.WriteIntent(s.c.HoldDir, freeze.NewIntent(s.ID.String(), fss))
	if err != nil {
		return instant, err
	}
	released := true // nothing is frozen yet
	defer func() {
		// Kept while a release is in doubt: recovery looks again at start.
		if released {
			_ = removeIntent()
		}
	}()
	if err := fpAfterHoldIntent.Hit(ctx); err != nil {
		return instant, err
	}

	pr.Report("flush", "", 0, len(fss))
	err = s.each(ctx, "PreCommitSnapshots", func(ctx context.Context, p provider.Hardware) error { return p.PreCommitSnapshots(ctx, s.ID) })
	if err != nil {
		return instant, err
	}
	end = tl.Start("flush", "")
	fctx, cancel := context.WithTimeout(ctx, s.c.FlushTime)
	g, gctx := errgroup.WithContext(fctx)
	for _, f := range fss {
		g.Go(func() error { return f.Sync(gctx) })
	}
	err = g.Wait()
	cancel()
	end()
	if err != nil {
		return instant, err
	}

	providers := s.providers()
	commits := make([]error, len(providers)) // made before the hold
	committed := make([]atomic.Bool, len(providers))
	release, err := s.c.Catalog.Hold(ctx)
	if err != nil {
		return instant, vss.AsError("DoSnapshotSet: close the catalogue's gate", err)
	}
	defer release()
	if err := fpBeforeHold.Hit(ctx); err != nil {
		return instant, err
	}
	pr.Report("hold", "", 0, len(fss))

	holdBegin := time.Now()
	released = false
	if err := guard.Freeze(ctx); err != nil {
		released = guard.Thaw().Released
		return instant, err
	}
	instant = time.Now()
	hookErr, lost := fpInHold.Hit(ctx), false
	var late time.Duration // how long the commit was waited for in vain
	commitBegin := time.Now()
	if hookErr == nil {
		cctx, cancel := context.WithTimeout(ctx, CommitLimit)
		var wg sync.WaitGroup
		for i, p := range providers {
			wg.Go(func() { commits[i] = p.CommitSnapshots(cctx, s.ID); committed[i].Store(true) })
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-guard.Lost():
			lost = true // Thaw's report says how the hold ended
		case <-cctx.Done():
			// The release waits for nobody: a provider that does not answer has
			// lost its set. Who that is is said when nothing is held any more.
			late = time.Since(commitBegin)
			hookErr = context.Cause(cctx)
		}
		cancel()
	}
	commitEnd := time.Now()
	report := guard.Thaw()
	holdEnd := time.Now()
	released = report.Released
	release()

	tl.Add("hold", "", holdBegin, holdEnd.Sub(holdBegin))
	// What writers felt: from the first FIFREEZE to the last FITHAW, by the
	// guard's own clock. The rest of the hold is telling the guard and hearing
	// of it.
	tl.Add("held", "", holdBegin, max(0, report.LastThaw-report.FirstFreeze))
	tl.Add("freeze", "", holdBegin, instant.Sub(holdBegin))
	tl.Add("commit", "", commitBegin, commitEnd.Sub(commitBegin))
	tl.Add("thaw", "", commitEnd, holdEnd.Sub(commitEnd))
	for _, f := range report.Filesystems {
		tl.Add("freeze", f.Name, holdBegin.Add(f.FreezeBegin-report.FirstFreeze), f.FreezeEnd-f.FreezeBegin)
	}
	switch {
	case late > 0:
		return instant, errors.Join(s.notCommitted(ctx, providers, committed, late, hookErr), report.Err)
	case hookErr != nil:
		return instant, errors.Join(hookErr, report.Err)
	case lost && report.Err != nil:
		return instant, report.Err
	case lost: // commits may still be running; their answers no longer count
		return instant, &vss.Error{Code: vss.VSS_E_HOLD_WRITES_TIMEOUT, Op: "DoSnapshotSet: hold", Object: s.ID.String(),
			Reason: "the hold ended before the commit did", Remedy: "Try again"}
	}
	for i, p := range providers {
		if err := registry.Checked(ctx, p, "CommitSnapshots", commits[i]); err != nil {
			return instant, err
		}
	}
	if report.Err != nil {
		return instant, report.Err
	}
	return instant, fpAfterCommit.Hit(ctx)
}

// notCommitted says who did not commit, and how long that was waited for.
func (s *Set) notCommitted(ctx context.Context, providers []provider.Hardware, committed []atomic.Bool, late time.Duration, cause error) error {
	var who []string
	for i, p := range providers {
		if !committed[i].Load() {
			who = append(who, p.Properties().Name)
		}
	}
	e := &vss.Error{Code: vss.VSS_E_HOLD_WRITES_TIMEOUT, Op: "DoSnapshotSet: commit", Object: s.ID.String(),
		Reason: fmt.Sprintf("a provider did not commit in time: CommitSnapshots of %s had not come back after %s; the freeze itself had worked", strings.Join(who, ", "), late.Round(10*time.Millisecond)),
		Remedy: "Check the storage system's load and try again", Err: cause}
	if ctx.Err() != nil {
		e.Reason = fmt.Sprintf("the creation was cancelled %s after the commit began; the freeze itself had worked", late.Round(10*time.Millisecond))
		e.Remedy = "Try again"
	}
	return e
}

// unmoved makes sure that logical volumes still lie where they lay when they were
// added. LVM may move them at any time, which no freeze prevents: the copies
// would then be of other bytes.
func (s *Set) unmoved(ctx context.Context) error {
	for _, m := range s.members {
		if !slices.ContainsFunc(m.volume.Members, func(x volume.Member) bool { return x.Logical != nil }) {
			continue
		}
		now, err := s.c.Host.Resolve(ctx, m.volume.Name)
		if err == nil && reflect.DeepEqual(blockDevices(now), blockDevices(m.volume)) && slices.EqualFunc(now.Disks(), m.volume.Disks(), func(a, b block.Device) bool {
			return a.Dev() == b.Dev() && a.DiskSeq == b.DiskSeq
		}) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &vss.Error{Code: vss.VSS_E_HOLD_WRITES_TIMEOUT, Op: "DoSnapshotSet: hold", Object: m.volume.Name,
			Reason: "LVM moved or changed the logical volume while it was copied", Remedy: "Wait until pvmove, lvextend or lvconvert has finished and try again", Err: err}
	}
	return nil
}

// describe asks what the copies are called, and signs a set that travels.
func (s *Set) describe(ctx context.Context, instant time.Time) (*document.SnapshotSet, error) {
	attrs := s.Context.Attributes() | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_NOT_SURFACED
	ts := vss.TimestampOf(instant)
	d := &document.SnapshotSet{ID: s.ID, Attributes: attrs, Count: len(s.members), CreationTimestamp: ts,
		OriginatingMachine: s.c.HostName, ServiceMachine: s.c.HostName}
	for _, m := range s.members {
		targets, err := m.provider.GetTargetLUNs(ctx, s.ID, m.devices, m.luns)
		if err = registry.Checked(ctx, m.provider, "GetTargetLUNs", err); err != nil {
			return nil, err
		}
		if len(targets) != len(m.luns) {
			return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, Op: "GetTargetLUNs", Object: m.volume.Name,
				Reason: fmt.Sprintf("%d LUNs asked, %d answered", len(m.luns), len(targets)), Remedy: "Report it to the provider's maker"}
		}
		m.targets = targets
		var desc []provider.Description
		if dp, ok := provider.As[provider.Describer](m.provider); ok {
			desc, err = dp.DescribeLUNs(ctx, targets)
			if err = registry.Checked(ctx, m.provider, "DescribeLUNs", err); err != nil {
				return nil, err
			}
		}
		fs := m.volume.Filesystem
		snap := document.Snapshot{ID: m.snapshot, ProviderID: m.provider.Properties().ProviderID, OriginalVolumeName: m.volume.Name,
			Attributes: attrs, CreationTimestamp: ts, Quiesced: true,
			Filesystem: filesystemOf(fs)}
		for i := range targets {
			lm := document.LUNMapping{Source: m.luns[i], Target: targets[i], Size: m.sizes[i]}
			for _, e := range m.volume.Extents() {
				if e.LUN == i {
					lm.Extents = append(lm.Extents, e)
				}
			}
			if i < len(desc) {
				lm.Generation = desc[i].Generation
			}
			snap.LUNs = append(snap.LUNs, lm)
		}
		snap.Devices = blockDevices(m.volume)
		d.Snapshots = append(d.Snapshots, snap)
	}
	if !s.Context.Transportable() {
		return d, nil // nobody else may import it
	}
	digest := d.Digest()
	for _, p := range s.providers() {
		ti, ok := provider.As[provider.TicketIssuer](p)
		if !ok {
			continue
		}
		data, err := ti.IssueTicket(ctx, s.ID, digest)
		if err = registry.Checked(ctx, p, "IssueTicket", err); err != nil {
			return nil, err
		}
		d.Tickets = append(d.Tickets, document.Ticket{ProviderID: p.Properties().ProviderID, Data: data})
	}
	return d, nil
}

// blockDevices is what the document says of how the volume is put together:
// nothing, if it is one extent and LVM has no name for it. Such a set is one that
// older importers read.
func blockDevices(v volume.Volume) []document.BlockDevice {
	if len(v.Members) == 1 && len(v.Extents()) == 1 && v.Members[0].Logical == nil {
		return nil
	}
	var all []document.BlockDevice
	for _, m := range v.Members {
		all = append(all, document.BlockDevice{Role: m.Role, Segments: m.Segments, Logical: m.Logical})
	}
	return all
}

// filesystemOf is what the document says of the filesystem.
func filesystemOf(fs filesystem.Identity) document.Filesystem {
	d := document.Filesystem{Type: fs.Type, UUID: fs.UUID, Label: fs.Label, Size: fs.Size, DeviceCount: fs.Devices}
	if fs.DeviceUUID != "" {
		d.DeviceUUIDs = []string{fs.DeviceUUID}
	}
	return d
}

// providers lists the set's providers once each.
func (s *Set) providers() []provider.Hardware {
	var out []provider.Hardware
	seen := map[vss.ID]bool{}
	for _, m := range s.members {
		if id := m.provider.Properties().ProviderID; !seen[id] {
			seen[id] = true
			out = append(out, m.provider)
		}
	}
	return out
}

// parts are what each provider makes of the set.
func (s *Set) parts() (out []catalog.IntentPart) {
	for _, p := range s.providers() {
		part := catalog.IntentPart{ProviderID: p.Properties().ProviderID}
		for _, m := range s.members {
			if m.provider == p {
				part.LUNs = append(part.LUNs, m.luns...)
			}
		}
		out = append(out, part)
	}
	return out
}

func (s *Set) count(p provider.Hardware) int {
	n := 0
	for _, m := range s.members {
		if m.provider == p {
			n++
		}
	}
	return n
}

// each calls every provider of the set in parallel and returns the first error.
func (s *Set) each(ctx context.Context, method string, call func(context.Context, provider.Hardware) error) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range s.providers() {
		g.Go(func() error { return registry.Checked(gctx, p, method, call(gctx, p)) })
	}
	return g.Wait()
}
