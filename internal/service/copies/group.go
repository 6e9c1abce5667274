package copies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/host/regroup"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints of volume groups.
var (
	fpGroupAfterIntent = failpoint.New("group.after-intent")
	fpGroupAfterShow   = failpoint.New("group.after-show")
	fpGroupAfterEnd    = failpoint.New("group.after-end")
)

// members are copies of one set that lie in one volume group, with what the set's
// description says of them.
type members struct {
	set        vss.ID
	name, uuid string // of the original group
	copies     []catalog.Copy
	group      regroup.Group
}

// ExposeGroups shows the volume groups that a copy, or a set's copies, lie in to
// LVM, under a new name and new UUIDs, with the volumes of the set's copies that
// are here, read-only. The name is that of the only group; "" stands for the
// original's, "_" and the first digits of the set's ID. It is an exposure beside
// the others: the copy may be mounted or shared as well.
//
// It returns the set's ID and the groups. E_INVALIDARG for copies on no logical
// volume and for a name that is none, or is
// meant for several groups; VSS_E_OBJECT_ALREADY_EXISTS if the groups are shown
// already or the name is taken; VSS_E_UNSUPPORTED_CONTEXT as of Expose;
// VSS_E_NOT_SUPPORTED without LVM.
func (k *Keeper) ExposeGroups(ctx context.Context, session, id vss.ID, name string) (set vss.ID, shown []catalog.Group, err error) {
	const op = "ExposeSnapshot"
	release, err := k.Turn(ctx)
	if err != nil {
		return set, nil, err
	}
	defer release()
	all, err := k.groupsOf(op, id)
	if err != nil {
		return set, nil, err
	}
	if len(all) == 0 {
		return set, nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: id.String(), Reason: "it lies on no logical volume of LVM, so there is no volume group to show",
			Remedy: "Expose it without --new-identity"}
	}
	var wanted []members
	for _, m := range all {
		for _, c := range m.copies {
			if err := k.lasting(op, c); err != nil {
				return set, nil, err
			}
		}
		if _, already := m.shown(); !already {
			wanted = append(wanted, m)
		}
	}
	if len(wanted) == 0 {
		g, _ := all[0].shown()
		return set, nil, &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: op, Object: id.String(), Reason: "its volume group is shown as " + g.Identity.Name, Remedy: "Unexpose it first"}
	}
	if name != "" && len(wanted) > 1 {
		return set, nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: name, Reason: fmt.Sprintf("the set lies in %d volume groups, which cannot all have one name", len(wanted)),
			Remedy: "Give no name, or name a copy of each group"}
	}
	for _, m := range wanted {
		g, err := k.showGroup(ctx, op, session, m, cmp.Or(name, m.name+"_"+m.set.Bare()[:8]))
		if err != nil {
			for _, d := range shown { // all or none
				err = errors.Join(err, k.endGroup(context.WithoutCancel(ctx), m.set, d, false))
			}
			return set, nil, err
		}
		shown = append(shown, g)
	}
	return all[0].set, shown, nil
}

func (k *Keeper) showGroup(ctx context.Context, op string, session vss.ID, m members, name string) (catalog.Group, error) {
	g := catalog.Group{Original: m.name, OriginalUUID: m.uuid}
	err := k.Catalog.View(func(t *catalog.Tx) error {
		for o, err := range t.CopiesAfter(vss.GUIDNull, catalog.CopyFilter{}) {
			if err != nil {
				return err
			}
			for _, have := range o.Groups {
				if have.Identity.Name == name { // LVM does not see it if its LUNs have not come back
					return &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: op, Object: name, Reason: "the volume group of another copy has this name: " + o.Prop.SnapshotID.String(), Remedy: "Give another name (--vg-name)"}
				}
			}
		}
		return nil
	})
	if err != nil {
		return g, err
	}
	if g.Identity, err = k.Host.IdentifyGroup(ctx, name, m.group); err != nil {
		return g, err
	}
	m.group.Identity = g.Identity
	var intent catalog.Intent
	err = k.Catalog.Update(ctx, func(t *catalog.Tx) error {
		intent, err = t.OpenIntent(catalog.Intent{Kind: "group", Role: catalog.Imported, SetID: m.set, Object: g.Identity.UUID + " " + name, Session: session, Begun: time.Now(), BootID: k.BootID})
		return err
	})
	if err != nil {
		return g, err
	}
	if err := fpGroupAfterIntent.Hit(ctx); err != nil {
		return g, err
	}
	serr := k.Host.ShowGroup(ctx, m.group)
	if serr == nil {
		if err := fpGroupAfterShow.Hit(ctx); err != nil {
			return g, err
		}
	}
	wctx := context.WithoutCancel(ctx)
	uerr := k.Catalog.Update(wctx, func(t *catalog.Tx) error {
		if err := t.CloseIntent(intent.ID); err != nil || serr != nil {
			return err
		}
		for _, c := range m.copies {
			c, found, err := t.Copy(c.Prop.SnapshotID)
			if err != nil || !found {
				return errors.Join(err, notFound(op, c.Prop.SnapshotID))
			}
			c.SetGroups(append(c.Groups, g))
			if err := t.PutCopy(c); err != nil {
				return err
			}
		}
		return nil
	})
	if serr == nil && uerr != nil {
		// Not recorded means not shown: take it back.
		uerr = errors.Join(uerr, k.Host.EndGroup(wctx, g.Identity, false))
	}
	return g, errors.Join(serr, uerr)
}

