// Package servicetest has a storage system and a machine in memory, for tests
// of the service's jobs.
//
// An [Array] keeps LUNs, masks and bindings and does what provider.Hardware
// and its optional interfaces promise; a [Host] attaches what is unmasked to
// it. Both write each call that changes something into one [Journal], so that
// a test can hold the order of calls to the specification, and both fail,
// block or are late on demand. Nothing here touches a real device. A [Machine]
// is a whole service above them, on a real socket.
package servicetest
