package devicemapper

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// SectorSize is what starts and lengths of targets are counted in.
const SectorSize = 512

// Ref names a device in one of three ways. The others are empty.
type Ref struct {
	Name string
	UUID string
	Dev  uint64 // as unix.Mkdev and Stat_t.Rdev have it
}

// Name refers to a device by its name.
func Name(s string) Ref { return Ref{Name: s} }

// Number refers to a device by its number.
func Number(dev uint64) Ref { return Ref{Dev: dev} }

func (r Ref) String() string {
	switch {
	case r.Name != "":
		return r.Name
	case r.UUID != "":
		return r.UUID
	case r.Dev != 0:
		return fmt.Sprintf("%d:%d", unix.Major(r.Dev), unix.Minor(r.Dev))
	}
	return ""
}

// Version of device-mapper, or of one kind of target.
type Version [3]uint32

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// AtLeast reports whether v is major.minor or later.
func (v Version) AtLeast(major, minor uint32) bool {
	return v[0] > major || v[0] == major && v[1] >= minor
}

// Named is a device in the list of all.
type Named struct {
	Name string
	Dev  uint64
}

// Device is how a device is.
type Device struct {
	Name, UUID string
	Dev        uint64
	Opened     int    // how often it is open, mounts and devices on top included
	Event      uint32 // counts what its targets reported
	Suspended  bool
	ReadOnly   bool
	Live       bool // it has a table
	Waiting    bool // a table waits for the next resume
	Deferred   bool // it goes when the last closes it
}

// Ref refers to the device by its name.
func (d Device) Ref() Ref { return Name(d.Name) }

// String is the kernel's name, dm-3.
func (d Device) String() string { return "dm-" + strconv.Itoa(int(unix.Minor(d.Dev))) }

