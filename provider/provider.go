// Package provider is the contract between the shadow copy service and the
// storage system that makes and owns shadow copies (provider.md).
//
// The service drives one set at a time through a provider:
//
//	AreLUNsSupported, BeginPrepareSnapshot   once per volume, when it is added
//	EndPrepareSnapshots                      everything slow happens here
//	PreCommitSnapshots                       a second at most; writers frozen
//	CommitSnapshots                          writes held: the point in time
//	PostCommitSnapshots                      writes released: make it durable
//	GetTargetLUNs                            what the new LUNs are called
//	PreFinalCommitSnapshots, PostFinalCommitSnapshots
//
// or AbortSnapshots at any point. On the machine that imports,
//
//	BeginImport (optional), LocateLUNs, FillInLUNInfo per arrived disk
//
// and where a copy is deleted, OnLUNEmpty (or, by force, the optional
// OnLUNEmptyForced). A provider never rescans a bus,
// never mounts, never changes flags on a LUN, and never talks to another
// machine's provider: the service does its own half.
//
// Errors are *vss.Error with one of the codes of [Allowed]; the service turns
// any other into VSS_E_UNEXPECTED_PROVIDER_ERROR. Every method honours ctx.
// Methods of one set are called in sequence, but AbortSnapshots may come while
// EndPrepareSnapshots blocks, and different sets may overlap on an importing
// and a creating machine.
package provider

