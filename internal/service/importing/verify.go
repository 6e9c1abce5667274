package importing

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

const verifyOp = "ImportSnapshots: verify"

// verify checks every copy whose LUNs arrived, in parallel, and returns the
// outcome of each copy of the set in the document's order.
func (r *run) verify(ctx context.Context, described map[string]described) []catalog.CopyStatus {
	out := make([]catalog.CopyStatus, len(r.set.Snapshots))
	r.surfaces = make([][]catalog.Surface, len(r.set.Snapshots))
	var g errgroup.Group
	g.SetLimit(16)
	for i, s := range r.set.Snapshots {
		g.Go(func() error {
			st := catalog.CopyStatus{SnapshotID: s.ID}
			if len(s.LUNs) > 0 {
				st.LUN = key(s.LUNs[0].Target)
			}
			if err := registry.Guard("ImportSnapshots: verify", func() (err error) {
				r.surfaces[i], err = r.verifyCopy(ctx, s, described)
				return err
			}); err != nil {
				st.Code, st.Failure = vss.CodeOf(err), catalog.FailureOf(err)
			}
			out[i] = st
			return nil
		})
	}
	_ = g.Wait()
	return out
}

type described struct {
	provider.Description
	err error
}

// describing asks the storage systems while the disks arrive: LocateLUNs is
// what fixes the copies, so the answers hold from then on. The returned function
// waits for them, or for the end of ctx.
func (r *run) describing(ctx context.Context) func() map[string]described {
	answers := make(chan map[string]described, 1)
	go func() {
		var out map[string]described
		if err := registry.Guard("DescribeLUNs", func() error { out = r.describe(ctx); return nil }); err != nil {
			out = map[string]described{}
			for _, p := range r.parts {
				for _, l := range p.luns {
					out[key(l)] = described{err: err}
				}
			}
		}
		answers <- out
	}()
	return func() map[string]described {
		select {
		case out := <-answers:
			return out
		case <-ctx.Done():
			return nil // the import is given up
		}
	}
}

// describe asks each storage system once for all its LUNs.
func (r *run) describe(ctx context.Context) map[string]described {
	out := map[string]described{}
	for _, p := range r.parts {
		d, ok := provider.As[provider.Describer](p.provider)
		if !ok || r.vetoes[p.provider.Properties().ProviderID] != nil {
			continue
		}
		ds, err := d.DescribeLUNs(ctx, p.luns)
		err = registry.Checked(ctx, p.provider, "DescribeLUNs", err)
		for i, l := range p.luns {
			e := described{err: err}
			if i < len(ds) {
				e.Description = ds[i]
			}
			out[key(l)] = e
		}
	}
	return out
}

// verifyCopy accepts or refuses one copy: its LUNs, then the block devices they
// make, then the filesystem on those.
func (r *run) verifyCopy(ctx context.Context, s document.Snapshot, desc map[string]described) ([]catalog.Surface, error) {
	if err := r.vetoes[s.ProviderID]; err != nil {
		return nil, err
	}
	luns := make([]block.Device, len(s.LUNs))
	for i, m := range s.LUNs {
		d, err := r.verifyLUN(ctx, m, desc)
		if err != nil {
			return nil, partOf(s, i, err)
		}
		luns[i] = d
	}
	if err := r.verifyDisks(ctx, s, luns); err != nil {
		return nil, err
	}
	ss, err := r.im.surface(ctx, s.ID, luns, s.BlockDevices())
	if err == nil {
		err = r.points.afterSurface.Hit(ctx)
	}
	if err == nil {
		err = r.verifyFilesystem(ctx, s, ss)
	}
	if err != nil {
		// Not on any record: what stands on a LUN that other copies keep here
		// would be nobody's.
		return nil, vss.Join("", err, r.im.takeDown(context.WithoutCancel(ctx), ss))
	}
	return ss, nil
}