// Node is the device's node, /dev/dm-3. Where nobody makes nodes it is made, and
// stays: the next device with this number has the same.
func (d Device) Node() (string, error) {
	path := "/dev/" + d.String()
	refuse := func(reason string, err error) (string, error) {
		return "", &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "open device", Object: path, Reason: reason, Remedy: "Check what makes nodes in /dev", Err: err}
	}
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		if err = unix.Mknod(path, unix.S_IFBLK|0o600, int(d.Dev)); err != nil && !errors.Is(err, unix.EEXIST) {
			return refuse("its node is missing and cannot be made", err)
		}
		err = unix.Stat(path, &st)
	}
	if err != nil {
		return refuse("its node cannot be read", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != d.Dev {
		return refuse("its node is another device's", nil)
	}
	return path, nil
}

// Target is one piece of a device: Length sectors from Start are what Type and
// Params say.
type Target struct {
	Start, Length uint64
	Type          string // linear, thin-pool, thin …
	Params        string // in a status: how it is
}

// Udev flags tell udev's rules what to leave out for a device.
type Udev uint16

// They are libdevmapper's. [Primary] says that the event is the device's owner's
// and not one that something else set off; the flags it brings are kept for
// those.
const (
	NoLinks      Udev = 0x01 // no link in /dev/mapper
	NoSubsystem  Udev = 0x02 // no rules of LVM, crypt or multipath
	NoDisk       Udev = 0x04 // no links by content: /dev/disk/by-uuid …
	NoOther      Udev = 0x08 // nothing else: no pvscan, no unit of systemd, no desktop
	LowPriority  Udev = 0x10
	NoFallback   Udev = 0x20 // libdevmapper makes no nodes instead of udev
	Primary      Udev = 0x40
	udevInCookie      = 16 // the flags are the upper half of what udev calls a cookie
)

// Alone tells udev to leave a device alone: no link of any kind, nothing
// scanned, nothing activated.
const Alone = NoLinks | NoSubsystem | NoDisk | NoOther | NoFallback | Primary

// Unread is Alone with the link in /dev/mapper, for devices an administrator
// should find.
const Unread = Alone &^ NoLinks

// The lower half stays zero: nobody waits for udev to be done.
func (u Udev) cookie() uint32 { return uint32(u) << udevInCookie }

// SuspendFlags say how much is written out before a device stops.
type SuspendFlags uint32

const (
	// NoFlush lets I/O that waits go on waiting, instead of doing it first. Only
	// multipath and thin pools that are full profit.
	NoFlush SuspendFlags = unix.DM_NOFLUSH_FLAG
	// SkipLockFS leaves a filesystem on the device as it is, because its owner
	// has frozen it, or need not.
	SkipLockFS SuspendFlags = unix.DM_SKIP_LOCKFS_FLAG
)

const (
	opCreate = "make device"
	opLoad   = "load table"
)

// Version is that of the kernel's device-mapper.
func (c *Control) Version(ctx context.Context) (Version, error) {
	a, err := c.do(ctx, "ask device-mapper", unix.DM_VERSION, request{}, nil)
	if err != nil {
		return Version{}, err
	}
	return a.version(), nil
}

// Kinds are the kinds of targets that are there now. One may come with a module
// when a table with it is loaded.
func (c *Control) Kinds(ctx context.Context) (map[string]Version, error) {
	const op = "ask device-mapper"
	a, err := c.do(ctx, op, unix.DM_LIST_VERSIONS, request{room: 4 << 10}, nil)
	if err != nil {
		return nil, err
	}
	return decoded(op, Ref{}, a, decodeVersions)
}

func decoded[T any](op string, r Ref, a answer, decode func([]byte) (T, error)) (T, error) {
	b, err := a.data()
	var out T
	if err == nil {
		out, err = decode(b)
	}
	if err != nil {
		return out, failed(op, r, err)
	}
	return out, nil
}

// List are all devices.
func (c *Control) List(ctx context.Context) ([]Named, error) {
	const op = "list devices"
	a, err := c.do(ctx, op, unix.DM_LIST_DEVICES, request{room: 16 << 10}, nil)
	if err != nil {
		return nil, err
	}
	return decoded(op, Ref{}, a, decodeNames)
}

// Create makes a device without a table. It cannot be read yet.
func (c *Control) Create(ctx context.Context, name, uuid string) (Device, error) {
	a, err := c.do(ctx, opCreate, unix.DM_DEV_CREATE, request{ref: Name(name), uuid: uuid}, func() {
		_, _ = c.Remove(context.Background(), Name(name), false, Alone)
	})
	if err != nil {
		return Device{}, err
	}
	return a.device(), nil
}

// Load puts a table in waiting, for the next Resume. A read-only table makes
// the device read-only.
func (c *Control) Load(ctx context.Context, r Ref, readOnly bool, targets ...Target) error {
	data, err := encodeTable(targets)
	if err != nil {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: opLoad, Object: r.String(), Reason: err.Error(), Remedy: "Report it"}
	}
	q := request{ref: r, targets: uint32(len(targets)), data: data}
	if readOnly {
		q.flags |= unix.DM_READONLY_FLAG
	}
	_, err = c.do(ctx, opLoad, unix.DM_TABLE_LOAD, q, nil)
	return err
}

// Clear drops a table that waits.
func (c *Control) Clear(ctx context.Context, r Ref) error {
	_, err := c.do(ctx, "clear table", unix.DM_TABLE_CLEAR, request{ref: r}, nil)
	return err
}

// Suspend stops a device. See the package documentation before you use it. When
// it returns an error the device is not suspended, or will not stay so.
func (c *Control) Suspend(ctx context.Context, r Ref, how SuspendFlags) error {
	_, err := c.do(ctx, "suspend device", unix.DM_DEV_SUSPEND, request{ref: r, flags: unix.DM_SUSPEND_FLAG | uint32(how)}, func() {
		_ = c.Resume(context.Background(), r, 0)
	})
	return err
}

// Resume lets a device go on, with the table that waits if there is one. One
// that is not suspended goes on.
func (c *Control) Resume(ctx context.Context, r Ref, u Udev) error {
	_, err := c.do(ctx, "resume device", unix.DM_DEV_SUSPEND, request{ref: r, event: u.cookie()}, nil)
	return err
}

