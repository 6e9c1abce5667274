package service

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/contents"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/access"
	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/internal/service/copies"
	"github.com/umbra-vss/umbra/internal/service/create"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/originals"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/vss"
)

// Limits are quotas of a service; beyond them a call answers E_OUTOFMEMORY. Zero
// stands for the default.
type Limits struct {
	Sessions   int // BackupComponents objects
	Operations int // asynchronous operations that were not released
}

// Default limits.
const (
	MaxSessions   = 256
	MaxOperations = 4096
)

// Arrays is what the service knows of joined storage systems.
type Arrays interface {
	// Join calls cover with how the array's LUNs are called before it uses it.
	Join(ctx context.Context, bundle []byte, cover func(context.Context, ...hide.Family) error) (id, name string, err error)
	List(ctx context.Context) []ArrayStatus
}

// ArrayStatus is one joined array.
type ArrayStatus struct {
	ID, Name  string
	Endpoints []string
	Err       error     // why it cannot be reached
	Since     time.Time // of that, as far as it is known
}

// Host is what the service itself asks of this machine.
type Host interface {
	Enumerate(ctx context.Context) ([]block.Device, error)
	// Contents is what a disk holds.
	Contents(ctx context.Context, d block.Device) (contents.Contents, error)
	// Reach is the block device of a partition of an original, if it has one; with
	// make it gets one.
	Reach(ctx context.Context, d block.Device, offset, length uint64, make bool) (surface.Device, bool, error)
	// Root is the mount point that a path lies under, Volume the canonical name
	// of a volume, whether or not it can be copied. VSS_E_OBJECT_NOT_FOUND if
	// there is nothing there, E_INVALIDARG if it is no volume.
	Root(ctx context.Context, path string) (string, error)
	Volume(ctx context.Context, name string) (string, error)
}

// Service is a running service.
type Service struct {
	HostName  string
	StateDir  string
	RunDir    string
	Version   string
	Warnings  []string
	Catalog   *catalog.Catalog
	Providers *registry.Registry
	Creator   *create.Creator
	Importer  *importing.Importer
	Keeper    *copies.Keeper
	Originals *originals.Keeper
	Arrays    Arrays
	Host      Host
	Devices   Devices        // nil: no provider can be validated
	Access    *access.Policy // who may call; nil is root only
	Limits    Limits
	NoImport  bool // the machine is no server: ImportSnapshots is E_NOTIMPL
	Log       *slog.Logger

	base    context.Context // ends when the service stops
	started time.Time

	mu         sync.Mutex
	sessions   map[string]*object // by token
	operations map[string]*async.Operation
	owners     map[*async.Operation]*object // of all that run or are not released
	leaving    map[*object]bool             // released, and not done with it yet
	stopping   bool
}

// Start makes the service ready; base is its life.
func (s *Service) Start(base context.Context) {
	s.base, s.started = base, time.Now()
	if s.Limits.Sessions == 0 {
		s.Limits.Sessions = MaxSessions
	}
	if s.Limits.Operations == 0 {
		s.Limits.Operations = MaxOperations
	}
	s.sessions = map[string]*object{}
	s.operations = map[string]*async.Operation{}
	s.owners = map[*async.Operation]*object{}
	s.leaving = map[*object]bool{}
	rpc.PanicHook = func(op string, value any, stack []byte) string {
		s.Log.Error("panic", "op", op, "value", value, "stack", string(stack))
		id, _ := s.Catalog.Log(base, catalog.Event{Level: "error", Name: "service.panic", Object: op, Message: string(stack)})
		return id
	}
	LogUnlisted(base, s.Catalog)
	rpc.UnexpectedHook = func(op string, err *vss.Error) string {
		id, _ := s.Catalog.Log(base, catalog.Event{Level: "error", Name: "service.unexpected", Object: op,
			Message: "a call failed in a way nobody foresaw", Failure: catalog.FailureOf(err)})
		return id
	}
}

// LogUnlisted has an event written of every answer of a provider that the contract
// does not allow. Recovery asks providers before the service starts.
func LogUnlisted(ctx context.Context, c *catalog.Catalog) {
	registry.OnUnlisted(func(session vss.ID, err *vss.Error) {
		_, _ = c.Log(ctx, catalog.Event{Level: "error", Name: "provider.unexpected", Session: session, Object: err.Object,
			Message: "a provider answered " + err.Op + " with a code the contract does not allow", Failure: catalog.FailureOf(err)})
	})
}

// Stop releases every session and waits until that is done, or ctx ends. base
// has ended when it is called, so that operations are ending, too.
func (s *Service) Stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	open := slices.Collect(maps.Values(s.sessions))
	s.mu.Unlock()
	for _, o := range open {
		s.releaseObject(o)
	}
	s.mu.Lock()
	leaving := slices.Collect(maps.Keys(s.leaving))
	s.mu.Unlock()
	for _, o := range leaving {
		select {
		case <-o.gone:
		case <-ctx.Done():
			return
		}
	}
}