// UnexposeGroups takes back what ExposeGroups showed of a copy or a set.
// VSS_E_OBJECT_NOT_FOUND if nothing is shown, VSS_E_VOLUME_IN_USE while somebody
// uses a volume of a group.
func (k *Keeper) UnexposeGroups(ctx context.Context, id vss.ID) error {
	const op = "UnexposeSnapshot"
	release, err := k.Turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	cs, err := k.copiesBy(op, id)
	if err != nil {
		return err
	}
	found := false
	for _, c := range cs {
		// What an earlier one of them ended is gone from the record.
		if c, err = k.Get(op, c.Prop.SnapshotID); err != nil {
			return err
		}
		for _, g := range c.Groups {
			found = true
			if err := k.endGroup(ctx, c.Prop.SnapshotSetID, g, false); err != nil {
				return err
			}
		}
	}
	if !found {
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: id.String(), Reason: "no volume group of it is shown", Remedy: "See umbra list copies"}
	}
	return nil
}

// endGroup ends a group and takes it from the record of the set's copies.
func (k *Keeper) endGroup(ctx context.Context, set vss.ID, g catalog.Group, force bool) error {
	if err := k.Host.EndGroup(ctx, g.Identity, force); err != nil {
		return err
	}
	if err := fpGroupAfterEnd.Hit(ctx); err != nil {
		return err
	}
	return k.ForgetGroup(context.WithoutCancel(ctx), set, g)
}

