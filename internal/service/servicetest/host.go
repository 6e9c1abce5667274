package servicetest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/contents"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/host/partition"
	"github.com/umbra-vss/umbra/internal/host/regroup"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Host is a machine that attaches what its arrays unmask.
type Host struct {
	Journal *Journal
	Arrays  []*Array

	mu       sync.Mutex
	devices  map[string]block.Device // by LUN
	hidden   map[string]bool         // by LUN
	mounts   map[string]string       // target to LUN
	late     map[string]time.Duration
	hooks    map[string]func(context.Context) error
	events   chan string
	volumes  map[string]volume.Volume
	surfaced map[string]surface.Device // by path
	groups   map[string]regroup.Group  // that are shown, by UUID
	seq      uint64
	exposed  []string // LUNs that appeared while no rule hid them
	presents map[string]func(*block.Device)
}

// Never as a delay means that a LUN does not arrive.
const Never = time.Duration(-1)

// NewHost returns a machine with nothing attached.
func NewHost(j *Journal, arrays ...*Array) *Host {
	return &Host{Journal: j, Arrays: arrays, devices: map[string]block.Device{}, hidden: map[string]bool{}, mounts: map[string]string{},
		late: map[string]time.Duration{}, hooks: map[string]func(context.Context) error{}, volumes: map[string]volume.Volume{}, surfaced: map[string]surface.Device{}, groups: map[string]regroup.Group{}, presents: map[string]func(*block.Device){}, seq: 10}
}

// On makes a method call f first, and fail if f does; nil takes it back.
func (h *Host) On(method string, f func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hooks[method] = f
}

// Fail makes a method fail.
func (h *Host) Fail(method string, err error) {
	h.On(method, func(context.Context) error { return err })
}

func (h *Host) hook(ctx context.Context, method string) error {
	h.mu.Lock()
	f := h.hooks[method]
	h.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f != nil {
		return f(ctx)
	}
	return nil
}

// Delay makes a LUN arrive by itself, so much after the rescan; or Never.
func (h *Host) Delay(name string, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.late[name] = d
}

// Undelay takes Delay back.
func (h *Host) Undelay(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.late, name)
}

// Present changes how a LUN's disk looks to this machine.
func (h *Host) Present(name string, f func(*block.Device)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.presents[name] = f
}

// Hidden lists the LUNs that rules hide, Attached those that are attached,
// Mounts the targets where something is mounted, Exposed the LUNs that udev saw
// without a rule; all sorted.
func (h *Host) Hidden() []string { h.mu.Lock(); defer h.mu.Unlock(); return sorted(h.hidden) }

// Attached is described at Hidden.
func (h *Host) Attached() []string { h.mu.Lock(); defer h.mu.Unlock(); return sorted(h.devices) }

// Mounts is described at Hidden.
func (h *Host) Mounts() []string { h.mu.Lock(); defer h.mu.Unlock(); return sorted(h.mounts) }

// Exposed is described at Hidden.
func (h *Host) Exposed() []string { h.mu.Lock(); defer h.mu.Unlock(); return slices.Clone(h.exposed) }

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Reboot forgets devices and mounts.
func (h *Host) Reboot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.devices)
	clear(h.mounts)
	clear(h.surfaced)
	clear(h.groups)
}

// Hide and the rest implement the interfaces of the service's jobs.
func (h *Host) Hide(ctx context.Context, luns []lun.Info) error {
	h.Journal.add("Hide %d", len(luns))
	h.mu.Lock()
	for _, l := range luns {
		h.hidden[l.Name()] = true
	}
	h.mu.Unlock()
	return h.hook(ctx, "Hide")
}

