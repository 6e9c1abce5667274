// Package backend is what the array wants of the place that its LUNs are in. It
// knows identifiers and bytes; hosts, masks and sets are the array's.
//
// A [Store] has LUNs, each a file or a block device that hosts on this machine
// get as a descriptor and hosts of other machines through an export, by path.
// A copy of any number of LUNs at one instant is a [Batch]:
//
//	Begin        look at the sources; nothing is made or changed
//	Count        write out what is waiting, find out how long copying will take
//	MakeTargets  get ready what can be; durably, so that Remove finds it after a crash
//	Count        again, right before writes stop
//	Commit       the instant: copies all, and nothing else
//	Persist      make the copies durable and usable
//	Finish       let go of what the batch held; the copies stay
//	Discard      instead of any of them: the copies are gone
//
// What a store has done when the process dies at any moment is undone by
// removing the targets ([Store.Remove] of a LUN that is not there, or only half
// there, succeeds), and no LUN is left unusable. The array records a set's
// targets before MakeTargets and removes them if the set was not recorded as
// committed.
//
// Who holds a LUN is asked of the kernel ([Holders]), by a lock that a
// descriptor has as long as it is open anywhere: that survives the array's
// process and cannot be stale after a reboot.
//
// Implementations are backend/file and backend/lvmthin; backendtest holds both to
// this page.
package backend

import (
	"context"
	"os"
	"time"

	"github.com/umbra-vss/umbra/lun"
)

// Align is what the size of a LUN is a multiple of, and MinSize the smallest
// LUN, in bytes.
const (
	Align   = 4096
	MinSize = 1 << 20
)

// Source is one LUN to copy.
type Source struct {
	NAA  lun.NAA
	Size uint64 // bytes
}

// Space is how full a store is. What a store does not have is 0 of 0.
type Space struct {
	Total, Free                 uint64 // bytes
	MetadataTotal, MetadataFree uint64 // bytes, where metadata has a place of its own
}

// Description is for administrators.
type Description struct {
	Kind     string        // file, lvmthin
	Place    string        // a folder, a volume group or devices
	Image    string        // the file below the folder, if the store made one
	PerLUN   time.Duration // measured: what copying takes for each LUN
	PerPiece time.Duration // and for each piece of one
	AtOnce   int           // LUNs that are copied at a time
	Last     time.Duration // how long the last batch took, 0 before the first
	Warnings []string      // what somebody should look at
}

// Store keeps LUNs. Its methods are safe for concurrent use, but for one LUN
// none runs beside its Remove. Errors are *vss.Error; without room they are
// VSS_E_INSUFFICIENT_STORAGE.
type Store interface {
	// Create makes a LUN of zeros, durable, that takes room as it is written.
	Create(ctx context.Context, n lun.NAA, size uint64) error
	// Remove deletes a LUN and gives its room back. Whoever still holds it reads
	// on; its room comes back when the last lets go. A LUN that is gone is success.
	Remove(ctx context.Context, n lun.NAA) error
	// List are the LUNs that can be used, and names of whatever else is there.
	List(ctx context.Context) (luns []lun.NAA, others []string, err error)

	// Path is the file or block device of a LUN. It stays as long as anybody has
	// it open, and may be another after a restart of the machine.
	Path(n lun.NAA) string
	// Descriptor opens a LUN for a holder, and marks it as held by him for as
	// long as the descriptor is open anywhere. The caller closes the file.
	Descriptor(n lun.NAA, readOnly bool, holder uint32) (*os.File, error)
	// WaitUnheld waits until nobody holds the LUN, at most for d, and returns who
	// still does, in ascending order.
	WaitUnheld(ctx context.Context, n lun.NAA, d time.Duration) ([]uint32, error)

	// Allocated are the bytes a LUN occupies, shared ones included.
	Allocated(n lun.NAA) uint64
	// Space is how full the store is.
	Space(ctx context.Context) (Space, error)
	// Devices are the device numbers of the filesystems that the store depends
	// on, down to the disks: what must not be frozen.
	Devices(ctx context.Context) map[uint64]string
	// Describe is for administrators.
	Describe(ctx context.Context) Description
	// Quicken says what would make a LUN copy faster; "" if nothing would.
	Quicken(n lun.NAA) string

	// Begin opens the sources of a batch. Nothing is made or changed.
	Begin(ctx context.Context, sources []Source) (Batch, error)
	// Close gives back what nobody uses any more. LUNs that are held stay usable;
	// the next process adopts them.
	Close()
}

// Batch copies LUNs at one instant. Its methods are called one at a time, in the
// order of the package documentation; Discard ends it at any point after the
// call before has returned.
type Batch interface {
	// Count honours ctx: what is under way when it ends finishes by itself.
	Count(ctx context.Context) error
	// Pieces is what the sources are in, altogether and the worst of them, as
	// far as it costs time; 0 where it does not.
	Pieces() (total, most uint64, worst lun.NAA)
	// Predict is how long Commit is expected to take.
	Predict() time.Duration
	// Takes are the bytes that the copies need at once, before anything is
	// written to them or their sources.
	Takes() uint64
	// MakeTargets is parallel to the sources.
	MakeTargets(ctx context.Context, names []lun.NAA) error
	// Commit logs nothing, starts no process and writes nothing but the copies.
	// If one copy fails the batch can only be discarded. Its sources go on in any
	// case, also when ctx ends.
	Commit(ctx context.Context) (time.Duration, error)
	// Persist is told how long Commit took, for later predictions.
	Persist(ctx context.Context, took time.Duration) error
	Finish()
	Discard(ctx context.Context) error
}
