package create

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// MaxVolumes is how many volumes a set may have.
const MaxVolumes = 64

// Failpoints of creation, in order.
var (
	fpAfterIntent     = failpoint.New("create.after-intent")
	fpAfterEndPrepare = failpoint.New("create.after-end-prepare")
	fpAfterHoldIntent = failpoint.New("create.after-hold-intent")
	fpBeforeHold      = failpoint.New("create.before-hold")
	fpInHold          = failpoint.New("create.in-hold")
	fpAfterCommit     = failpoint.New("create.after-commit")
	fpAfterRelease    = failpoint.New("create.after-release")
	fpAfterPostCommit = failpoint.New("create.after-post-commit")
	fpBeforeRecord    = failpoint.New("create.before-record")
	fpAfterRecord     = failpoint.New("create.after-record")
)

// Host is what creation needs of this machine.
type Host interface {
	// Resolve finds the volume behind a mount point or device.
	Resolve(ctx context.Context, name string) (volume.Volume, error)
	// Backing lists the filesystems (st_dev) below a volume.
	Backing(ctx context.Context, v volume.Volume) ([]uint64, error)
	// Stack lists the filesystem that holds path and those below it.
	Stack(ctx context.Context, path string) ([]uint64, error)
	// StartGuard starts a freeze guard over opened filesystems.
	StartGuard(ctx context.Context, fss []*freeze.Filesystem) (freeze.Holder, error)
}

// Creator makes sets. One exists per service.
type Creator struct {
	Host      Host
	Providers *registry.Registry
	Catalog   *catalog.Catalog
	Importer  *importing.Importer // for sets that do not travel
	HostName  string
	BootID    string
	HoldDir   string   // hold intents, see freeze.WriteIntent
	OwnPaths  []string // what the service itself writes to: state and run folders
	FlushTime time.Duration
	// Leftovers, if not nil, is told that a set failed and some of its copies
	// could not be dropped: its intent stays open, and somebody has to try again.
	Leftovers func()

	mu   sync.Mutex
	open *Set
}

// Set is a set being made. Its methods are called in sequence by one session;
// Abort may come at any time.
type Set struct {
	ID      vss.ID
	Context vss.Context
	Session vss.ID

	c       *Creator
	members []*member
	intent  uint64

	mu       sync.Mutex
	finished bool
}

// member is one volume of a set.
type member struct {
	snapshot vss.ID
	volume   volume.Volume
	provider provider.Hardware
	devices  []string
	luns     []lun.Info
	sizes    []uint64 // bytes, of the LUNs
	targets  []lun.Info
}

// Start opens a set and takes the machine's one place for creation;
// VSS_E_SNAPSHOT_SET_IN_PROGRESS while another holds it.
func (c *Creator) Start(session vss.ID, sc vss.Context) (*Set, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != nil {
		return nil, &vss.Error{Code: vss.VSS_E_SNAPSHOT_SET_IN_PROGRESS, Op: "StartSnapshotSet", Object: c.open.ID.String(),
			Reason: "another shadow copy set is being made on this machine", Remedy: "Wait until it is done and try again"}
	}
	s := &Set{ID: vss.NewID(), Context: sc, Session: session, c: c}
	c.open = s
	return s, nil
}

// Reserve takes the one place for creation for something else, until release.
func (c *Creator) Reserve() (release func(), err error) {
	s, err := c.Start(vss.GUIDNull, vss.CTX_BACKUP)
	if err != nil {
		return nil, err
	}
	return func() { c.leave(s) }, nil
}

// leave gives the place back.
func (c *Creator) leave(s *Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == s {
		c.open = nil
	}
}

// Supported reports whether a set of this context could take the volume: some
// hardware provider says so.
func (c *Creator) Supported(ctx context.Context, name string, providerID vss.ID, sc vss.Context) (bool, error) {
	v, err := c.Host.Resolve(ctx, name)
	if err != nil {
		if vss.CodeOf(err) == vss.VSS_E_VOLUME_NOT_SUPPORTED {
			return false, nil
		}
		return false, err
	}
	m := newMember(v)
	err = c.choose(ctx, m, providerID, sc)
	switch vss.CodeOf(err) {
	case vss.S_OK:
		return true, nil
	case vss.VSS_E_VOLUME_NOT_SUPPORTED, vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER:
		return false, nil
	}
	return false, err
}

func newMember(v volume.Volume) *member {
	m := &member{snapshot: vss.NewID(), volume: v}
	for _, d := range v.Disks() {
		m.devices = append(m.devices, d.Path)
		m.luns = append(m.luns, d.LUN)
		m.sizes = append(m.sizes, d.Size)
	}
	return m
}