import (
	"context"
	"errors"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Provider is what every provider has: who it is.
type Provider interface {
	// Properties are constant for the life of the process.
	Properties() vss.ProviderProp
}

// SnapshotSetCreator is IVssProviderCreateSnapshotSet (provider.md 4).
//
// Any method called out of order, or for a set that is not current, answers
// VSS_E_PROVIDER_VETO and drops the set's uncommitted LUNs.
type SnapshotSetCreator interface {
	// EndPrepareSnapshots blocks until all that BeginPrepareSnapshot started is
	// done. It is where a provider refuses a set it cannot commit in time or
	// has no room for (VSS_E_INSUFFICIENT_STORAGE).
	EndPrepareSnapshots(ctx context.Context, set vss.ID) error
	// PreCommitSnapshots does last readiness work, a second at most.
	PreCommitSnapshots(ctx context.Context, set vss.ID) error
	// CommitSnapshots takes the point in time of every prepared LUN. Writes to
	// all volumes of the set are held: no I/O to them, no log, no fsync.
	CommitSnapshots(ctx context.Context, set vss.ID) error
	// PostCommitSnapshots makes the copies durable; only called after every
	// provider's CommitSnapshots succeeded. count is the number of snapshots.
	PostCommitSnapshots(ctx context.Context, set vss.ID, count int) error
	PreFinalCommitSnapshots(ctx context.Context, set vss.ID) error
	PostFinalCommitSnapshots(ctx context.Context, set vss.ID) error
	// AbortSnapshots drops everything of the set that is not complete. It is
	// idempotent and may come in any state; a created set is left alone.
	AbortSnapshots(ctx context.Context, set vss.ID) error
}

// Hardware is IVssHardwareSnapshotProvider (provider.md 3). devices[i] is the
// local block device of luns[i].
type Hardware interface {
	Provider
	SnapshotSetCreator

	// AreLUNsSupported reports whether every LUN can be copied now with these
	// context attributes. An unknown LUN is (false, nil), never an error.
	AreLUNsSupported(ctx context.Context, c vss.Context, devices []string, luns []lun.Info) (bool, error)
	// BeginPrepareSnapshot adds one volume's LUNs to a set. A LUN that recurs
	// in a set is copied once. A new set ID silently replaces an unfinished set
	// of this host.
	BeginPrepareSnapshot(ctx context.Context, set, snapshot vss.ID, c vss.Context, devices []string, luns []lun.Info) error
	// GetTargetLUNs returns, one for one, the identity the copies of the source
	// LUNs will show to any host. Asked twice, it answers the same. A set nothing
	// is known of is VSS_E_OBJECT_NOT_FOUND: a broken-off creation has left nothing.
	GetTargetLUNs(ctx context.Context, set vss.ID, devices []string, source []lun.Info) ([]lun.Info, error)
	// LocateLUNs unmasks the LUNs to this host. They are exactly what
	// GetTargetLUNs returned; repeats are tolerated. VSS_E_BAD_STATE means the
	// set is bound to another import and nothing was unmasked. After any other
	// error the service assumes that some LUNs are, unless the error matches
	// ErrNothingUnmasked.
	LocateLUNs(ctx context.Context, luns []lun.Info) error
	// FillInLUNInfo completes what the host read from a device so that it
	// equals what GetTargetLUNs gave. It returns false for a LUN that is not
	// the provider's, and never touches the interconnects.
	FillInLUNInfo(ctx context.Context, device string, info *lun.Info) (bool, error)
	// OnLUNEmpty destroys the copy and reclaims its LUN. Idempotent: a LUN that
	// is already gone is success.
	OnLUNEmpty(ctx context.Context, device string, info lun.Info) error
}

// LUNStateChanger is the part of IVssHardwareSnapshotProviderEx that hides
// copies from this host again (ONLUNSTATECHANGE_DO_MASK_LUNS) and is told of
// writable windows. snapshots and originals are parallel.
type LUNStateChanger interface {
	OnLUNStateChange(ctx context.Context, snapshots, originals []lun.Info, flags vss.HardwareOptions) error
}

// ForcedReclaimer is the optional interface of a storage system that can destroy
// a copy although this host has it attached. DeleteSnapshots with bForce asks for
// it after all that the host could do itself (requester.md 2.5: "the provider
// tries everything"); without it, it asks OnLUNEmpty.
type ForcedReclaimer interface {
	// OnLUNEmptyForced is OnLUNEmpty, also of a LUN that this host still has
	// attached: the copy is gone from the storage system at once. Whoever has it
	// open here may read on until he closes it, or get I/O errors, as the storage
	// system has it; its space is given back in the end without another call.
	// What is not this host's to delete stays so: an original, a copy of another
	// host's import, one that another host has attached. Idempotent.
	OnLUNEmptyForced(ctx context.Context, device string, info lun.Info) error
}

// Describer tells the importing service what the storage system knows of its
// LUNs now, to verify them against the document.
type Describer interface {
	DescribeLUNs(ctx context.Context, luns []lun.Info) ([]Description, error)
}

// Description is the storage system's own word on a LUN.
type Description struct {
	Size       uint64 // bytes
	Generation uint64 // changes whenever the content may have changed; of a copy, the generation of its commit
	ReadOnly   bool   // as exported to this host
}

// Import identifies one import of one set.
type Import struct {
	SetID    vss.ID
	ImportID vss.ID
	Ticket   []byte   // as it rode in the document
	Digest   [32]byte // of the set description the ticket must have signed
	LUNs     []lun.Info
}

// ImportBinder is the optional interface of a storage system that lets a set
// be imported once in the world (requester.md 8, rows 2 and 28).
type ImportBinder interface {
	// BeginImport is called before LocateLUNs with the ticket that came in the
	// document. It, or the LocateLUNs after it, answers VSS_E_BAD_STATE when
	// the set is bound to another import and VSS_E_PROVIDER_VETO when the
	// ticket is missing, expired or does not fit.
	BeginImport(ctx context.Context, im Import) error
	// ReleaseImport forgets the binding of an import that mapped no copy, after
	// the requester cleaned up. Idempotent.
	ReleaseImport(ctx context.Context, set, importID vss.ID) error
}

// ImportChecker verifies with the storage system that an import would be
// accepted, and changes nothing: the LUNs exist, their content is still that
// of the commit, the set is bound to nobody else.
type ImportChecker interface {
	CheckImport(ctx context.Context, im Import) ([]Description, error)
}

// TicketIssuer signs a committed set, so that whoever holds the document may
// import it.
type TicketIssuer interface {
	// IssueTicket binds set and digest. Generations are read back with
	// GetTargetLUNs' LUNs through Describer before the digest is made.
	IssueTicket(ctx context.Context, set vss.ID, digest [32]byte) ([]byte, error)
}

// TicketVerifier checks a ticket offline, with keys this host already trusts.
type TicketVerifier interface {
	// VerifyTicket answers VSS_E_PROVIDER_NOT_REGISTERED for a ticket of a
	// storage system this host has not joined, VSS_E_INVALID_XML_DOCUMENT for a
	// wrong signature, set or digest.
	VerifyTicket(ticket []byte, set vss.ID, digest [32]byte) error
}

// BackingStores lists the filesystems a storage system on this very machine
// depends on, so that a set that would freeze them is refused (VSS's nested
// volumes). It returns nothing for a storage system elsewhere.
type BackingStores interface {
	BackingStores(ctx context.Context) ([]BackingStore, error)
}

// BackingStore is one such filesystem.
type BackingStore struct {
	Device uint64 // st_dev of the filesystem
	Path   string // what of the storage system is there
}

// ErrNothingUnmasked matches, with errors.Is, an error of LocateLUNs after
// which no LUN is visible to this host that was not before. Providers whose
// storage system unmasks all or nothing put it in their errors' chain, so that
// a refused import leaves nothing to clean up.
var ErrNothingUnmasked = errors.New("no LUN was unmasked")

// Allowed reports whether a provider may return the code (provider.md 4.1).
func Allowed(h vss.HResult) bool {
	switch h {
	case vss.S_OK, vss.E_OUTOFMEMORY, vss.E_INVALIDARG, vss.E_ACCESSDENIED, vss.VSS_E_BAD_STATE,
		vss.VSS_E_OBJECT_NOT_FOUND, vss.VSS_E_INSUFFICIENT_STORAGE, vss.VSS_E_VOLUME_NOT_SUPPORTED,
		vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER, vss.VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
		vss.VSS_E_PROVIDER_VETO, vss.VSS_E_CANNOT_REVERT_DISKID,
		vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, vss.VSS_E_UNSUPPORTED_CONTEXT, vss.VSS_E_NESTED_VOLUME_LIMIT:
		return true
	}
	return false
}
