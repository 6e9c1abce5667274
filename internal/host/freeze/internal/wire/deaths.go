package wire

// Places where a test can have the guard die. The guard has no failpoints of
// its own: they would bring packages into its locked memory. The daemon's are
// armed for it, and the shared page says where to die.
const (
	DieNowhere      uint32 = iota
	DieReady               // locked in memory, the daemon not told
	DieBeforeFreeze        // the first thread is about to freeze
	DieAfterFreeze         // a filesystem is frozen, and nobody told
	DieHolding             // all are, and the daemon not told
	DieBeforeThaw          // the first thread is about to thaw
	DieAfterThaw           // a filesystem is thawed, and nobody told
	DieDone                // all are, and the daemon not told
)

// Deaths names them, as failpoints.
var Deaths = map[string]uint32{
	"guard.ready":         DieReady,
	"guard.before-freeze": DieBeforeFreeze,
	"guard.after-freeze":  DieAfterFreeze,
	"guard.holding":       DieHolding,
	"guard.before-thaw":   DieBeforeThaw,
	"guard.after-thaw":    DieAfterThaw,
	"guard.done":          DieDone,
}