// Unhide removes rules.
func (h *Host) Unhide(ctx context.Context, luns []lun.Info) error {
	h.Journal.add("Unhide %d", len(luns))
	if err := h.hook(ctx, "Unhide"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range luns {
		delete(h.hidden, l.Name())
	}
	return nil
}

// Watch names arrivals.
func (h *Host) Watch(ctx context.Context) (<-chan string, func(), error) {
	h.Journal.add("Watch")
	if err := h.hook(ctx, "Watch"); err != nil {
		return nil, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	events := make(chan string, 100)
	h.events = events
	return events, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.events == events {
			h.events = nil
		}
	}, nil
}

func (h *Host) find(name string) (*Array, LUN, bool) {
	for _, a := range h.Arrays {
		if l, ok := a.LUN(name); ok {
			return a, l, true
		}
	}
	return nil, LUN{}, false
}

// attach makes the device; h.mu is held.
func (h *Host) attach(l LUN) block.Device {
	name := l.Info.Name()
	if d, ok := h.devices[name]; ok {
		return d
	}
	h.seq++
	d := block.Device{Name: fmt.Sprintf("loop%d", 9000+h.seq), Path: fmt.Sprintf("/dev/loop%d", 9000+h.seq), Major: 7, Minor: uint32(9000 + h.seq), DiskSeq: h.seq,
		Size: l.Size, ReadOnly: true, LUN: l.Info}
	if f := h.presents[name]; f != nil {
		f(&d)
	}
	if !h.hidden[name] {
		h.exposed = append(h.exposed, name)
	}
	h.devices[name] = d
	return d
}

// Rescan attaches unmasked LUNs that are not late.
func (h *Host) Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error) {
	h.Journal.add("Rescan %d", len(luns))
	if err := h.hook(ctx, "Rescan"); err != nil {
		return nil, err
	}
	var out []block.Device
	for _, i := range luns {
		_, l, ok := h.find(i.Name())
		if !ok || !l.Unmasked {
			continue
		}
		h.mu.Lock()
		late, isLate := h.late[i.Name()]
		if !isLate {
			out = append(out, h.attach(l))
		}
		h.mu.Unlock()
		if isLate && late != Never {
			time.AfterFunc(late, func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				d := h.attach(l)
				if h.events != nil {
					h.events <- d.Name
				}
			})
		}
	}
	return out, nil
}

