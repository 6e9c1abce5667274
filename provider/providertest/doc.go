// Package providertest is the conformance suite of the provider contract: one
// for every provider, ours and those of others, in this process or behind a
// socket (package provider/remote).
//
// A case calls the provider as the service would, or as the service never
// should, and says in plain words what was wrong. [Run] runs them anywhere;
// `umbra provider validate` does. [Test] runs them under go test, one subtest
// each.
//
// What is given is a [Subject]: the provider and one or two LUNs of it that may
// be copied. Every case makes sets of its own and deletes what it made. Cases
// that need what the subject has not (a second LUN, a way to attach a copy, a
// restart) are skipped, and say so.
//
// Where VSS and Umbra decide differently, both pass: a copy may be mapped
// read-only or read/write (requester.md 8, row 27), PreFinalCommitSnapshots and
// PostFinalCommitSnapshots may keep no order of their own (provider.md 5).
package providertest
