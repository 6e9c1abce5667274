// Package array is Umbra's reference storage system: LUNs with identities that
// last, copies of any number of them at one instant, and a mask that says which
// host sees which. It holds no VSS logic; the provider of internal/providers/array
// turns the provider contract into its calls.
//
// # What is where
//
// A LUN is a file or a device of the store (package backend). Everything else the array knows
// is one bbolt database with a mirror in memory (state.go): who it is, its
// certificate authority, hosts, LUNs and their masks, sets and who imported
// them. The administrator talks to it over a unix socket as root; hosts talk
// to it over mutual TLS, on unix sockets too, and are whoever their certificate
// says. LUNs leave it as descriptors over a third socket (fdpass), against
// tokens got over TLS, for hosts on the array's machine; for others they are
// exported over the network (exports.go, package export).
//
// # A set of copies
//
//	PrepareSet      checks masks and room, flushes and counts extents, predicts the
//	                clone time and refuses what takes too long; records the intent
//	                with the names of the copies; makes empty files
//	PreCommitSet    flushes and counts again: writers have stopped, writes not yet
//	CommitSet       FICLONE calls and nothing else, all or none
//	PostCommitSet   fsync, then one transaction: now the copies exist
//	AbortSet        at any time, any number of times
//
// A set that is not recorded as committed when the array starts is aborted, its
// files removed: its host cannot have been told that it exists. One that is
// recorded is kept. A set nobody drives for [Config.Lease] is aborted as well,
// and so is the unfinished set of a host that prepares another.
//
// # Import
//
// LocateLUNs verifies the ticket, binds the set to the host and its import, and
// unmasks the copies, all in one transaction. A bound set is imported by nobody
// else, until its importer releases it.
//
// # Decisions
//
// Who has a LUN attached is asked of the kernel (file locks on the descriptors
// that were handed out), not recorded: it costs no transaction and cannot be
// wrong after a crash. Over the network it is recorded, because no kernel knows:
// a mask permits, and a LUN is exported to a host from when the host asks for it
// until it says that it has let go. So what a host could find on its bus by
// looking is what it has attached, and nothing more. A file in the store that the database does not know is
// listed (Info, strays) and never deleted: it may be somebody's only copy. A
// LUN whose file is missing is listed as lost. A copy a host breaks writable
// is an original from then on: no host may delete it, no ticket opens it.
package array
