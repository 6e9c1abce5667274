// Package document is what travels: the Backup Components Document, the
// metadata of the writers that took part, and the bundle both are carried in.
//
// A transportable shadow copy set is created on one machine and imported on
// another, and the two services never talk to each other. Everything the
// importer must know rides in the document: which provider made the copies,
// which LUNs they are on, where on those LUNs each volume lies, what
// filesystem is on it, and the storage system's ticket that lets this set be
// imported. [Document] is its content, [Marshal] and [Unmarshal] are its XML
// form (schema docs/backup-components-1.xsd), and [WriteBundle] and [ReadBundle]
// the file that users copy between machines.
//
// The document also holds what requester and writers tell each other about
// components: [Document.AddComponent] and the other setters of a requester,
// [Document.UpdateComponent] for writers. It has no paths. Which files a
// component is made of only its writer can say, in a [WriterMetadata] document
// of its own (schema docs/writer-metadata-1.xsd), which a requester saves with
// the set: on the other machine [ExamineWriterMetadata] reads it, and
// [WriterMetadata.OnCopies] says where on the imported copies the files are.
//
// A document is untrusted input. Reading is strict: one canonical spelling of
// every value, no unknown elements or attributes, no DTD, limits on every
// count and length, and a [SnapshotSet.Digest] of everything import relies on,
// which is checked against the one in the document and which the ticket signs.
// The digest in the document shows accidents; only the ticket's signature
// stops a forger. What lies outside the snapshot set (the context and backup
// state of the requester that wrote it, components, writers' metadata) is not
// signed, and import must not rely on it: the set's own Attributes carry the
// context it was created in. Components cannot be signed with the set, because
// SetBackupSucceeded comes long after it.
//
// The schema grows by version. A document of a version this package does not
// know is refused as such; there are no wildcards that would let an old
// importer ignore what a new creator thought essential. What an old importer
// can read is written so that it can: a document without components is still of
// version 1.0, a bundle without writers of version 1.
//
// Source: requester.md 2.3, 2.6, 3.7 and 6, provider.md 6.2, writer.md 4.
package document
