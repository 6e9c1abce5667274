// Package array is the in-tree hardware provider for Umbra arrays: it turns the
// provider contract into calls on the arrays this host has joined.
//
// Which array a LUN belongs to is in the LUN's name, which array signed a
// ticket is in the ticket; neither asks anybody. A set may span arrays: each
// phase runs on all of them in parallel, and a phase that fails on one fails
// the set.
//
// The provider follows one set at a time through the states of provider.md 5
// (machine.go). Once its copies are durable a set is only ever dropped by an
// explicit abort, never because another set begins or a call comes out of
// order. Nothing is kept that a restart would miss: after one, AbortSnapshots
// asks every array to drop what is unfinished, and everything about finished
// sets is the arrays' to answer.
package array
