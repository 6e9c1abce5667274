package vss

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimestampValues(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want Timestamp
	}{
		{time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC), 0},
		{time.Date(1601, 1, 1, 0, 0, 1, 0, time.UTC), 10_000_000},
		{time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), 116444736000000000},
		{time.Date(1969, 12, 31, 23, 59, 59, 999999900, time.UTC), 116444735999999999},
		{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), 125911584000000000},
		{time.Date(1600, 12, 31, 23, 59, 59, 0, time.UTC), -10_000_000},
	} {
		if got := TimestampOf(c.at); got != c.want {
			t.Errorf("%v: %d, want %d", c.at, got, c.want)
		}
		if got := c.want.Time(); !got.Equal(c.at) || got.Location() != time.UTC {
			t.Errorf("%d: %v, want %v", c.want, got, c.at)
		}
	}
	zone := time.FixedZone("", 3600)
	if TimestampOf(time.Date(2000, 1, 1, 1, 0, 0, 0, zone)) != 125911584000000000 {
		t.Error("the time zone matters")
	}
}

func TestTimestampRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts := Timestamp(rapid.Int64Range(0, 1<<62).Draw(t, "ticks"))
		if back := TimestampOf(ts.Time()); back != ts {
			t.Fatalf("%d became %d", ts, back)
		}
		fine := rapid.IntRange(0, 99).Draw(t, "ns")
		if TimestampOf(ts.Time().Add(time.Duration(fine))) != ts {
			t.Fatal("what is finer than 100 ns is not dropped")
		}
	})
}
