// Package document is what travels: the Backup Components Document and the
// bundle it is carried in.
//
// A transportable shadow copy set is created on one machine and imported on
// another, and the two services never talk to each other. Everything the
// importer must know rides in the document: which provider made the copies,
// which LUNs they are on, where on those LUNs each volume lies, what
// filesystem is on it, and the storage system's ticket that lets this set be
// imported. [Document] is its content, [Marshal] and [Unmarshal] are its XML
// form (schema docs/backup-components-1.xsd), and [WriteBundle] and [Read] the
// file that users copy between machines.
//
// A document is untrusted input. Reading is strict: one canonical spelling of
// every value, no unknown elements or attributes, no DTD, limits on every
// count and length, and a [SnapshotSet.Digest] of everything import relies on,
// which is checked against the one in the document and which the ticket signs.
// The digest in the document shows accidents; only the ticket's signature
// stops a forger. What lies outside the snapshot set (the context and backup
// state of the requester that wrote it) is not signed, and import must not
// rely on it: the set's own Attributes carry the context it was created in.
//
// The schema grows by version. A document of a version this package does not
// know is refused as such; there are no wildcards that would let an old
// importer ignore what a new creator thought essential.
//
// Source: requester.md 6, provider.md 6.2.
package document
