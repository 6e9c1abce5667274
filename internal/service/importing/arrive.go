package importing

import (
	"context"
	"errors"
	"time"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// found is a disk of this machine that is one of the set's LUNs.
type found struct {
	device block.Device
	err    error // why a disk that claims to be the LUN is not accepted
}

// arrive rescans and waits until every awaited LUN has been recognised, none
// of the missing ones can come any more, or the deadline has passed. Missing
// LUNs are not an error here: the copies on them are not imported.
func (r *run) arrive(ctx context.Context, events <-chan string) error {
	r.found = map[string]found{}
	type scan struct {
		devices []block.Device
		err     error
	}
	// The initiators stop looking when the import stops waiting: a disk that
	// came later would be nobody's.
	ctx, cancel := context.WithCancel(ctx)
	scanned, looking := make(chan scan, 1), make(chan struct{})
	go func() {
		defer close(looking)
		var s scan
		s.err = registry.Guard("rescan", func() (err error) {
			s.devices, err = r.im.Host.Rescan(ctx, r.awaited)
			return err
		})
		scanned <- s
	}()
	defer func() {
		cancel()
		select {
		case <-looking:
		case <-time.After(rescanStop):
		}
	}()
	deadline := time.NewTimer(r.im.ArrivalTimeout)
	defer deadline.Stop()

	enumerate := func() error {
		ds, err := r.im.Host.Enumerate(ctx)
		for _, d := range ds {
			r.recognise(ctx, d)
		}
		return err
	}
	for r.missing() > 0 {
		select {
		case s := <-scanned:
			scanned = nil
			for _, d := range s.devices {
				r.recognise(ctx, d)
			}
			if r.missing() > 0 {
				if err := enumerate(); err != nil {
					return err
				}
			}
			if s.err != nil && ctx.Err() == nil {
				// The initiator knows that the rest will not come.
				for _, l := range r.awaited {
					if _, ok := r.found[key(l)]; !ok {
						r.found[key(l)] = found{err: about(s.err, l)}
					}
				}
			}
		case name, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			if scanned != nil {
				// The initiator may still be putting the device together: what is
				// read now (its diskseq, say) is not yet what it will be. All
				// disks are looked at when the rescan is done.
				continue
			}
			if name == "" {
				if err := enumerate(); err != nil {
					return err
				}
			} else if d, err := r.im.Host.Inspect(ctx, name); err == nil {
				r.recognise(ctx, d)
			}
		case <-deadline.C:
			if scanned != nil { // it hangs on one LUN; the others may be there
				return enumerate()
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		r.pr.Report("arrive", "", len(r.awaited)-r.missing(), len(r.awaited))
	}
	return nil
}

// about is what a rescan's error says of one LUN; all of it, if nothing does.
func about(err error, l lun.Info) error {
	whole := err
	if e, ok := err.(*vss.Error); ok {
		whole = e.Err
	}
	if many, ok := whole.(interface{ Unwrap() []error }); ok {
		for _, one := range many.Unwrap() {
			if e := (*vss.Error)(nil); errors.As(one, &e) && e.Object == l.Name() {
				return one
			}
		}
	}
	return err
}

// rescanStop is how long a rescan may take to notice that it is not needed any
// more.
const rescanStop = 5 * time.Second

// missing counts the awaited LUNs that nothing is known of. LUNs whose provider
// refused are not waited for, though some may be unmasked.
func (r *run) missing() int {
	n := 0
	for _, l := range r.awaited {
		if _, ok := r.found[key(l)]; !ok {
			n++
		}
	}
	return n
}

// recognise asks the providers whether the disk is one of the LUNs, and
// compares page 0x83. Device name and LUN number play no part.
func (r *run) recognise(ctx context.Context, d block.Device) {
	if len(d.LUN.StorageIDs) == 0 {
		return
	}
	defer func(begin time.Time) { r.matching += time.Since(begin) }(time.Now())
	for _, p := range r.parts {
		if r.vetoes[p.provider.Properties().ProviderID] != nil {
			continue
		}
		info := d.LUN
		mine, err := p.provider.FillInLUNInfo(ctx, d.Path, &info)
		if registry.Checked(ctx, p.provider, "FillInLUNInfo", err) != nil || !mine {
			continue
		}
		for _, want := range p.luns {
			k := key(want)
			if f, ok := r.found[k]; ok && f.err == nil {
				continue
			}
			if merr := lun.Match(want, info); merr == nil {
				d.LUN = info
				r.found[k] = found{device: d}
			}
		}
	}
}
