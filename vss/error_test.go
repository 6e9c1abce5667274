package vss

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*Error{
		"VSS_E_BAD_STATE (0x80042301)": {Code: VSS_E_BAD_STATE},
		"ImportSnapshots: locate LUNs: naa.60: VSS_E_PROVIDER_VETO (0x80042306): the ticket has expired: EOF": {
			Code: VSS_E_PROVIDER_VETO, Op: "ImportSnapshots: locate LUNs", Object: "naa.60", Reason: "the ticket has expired",
			Remedy: "Issue it again", EventID: "17", Err: io.EOF},
	} {
		if e.Error() != want {
			t.Errorf("%q, want %q", e.Error(), want)
		}
	}
}

func TestErrorMatching(t *testing.T) {
	e := &Error{Code: VSS_E_BAD_STATE, Err: io.EOF}
	wrapped := fmt.Errorf("while importing: %w", e)
	for _, target := range []error{VSS_E_BAD_STATE, io.EOF, e} {
		if !errors.Is(wrapped, target) {
			t.Errorf("it is not %v", target)
		}
	}
	for _, target := range []error{VSS_E_UNEXPECTED, E_UNEXPECTED, io.ErrUnexpectedEOF, &Error{Code: VSS_E_BAD_STATE, Reason: "another"}} {
		if errors.Is(wrapped, target) {
			t.Errorf("it is %v", target)
		}
	}
	// requester.md 3.2 P6: told apart from other bad states, by what it says.
	again := *ErrImportInProgress.(*Error)
	if !errors.Is(&again, ErrImportInProgress) || errors.Is(e, ErrImportInProgress) || !errors.Is(ErrImportInProgress, VSS_E_BAD_STATE) {
		t.Error("an import in progress is not told apart")
	}
	// requester.md 8 row 23: the old name still matches.
	if !errors.Is(&Error{Code: VSS_E_UNEXPECTED}, E_UNEXPECTED) {
		t.Error("VSS_E_UNEXPECTED does not match E_UNEXPECTED")
	}
}

func TestCodeOf(t *testing.T) {
	for want, err := range map[HResult]error{
		S_OK:                nil,
		VSS_E_UNEXPECTED:    io.EOF,
		VSS_E_BAD_STATE:     fmt.Errorf("a: %w", &Error{Code: VSS_E_BAD_STATE, Err: &Error{Code: E_FAIL}}),
		VSS_E_PROVIDER_VETO: fmt.Errorf("b: %w", VSS_E_PROVIDER_VETO),
	} {
		if got := CodeOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

func TestAsError(t *testing.T) {
	if AsError("op", nil) != nil {
		t.Error("nil is no error")
	}
	e := &Error{Code: E_ACCESSDENIED, Op: "first"}
	if AsError("op", fmt.Errorf("a: %w", e)) != e {
		t.Error("the first Error is not kept")
	}
	if got := AsError("op", io.EOF); got.Code != VSS_E_UNEXPECTED || got.Op != "op" || !errors.Is(got, io.EOF) || got.Reason != "EOF" {
		t.Errorf("%#v", got)
	}
}
