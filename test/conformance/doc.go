// Package conformance holds the requester API to its specification: a table of
// what every method answers in every state, and to every kind of bad input, run
// against a live service, each row through package requester and through
// package vssapi.
//
//	make conformance
//
// prints passed and failed per method, the points that the specification leaves
// open with what was decided, and the checklist of the ImportSnapshots page. Any
// difference fails; the tests run with all others, too.
//
// The table is written here a second time, from requester.md 2.1 to 2.8, and
// shares nothing with the one that the service walks
// (internal/service/session), so that an error in one is not in both.
package conformance
