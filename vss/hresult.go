package vss

import "fmt"

// HResult is a 32-bit result code. Its top bit is the severity: set means
// failure. Several success codes carry meaning of their own
// (VSS_S_ASYNC_FINISHED, VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED), so compare exact
// values where the difference matters; Failed alone cannot tell "finished"
// from "cancelled".
//
// An HResult is an error, so that errors.Is(err, vss.VSS_E_BAD_STATE) matches
// any [Error] with that code. It is never returned bare from an exported
// function: return an *Error, which says what and why.
type HResult uint32

// Failed reports whether the code has failure severity.
func (h HResult) Failed() bool { return h&0x80000000 != 0 }

// Name returns the code's name in the public headers, or its value in
// hexadecimal when it has none here.
func (h HResult) Name() string {
	if n, ok := hresultNames[h]; ok {
		return n
	}
	return fmt.Sprintf("HRESULT(0x%08X)", uint32(h))
}

// String is Name with the value behind it: "VSS_E_BAD_STATE (0x80042301)".
func (h HResult) String() string {
	if _, ok := hresultNames[h]; !ok {
		return h.Name()
	}
	return fmt.Sprintf("%s (0x%08X)", h.Name(), uint32(h))
}

// Error makes an HResult usable as the target of errors.Is.
func (h HResult) Error() string { return h.String() }