// Remove takes a device away. One that is open stays, with VSS_E_VOLUME_IN_USE,
// unless it may be deferred: then it goes when the last closes it, which is what
// deferred reports.
func (c *Control) Remove(ctx context.Context, r Ref, mayDefer bool, u Udev) (deferred bool, err error) {
	q := request{ref: r, event: u.cookie()}
	if mayDefer {
		q.flags |= unix.DM_DEFERRED_REMOVE
	}
	a, err := c.do(ctx, "remove device", unix.DM_DEV_REMOVE, q, nil)
	if err != nil {
		return false, err
	}
	return mayDefer && a.flags()&unix.DM_DEFERRED_REMOVE != 0, nil
}

// Info is how a device is.
func (c *Control) Info(ctx context.Context, r Ref) (Device, error) {
	a, err := c.do(ctx, "ask device", unix.DM_DEV_STATUS, request{ref: r}, nil)
	if err != nil {
		return Device{}, err
	}
	return a.device(), nil
}

// Table is a device's live table.
func (c *Control) Table(ctx context.Context, r Ref) ([]Target, error) {
	return c.table(ctx, r, unix.DM_STATUS_TABLE_FLAG)
}

// Status is how a device's targets are. It waits for nothing: what a thin pool
// has not written yet is not in it.
func (c *Control) Status(ctx context.Context, r Ref) ([]Target, error) {
	return c.table(ctx, r, unix.DM_NOFLUSH_FLAG)
}

func (c *Control) table(ctx context.Context, r Ref, flags uint32) ([]Target, error) {
	const op = "read table"
	a, err := c.do(ctx, op, unix.DM_TABLE_STATUS, request{ref: r, flags: flags, room: 4 << 10}, nil)
	if err != nil {
		return nil, err
	}
	return decoded(op, r, a, func(b []byte) ([]Target, error) { return decodeTable(a.targets(), b) })
}

// Deps are the numbers of the devices that a device's table names.
func (c *Control) Deps(ctx context.Context, r Ref) ([]uint64, error) {
	const op = "read table"
	a, err := c.do(ctx, op, unix.DM_TABLE_DEPS, request{ref: r, room: 4 << 10}, nil)
	if err != nil {
		return nil, err
	}
	return decoded(op, r, a, decodeDeps)
}

// Message sends a message to the target at a sector, and returns what it
// answers; most answer nothing.
func (c *Control) Message(ctx context.Context, r Ref, sector uint64, message string) (string, error) {
	const op = "message to device"
	data := encodeMessage(sector, message)
	a, err := c.do(ctx, op, unix.DM_TARGET_MSG, request{ref: r, data: data, room: max(len(data), 256)}, nil)
	if err != nil || a.flags()&unix.DM_DATA_OUT_FLAG == 0 {
		return "", err
	}
	return decoded(op, r, a, terminated)
}

// Spec is a device to make.
type Spec struct {
	Name, UUID string
	ReadOnly   bool
	Udev       Udev
	Targets    []Target
}

// Make makes a device that can be read. If it cannot, nothing is left.
func (c *Control) Make(ctx context.Context, s Spec) (Device, error) {
	d, err := c.Create(ctx, s.Name, s.UUID)
	if err != nil {
		return Device{}, err
	}
	if err = c.Load(ctx, d.Ref(), s.ReadOnly, s.Targets...); err == nil {
		err = c.Resume(ctx, d.Ref(), s.Udev)
	}
	if err == nil {
		d, err = c.Info(ctx, d.Ref())
	}
	if err != nil {
		_, rerr := c.Remove(context.WithoutCancel(ctx), Name(s.Name), false, s.Udev)
		if rerr != nil && !errors.Is(rerr, unix.ENXIO) {
			err = errors.Join(err, rerr)
		}
		return Device{}, err
	}
	return d, nil
}
