// Package session is the order of calls on one BackupComponents object.
//
// [Table] says, for every method and every state, whether the call is legal
// and where it leads; whatever is not in it answers VSS_E_BAD_STATE
// (requester.md 2). A [Machine] walks the table. Asynchronous methods enter a
// busy state when they start and leave it when they end, so that nothing else
// can be called meanwhile but what the busy state allows.
package session
