package vss

import (
	"errors"
	"io/fs"
	"syscall"
)

// LacksResources reports whether an error comes of a lack of memory or of
// other system resources, which is E_OUTOFMEMORY (requester.md 8, row 22): no
// memory, descriptors, buffers or locks left, or no process or thread to be
// had. Lack of room on a disk or an array is VSS_E_INSUFFICIENT_STORAGE and
// not meant.
func LacksResources(err error) bool {
	for _, e := range []error{syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOLCK} {
		if errors.Is(err, e) {
			return true
		}
	}
	// EAGAIN means "try again" nearly everywhere else.
	var p *fs.PathError
	return errors.As(err, &p) && p.Op == "fork/exec" && errors.Is(p.Err, syscall.EAGAIN)
}

// classified is e, with the code that its cause deserves if nobody gave it one.
func (e *Error) classified() *Error {
	if e.Code != VSS_E_UNEXPECTED || !LacksResources(e.Err) {
		return e
	}
	c := *e
	c.Code = E_OUTOFMEMORY
	c.Remedy = "Free memory or descriptors on this machine, or raise the service's limits, then try again"
	return &c
}
