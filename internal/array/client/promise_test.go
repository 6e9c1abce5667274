package client

import (
	"slices"
	"testing"
	"time"

	arrayv1 "github.com/umbra-vss/umbra/internal/gen/umbra/array/v1"
	"github.com/umbra-vss/umbra/lun"
)

func TestPromises(t *testing.T) {
	a, b, c := lun.NAA{1}, lun.NAA{2}, lun.NAA{3}
	open := &arrayv1.OpenLUNsResponse{DataSocket: "here"}
	made := func() *promises {
		p := &promises{}
		p.keep([]lun.NAA{a, b}, []State{{NAA: a}, {NAA: b}}, open)
		return p
	}
	p := made()
	for _, other := range [][]lun.NAA{{a}, {a, c}, {a, b, c}, nil} {
		if got, _ := p.take(other); got != nil || p.describe(other) != nil {
			t.Errorf("%v was promised", other)
		}
	}
	got, order := p.take([]lun.NAA{b, a})
	if got != open || !slices.Equal(order, []lun.NAA{a, b}) {
		t.Errorf("took %v in order %v", got, order)
	}
	if again, _ := p.take([]lun.NAA{a, b}); again != nil {
		t.Error("a token was given away twice")
	}
	if s := p.describe([]lun.NAA{b, a}); len(s) != 2 || s[0].NAA != b || s[1].NAA != a {
		t.Errorf("described as %v", s)
	}
	if p.describe([]lun.NAA{a, b}) != nil {
		t.Error("the same answer was given twice")
	}

	p = made()
	p.forget()
	if got, _ := p.take([]lun.NAA{a, b}); got != nil || p.describe([]lun.NAA{a, b}) != nil {
		t.Error("what was forgotten is remembered")
	}
	p = made()
	p.at = time.Now().Add(-promiseLife - time.Second)
	if got, _ := p.take([]lun.NAA{a, b}); got != nil || p.describe([]lun.NAA{a, b}) != nil {
		t.Error("an old promise was believed")
	}
	// Without a token, from an array that sent none.
	p = &promises{}
	p.keep([]lun.NAA{a}, []State{{NAA: a}}, nil)
	if got, _ := p.take([]lun.NAA{a}); got != nil || p.describe([]lun.NAA{a}) == nil {
		t.Error("a promise without a token")
	}
}
