package importing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/internal/service/timeline"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// Run imports the document's set. The caller holds the place (Acquire). The
// outcome's code is the pHrResult of requester.md 3.4.
func (im *Importer) Run(ctx context.Context, session vss.ID, d *document.Document, tl *timeline.Recorder, pr *timeline.Progress) async.Outcome {
	end := tl.Start("validate", "")
	parts, err := im.admissible(d)
	if err == nil {
		// A machine that cannot attach LUNs must not bind the set to itself.
		err = im.Host.Ready(ctx)
	}
	end()
	if err != nil {
		return im.refused(ctx, session, d, err)
	}
	r := &run{im: im, session: session, set: d.Set, parts: parts, id: vss.NewID(), tl: tl, pr: pr, begun: time.Now(),
		points: importPoints, brand: vss.ATTR_IMPORTED}
	return r.do(ctx)
}

// refused logs an import that ended before it did anything.
func (im *Importer) refused(ctx context.Context, session vss.ID, d *document.Document, err error) async.Outcome {
	ev := catalog.Event{Level: "error", Name: "import.refused", Session: session, Message: "the import was refused; nothing was unmasked", Failure: catalog.FailureOf(err)}
	if d.Set != nil {
		ev.SetID = d.Set.ID
	}
	id, _ := im.Catalog.Log(context.WithoutCancel(ctx), ev)
	return async.Outcome{Code: vss.CodeOf(err), Err: withEvent(err, id)}
}

func withEvent(err error, id string) error {
	e := *vss.AsError("ImportSnapshots", err)
	if e.EventID == "" {
		e.EventID = id
	}
	return &e
}

// run is one import under way, of a set that came here or of one that was
// just made here.
type run struct {
	im      *Importer
	session vss.ID
	set     *document.SnapshotSet
	parts   []part
	id      vss.ID // import ID
	tl      *timeline.Recorder
	pr      *timeline.Progress
	begun   time.Time
	points  *points
	brand   vss.Attributes // how its copies are marked

	intent   uint64
	recorded bool                         // the outcome is on disk
	located  []lun.Info                   // what may be unmasked now
	awaited  []lun.Info                   // what is unmasked and will arrive
	found    map[string]found             // by key
	vetoes   map[vss.ID]error             // by provider
	matching time.Duration                // spent comparing disks with the document, part of the arrival
	contents map[string]*catalog.Contents // by key, of LUNs with more than one volume of the set
	surfaces [][]catalog.Surface          // of the copies that were verified, in the document's order
}

func (r *run) do(ctx context.Context) (out async.Outcome) {
	im := r.im
	defer func() {
		// Whatever happens, LUNs that may be unmasked are listed.
		if v := recover(); v != nil {
			err := rpc.Panicked("ImportSnapshots", v)
			if r.recorded {
				out = async.Outcome{Code: vss.CodeOf(err), Err: err}
				return
			}
			out = r.end(ctx, nil, err)
		}
	}()
	if err := r.recordIntent(ctx); err != nil {
		return im.refused(ctx, r.session, &document.Document{Set: r.set}, err)
	}
	if err := r.points.afterIntent.Hit(ctx); err != nil {
		return r.end(ctx, nil, err)
	}
	statuses, err := r.attach(ctx)
	if err != nil {
		return r.end(ctx, nil, err)
	}
	return r.end(ctx, statuses, nil)
}