// choose finds the provider for a volume: the one named, or the first
// hardware provider that supports all its LUNs (requester.md 2.3).
func (c *Creator) choose(ctx context.Context, m *member, id vss.ID, sc vss.Context) error {
	candidates := c.Providers.Hardware()
	if !id.IsNull() {
		p, err := c.Providers.Get(id)
		if err != nil {
			return err
		}
		candidates = []provider.Hardware{p}
	}
	if sc.Has(vss.ATTR_CLIENT_ACCESSIBLE) {
		// Those are the system provider's alone, and there is none.
		return unsupported(id, m.volume.Name, "copies of a client-accessible context are made by a system provider, and this machine has none",
			"Use the context app-rollback or nas-rollback")
	}
	var why error
	for _, p := range candidates {
		ok, err := p.AreLUNsSupported(ctx, sc, m.devices, slices.Clone(m.luns))
		if err = registry.Checked(ctx, p, "AreLUNsSupported", err); err != nil {
			why = err
			continue
		}
		if ok {
			m.provider = p
			return nil
		}
	}
	if why != nil {
		return why
	}
	return unsupported(id, m.volume.Name, fmt.Sprintf("no hardware provider can copy all its LUNs (%s)", lunNames(m.luns)),
		"Put the volume on LUNs of an array this machine has joined (umbra join), and check that the array is reachable (umbra list providers)")
}

// unsupported is the answer when nobody takes the volume, or the provider that
// was named does not.
func unsupported(named vss.ID, volume, reason, remedy string) error {
	code := vss.VSS_E_VOLUME_NOT_SUPPORTED
	if !named.IsNull() {
		code = vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER
	}
	return &vss.Error{Code: code, Op: "AddToSnapshotSet", Object: volume, Reason: reason, Remedy: remedy}
}

func lunNames(luns []lun.Info) string {
	var s string
	for i, l := range luns {
		if i > 0 {
			s += ", "
		}
		s += l.Name()
	}
	return s
}

// Add adds a volume, by mount point or device, and returns its snapshot ID.
func (s *Set) Add(ctx context.Context, name string, providerID vss.ID) (vss.ID, error) {
	if len(s.members) >= MaxVolumes {
		return vss.GUIDNull, &vss.Error{Code: vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, Op: "AddToSnapshotSet", Object: name,
			Reason: fmt.Sprintf("a set has at most %d volumes", MaxVolumes), Remedy: "Make two sets"}
	}
	v, err := s.c.Host.Resolve(ctx, name)
	if err != nil {
		return vss.GUIDNull, err
	}
	if !utf8.ValidString(v.Name) {
		return vss.GUIDNull, &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "AddToSnapshotSet", Object: strconv.Quote(v.Name),
			Reason: "the mount point's name is not UTF-8, which requesters could not be told", Remedy: "Mount it under another name"}
	}
	for _, o := range s.members {
		if o.volume.SuperblockKey() == v.SuperblockKey() {
			return vss.GUIDNull, &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: "AddToSnapshotSet", Object: name,
				Reason: "the filesystem is already in the set, as " + o.volume.Name, Remedy: "Name each filesystem once; bind mounts and subvolumes belong to theirs"}
		}
	}
	if v.MountPoint == "" {
		return vss.GUIDNull, &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "AddToSnapshotSet", Object: name,
			Reason: "the volume is not mounted here, so nothing can hold its writes", Remedy: "Mount it and name its mount point"}
	}
	m := newMember(v)
	if err := s.checkNesting(ctx, m); err != nil {
		return vss.GUIDNull, err
	}
	if err := s.c.choose(ctx, m, providerID, s.Context); err != nil {
		return vss.GUIDNull, err
	}
	err = m.provider.BeginPrepareSnapshot(ctx, s.ID, m.snapshot, s.Context, m.devices, slices.Clone(m.luns))
	if err = registry.Checked(ctx, m.provider, "BeginPrepareSnapshot", err); err != nil {
		return vss.GUIDNull, err
	}
	s.members = append(s.members, m)
	return m.snapshot, nil
}

// checkNesting refuses a volume whose freeze would stop what the set itself
// depends on: the service's own folders, an array's store on this machine, or
// a volume that lies on another of the set (traps 3).
func (s *Set) checkNesting(ctx context.Context, m *member) error {
	nested := func(reason, remedy string) error {
		return &vss.Error{Code: vss.VSS_E_NESTED_VOLUME_LIMIT, Op: "AddToSnapshotSet", Object: m.volume.Name, Reason: reason, Remedy: remedy}
	}
	below, err := s.c.Host.Backing(ctx, m.volume)
	if err != nil {
		return err
	}
	for _, o := range s.members {
		ob, err := s.c.Host.Backing(ctx, o.volume)
		if err != nil {
			return err
		}
		if o.volume.In(below) || m.volume.In(ob) {
			return nested("it and "+o.volume.Name+" lie one on the other", "Put them in two sets")
		}
	}
	for _, p := range s.c.OwnPaths {
		stack, err := s.c.Host.Stack(ctx, p)
		if err != nil {
			return err
		}
		if m.volume.In(stack) {
			return nested("the service keeps its own state on it, in "+p, "Move the daemon's --state-dir and --run-dir to another filesystem")
		}
	}
	for _, p := range s.c.Providers.Hardware() {
		b, ok := provider.As[provider.BackingStores](p)
		if !ok {
			continue
		}
		stores, err := b.BackingStores(ctx)
		if err = registry.Checked(ctx, p, "BackingStores", err); err != nil {
			return err
		}
		for _, st := range stores {
			if m.volume.In([]uint64{st.Device}) {
				return nested("the storage system itself depends on it, through "+st.Path, "Copy volumes that lie on the array's LUNs, not the filesystem the array lies on")
			}
		}
	}
	return nil
}
