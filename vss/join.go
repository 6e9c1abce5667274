package vss

import (
	"errors"
	"fmt"
	"strings"
)

// joinNamed is how many errors Join names beside the first: with it all LUNs or
// volumes of a set. Beyond that it counts, since a reason is for a person.
const joinNamed = 63

// Join is errors.Join for the errors of a list, of which each has an object of
// its own: one Error with the code, the object and the remedy of the first, and
// a reason that names the others as well. What errors.Join returns would lose
// them wherever an Error alone can go: on the wire, in an event, in JSON.
//
// Nil errors and what says the same of the same object are left out; Join
// returns nil if nothing is left, and an only error as it is. errors.Is and
// errors.As find every one. op is the operation of the result, "" keeps that of
// the first. If nobody classified any of them, it is errors.Join.
func Join(op string, errs ...error) error {
	var parts []error
	for _, err := range errs {
		parts = flatten(parts, err)
	}
	parts = distinct(parts)
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	lead := -1
	for i, p := range parts {
		if isError(p) {
			lead = i
			break
		}
	}
	if lead < 0 {
		return errors.Join(parts...)
	}
	first := AsError(op, parts[lead])
	e := &Error{Code: first.Code, Op: first.Op, Object: first.Object, Remedy: first.Remedy, EventID: first.EventID}
	if op != "" {
		e.Op = op
	}
	// The first comes first in the chain, too.
	all := append([]error{parts[lead]}, append(parts[:lead:lead], parts[lead+1:]...)...)
	e.Reason, e.Err = reasons(first, all[1:]), joined{e, all}
	return e
}

func isError(err error) bool {
	var e *Error
	return errors.As(err, &e)
}

// flatten takes apart what errors.Join and Join put together.
func flatten(parts []error, err error) []error {
	if err == nil {
		return parts
	}
	var many []error
	if e, ok := err.(*Error); ok {
		// Of a copy somebody gave another code, that code counts.
		if j, ok := e.Err.(joined); ok && j.in == e {
			many = j.errs
		}
	} else if j, ok := err.(interface{ Unwrap() []error }); ok {
		many = j.Unwrap()
	}
	if len(many) == 0 {
		return append(parts, err)
	}
	for _, m := range many {
		parts = flatten(parts, m)
	}
	return parts
}

func distinct(parts []error) (out []error) {
	seen := map[string]bool{}
	for _, p := range parts {
		if text := p.Error(); !seen[text] {
			seen[text] = true
			out = append(out, p)
		}
	}
	return out
}

// reasons is why the first failed, and which others did and why.
func reasons(first *Error, others []error) string {
	var b strings.Builder
	b.WriteString(first.Why())
	for i, o := range others {
		if i == joinNamed {
			fmt.Fprintf(&b, "; and %d more", len(others)-i)
			break
		}
		b.WriteString("; ")
		if !isError(o) {
			b.WriteString(o.Error())
			continue
		}
		e := AsError("", o)
		b.WriteString(strings.TrimPrefix(e.Object+": ", ": "))
		if e.Code != first.Code || e.Why() == "" {
			b.WriteString(e.Code.Name())
			if e.Why() != "" {
				b.WriteString(": ")
			}
		}
		if e.Code == first.Code && e.Why() == first.Why() && e.Why() != "" {
			b.WriteString("the same")
		} else {
			b.WriteString(e.Why())
		}
	}
	return b.String()
}

// joined are the causes of an Error, whose text is in its reason already.
type joined struct {
	in   *Error
	errs []error
}

func (joined) Error() string     { return "" }
func (j joined) Unwrap() []error { return j.errs }
