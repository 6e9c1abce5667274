// Package crash keeps docs/crash-matrix.md: at which failpoint which process was
// killed during what, over which transport, and what came of it.
//
// Two kinds of tests write it. Those of test/e2e kill on this machine, with LUNs
// over loop devices and NBD; those of the lab kill in its guests, over iSCSI and
// NVMe. Each brings the rows of its transports and leaves the others' alone
// ([Merge]), so the page is whole though no run is.
package crash

import (
	"fmt"
	"slices"
	"strings"
)

// Death is a row.
type Death struct {
	Point     string // the failpoint
	Process   string // who was killed
	During    string // the command that ran
	Transport string // how hosts had their LUNs: loop, nbd, iscsi, nvme
	Answer    string // what the command's caller was told
	After     string // what there was when the process ran again
}

// key is what a row is about; the rest is what was seen.
func (d Death) key() string {
	return strings.Join([]string{d.Point, d.Process, d.During, d.Transport}, "\x00")
}

// String is the row as the page has it.
func (d Death) String() string {
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s |\n", d.Point, d.Process, d.During, d.Transport, d.Answer, d.After)
}

// head is the table's.
const head = "| Failpoint | Killed | During | Transport | The caller is told | Afterwards |\n|---|---|---|---|---|---|\n"

// Codes are the result codes that a command's errors name, as a row has them.
func Codes(stderr string) string {
	var codes []string
	for _, w := range strings.FieldsFunc(stderr, func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) {
		if (strings.HasPrefix(w, "VSS_E_") || strings.HasPrefix(w, "E_")) && !slices.Contains(codes, w) {
			codes = append(codes, w)
		}
	}
	return strings.Join(codes, ", ")
}

// Rows are the page's.
func Rows(page string) (out []Death) {
	for l := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(l), "|"), " | ")
		if len(cells) != 6 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if p := strings.Trim(cells[0], "`"); p != cells[0] {
			out = append(out, Death{p, cells[1], cells[2], cells[3], cells[4], cells[5]})
		}
	}
	return out
}

// Merge is all there is to say: what a run saw, and what earlier ones saw and it
// did not look at. whole are the transports over which it has seen everything:
// what it has not seen there is not so any more.
func Merge(had, seen []Death, whole ...string) []Death {
	out := slices.Clone(seen)
	has := map[string]bool{}
	for _, d := range seen {
		has[d.key()] = true
	}
	for _, d := range had {
		if !has[d.key()] && !slices.Contains(whole, d.Transport) {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(x, y Death) int { return strings.Compare(x.key(), y.key()) })
	return slices.Compact(out)
}

// Table is the page's.
func Table(rows []Death) string {
	var b strings.Builder
	b.WriteString(head)
	for _, d := range rows {
		b.WriteString(d.String())
	}
	return b.String()
}

// Replace is a page with other rows, and nothing else changed.
func Replace(page string, rows []Death) (string, error) {
	before, rest, ok := strings.Cut(page, head)
	if !ok {
		return "", fmt.Errorf("the page has no table that begins with %q", head)
	}
	for strings.HasPrefix(rest, "|") {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return before + Table(rows) + rest, nil
}

// Differing are the lines that only one of two texts has. What the array's
// callers are told depends on how soon it is back, because their harmless calls
// are repeated once: of its rows only what was done counts.
func Differing(have, seen string) string {
	lines := func(text string) map[string]bool {
		out := map[string]bool{}
		for l := range strings.Lines(text) {
			if cells := strings.Split(l, " | "); len(cells) > 4 && cells[1] == "array" {
				l = strings.Join(cells[:4], " | ") + "\n"
			}
			out[l] = true
		}
		return out
	}
	in, is := lines(have), lines(seen)
	var out []string
	for l := range in {
		if !is[l] {
			out = append(out, "- "+l)
		}
	}
	for l := range is {
		if !in[l] {
			out = append(out, "+ "+l)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}
