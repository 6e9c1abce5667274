package vss

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Error is every error that crosses a boundary in Umbra. It is carried
// losslessly over the wire.
//
// Code is what a program acts on; the strings are for the person who reads
// it: which operation (and phase) failed, on which object, why, and what to do
// about it. EventID, when set, names the entry in the service's event log that
// has the details (`umbra list events --id`).
//
// An Error is immutable once returned and safe for concurrent use.
type Error struct {
	Code    HResult
	Op      string // operation or phase: "ImportSnapshots: locate LUNs"
	Object  string // the volume, LUN, set, provider or file concerned
	Reason  string // why, one sentence without a full stop
	Remedy  string // what helps, an imperative sentence without a full stop
	EventID string // event with the details, "" for none
	Err     error  // the cause, local to the process that made the Error
}

// Error formats everything but the remedy on one line. Command-line front
// ends print the fields apart.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if e.Object != "" {
		b.WriteString(e.Object)
		b.WriteString(": ")
	}
	b.WriteString(e.Code.String())
	if e.Reason != "" {
		b.WriteString(": ")
		b.WriteString(e.Reason)
	}
	if e.Err != nil && e.Err.Error() != "" {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Why is the reason with the cause's text behind it, for wherever the cause
// itself cannot go: the wire, the disk, a screen.
func (e *Error) Why() string {
	if e.Err == nil || strings.Contains(e.Reason, e.Err.Error()) {
		return e.Reason
	}
	return strings.TrimPrefix(e.Reason+": "+e.Err.Error(), ": ")
}

// MarshalJSON writes the fields a program can use, the code both as number and
// as name. The cause is folded into the reason.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Code    string `json:"code"`
		Name    string `json:"name"`
		Op      string `json:"op,omitempty"`
		Object  string `json:"object,omitempty"`
		Reason  string `json:"reason,omitempty"`
		Remedy  string `json:"remedy,omitempty"`
		EventID string `json:"event_id,omitempty"`
	}{fmt.Sprintf("0x%08X", uint32(e.Code)), e.Code.Name(), e.Op, e.Object, e.Why(), e.Remedy, e.EventID})
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrImportInProgress is the VSS_E_BAD_STATE of an import that met another on
// this machine (requester.md 3.2 P6). It matches with errors.Is also after it
// crossed the wire.
var ErrImportInProgress error = &Error{Code: VSS_E_BAD_STATE, Op: "ImportSnapshots", Object: "this machine", Reason: "another import runs on this machine",
	Remedy: "Wait until it is done; umbra import without --no-wait queues by itself"}

// Is reports whether target is the Error's code, or an *Error that says the
// same (code, operation and reason). E_UNEXPECTED, the old form that Umbra
// never emits, matches VSS_E_UNEXPECTED (requester.md 8, row 23).
func (e *Error) Is(target error) bool {
	if t, ok := target.(*Error); ok {
		return e.Code == t.Code && e.Op == t.Op && e.Reason == t.Reason
	}
	h, ok := target.(HResult)
	if !ok {
		return false
	}
	if h == E_UNEXPECTED {
		h = VSS_E_UNEXPECTED
	}
	return e.Code == h
}

// CodeOf returns the code of the first Error in err's chain, S_OK for nil. An
// error that nobody classified is E_OUTOFMEMORY if it comes of a lack of system
// resources (see [LacksResources]), else VSS_E_UNEXPECTED.
func CodeOf(err error) HResult {
	if err == nil {
		return S_OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.classified().Code
	}
	var h HResult
	if errors.As(err, &h) {
		return h
	}
	if LacksResources(err) {
		return E_OUTOFMEMORY
	}
	return VSS_E_UNEXPECTED
}

// AsError returns the first Error in err's chain, or wraps err in one under op,
// with the code that CodeOf gives. It returns nil for nil.
func AsError(op string, err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e.classified()
	}
	return (&Error{Code: VSS_E_UNEXPECTED, Op: op, Reason: err.Error(), Err: err}).classified()
}
