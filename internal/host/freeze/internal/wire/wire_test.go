package wire

import "testing"

func TestParseCounters(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Counters
		ok   bool
	}{
		{"  1 2 3 4 5 6 77 8 9 10 11 12 13 140 15 16 17\n", Counters{77, 140}, true},
		{"1 2 3 4 5 6 7 8 9 10 11", Counters{Written: 7}, true}, // before Linux 4.18
		{"1 2 3 4 5 6 7", Counters{Written: 7}, true},
		{"1 2 3 4 5 6", Counters{}, false},
		{"", Counters{}, false},
	} {
		if got, ok := ParseCounters([]byte(tc.in)); got != tc.want || ok != tc.ok {
			t.Errorf("%q: %+v %v", tc.in, got, ok)
		}
	}
	line := []byte("  1 2 3 4 5 6 77 8 9 10 11 12 13 140 15 16 17\n")
	if n := testing.AllocsPerRun(10, func() { ParseCounters(line) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make([]byte, MessageSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := Parse(b)
		if ok != (len(b) == MessageSize) {
			t.Fatal(ok)
		}
		var back [MessageSize]byte
		if m.Put(&back); ok && string(back[:]) != string(b) {
			t.Fatalf("%v became %v", b, back)
		}
	})
}

func TestPage(t *testing.T) {
	p := FromMemory(make([]byte, PageSize))
	p.Slots[MaxFilesystems-1].SectorsAfter.Store(1)
	if PageSize > 64<<10 {
		t.Errorf("%d bytes", PageSize)
	}
}
