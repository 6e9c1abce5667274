package wire

import (
	"sync/atomic"
	"unsafe"
)

// Version is compared at the handshake: a guard of another build is refused.
const Version = 3

// ExpeditedPath is the kernel's switch for short RCU grace periods.
const ExpeditedPath = "/sys/kernel/rcu_expedited"

// MaxFilesystems is how many filesystems one guard can hold.
const MaxFilesystems = 256

// Phases of the guard as a whole.
const (
	PhaseStarting uint32 = iota // setting up, not locked yet
	PhaseReady                  // locked in memory, nothing frozen
	PhaseFreezing               // at least one FIFREEZE issued
	PhaseHolding                // all frozen, counters read
	PhaseThawing                // release under way
	PhaseDone                   // every thread is through; it never freezes again
)

// Causes of a release.
const (
	CauseNone    uint32 = iota
	CauseCommand        // the daemon asked
	CauseLimit          // the time limit passed
	CauseParent         // the daemon died or closed the socket
	CauseFreeze         // one FIFREEZE failed
)

// States of one filesystem. The guard's thread moves it forward; either side
// may move StateFrozen on (to StateThawing or StateClaimed) by
// compare-and-swap, and only who did may thaw. That keeps a guard that was
// stopped and comes back from thawing a freeze somebody else made meanwhile.
const (
	StateIdle     uint32 = iota // FIFREEZE not issued
	StateFreezing               // in FIFREEZE: the outcome is unknown
	StateFailed                 // FIFREEZE failed: not ours, never thawed
	StateFrozen                 // frozen by us
	StateThawing                // in the guard's FITHAW
	StateThawed                 // FITHAW returned: see ThawErrno
	StateClaimed                // the daemon thaws it
)

// Slot is one filesystem. Times are CLOCK_MONOTONIC in nanoseconds.
type Slot struct {
	State       atomic.Uint32
	FreezeErrno atomic.Uint32
	ThawErrno   atomic.Uint32
	CounterErr  atomic.Uint32 // 1: a counter could not be read
	FreezeBegin atomic.Int64
	FreezeEnd   atomic.Int64
	ThawBegin   atomic.Int64
	ThawEnd     atomic.Int64
	// Sums over the watched devices, after the last freeze and before the
	// first thaw.
	SectorsBefore  atomic.Uint64
	SectorsAfter   atomic.Uint64
	DiscardsBefore atomic.Uint64
	DiscardsAfter  atomic.Uint64
}

// Page is the shared memory. Counters are valid from PhaseHolding (before)
// and when CountersRead is 1 (after).
type Page struct {
	Phase        atomic.Uint32
	Cause        atomic.Uint32
	CountersRead atomic.Uint32
	Expedited    atomic.Uint32 // 1: the daemon switched ExpeditedPath on and has not switched it off
	DieAt        atomic.Uint32 // DieNowhere, but in tests
	_            uint32
	Beat         atomic.Int64 // when the guard's control thread last ran
	Slots        [MaxFilesystems]Slot
}

// PageSize is the size of the shared memory in bytes.
const PageSize = int(unsafe.Sizeof(Page{}))

// FromMemory lays a Page over a shared mapping of PageSize bytes.
func FromMemory(mem []byte) *Page { return (*Page)(unsafe.Pointer(unsafe.SliceData(mem))) }
