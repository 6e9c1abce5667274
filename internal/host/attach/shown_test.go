package attach

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func TestShown(t *testing.T) {
	naa := func(n byte) lun.NAA { return lun.NAA{0x60, 0x01, 0x40, 0x5b, 15: n} }
	all := []lun.NAA{naa(1), naa(2), naa(3)}
	calls := 0
	export := func(missing ...byte) func(context.Context, []lun.NAA) (int, error) {
		calls = 0
		return func(_ context.Context, luns []lun.NAA) (int, error) {
			calls++
			for _, m := range missing {
				if slices.Contains(luns, naa(m)) {
					return 0, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "export LUNs", Object: naa(m).String(), Reason: "masked", Remedy: "unmask it"}
				}
			}
			return len(luns), nil
		}
	}
	if n, shown, err := Shown(t.Context(), all, export()); n != 3 || len(shown) != 3 || err != nil || calls != 1 {
		t.Errorf("all: %d, %v, %v, %d calls", n, shown, err, calls)
	}
	n, shown, err := Shown(t.Context(), all, export(2))
	if n != 2 || !slices.Equal(shown, []lun.NAA{naa(1), naa(3)}) || !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || !strings.Contains(err.Error(), naa(2).String()) {
		t.Errorf("but one: %d, %v, %v", n, shown, err)
	}
	if n, shown, err := Shown(t.Context(), all, export(3, 1, 2)); n != 0 || len(shown) != 0 || !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || calls != 3 {
		t.Errorf("none: %d, %v, %v, %d calls", n, shown, err, calls)
	}
	down := errors.New("no answer")
	calls = 0
	if _, shown, err := Shown(t.Context(), all, func(context.Context, []lun.NAA) (int, error) { calls++; return 7, down }); len(shown) != 0 || !errors.Is(err, down) || calls != 1 {
		t.Errorf("an array that does not answer: %v, %v, %d calls", shown, err, calls)
	}
	if !slices.Equal(all, []lun.NAA{naa(1), naa(2), naa(3)}) {
		t.Error("the caller's list was changed")
	}
}