// verifyLUN accepts or refuses one LUN of a copy.
func (r *run) verifyLUN(ctx context.Context, m document.LUNMapping, desc map[string]described) (block.Device, error) {
	k := key(m.Target)
	f, ok := r.found[k]
	switch {
	case !ok:
		return f.device, &vss.Error{Code: vss.VSS_E_MISSING_DISK, Op: "ImportSnapshots: arrive", Object: k,
			Reason: fmt.Sprintf("the LUN did not arrive within %s", r.im.ArrivalTimeout), Remedy: "Check the path to the array (network, zoning, initiator), then umbra cleanup and import again"}
	case vss.LacksResources(f.err):
		return f.device, vss.AsError("ImportSnapshots: arrive", f.err)
	case f.err != nil:
		return f.device, &vss.Error{Code: vss.VSS_E_MISSING_DISK, Op: "ImportSnapshots: arrive", Object: k,
			Reason: "the LUN could not be attached", Remedy: "See the reason, then umbra cleanup and import again", Err: f.err}
	case f.device.Size != m.Size:
		return f.device, &vss.Error{Code: vss.VSS_E_MISSING_HIDDEN_VOLUME, Op: verifyOp, Object: k,
			Reason: fmt.Sprintf("the disk has %d bytes, the document says %d", f.device.Size, m.Size), Remedy: "Create a new set; this LUN is not what the document describes"}
	}
	if d, ok := desc[k]; ok {
		if d.err != nil {
			return f.device, d.err
		}
		if err := checkDescription(r.set, m.Target, d.Description); err != nil {
			return f.device, err
		}
	}
	return f.device, r.im.Host.SetReadOnly(ctx, f.device)
}

// verifyFilesystem compares what is on the copy's block devices with the
// document.
func (r *run) verifyFilesystem(ctx context.Context, s document.Snapshot, ss []catalog.Surface) error {
	want := s.Filesystem
	wrong := func(d catalog.Surface, format string, args ...any) error {
		return &vss.Error{Code: vss.VSS_E_MISSING_HIDDEN_VOLUME, Op: verifyOp, Object: d.Device, Reason: fmt.Sprintf(format, args...),
			Remedy: "Create a new set; the content of the copy's LUNs is not what the document describes"}
	}
	var journal string
	for i, d := range ss {
		if d.Role != document.RoleData && d.Role != document.RoleJournal {
			continue // XFS's log and realtime devices have no superblock to compare
		}
		id, err := r.im.Host.Probe(ctx, d.Device)
		switch {
		case err != nil:
			return err
		case d.Role == document.RoleJournal:
			if id.Type != filesystem.TypeJournal || id.UUID != journal {
				return wrong(d, "the journal's device carries %s %s, the filesystem's journal is %s", id.Type, id.UUID, journal)
			}
		case id.Type != want.Type || id.UUID != want.UUID || id.Type != filesystem.TypeBtrfs && id.Size != want.Size:
			return wrong(d, "the copy of %s carries %s %s of %d bytes, the document says %s %s of %d", s.OriginalVolumeName, id.Type, id.UUID, id.Size, want.Type, want.UUID, want.Size)
		}
		if i == 0 {
			journal = id.ExternalJournal
		}
	}
	return nil
}

// recordCopies files the copies that were accepted.
func (r *run) recordCopies(t *catalog.Tx, statuses []catalog.CopyStatus) error {
	for i, s := range r.set.Snapshots {
		if i >= len(statuses) || statuses[i].Code != vss.S_OK {
			continue
		}
		c := catalog.Copy{Session: r.session, AutoRelease: !r.set.Attributes.Has(vss.ATTR_NO_AUTO_RELEASE), Quiesced: s.Quiesced,
			Filesystem: s.Filesystem, BootID: r.im.BootID}
		c.Surfaces = r.surfaces[i]
		for _, m := range s.LUNs {
			d := r.found[key(m.Target)].device
			c.Attachments = append(c.Attachments, catalog.Attachment{LUN: m.Target, Device: d.Path, Major: d.Major, Minor: d.Minor, DiskSeq: d.DiskSeq, Size: d.Size})
			c.Sources = append(c.Sources, m.Source)
		}
		c.Prop = vss.SnapshotProp{SnapshotID: s.ID, SnapshotSetID: r.set.ID, SnapshotsCount: r.set.Count,
			BlockDevice: c.Surfaces[0].Device, OriginalVolumeName: s.OriginalVolumeName, OriginatingMachine: r.set.OriginatingMachine,
			ServiceMachine: r.set.ServiceMachine, ProviderID: s.ProviderID, Attributes: s.Attributes | r.brand | vss.ATTR_NOT_SURFACED,
			CreationTimestamp: s.CreationTimestamp, Status: vss.SS_CREATED}
		if err := t.PutCopy(c); err != nil {
			return err
		}
	}
	return nil
}
