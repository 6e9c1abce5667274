// Package async is IVssAsync on the service's side: one background operation
// that can be asked, waited for and cancelled (requester.md 4).
//
// The terminal state is written exactly once. A Cancel that comes too late
// tells what the operation had ended with. Letting go of an [Operation] does
// not stop it.
package async
