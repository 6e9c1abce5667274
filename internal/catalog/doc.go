// Package catalog is the service's durable memory: one bbolt file per machine.
//
// It holds sets (created here, or imported here), the copies that exist on
// this machine, the LUNs an import touched, open intents and the event log.
// The rule that makes crashes survivable is: an intent is committed before
// each outside effect, and closed in the transaction that records the
// outcome. On start-up whatever intent is still open tells the service what
// it was doing when it died.
//
// Invariants:
//   - a copy belongs to a set of the same database;
//   - a LUN in state LUNUnmasking or LUNOrphaned stays listed until the
//     requester cleans it up; nothing else removes it;
//   - event numbers only grow;
//   - the index (the copies of a set, of a volume, on a LUN, of a session; the
//     LUNs of a set) says what a look at every record would say.
//
// The file says what form it has. An older one is given this version's when it
// is opened; a newer one is refused.
//
// While a shadow copy set holds writes, no session may write here (the file
// may share a disk with anything): [Catalog.Hold] closes a gate at which
// [Catalog.Update] waits, and events gather in a bounded queue in memory.
// Reading is never blocked. All methods are safe for concurrent use.
package catalog