// ForgetGroup takes a group that is not shown any more from the record.
func (k *Keeper) ForgetGroup(ctx context.Context, set vss.ID, g catalog.Group) error {
	return k.Catalog.Update(ctx, func(t *catalog.Tx) error {
		cs, err := t.CopiesOf(set)
		if err != nil {
			return err
		}
		for _, c := range cs {
			if slices.ContainsFunc(c.Groups, sameGroup(g)) {
				c.SetGroups(slices.DeleteFunc(c.Groups, sameGroup(g)))
				if err := t.PutCopy(c); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func sameGroup(g catalog.Group) func(catalog.Group) bool {
	return func(o catalog.Group) bool { return o.Identity.UUID == g.Identity.UUID }
}

// endGroupsOf ends the groups of a copy that is to be deleted; the set's others
// lose them, too, because a LUN of the group may go.
func (k *Keeper) endGroupsOf(ctx context.Context, c *catalog.Copy, force bool) error {
	for _, g := range slices.Clone(c.Groups) {
		if err := k.endGroup(ctx, c.Prop.SnapshotSetID, g, force); err != nil {
			return err
		}
		c.SetGroups(slices.DeleteFunc(c.Groups, sameGroup(g)))
	}
	return nil
}

// Regroup shows a group again that is on record, if it is not there, after the
// machine booted or the service was restarted. The caller has the turn, or nobody
// else can have it yet. here says which copies have come back: if one of the
// group's has not, nothing is done.
func (k *Keeper) Regroup(ctx context.Context, set vss.ID, g catalog.Group, here func(vss.ID) bool) error {
	all, err := k.groupsOf("recover volume group", set)
	if err != nil {
		return err
	}
	for _, m := range all {
		m.copies = slices.DeleteFunc(m.copies, func(c catalog.Copy) bool { return !slices.ContainsFunc(c.Groups, sameGroup(g)) })
		if m.uuid != g.OriginalUUID || len(m.copies) == 0 {
			continue
		}
		if slices.ContainsFunc(m.copies, func(c catalog.Copy) bool { return !here(c.Prop.SnapshotID) }) {
			return nil
		}
		m.group.Identity = g.Identity
		// A copy may have come back since the group was shown.
		for uuid := range m.group.Volumes {
			if g.Identity.Volumes[uuid] == "" {
				delete(m.group.Volumes, uuid)
			}
		}
		return k.Host.ShowGroup(ctx, m.group)
	}
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "recover volume group", Object: g.Identity.Name, Reason: "no copy lies in it any more", Remedy: "Expose the set's copies again"}
}

// UndoGroup ends what an intent to show a group may have left, unless that was
// recorded.
func (k *Keeper) UndoGroup(ctx context.Context, in catalog.Intent) error {
	uuid, name, ok := strings.Cut(in.Object, " ")
	if !ok {
		return fmt.Errorf("the intent %q names no volume group", in.Object)
	}
	recorded := false
	err := k.Catalog.View(func(t *catalog.Tx) error {
		cs, err := t.CopiesOf(in.SetID)
		for _, c := range cs {
			recorded = recorded || slices.ContainsFunc(c.Groups, func(g catalog.Group) bool { return g.Identity.UUID == uuid })
		}
		return err
	})
	if err != nil || recorded {
		return err
	}
	return k.Host.EndGroup(ctx, lvm.Identity{UUID: uuid, Name: name}, false)
}

// copiesBy are the copies that an ID names: one, or those of a set.
func (k *Keeper) copiesBy(op string, id vss.ID) (cs []catalog.Copy, err error) {
	err = k.Catalog.View(func(t *catalog.Tx) error {
		c, found, err := t.Copy(id)
		if err != nil {
			return err
		}
		if found {
			cs = append(cs, c)
			return nil
		}
		if cs, err = t.CopiesOf(id); err == nil && len(cs) == 0 {
			err = notFound(op, id)
		}
		return err
	})
	return cs, err
}

// groupsOf are the volume groups that a copy, or a set's copies, lie in, each with
// all copies of the set that do.
func (k *Keeper) groupsOf(op string, id vss.ID) ([]members, error) {
	named, err := k.copiesBy(op, id)
	if err != nil {
		return nil, err
	}
	set := named[0].Prop.SnapshotSetID
	var cs []catalog.Copy
	var d *document.SnapshotSet
	err = k.Catalog.View(func(t *catalog.Tx) error {
		if cs, err = t.CopiesOf(set); err != nil {
			return err
		}
		for _, role := range []catalog.Role{catalog.Imported, catalog.Created} {
			s, found, err := t.Set(role, set)
			if err != nil {
				return err
			}
			if found && s.Description != nil && d == nil {
				d = s.Description
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, notFound(op, set)
	}
	var all []members
	wanted := map[string]bool{}
	for _, c := range cs {
		i := slices.IndexFunc(d.Snapshots, func(s document.Snapshot) bool { return s.ID == c.Prop.SnapshotID })
		if i < 0 {
			continue
		}
		for _, dev := range d.Snapshots[i].Devices {
			if dev.Logical == nil {
				continue
			}
			n := slices.IndexFunc(all, func(m members) bool { return m.uuid == dev.Logical.GroupUUID })
			if n < 0 {
				n = len(all)
				all = append(all, members{set: set, name: dev.Logical.Group, uuid: dev.Logical.GroupUUID, group: regroup.Group{Volumes: map[string][]lvm.Segment{}}})
			}
			all[n].add(c, dev)
			if slices.ContainsFunc(named, func(o catalog.Copy) bool { return o.Prop.SnapshotID == c.Prop.SnapshotID }) {
				wanted[dev.Logical.GroupUUID] = true
			}
		}
	}
	return slices.DeleteFunc(all, func(m members) bool { return !wanted[m.uuid] }), nil
}

// add adds a logical volume of a copy.
func (m *members) add(c catalog.Copy, dev document.BlockDevice) {
	if !slices.ContainsFunc(m.copies, func(o catalog.Copy) bool { return o.Prop.SnapshotID == c.Prop.SnapshotID }) {
		m.copies = append(m.copies, c)
	}
	for _, p := range dev.Logical.Disks {
		if p.LUN < len(c.Attachments) && !slices.ContainsFunc(m.group.Disks, func(d regroup.Disk) bool { return d.UUID == p.UUID }) {
			m.group.Disks = append(m.group.Disks, regroup.Disk{UUID: p.UUID, LUN: importing.DeviceOf(c.Attachments[p.LUN]), Offset: p.Offset})
		}
	}
	m.group.Volumes[dev.Logical.UUID] = segmentsOf(dev)
}

// segmentsOf says where a volume lies in LVM's terms: on physical volumes, from
// their beginning.
func segmentsOf(dev document.BlockDevice) []lvm.Segment {
	var all []lvm.Segment
	for _, g := range dev.Segments {
		s := lvm.Segment{Kind: "striped", Length: g.Length(), Chunk: g.Chunk}
		for _, x := range g.Extents {
			s.Areas = append(s.Areas, areaOf(dev.Logical.Disks, x))
		}
		all = append(all, s)
	}
	return all
}

// areaOf is where an extent of a LUN begins on its physical volume: of several on
// one LUN the last that begins before it.
func areaOf(disks []document.PhysicalVolume, x lun.Extent) (a lvm.Area) {
	var begin uint64
	for _, p := range disks {
		if p.LUN == x.LUN && p.Offset <= x.Offset && (a.Disk == "" || p.Offset >= begin) {
			begin = p.Offset
			a = lvm.Area{Disk: p.UUID, Offset: x.Offset - p.Offset}
		}
	}
	return a
}

// shown is the group that the copies are on record with.
func (m members) shown() (catalog.Group, bool) {
	for _, c := range m.copies {
		for _, g := range c.Groups {
			if g.OriginalUUID == m.uuid {
				return g, true
			}
		}
	}
	return catalog.Group{}, false
}
