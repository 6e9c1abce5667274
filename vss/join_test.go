package vss

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestJoinNothingAndOne(t *testing.T) {
	if err := Join("op"); err != nil {
		t.Error(err)
	}
	if err := Join("op", nil, nil); err != nil {
		t.Error(err)
	}
	e := &Error{Code: E_ACCESSDENIED, Op: "first", Object: "a"}
	for _, errs := range [][]error{{nil, e}, {e, e}, {errors.Join(nil, e)}} {
		if got := Join("op", errs...); got != error(e) {
			t.Errorf("%v became %v", errs, got)
		}
	}
	// What nobody classified stays so, and stays complete.
	if err := Join("op", io.EOF, io.ErrClosedPipe); CodeOf(err) != VSS_E_UNEXPECTED || !strings.Contains(AsError("op", err).Reason, io.EOF.Error()) || !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// TestJoinNamesAll: what crosses the wire is one Error, without its cause.
func TestJoinNamesAll(t *testing.T) {
	one := &Error{Code: VSS_E_VOLUME_IN_USE, Op: "detach LUN", Object: "naa.1", Reason: "it is mounted", Remedy: "Unmount it", EventID: "7", Err: io.EOF}
	two := &Error{Code: VSS_E_VOLUME_IN_USE, Op: "detach LUN", Object: "naa.2", Reason: "it is mounted", Err: io.EOF}
	three := &Error{Code: VSS_E_PROVIDER_VETO, Object: "naa.3", Reason: "no", Err: io.ErrClosedPipe}
	err := Join("clean up", nil, errors.Join(io.ErrNoProgress, one), fmt.Errorf("later: %w", two), three)
	e := AsError("", err)
	if e.Code != one.Code || e.Op != "clean up" || e.Object != "naa.1" || e.Remedy != one.Remedy || e.EventID != "7" {
		t.Errorf("%+v", e)
	}
	const want = "it is mounted: EOF; multiple Read calls return no data or error; naa.2: the same; naa.3: VSS_E_PROVIDER_VETO: no: io: read/write on closed pipe"
	if e.Why() != want {
		t.Errorf("why %q\nwant %q", e.Why(), want)
	}
	if strings.Count(err.Error(), "naa.3") != 1 {
		t.Errorf("said twice: %v", err)
	}
	for _, target := range []error{one, two, three, VSS_E_PROVIDER_VETO, io.ErrClosedPipe, io.ErrNoProgress} {
		if !errors.Is(err, target) {
			t.Errorf("it is not %v", target)
		}
	}
	// Under another code it is one of a list.
	veto := *e
	veto.Code, veto.Object = VSS_E_BAD_STATE, "set"
	if again := AsError("", Join("", &veto, three)); again.Code != VSS_E_BAD_STATE || again.Object != "set" || again.Why() != want+"; naa.3: VSS_E_PROVIDER_VETO: no: io: read/write on closed pipe" {
		t.Errorf("%+v", again)
	}
	// Joined again it is one list, not a list in a list.
	four := &Error{Code: E_INVALIDARG, Object: "naa.4"}
	if again := AsError("", Join("", err, four)); again.Why() != want+"; naa.4: E_INVALIDARG" || again.Op != one.Op {
		t.Errorf("%+v", again)
	}
}

func TestJoinCountsTheRest(t *testing.T) {
	var errs []error
	for i := range 100 {
		errs = append(errs, &Error{Code: VSS_E_OBJECT_NOT_FOUND, Object: fmt.Sprintf("<%d>", i), Reason: "gone"})
	}
	why := AsError("", Join("", errs...)).Why()
	if !strings.Contains(why, "<63>: the same; and 36 more") || strings.Contains(why, "<64>") {
		t.Error(why)
	}
	if !errors.Is(Join("", errs...), errs[99]) {
		t.Error("the last is lost")
	}
}