// Enumerate lists the devices.
func (h *Host) Enumerate(ctx context.Context) ([]block.Device, error) {
	if err := h.hook(ctx, "Enumerate"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []block.Device
	for _, n := range sorted(h.devices) {
		out = append(out, h.devices[n])
	}
	return out, nil
}

// Inspect returns one device.
func (h *Host) Inspect(ctx context.Context, device string) (block.Device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.devices {
		if d.Name == device || d.Path == device {
			return d, nil
		}
	}
	if d, ok := h.surfaced[device]; ok {
		return d.Device, nil
	}
	return block.Device{}, gone("inspect", device)
}

// Surfaced lists the devices that Surface made and nobody took down, sorted.
func (h *Host) Surfaced() []string { h.mu.Lock(); defer h.mu.Unlock(); return sorted(h.surfaced) }

// Surface makes a device that begins like the first LUN.
func (h *Host) Surface(ctx context.Context, r surface.Request) (surface.Device, error) {
	if err := h.hook(ctx, "Surface"); err != nil {
		return surface.Device{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	x := r.Segments[0].Extents[0]
	disk, ok := h.devices[r.LUNs[x.LUN].LUN.Name()]
	if !ok || disk.DiskSeq != r.LUNs[x.LUN].DiskSeq {
		return surface.Device{}, gone("surface", r.Name)
	}
	d := surface.Device{Device: disk, Kind: surface.Disk}
	if len(r.Segments) == 1 && len(r.Segments[0].Extents) == 1 && x.Offset == 0 && x.Length == disk.Size {
		return d, nil
	}
	h.Journal.add("Surface")
	d.Kind, d.Size = surface.Loop, 0
	for _, g := range r.Segments {
		d.Size += g.Length()
	}
	d.Path = fmt.Sprintf("%s-%d", disk.Path, x.Offset)
	d.Name = block.BaseName(d.Path)
	h.surfaced[d.Path] = d
	return d, nil
}

// TakeDown ends what Surface made.
func (h *Host) TakeDown(ctx context.Context, d surface.Device, lazily bool) error {
	if err := h.hook(ctx, "TakeDown"); err != nil && !lazily {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.surfaced[d.Path]; ok {
		h.Journal.add("TakeDown")
		delete(h.surfaced, d.Path)
	}
	return nil
}

// Groups are the volume groups that are shown under another identity, by name.
func (h *Host) Groups() map[string]regroup.Group {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]regroup.Group{}
	for _, g := range h.groups {
		all[g.Identity.Name] = g
	}
	return all
}

// IdentifyGroup makes an identity.
func (h *Host) IdentifyGroup(ctx context.Context, name string, g regroup.Group) (lvm.Identity, error) {
	if err := h.hook(ctx, "IdentifyGroup"); err != nil {
		return lvm.Identity{}, err
	}
	id := lvm.Identity{Name: name, UUID: lvm.Mark + "-" + vss.NewID().String()[:4], Disks: map[string]string{}, Volumes: map[string]string{}}
	for _, d := range g.Disks {
		id.Disks[d.UUID] = "new-" + d.UUID
	}
	for v := range g.Volumes {
		id.Volumes[v] = "new-" + v
	}
	return id, nil
}

// ShowGroup shows a group on LUNs that are attached.
func (h *Host) ShowGroup(ctx context.Context, g regroup.Group) error {
	if err := h.hook(ctx, "ShowGroup"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range g.Disks {
		if have, ok := h.devices[d.LUN.LUN.Name()]; !ok || have.DiskSeq != d.LUN.DiskSeq {
			return gone("show volume group", d.LUN.Path)
		}
	}
	h.Journal.add("ShowGroup")
	h.groups[g.Identity.UUID] = g
	return nil
}

// EndGroup ends a group; none is fine.
func (h *Host) EndGroup(ctx context.Context, id lvm.Identity, force bool) error {
	if err := h.hook(ctx, "EndGroup"); err != nil && !force {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.groups[id.UUID]; ok {
		h.Journal.add("EndGroup")
		delete(h.groups, id.UUID)
	}
	return nil
}

// clear ends what stands on a disk; h.mu is held.
func (h *Host) clear(disk block.Device) {
	maps.DeleteFunc(h.surfaced, func(_ string, d surface.Device) bool { return d.DiskSeq == disk.DiskSeq })
}

func gone(op, object string) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: object, Reason: "no such device", Remedy: "Look it up again"}
}

// Probe reads the filesystem.
func (h *Host) Probe(ctx context.Context, device string) (filesystem.Identity, error) {
	if err := h.hook(ctx, "Probe"); err != nil {
		return filesystem.Identity{}, err
	}
	d, err := h.Inspect(ctx, device)
	if err != nil {
		return filesystem.Identity{}, err
	}
	_, l, _ := h.find(d.LUN.Name())
	return l.Filesystem, nil
}

// Reach finds no device of a partition, and makes none.
func (h *Host) Reach(context.Context, block.Device, uint64, uint64, bool) (surface.Device, bool, error) {
	return surface.Device{}, false, nil
}

// Contents is a partition for each half of the disk.
func (h *Host) Contents(ctx context.Context, d block.Device) (contents.Contents, error) {
	c := contents.Contents{Table: partition.GPT}
	for i := range 2 {
		c.Volumes = append(c.Volumes, contents.Volume{Number: i + 1, Offset: uint64(i) * d.Size / 2, Length: d.Size / 2, Name: fmt.Sprintf("half %d", i+1)})
	}
	return c, h.hook(ctx, "Contents")
}

// PhysicalVolume is what the LUN says of itself in LVM.
func (h *Host) PhysicalVolume(ctx context.Context, d block.Device, offset uint64) (lvm.Disk, error) {
	if err := h.hook(ctx, "PhysicalVolume"); err != nil {
		return lvm.Disk{}, err
	}
	_, l, ok := h.find(d.LUN.Name())
	if !ok || l.LVM.UUID == "" {
		return lvm.Disk{}, lvm.ErrNone
	}
	return l.LVM, nil
}

// SetReadOnly sets the flag.
func (h *Host) SetReadOnly(ctx context.Context, d block.Device) error {
	h.Journal.add("SetReadOnly")
	return h.hook(ctx, "SetReadOnly")
}

// MountClone mounts.
func (h *Host) MountClone(ctx context.Context, m filesystem.CloneMount) error {
	h.Journal.add("MountClone")
	if err := h.hook(ctx, "MountClone"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	name := m.Device.LUN.Name()
	if d, ok := h.devices[name]; !ok || d.DiskSeq != m.Device.DiskSeq {
		return gone("mount", m.Device.Path)
	}
	if _, ok := h.mounts[m.Target]; ok {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "mount", Object: m.Target, Reason: "mounted twice", Remedy: "Mount once"}
	}
	h.mounts[m.Target] = name
	return nil
}

// Unmount unmounts; nothing mounted is fine.
func (h *Host) Unmount(ctx context.Context, target string, d block.Device) error {
	if err := h.hook(ctx, "Unmount"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if name, ok := h.mounts[target]; !ok {
		return nil
	} else if name != d.LUN.Name() {
		return gone("unmount", target)
	}
	h.Journal.add("Unmount")
	delete(h.mounts, target)
	return nil
}

// UnmountLazily unmounts what Unmount was made to say is in use.
func (h *Host) UnmountLazily(ctx context.Context, target string, d block.Device) error {
	if err := h.hook(ctx, "UnmountLazily"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if name, ok := h.mounts[target]; ok && name != d.LUN.Name() {
		return gone("unmount", target)
	}
	h.Journal.add("UnmountLazily")
	delete(h.mounts, target)
	return nil
}

// Abandon removes a device that Detach was made to say is in use.
func (h *Host) Abandon(ctx context.Context, d block.Device) error {
	if err := h.hook(ctx, "Abandon"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	name := d.LUN.Name()
	if have, ok := h.devices[name]; !ok || have.DiskSeq != d.DiskSeq {
		return gone("detach", d.Path)
	}
	h.Journal.add("Abandon")
	h.clear(h.devices[name])
	delete(h.devices, name)
	return nil
}

// Detach removes a device.
func (h *Host) Detach(ctx context.Context, d block.Device) error {
	if err := h.hook(ctx, "Detach"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	name := d.LUN.Name()
	have, ok := h.devices[name]
	if !ok || have.DiskSeq != d.DiskSeq {
		return gone("detach", d.Path)
	}
	for _, n := range h.mounts {
		if n == name {
			return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "detach", Object: d.Path, Reason: "it is mounted", Remedy: "Unmount it"}
		}
	}
	for _, g := range h.groups {
		for _, x := range g.Disks {
			if x.LUN.LUN.Name() == name {
				return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "detach", Object: d.Path, Reason: "a volume group lies on it", Remedy: "End it"}
			}
		}
	}
	h.Journal.add("Detach")
	h.clear(h.devices[name])
	delete(h.devices, name)
	return nil
}

// Ready is the initiators' answer.
func (h *Host) Ready(ctx context.Context) error { return h.hook(ctx, "Ready") }

// AddVolume mounts an original LUN's filesystem at path. If there is a folder
// of this name, sets can be made of it: the folder is opened and flushed, and
// some disk of the real machine lends its write counters; nothing is frozen.
func (h *Host) AddVolume(path string, l LUN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hidden[l.Info.Name()] = true
	d := h.attach(l)
	v := volume.Volume{Name: path, MountPoint: path, SuperDev: d.Dev(), Filesystem: l.Filesystem}
	counted := d
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		v.RootDev, v.RootIno = uint64(st.Dev), st.Ino
		counted.Major, counted.Minor = anyDisk()
	}
	v.Members = []volume.Member{{Device: counted, Disks: []block.Device{d}, Role: "data", Segments: []lun.Segment{{Extents: []lun.Extent{{Length: l.Size}}}}}}
	h.volumes[path] = v
}

// ChangeVolume changes a volume of AddVolume.
func (h *Host) ChangeVolume(path string, change func(*volume.Volume)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.volumes[path]
	v.Members = slices.Clone(v.Members)
	change(&v)
	h.volumes[path] = v
}

// anyDisk is the number of some block device that counts writes.
func anyDisk() (major, minor uint32) {
	entries, _ := os.ReadDir("/sys/dev/block")
	for _, e := range entries {
		on, _ := os.ReadFile("/sys/dev/block/" + e.Name() + "/queue/iostats") // zram's are off
		if _, err := fmt.Sscanf(e.Name(), "%d:%d", &major, &minor); err == nil && strings.TrimSpace(string(on)) == "1" {
			return major, minor
		}
	}
	return 0, 0
}

// Root and Volume know the volumes of AddVolume.
func (h *Host) Root(ctx context.Context, path string) (string, error) {
	v, err := h.Resolve(ctx, path)
	return v.MountPoint, err
}

// Volume is described at Root.
func (h *Host) Volume(ctx context.Context, name string) (string, error) {
	v, err := h.Resolve(ctx, name)
	return v.Name, err
}

// Resolve finds a volume of AddVolume.
func (h *Host) Resolve(ctx context.Context, name string) (volume.Volume, error) {
	if err := h.hook(ctx, "Resolve"); err != nil {
		return volume.Volume{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.volumes[name]
	if !ok {
		return v, gone("AddToSnapshotSet", name)
	}
	return v, nil
}

// Backing is nothing.
func (h *Host) Backing(context.Context, volume.Volume) ([]uint64, error) { return nil, nil }

// Stack is nothing.
func (h *Host) Stack(context.Context, string) ([]uint64, error) { return nil, nil }

// StartGuard starts a guard that freezes nothing; its hooks are "Freeze" and
// "Thaw".
func (h *Host) StartGuard(ctx context.Context, fss []*freeze.Filesystem) (freeze.Holder, error) {
	if err := h.hook(ctx, "StartGuard"); err != nil {
		return nil, err
	}
	return &guard{h: h, lost: make(chan struct{})}, nil
}

type guard struct {
	h    *Host
	lost chan struct{}
}

func (g *guard) Freeze(ctx context.Context) error {
	g.h.Journal.add("Freeze")
	return g.h.hook(ctx, "Freeze")
}

func (g *guard) Thaw() freeze.Report {
	g.h.Journal.add("Thaw")
	return freeze.Report{Released: true, Err: g.h.hook(context.Background(), "Thaw")}
}

func (g *guard) Lost() <-chan struct{} { return g.lost }
func (g *guard) Close() error          { return nil }
