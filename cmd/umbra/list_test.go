package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	local := func(day, hour, minute int) time.Time { return time.Date(2026, 3, day, hour, minute, 0, 0, time.Local) }
	for text, want := range map[string]time.Time{
		"":                     {},
		"2h":                   now.Add(-2 * time.Hour),
		"1h30m":                now.Add(-90 * time.Minute),
		"7d":                   now.AddDate(0, 0, -7),
		"0s":                   now,
		"2026-03-09T10:00:00Z": time.Date(2026, 3, 9, 10, 0, 0, 0, time.UTC),
		"2026-03-09":           local(9, 0, 0),
		"2026-03-09 10:05":     local(9, 10, 5),
		"2026-03-09 10:05:00":  local(9, 10, 5),
	} {
		if got, err := parseTime("--since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-2h", "2", "d", "-1d", "2026-13-01", "10:00"} {
		got, err := parseTime("--since", text, now)
		if _, ok := err.(usageError); !ok || !strings.Contains(err.Error(), "--since") {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}
