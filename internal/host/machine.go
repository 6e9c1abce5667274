// Package host is this Linux machine as the service sees it. Each concern has
// a sub-package (block, volume, filesystem, freeze, attach, hide); [Machine]
// puts them together behind the small interfaces that the service's jobs
// declare.
package host

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/contents"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/host/regroup"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Machine is this machine. It is safe for concurrent use.
type Machine struct {
	HostTag    string // tells this host's LUNs from another's on the same kernel
	Rules      hide.Rules
	Initiators func() []Initiator // one per joined array and transport
	Guard      freeze.Options
}

// Initiator is an attach.Initiator of one array.
type Initiator struct {
	attach.Initiator
	Owns     func(lun.Info) bool                           // the LUN is one of this array's
	Unmasked func(ctx context.Context) ([]lun.Info, error) // originals the array shows to this machine
	Ready    func(ctx context.Context) error               // attaching would work
}

// Resolve finds the volume behind a mount point or a device.
func (m *Machine) Resolve(ctx context.Context, name string) (volume.Volume, error) {
	return volume.Resolve(ctx, name, m.HostTag)
}

// Root is the mount point that a path lies under.
func (m *Machine) Root(ctx context.Context, path string) (string, error) {
	return volume.Root(ctx, path)
}

// Volume is a volume's canonical name, whether or not it can be copied.
func (m *Machine) Volume(ctx context.Context, name string) (string, error) {
	v, err := volume.Describe(ctx, name)
	return v.Name, err
}

// Backing lists the filesystems below a volume.
func (m *Machine) Backing(ctx context.Context, v volume.Volume) ([]uint64, error) {
	return volume.Backing(ctx, v)
}

// Stack lists the filesystem that holds path and those below it.
func (m *Machine) Stack(ctx context.Context, path string) ([]uint64, error) {
	return volume.Stack(ctx, path)
}

// StartGuard starts a freeze guard.
func (m *Machine) StartGuard(ctx context.Context, fss []*freeze.Filesystem) (freeze.Holder, error) {
	g, err := freeze.StartGuard(ctx, fss, m.Guard)
	if err != nil {
		return nil, err
	}
	return g, nil
}

// Hide writes the rules that hide LUNs.
func (m *Machine) Hide(ctx context.Context, luns []lun.Info) error { return m.Rules.Hide(ctx, luns) }

// Unhide removes them.
func (m *Machine) Unhide(ctx context.Context, luns []lun.Info) error {
	return m.Rules.Unhide(ctx, luns)
}

// HideFamily hides an array's LUNs but the admitted.
func (m *Machine) HideFamily(ctx context.Context, f hide.Family) error {
	return m.Rules.HideFamily(ctx, f)
}

// Admit excepts originals from HideFamily.
func (m *Machine) Admit(ctx context.Context, luns []lun.Info) error { return m.Rules.Admit(ctx, luns) }

// Dismiss takes Admit back.
func (m *Machine) Dismiss(ctx context.Context, luns []lun.Info) error {
	return m.Rules.Dismiss(ctx, luns)
}

// Watch names the block devices that arrive or change; "" means enumerate again.
func (m *Machine) Watch(ctx context.Context) (<-chan string, func(), error) {
	w, err := block.Watch(ctx)
	if err != nil {
		return nil, nil, err
	}
	// Who subscribes will rescan: initiators may look what is here meanwhile.
	for _, in := range m.Initiators() {
		if l, ok := in.Initiator.(interface{ Look(context.Context) }); ok {
			l.Look(ctx)
		}
	}
	names := make(chan string, 16)
	done := make(chan struct{})
	go func() {
		defer close(names)
		for e := range w.Events() {
			name := e.Name
			if e.Again {
				name = ""
			} else if e.Action == "remove" {
				continue
			}
			select {
			case names <- name:
			case <-done:
				return
			}
		}
	}()
	stop := func() { close(done); _ = w.Close() }
	return names, stop, nil
}

// Rescan makes each array's initiator look for its own LUNs of the list. LUNs
// of no joined array will not come by themselves: that is an error, too.
func (m *Machine) Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error) {
	var out []block.Device
	var errs []error
	owned := make([]bool, len(luns))
	for _, in := range m.Initiators() {
		var mine []lun.Info
		for i, l := range luns {
			if in.Owns(l) {
				mine = append(mine, l)
				owned[i] = true
			}
		}
		if len(mine) == 0 {
			continue
		}
		ds, err := in.Rescan(ctx, mine)
		out = append(out, ds...)
		errs = append(errs, err)
	}
	for i, l := range luns {
		if !owned[i] {
			errs = append(errs, errOfNoArray(l))
		}
	}
	return out, vss.Join("", errs...)
}

// Unmasked lists the originals the arrays show to this machine. What those that
// answered said is returned beside the others' errors.
func (m *Machine) Unmasked(ctx context.Context) ([]lun.Info, error) {
	var out []lun.Info
	var errs error
	for _, in := range m.Initiators() {
		luns, err := in.Unmasked(ctx)
		out = append(out, luns...)
		errs = vss.Join("", errs, err)
	}
	return out, errs
}

// Enumerate lists this host's block devices.
func (m *Machine) Enumerate(ctx context.Context) ([]block.Device, error) {
	return block.Enumerate(ctx, m.HostTag)
}

