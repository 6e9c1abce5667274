// Package create makes shadow copy sets (provider.md 2, requester.md 2.3.1).
//
// A [Creator] makes one set at a time on a machine. Volumes are added one by
// one, each offered to the hardware providers; then [Set.Do] walks the
// pipeline:
//
//	end-prepare   providers finish preparing; refusals belong here
//	flush         syncfs of every volume, so that the hold holds little
//	pre-commit    providers, a second at most
//	hold          the guard freezes all filesystems in parallel
//	commit        all providers in parallel: the point in time
//	release       the guard thaws, waiting for nobody
//	post-commit   copies are made durable; only now can there be a document
//	describe      identities of the copies, digest, ticket
//	import        of a set that does not travel: here, by package importing
//
// Between hold and release nothing here writes to disk, starts a process or
// logs: the guard was started, the catalogue's gate closed and every buffer
// made before. Whatever fails, the filesystems are released first, then the
// providers abort, and a set whose hold was not perfect is deleted, never
// reported.
package create
