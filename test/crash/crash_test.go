package crash

import (
	"slices"
	"strings"
	"testing"
)

func row(point, transport, after string) Death {
	return Death{point, "B's daemon", "import", transport, "VSS_E_UNEXPECTED", after}
}

// TestPage: a run replaces what it has seen, drops what is not so any more where
// it has seen everything, and leaves the rest of the page alone.
func TestPage(t *testing.T) {
	page := "# A page\n\nOn it:\n\n" + Table([]Death{row("a.b", "loop", "x"), row("a.b", "iscsi", "x"), row("c.d", "loop", "x"), row("e.f", "nbd", "x")}) + "\nMore.\n"
	rows := Rows(page)
	if len(rows) != 4 || rows[1] != row("a.b", "iscsi", "x") {
		t.Fatalf("read as %+v", rows)
	}
	seen := []Death{row("a.b", "loop", "y"), row("a.b", "nbd", "y"), row("a.b", "loop", "y")}
	got := Merge(rows, seen, "loop")
	want := []Death{row("a.b", "iscsi", "x"), row("a.b", "loop", "y"), row("a.b", "nbd", "y"), row("e.f", "nbd", "x")}
	if !slices.Equal(got, want) {
		t.Errorf("merged: %+v", got)
	}
	after, err := Replace(page, got)
	if err != nil || !slices.Equal(Rows(after), want) || !strings.HasPrefix(after, "# A page\n\nOn it:\n\n| F") || !strings.HasSuffix(after, "x |\n\nMore.\n") {
		t.Errorf("%v:\n%s", err, after)
	}
	if _, err := Replace("# Another page\n", got); err == nil {
		t.Error("a page without the table is accepted")
	}
	if d := Differing(page, after); strings.Count(d, "\n") != 4 {
		t.Errorf("differing:\n%s", d)
	}
	a, b := row("a.b", "nbd", "x"), row("a.b", "nbd", "y")
	a.Process, b.Process = "array", "array"
	if d := Differing(a.String(), b.String()); d != "" {
		t.Errorf("what an array's caller is told counts: %s", d)
	}
}

func TestCodes(t *testing.T) {
	if got := Codes("umbra: import: VSS_E_PROVIDER_VETO (0x80042306)\n E_ABORT, VSS_E_PROVIDER_VETO"); got != "VSS_E_PROVIDER_VETO, E_ABORT" {
		t.Error(got)
	}
}