// Inspect reads one device. What another host attached has no identity here.
func (m *Machine) Inspect(ctx context.Context, device string) (block.Device, error) {
	d, err := block.Inspect(ctx, device)
	if err == nil && (d.Loop != nil && d.Loop.HostTag != m.HostTag || d.NBD != nil && d.NBD.HostTag != m.HostTag) {
		d.LUN = lun.Info{}
	}
	return d, err
}

// InUse reports whether a device is mounted or claimed by another.
func (m *Machine) InUse(ctx context.Context, d block.Device) bool {
	f, err := block.Open(ctx, d, unix.O_RDONLY|unix.O_EXCL)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, vss.VSS_E_VOLUME_IN_USE)
}

// Probe reads a device's superblock.
func (m *Machine) Probe(ctx context.Context, device string) (filesystem.Identity, error) {
	return filesystem.Probe(ctx, device)
}

// Contents is what a disk holds.
func (m *Machine) Contents(ctx context.Context, d block.Device) (contents.Contents, error) {
	return contents.Read(ctx, d)
}

// PhysicalVolume reads what LVM wrote on a disk, from an offset on.
func (m *Machine) PhysicalVolume(ctx context.Context, d block.Device, offset uint64) (lvm.Disk, error) {
	return volume.ReadPhysicalVolume(ctx, d, offset)
}

// SetReadOnly sets the host's own flag; the array's export comes first.
func (m *Machine) SetReadOnly(ctx context.Context, d block.Device) error {
	return block.SetReadOnly(ctx, d, true)
}

// MountClone mounts a copy.
func (m *Machine) MountClone(ctx context.Context, c filesystem.CloneMount) error {
	return filesystem.MountClone(ctx, c)
}

// Unmount unmounts target if d is mounted there.
func (m *Machine) Unmount(ctx context.Context, target string, d block.Device) error {
	return filesystem.Unmount(ctx, target, d)
}

// UnmountLazily takes the mount away although it is in use.
func (m *Machine) UnmountLazily(ctx context.Context, target string, d block.Device) error {
	return filesystem.UnmountLazily(ctx, target, d)
}

// Surface makes the block device of a volume on LUNs.
func (m *Machine) Surface(ctx context.Context, r surface.Request) (surface.Device, error) {
	return m.surfacer().Surface(ctx, r)
}

// Reach returns the block device of a partition of an original; with make also
// where the kernel has not made one.
func (m *Machine) Reach(ctx context.Context, d block.Device, offset, length uint64, make bool) (surface.Device, bool, error) {
	if !make {
		return surface.Reached(ctx, d, offset, length)
	}
	n, err := m.surfacer().Reach(ctx, d, offset, length)
	return n, err == nil, err
}

// TakeDown ends what Surface made.
func (m *Machine) TakeDown(ctx context.Context, d surface.Device, lazily bool) error {
	return m.surfacer().TakeDown(ctx, d, lazily)
}

// IdentifyGroup makes an identity for a volume group that is to be shown.
func (m *Machine) IdentifyGroup(ctx context.Context, name string, g regroup.Group) (lvm.Identity, error) {
	return m.shower().Identify(ctx, name, g)
}

// ShowGroup shows a volume group to LVM under another identity.
func (m *Machine) ShowGroup(ctx context.Context, g regroup.Group) error {
	return m.shower().Show(ctx, g)
}

// EndGroup takes ShowGroup back.
func (m *Machine) EndGroup(ctx context.Context, id lvm.Identity, force bool) error {
	return m.shower().End(ctx, id, force)
}

func (m *Machine) shower() regroup.Shower {
	return regroup.Shower{Surfacer: m.surfacer(), LVM: hide.LVMDir, Read: m.PhysicalVolume}
}

func (m *Machine) surfacer() *surface.Surfacer {
	return &surface.Surfacer{HostTag: m.HostTag, HideMapped: m.Rules.HideMapped}
}

// Detach removes a device from this machine by the initiator that owns it. What
// Surface made of it goes first, also what is on no record.
func (m *Machine) Detach(ctx context.Context, d block.Device) error {
	in, err := m.initiatorOf(d)
	if err != nil {
		return err
	}
	if err := m.surfacer().Clear(ctx, d, false); err != nil {
		return err
	}
	return in.Detach(ctx, d)
}

// Abandon has a device that is in use go with its last user.
func (m *Machine) Abandon(ctx context.Context, d block.Device) error {
	in, err := m.initiatorOf(d)
	if err != nil {
		return err
	}
	if err := m.surfacer().Clear(ctx, d, true); err != nil {
		return err
	}
	return in.Abandon(ctx, d)
}

func (m *Machine) initiatorOf(d block.Device) (Initiator, error) {
	ins := m.Initiators()
	i := slices.IndexFunc(ins, func(in Initiator) bool { return in.Owns(d.LUN) })
	if i < 0 {
		return Initiator{}, errNoInitiator(d)
	}
	return ins[i], nil
}

// Ready reports whether LUNs could be attached.
func (m *Machine) Ready(ctx context.Context) error {
	rctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var errs error
	for _, in := range m.Initiators() {
		if in.Ready != nil {
			errs = vss.Join("", errs, in.Ready(rctx))
		}
	}
	return errs
}
