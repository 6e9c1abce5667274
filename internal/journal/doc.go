// Package journal mirrors the service's events to the systemd journal, where
// there is one, so that an administrator's usual tools and alerts see them.
//
// It speaks the journal's own protocol: one datagram an entry, of fields with
// names, so that nothing has to be parsed back out of a line of text:
//
//	journalctl UMBRA_SET={77aa…}
//	journalctl MESSAGE_ID=…           all events of one number
//
// The event log in the catalogue is the record; this is a copy. Writing it
// never waits: if the journal is slow the entry is dropped and counted, and the
// next one that gets through says how many are missing. An entry that is too
// long for a datagram goes as a sealed file in memory, as the protocol has it.
//
// Events come from [catalog.Catalog.OnEvent], when they are durable and nothing
// is held: the journal's own disk may be frozen during a hold.
package journal
