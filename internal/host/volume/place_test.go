package volume

import (
	"reflect"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/block"
)

func TestCut(t *testing.T) {
	a, b := block.Device{Name: "a"}, block.Device{Name: "b"}
	laid := []stretch{
		{runs: []run{{a, 100, 50}}},
		{chunk: 10, runs: []run{{a, 500, 40}, {b, 700, 40}}},
		{runs: []run{{b, 0, 30}}},
	}
	for _, c := range []struct {
		offset, length uint64
		want           []stretch // nil: impossible
	}{
		{0, 160, laid},
		{10, 20, []stretch{{runs: []run{{a, 110, 20}}}}},
		{0, 50, laid[:1]},
		{50, 20, []stretch{{chunk: 10, runs: []run{{a, 500, 10}, {b, 700, 10}}}}},
		{40, 50, []stretch{{runs: []run{{a, 140, 10}}}, {chunk: 10, runs: []run{{a, 500, 20}, {b, 700, 20}}}}},
		{90, 50, []stretch{{chunk: 10, runs: []run{{a, 520, 20}, {b, 720, 20}}}, {runs: []run{{b, 0, 10}}}}},
		{130, 30, laid[2:]},
		{55, 20, nil},  // within a chunk
		{50, 10, nil},  // half a stripe
		{150, 20, nil}, // beyond the end
		{200, 1, nil},
	} {
		got, ok := cut(laid, c.offset, c.length)
		if ok != (c.want != nil) || ok && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%d bytes from %d: %v %+v, want %+v", c.length, c.offset, ok, got, c.want)
		}
	}
}