// attach makes the set's LUNs disks of this machine: hidden, recognised,
// verified and read-only. It returns the outcome of each copy, or why there
// can be none. What it did is in r either way; nothing is undone.
func (r *run) attach(ctx context.Context) ([]catalog.CopyStatus, error) {
	im := r.im
	var all []lun.Info
	for _, p := range r.parts {
		all = append(all, p.luns...)
	}
	end := r.tl.Start("hide", "")
	err := im.Host.Hide(ctx, all)
	end()
	if err != nil {
		return nil, err
	}
	if err := r.points.afterHide.Hit(ctx); err != nil {
		return nil, err
	}

	// Subscribed before the first LUN can appear, so that no arrival is missed.
	events, stop, err := im.Host.Watch(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := r.points.beforeLocate.Hit(ctx); err != nil {
		return nil, err
	}

	r.pr.Report("locate", "", 0, len(all))
	end = r.tl.Start("locate", "")
	err = r.locate(ctx)
	end()
	if err != nil {
		return nil, err
	}
	if err := r.points.afterLocate.Hit(ctx); err != nil {
		return nil, err
	}

	dctx, stopDescribing := context.WithCancel(ctx)
	defer stopDescribing()
	described := r.describing(dctx)

	r.pr.Report("arrive", "", 0, len(r.awaited))
	end = r.tl.Start("arrive", "")
	err = r.arrive(ctx, events)
	end()
	r.tl.Add("match", "", time.Now().Add(-r.matching), r.matching)
	if err != nil {
		return nil, err
	}
	if err := r.points.afterArrive.Hit(ctx); err != nil {
		return nil, err
	}

	r.pr.Report("verify", "", 0, len(r.set.Snapshots))
	end = r.tl.Start("verify", "")
	statuses := r.verify(ctx, described())
	r.contents = r.readContents(ctx)
	end()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return statuses, r.points.afterVerify.Hit(ctx)
}

// recordIntent puts set and LUNs on disk before anything is unmasked.
func (r *run) recordIntent(ctx context.Context) error {
	defer r.tl.Start("intent", "")()
	return r.im.Catalog.Update(ctx, func(t *catalog.Tx) error {
		in, err := t.OpenIntent(catalog.Intent{Kind: "import", Role: catalog.Imported, SetID: r.set.ID, Session: r.session, Begun: r.begun, BootID: r.im.BootID})
		if err != nil {
			return err
		}
		r.intent = in.ID
		// An earlier attempt may have bound the set to its import ID, and may not
		// have been able to release it. It is this machine's import all the same.
		if old, found, err := t.Set(catalog.Imported, r.set.ID); err != nil {
			return err
		} else if found && !old.ImportID.IsNull() {
			r.id = old.ImportID
		}
		if err := r.listLUNs(t); err != nil {
			return err
		}
		return t.PutSet(r.record(catalog.SetImporting))
	})
}

// listLUNs puts the LUNs on record as what may be unmasked from now on.
func (r *run) listLUNs(t *catalog.Tx) error {
	for _, s := range r.set.Snapshots {
		for _, m := range s.LUNs {
			l := catalog.LUN{Name: key(m.Target), Info: m.Target, SetID: r.set.ID, SnapshotID: s.ID, ProviderID: s.ProviderID, State: catalog.LUNUnmasking}
			if err := t.PutLUN(l); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) record(state catalog.SetState) catalog.Set {
	return catalog.Set{ID: r.set.ID, Role: catalog.Imported, State: state, ImportID: r.id, Session: r.session, Description: r.set,
		AutoRelease: !r.set.Attributes.Has(vss.ATTR_NO_AUTO_RELEASE), Timeline: r.tl.Phases(), Begun: r.begun}
}

// locate asks every provider for its own LUNs. One provider's refusal does not
// stop the others: their copies make it a partial import (requester.md 3.3).
func (r *run) locate(ctx context.Context) error {
	r.vetoes = map[vss.ID]error{}
	errs := make([]error, len(r.parts))
	unmasked := make([]bool, len(r.parts))
	var g errgroup.Group
	for i, p := range r.parts {
		g.Go(func() error {
			errs[i] = registry.Guard("LocateLUNs", func() error {
				if b, ok := provider.As[provider.ImportBinder](p.provider); ok {
					err := b.BeginImport(ctx, r.im.request(r.set, p, r.id))
					if err := registry.Checked(ctx, p.provider, "BeginImport", err); err != nil {
						return err
					}
				}
				unmasked[i] = true
				err := registry.Checked(ctx, p.provider, "LocateLUNs", p.provider.LocateLUNs(ctx, p.luns))
				if errors.Is(err, vss.VSS_E_BAD_STATE) || errors.Is(err, provider.ErrNothingUnmasked) {
					unmasked[i] = false
				}
				return err
			})
			return nil
		})
	}
	_ = g.Wait()
	failed := 0
	var first error
	for i, p := range r.parts {
		if unmasked[i] {
			r.located = append(r.located, p.luns...)
		}
		if errs[i] != nil {
			failed++
			r.vetoes[p.provider.Properties().ProviderID] = errs[i]
			if first == nil {
				first = errs[i]
			}
		} else {
			r.awaited = append(r.awaited, p.luns...)
		}
	}
	if failed == len(r.parts) {
		return first
	}
	return ctx.Err()
}

// end records the outcome in one transaction, mounts the device objects, and
// says what the import came to. err is a failure of the import as a whole.
func (r *run) end(ctx context.Context, statuses []catalog.CopyStatus, err error) async.Outcome {
	im := r.im
	// The outcome is recorded also when the import was cancelled.
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()

	out := async.Outcome{Copies: statuses}
	mapped := 0
	for _, s := range statuses {
		if s.Code == vss.S_OK {
			mapped++
		}
	}
	state := catalog.SetImported
	switch {
	case err != nil:
		state, out.Code, out.Err = catalog.SetImportFailed, vss.CodeOf(err), err
		remedy := "See umbra list luns --orphaned, and clean up with umbra cleanup " + r.set.ID.String()
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, async.ErrCancelled): // whatever it made fail
			out.Code = vss.E_ABORT
			out.Err = &vss.Error{Code: out.Code, Op: "ImportSnapshots", Object: r.set.ID.String(), Reason: "cancelled by the requester", Remedy: remedy, Err: err}
		case cause != nil:
			out.Code = vss.VSS_E_UNEXPECTED
			out.Err = &vss.Error{Code: out.Code, Op: "ImportSnapshots", Object: r.set.ID.String(), Reason: "the service was stopped", Remedy: remedy, Err: err}
		}
	case mapped == 0:
		state, out.Code = catalog.SetImportFailed, vss.VSS_E_NO_SNAPSHOTS_IMPORTED
		if len(statuses) > 0 && !slices.ContainsFunc(statuses, func(s catalog.CopyStatus) bool { return s.Code != vss.E_OUTOFMEMORY }) {
			out.Code = vss.E_OUTOFMEMORY // nothing is wrong with the set
		}
		out.Err = &vss.Error{Code: out.Code, Op: "ImportSnapshots", Object: r.set.ID.String(),
			Reason: fmt.Sprintf("none of %d copies could be imported: %s", len(statuses), firstReason(statuses)),
			Remedy: "See umbra show " + r.set.ID.String() + " for each copy, then umbra cleanup " + r.set.ID.String()}
	case mapped < len(statuses):
		state, out.Code = catalog.SetPartial, vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED
		out.Err = &vss.Error{Code: out.Code, Op: "ImportSnapshots", Object: r.set.ID.String(),
			Reason: fmt.Sprintf("%d of %d copies were imported: %s", mapped, len(statuses), firstReason(statuses)),
			Remedy: "Use the imported copies; see umbra list luns --orphaned for the rest and clean it up with umbra cleanup " + r.set.ID.String()}
	default:
		out.Code = vss.VSS_S_ASYNC_FINISHED
	}

	r.unhide(rctx)
	stop := r.tl.Start("record", "")
	rerr := im.Catalog.Update(rctx, func(t *catalog.Tx) error {
		if out.Code != vss.VSS_S_ASYNC_FINISHED {
			name, level := "import.failed", "error"
			if state == catalog.SetPartial {
				name, level = "import.partial", "warning"
			}
			id, err := t.AddEvent(catalog.Event{Level: level, Name: name, Session: r.session, SetID: r.set.ID,
				Message: "the import did not complete; nothing is undone by the service", Failure: catalog.FailureOf(out.Err)})
			if err != nil {
				return err
			}
			out.Err = withEvent(out.Err, id)
			if err := r.logFailures(t, statuses); err != nil {
				return err
			}
		} else if _, err := t.AddEvent(catalog.Event{Level: "info", Name: "import.done", Session: r.session, SetID: r.set.ID,
			Message: fmt.Sprintf("%d copies imported, hidden and read-only", mapped)}); err != nil {
			return err
		}
		rec := r.record(state)
		rec.Copies, rec.Failure = statuses, catalog.FailureOf(out.Err)
		if err := r.recordLUNs(t, statuses, out.Err); err != nil {
			return err
		}
		if err := r.recordCopies(t, statuses); err != nil {
			return err
		}
		if err := t.PutSet(rec); err != nil {
			return err
		}
		return t.CloseIntent(r.intent)
	})
	stop()
	if rerr != nil {
		return async.Outcome{Code: vss.CodeOf(rerr), Err: vss.AsError("ImportSnapshots: record the outcome", rerr), Copies: statuses}
	}
	// From here on a cancellation has lost: the outcome is on disk.
	r.recorded = true
	if err := r.points.afterRecord.Hit(rctx); err != nil {
		return async.Outcome{Code: vss.VSS_E_UNEXPECTED, Err: err, Copies: statuses}
	}
	if mapped > 0 {
		r.pr.Report("mount", "", 0, mapped)
		stop = r.tl.Start("mount", "")
		_ = im.MountCopies(rctx, r.set.ID)
		stop()
		_ = r.points.afterMount.Hit(rctx)
	}
	// The timeline is for who looks at the set later; this step is in the
	// operation's own only.
	stop = r.tl.Start("finish", "")
	_ = im.Catalog.Update(rctx, func(t *catalog.Tx) error {
		rec, found, err := t.Set(catalog.Imported, r.set.ID)
		if err != nil || !found {
			return err
		}
		rec.Timeline = r.tl.Phases()
		return t.PutSet(rec)
	})
	stop()
	r.pr.Report("imported", "", mapped, len(r.set.Snapshots))
	return out
}

// logFailures writes an event for each copy that was not imported, or for each
// provider that refused when it did not come to copies.
func (r *run) logFailures(t *catalog.Tx, statuses []catalog.CopyStatus) error {
	names := map[vss.ID]string{}
	for _, p := range r.parts {
		names[p.provider.Properties().ProviderID] = p.provider.Properties().Name
	}
	add := func(object, message string, f *catalog.Failure) error {
		_, err := t.AddEvent(catalog.Event{Level: "error", Name: "import.copy-failed", Session: r.session, SetID: r.set.ID, Object: object, Message: message, Failure: f})
		return err
	}
	for i, s := range statuses {
		if s.Code == vss.S_OK {
			continue
		}
		if err := add(s.LUN, fmt.Sprintf("copy %s of provider %s was not imported", s.SnapshotID, names[r.set.Snapshots[i].ProviderID]), s.Failure); err != nil {
			return err
		}
	}
	if len(statuses) > 0 {
		return nil
	}
	for id, veto := range r.vetoes {
		if err := add(names[id], fmt.Sprintf("provider %s refused the set's LUNs", names[id]), catalog.FailureOf(veto)); err != nil {
			return err
		}
	}
	return nil
}

// unhide lets udev see the LUNs again that certainly were not unmasked. It
// comes before the record: a rule that is left over would be nobody's, while
// LUNs that a crash leaves on record can be cleaned up.
func (r *run) unhide(ctx context.Context) {
	located := r.locatedKeys()
	var masked []lun.Info
	for _, p := range r.parts {
		for _, l := range p.luns {
			if !located[key(l)] {
				masked = append(masked, l)
			}
		}
	}
	if len(masked) == 0 {
		return
	}
	if err := r.im.Host.Unhide(ctx, masked); err != nil {
		_, _ = r.im.Catalog.Log(ctx, catalog.Event{Level: "warning", Name: "import.rules-left", Session: r.session, SetID: r.set.ID,
			Message: "rules that hide LUNs which are not here could not be removed", Failure: catalog.FailureOf(err)})
	}
}

func (r *run) locatedKeys() map[string]bool {
	located := map[string]bool{}
	for _, l := range r.located {
		located[key(l)] = true
	}
	return located
}

// recordLUNs marks what became of each LUN: imported, orphaned where it may be
// unmasked, forgotten where it certainly is not.
func (r *run) recordLUNs(t *catalog.Tx, statuses []catalog.CopyStatus, why error) error {
	located := r.locatedKeys()
	imported := map[vss.ID]bool{}
	reason := map[vss.ID]string{}
	for _, s := range statuses {
		imported[s.SnapshotID] = s.Code == vss.S_OK
		if s.Failure != nil {
			reason[s.SnapshotID] = s.Failure.Err().Error()
		}
	}
	// A LUN that serves an imported copy is imported, whatever became of the
	// other copies on it.
	states := map[string]catalog.LUN{}
	for _, s := range r.set.Snapshots {
		for _, m := range s.LUNs {
			l := catalog.LUN{Name: key(m.Target), Info: m.Target, SetID: r.set.ID, SnapshotID: s.ID, ProviderID: s.ProviderID, State: catalog.LUNOrphaned, Reason: reason[s.ID]}
			if l.Reason == "" && why != nil {
				l.Reason = why.Error()
			}
			l.Contents = r.contents[l.Name]
			if imported[s.ID] {
				l.State, l.Reason = catalog.LUNImported, ""
			}
			if old, ok := states[l.Name]; ok && old.State == catalog.LUNImported {
				continue
			}
			states[l.Name] = l
		}
	}
	for name, l := range states {
		var err error
		if l.State == catalog.LUNOrphaned && !located[name] {
			err = t.DeleteLUN(name)
		} else {
			err = t.PutLUN(l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func firstReason(ss []catalog.CopyStatus) string {
	for _, s := range ss {
		if s.Failure != nil {
			return s.Failure.Err().Error()
		}
	}
	return ""
}
