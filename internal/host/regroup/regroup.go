package regroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints: the group's disks are there, its volumes are, its volumes are gone.
var (
	fpAfterDisks    = failpoint.New("regroup.after-disks")
	fpAfterActive   = failpoint.New("regroup.after-activate")
	fpAfterInactive = failpoint.New("regroup.after-deactivate")
)

// Group is what is to be shown.
type Group struct {
	Identity lvm.Identity
	Disks    []Disk // that have the group's volumes, in any order
	// Volumes are, by old UUID, where the document says that each volume lies. LVM's
	// description has to say the same.
	Volumes map[string][]lvm.Segment
}

// Disk is a physical volume of the original group: a LUN, from an offset on.
type Disk struct {
	UUID   string
	LUN    block.Device
	Offset uint64
}

// Shower shows groups on one host.
type Shower struct {
	Surfacer *surface.Surfacer
	LVM      string // the folder of LVM's configuration
	// Read reads what LVM wrote on a disk.
	Read func(ctx context.Context, d block.Device, offset uint64) (lvm.Disk, error)
}

// Identify makes an identity for a group, as its disks describe it, and for those
// of its volumes that are in Volumes. It is E_INVALIDARG for a name that LVM does
// not take, VSS_E_OBJECT_ALREADY_EXISTS for one that a group of this machine has.
func (s Shower) Identify(ctx context.Context, name string, g Group) (lvm.Identity, error) {
	original, err := s.original(ctx, g)
	if err != nil {
		return lvm.Identity{}, err
	}
	var names []string
	for _, v := range original.Volumes {
		if _, wanted := g.Volumes[v.UUID]; wanted {
			names = append(names, v.Name)
		}
	}
	if err := lvm.CheckName(name, names...); err != nil {
		return lvm.Identity{}, &vss.Error{Code: vss.E_INVALIDARG, Op: showOp, Object: name, Reason: err.Error(), Remedy: "Give another name (--vg-name)"}
	}
	all, err := groups(ctx)
	if err != nil {
		return lvm.Identity{}, err
	}
	taken := func(reason string) (lvm.Identity, error) {
		return lvm.Identity{}, &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: showOp, Object: name, Reason: reason, Remedy: "Give another name (--vg-name)"}
	}
	for uuid, n := range all {
		if n == name {
			return taken("this machine has a volume group of this name, " + uuid)
		}
	}
	if _, err := os.Lstat(filepath.Join("/dev", name)); err == nil {
		return taken("/dev/" + name + " is something else")
	}
	id := original.NewIdentity(name, slices.Collect(maps.Keys(g.Volumes)))
	g.Identity = id
	_, err = s.renew(original, g)
	return id, err
}

// original is the group as its disks describe it, the newest description of them.
func (s Shower) original(ctx context.Context, g Group) (lvm.Group, error) {
	var newest lvm.Group
	for _, d := range g.Disks {
		said, err := s.Read(ctx, d.LUN, d.Offset)
		if err == nil && said.UUID != d.UUID {
			err = fmt.Errorf("it is the physical volume %s, not %s", said.UUID, d.UUID)
		}
		if err != nil {
			return newest, &vss.Error{Code: vss.VSS_E_MISSING_HIDDEN_VOLUME, Op: showOp, Object: d.LUN.LUN.Name(), Reason: "the LUN is not the physical volume that the document says", Remedy: "Create a new set", Err: err}
		}
		if said.Group.Name != "" && (newest.Name == "" || said.Group.Sequence > newest.Sequence) {
			newest = said.Group
		}
	}
	if newest.Name == "" {
		return newest, &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: showOp, Object: g.Identity.Name, Reason: "none of the copied LUNs has LVM's description of the group",
			Remedy: "Let every physical volume of the original group have it (pvchange --metadataignore n), and create a new set; this one is readable through its device objects"}
	}
	return newest, nil
}

// renew describes the group anew, and holds the description against the document.
func (s Shower) renew(original lvm.Group, g Group) (lvm.Renewed, error) {
	differs := func(err error) error {
		return &vss.Error{Code: vss.VSS_E_MISSING_HIDDEN_VOLUME, Op: showOp, Object: original.Name, Reason: "LVM's description of the group on its LUNs does not fit the set",
			Remedy: "Create a new set; this one is readable through its device objects", Err: err}
	}
	r, err := original.Renew(g.Identity)
	if err != nil {
		return r, differs(err)
	}
	for uuid, want := range g.Volumes {
		v, found := original.Volume(uuid)
		if !found || !lvm.Same(v.Segments, want) {
			return r, differs(fmt.Errorf("the volume %s (%s) lies elsewhere than the document says", v.Name, uuid))
		}
	}
	for _, src := range r.Sources {
		if !slices.ContainsFunc(g.Disks, func(d Disk) bool { return d.UUID == src.Disk }) {
			return r, differs(fmt.Errorf("the physical volume %s is not among those that are here", src.Disk))
		}
	}
	return r, nil
}

