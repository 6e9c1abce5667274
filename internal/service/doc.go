// Package service is the shadow copy service: it answers the requester API on
// a unix socket and puts the jobs of its sub-packages together.
//
//	session    the order of calls, one table
//	async      operations that run in the background
//	create     makes sets              (machine A)
//	importing  imports and cleans up   (machine B)
//	copies     expose, delete, release
//	recovery   what is done before serving
//	registry   the providers
//
// A client opens a session; its stream is the session's lease. When it ends,
// however it ends, the object is released: a set under creation is aborted,
// auto-release copies are deleted. An import is never undone.
package service
