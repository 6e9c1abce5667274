package importing

import (
	"context"
	"path/filepath"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/contents"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// DefaultArrivalTimeout is how long an import waits for disks to arrive.
const DefaultArrivalTimeout = 10 * time.Minute

// points are the failpoints of one way to come to copies, in order.
type points struct {
	afterIntent, afterHide, beforeLocate, afterLocate, afterArrive, afterSurface, afterVerify, afterRecord, afterMount *failpoint.Point
}

func newPoints(pipeline string) *points {
	at := func(place string) *failpoint.Point { return failpoint.New(pipeline + "." + place) }
	return &points{at("after-intent"), at("after-hide"), at("before-locate"), at("after-locate"), at("after-arrive"), at("after-surface"),
		at("after-verify"), at("after-record"), at("after-mount")}
}

// Failpoints of the import, of the import of a set where it was made, and of
// the clean-up.
var (
	importPoints = newPoints("import")
	localPoints  = newPoints("local")

	fpInCleanup = failpoint.New("cleanup.after-intent")
	fpAfterMask = failpoint.New("cleanup.after-mask")
)

// Host is what an import needs of this machine.
type Host interface {
	Hide(ctx context.Context, luns []lun.Info) error
	Unhide(ctx context.Context, luns []lun.Info) error
	// Watch subscribes to block device events; an event with an empty name
	// means "enumerate again".
	Watch(ctx context.Context) (events <-chan string, stop func(), err error)
	// Rescan makes the initiators look for these LUNs. It returns what came;
	// with an error, LUNs it did not return will not come by themselves.
	Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error)
	Enumerate(ctx context.Context) ([]block.Device, error)
	Inspect(ctx context.Context, device string) (block.Device, error)
	Probe(ctx context.Context, device string) (filesystem.Identity, error)
	// Contents is what a disk holds, read and not made.
	Contents(ctx context.Context, d block.Device) (contents.Contents, error)
	// PhysicalVolume reads what LVM wrote on a disk from an offset on;
	// lvm.ErrNone if there is none.
	PhysicalVolume(ctx context.Context, d block.Device, offset uint64) (lvm.Disk, error)
	SetReadOnly(ctx context.Context, d block.Device) error
	MountClone(ctx context.Context, m filesystem.CloneMount) error
	Unmount(ctx context.Context, target string, d block.Device) error
	// Surface makes, or finds, the block device of a volume on LUNs; TakeDown
	// ends what it made.
	Surface(ctx context.Context, r surface.Request) (surface.Device, error)
	TakeDown(ctx context.Context, d surface.Device, lazily bool) error
	// Detach removes a LUN's disk, and what Surface made of it before.
	Detach(ctx context.Context, d block.Device) error
	// Ready reports whether LUNs could be attached here at all.
	Ready(ctx context.Context) error
}

// Importer imports sets, one at a time. One exists per service.
type Importer struct {
	Host           Host
	Providers      *registry.Registry
	Catalog        *catalog.Catalog
	HostName       string
	BootID         string
	CopiesDir      string // device objects: CopiesDir/{snapshot id}
	ArrivalTimeout time.Duration

	slot chan struct{}
}

// New completes an Importer.
func New(im Importer) *Importer {
	im.slot = make(chan struct{}, 1)
	if im.ArrivalTimeout == 0 {
		im.ArrivalTimeout = DefaultArrivalTimeout
	}
	return &im
}

// Acquire takes the machine's one place for an import. With queue it waits
// until ctx ends, else a busy place is vss.ErrImportInProgress.
func (im *Importer) Acquire(ctx context.Context, queue bool) (release func(), err error) {
	select {
	case im.slot <- struct{}{}:
		return func() { <-im.slot }, nil
	default:
	}
	if !queue {
		return nil, vss.ErrImportInProgress
	}
	select {
	case im.slot <- struct{}{}:
		return func() { <-im.slot }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Validate checks a document offline: it is used when the document is loaded,
// so that an altered one never becomes an object (requester.md 8, row 21).
// A document of a provider or array that is not known here passes; the import
// answers for that.
func (im *Importer) Validate(d *document.Document) error {
	if d.Set == nil {
		return nil
	}
	for _, t := range d.Set.Tickets {
		err := im.verifyTicket(d.Set, t)
		if vss.CodeOf(err) == vss.VSS_E_INVALID_XML_DOCUMENT {
			return err
		}
	}
	return nil
}

// DeviceObject is where a copy's files are seen.
func (im *Importer) DeviceObject(id vss.ID) string { return filepath.Join(im.CopiesDir, id.String()) }

// key is what a LUN is filed under.
func key(i lun.Info) string { return i.Name() }