// Show makes the group visible to LVM's programs, its volumes active and
// read-only. If it fails nothing is left.
//
// Errors: VSS_E_NOT_SUPPORTED without LVM or device-mapper,
// VSS_E_MISSING_HIDDEN_VOLUME if the LUNs do not have the group that is meant.
func (s Shower) Show(ctx context.Context, g Group) error {
	if _, err := program(); err != nil {
		return err
	}
	original, err := s.original(ctx, g)
	if err != nil {
		return err
	}
	r, err := s.renew(original, g)
	if err != nil {
		return err
	}
	var disks []surface.GroupDisk
	for i, src := range r.Sources {
		d := g.Disks[slices.IndexFunc(g.Disks, func(d Disk) bool { return d.UUID == src.Disk })]
		disks = append(disks, surface.GroupDisk{Head: r.Heads[i], HeadSize: r.Head, LUN: d.LUN, Offset: d.Offset + src.Offset, Length: src.Length})
	}
	paths, err := s.Surfacer.GroupDisks(ctx, g.Identity.UUID, disks)
	if err == nil {
		err = fpAfterDisks.Hit(ctx)
	}
	if err == nil {
		err = s.list(ctx, "--adddev", paths)
	}
	if err == nil {
		err = s.activate(ctx, g.Identity)
	}
	if err == nil {
		err = fpAfterActive.Hit(ctx)
	}
	if err != nil {
		return errors.Join(err, s.End(context.WithoutCancel(ctx), g.Identity, false))
	}
	return nil
}

// activate has LVM make the group's volumes. It is told no devices: what it does
// not see, others would not see either.
func (s Shower) activate(ctx context.Context, id lvm.Identity) error {
	all, err := groups(ctx)
	if err != nil {
		return err
	}
	if all[id.UUID] != id.Name {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: showOp, Object: id.Name, Reason: "LVM does not see the group's disks, /dev/mapper/umbra-…",
			Remedy: "If lvm.conf has a filter that accepts some devices only, let it accept these"}
	}
	_, said, err := run(ctx, "vgchange", "-ay", "-A", "n", id.Name)
	if err != nil {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: showOp, Object: id.Name, Reason: "LVM does not activate the group: " + said, Remedy: "See what vgchange -ay " + id.Name + " says", Err: err}
	}
	return nil
}

// End takes the group away, whether or not all of it is there. If a volume is in
// use that is VSS_E_VOLUME_IN_USE, which says by whom, and nothing has changed; by
// force it goes with its last user.
func (s Shower) End(ctx context.Context, id lvm.Identity, force bool) error {
	active, err := s.Surfacer.Volumes(ctx, id.UUID)
	if err != nil {
		return err
	}
	for _, v := range active {
		if v.Opened > 0 && !force {
			if by := holders(ctx, v); by != "" || !settled(ctx, s.Surfacer, id.UUID) {
				return inUse(id.Name, v.Name, by)
			}
		}
	}
	if len(active) > 0 {
		_, said, err := run(ctx, "vgchange", "-an", "-A", "n", id.Name)
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil && force:
			err = s.Surfacer.DropVolumes(ctx, id.UUID)
		case err != nil && strings.Contains(said, "in use"):
			err = inUse(id.Name, "one of its volumes", "")
		case err != nil:
			err = &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: endOp, Object: id.Name, Reason: "LVM does not deactivate the group: " + said, Remedy: "See what vgchange -an " + id.Name + " says", Err: err}
		}
		if err != nil {
			return err
		}
	}
	if err := fpAfterInactive.Hit(ctx); err != nil {
		return err
	}
	if s.devicesFile() {
		paths, err := s.Surfacer.GroupPaths(ctx, id.UUID)
		if err != nil {
			return err
		}
		if err := s.list(ctx, "--deldev", paths); err != nil {
			return err
		}
	}
	if err := s.Surfacer.DropGroup(ctx, id.UUID, force); err != nil {
		return err
	}
	s.forget(id)
	return nil
}

func inUse(group, volume, by string) error {
	reason := volume + " is in use"
	if by != "" {
		reason += " by " + by
	}
	return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: endOp, Object: group, Reason: reason,
		Remedy: "Unmount the group's volumes, end the programs that use them, and try again"}
}
