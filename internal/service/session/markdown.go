package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// meanings says what each state is, for the document.
var meanings = []struct {
	State State
	Text  string
}{
	{New, "created, not initialised"},
	{BackupInit, "initialised for a backup"},
	{BackupLoaded, "initialised with a saved document, for an import"},
	{Gathering, "writers are being asked who they are"},
	{Meta, "writers were asked"},
	{SetOpen, "a shadow copy set is open"},
	{Preparing, "writers are being told of the backup"},
	{Prepared, "writers were told"},
	{Creating, "the set is being created"},
	{Created, "the set was created"},
	{CreateFailed, "the set could not be created; nothing is left of it"},
	{Completing, "writers are being told that the backup is done"},
	{Complete, "writers were told"},
	{Aborted, "the backup was given up"},
	{Importing, "the document's set is being imported"},
	{Imported, "the set was imported, wholly or partly"},
	{ImportFailed, "nothing of the set was imported"},
	{RestoreInit, "initialised for a restore"},
	{RestoreGathering, "writers are being asked who they are"},
	{RestoreMeta, "writers were asked"},
	{PreRestoring, "writers are being told that a restore begins"},
	{PreRestored, "writers were told: files may be restored"},
	{PostRestoring, "writers are being told that the restore is done"},
	{PostRestored, "writers were told"},
}

// Markdown is docs/api/order-of-calls.md, made from the table.
func Markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# The order of calls")
	p("")
	p("Which method of `IVssBackupComponents` and its extensions may be called when. This")
	p("page is made from the table that the service walks (`make generate`), so it cannot")
	p("differ from what the service does.")
	p("")
	p("A call that is not legal in a state answers `VSS_E_BAD_STATE`. So does one that lacks")
	p("what it needs beside the state. One object serves one operation: no path leads back.")
	p("")
	p("## States")
	p("")
	p("| State | |")
	p("|---|---|")
	for _, m := range meanings {
		p("| %s | %s |", m.State, m.Text)
	}
	p("")
	p("## Methods")
	p("")
	p("\"All\" are all states of an object that was initialised; \"backup\" and \"restore\" those")
	p("of one initialised for the one or the other. An arrow says where a call leads: for an")
	p("asynchronous one while it runs, then when it succeeded, and after the colon when not.")
	p("")
	last := Interface("")
	for _, d := range Methods {
		if d.Interface != last {
			if last != "" {
				p("")
			}
			last = d.Interface
			title := string(d.Interface)
			if d.Interface == OwnCalls {
				title = "Umbra's own"
			}
			p("### %s", title)
			p("")
			p("| Method | Legal in | Needs |")
			p("|---|---|---|")
		}
		name := fmt.Sprintf("`%s`", d.Method)
		if d.Async {
			name += " (async)"
		}
		p("| %s | %s | %s |", name, legality(d), needs(d))
	}
	p("")
	p("## Results of asynchronous methods")
	p("")
	p("What `QueryStatus` gives as pHrResult beside `VSS_S_ASYNC_PENDING`,")
	p("`VSS_S_ASYNC_FINISHED` and `VSS_S_ASYNC_CANCELLED`. The service holds itself to this: a")
	p("code that is not here becomes `VSS_E_UNEXPECTED`, with an event. The codes that Umbra")
	p("adds would otherwise hide what is wrong.")
	p("")
	p("| Method | Published | Added |")
	p("|---|---|---|")
	for _, d := range Methods {
		if r, ok := AsyncResults[d.Method]; ok {
			p("| `%s` | %s | %s |", d.Method, names(r.Published), names(r.Added))
		}
	}
	p("")
	p("## Methods without work behind them")
	p("")
	p("They answer `E_NOTIMPL`.")
	p("")
	p("| Method | |")
	p("|---|---|")
	for _, d := range Methods {
		switch d.Readiness {
		case Pending:
			p("| `%s` | not built yet; `E_NOTIMPL` where the call is legal |", d.Method)
		case Reserved:
			p("| `%s` | reserved by Microsoft; `E_NOTIMPL` always |", d.Method)
		}
	}
	p("")
	p("Writers are not built yet either. The methods about them work and find none: the")
	p("lists of metadata and status are empty, and events reach nobody.")
	return b.String()
}

func names(codes []vss.HResult) string {
	var out []string
	for _, c := range codes {
		out = append(out, "`"+c.Name()+"`")
	}
	return strings.Join(out, ", ")
}

// legality says in which states a method is legal, and where it leads.
func legality(d Description) string {
	if d.Readiness == Reserved {
		return "never"
	}
	var states []State
	var moves []string
	for _, m := range meanings {
		st, ok := Table[m.State][d.Method]
		if !ok {
			continue
		}
		if st.To == m.State && st.OK == "" {
			states = append(states, m.State)
			continue
		}
		to := string(st.To)
		if m.State == New && d.Method == InitializeForBackup {
			to += " or " + string(BackupLoaded)
		}
		if st.OK != "" {
			to += ", " + string(st.OK) + " : " + string(st.Fail)
		}
		moves = append(moves, fmt.Sprintf("%s → %s", m.State, to))
	}
	out := moves
	if text := grouped(states); text != "" {
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// grouped names a set of states, the large ones by a word.
func grouped(states []State) string {
	var out []string
	take := func(word string, group []State) {
		for _, s := range group {
			if !slices.Contains(states, s) {
				return
			}
		}
		out = append(out, word)
		states = slices.DeleteFunc(slices.Clone(states), func(s State) bool { return slices.Contains(group, s) })
	}
	take("all", slices.Concat(BackupStates, RestoreStates))
	take("backup", BackupStates)
	take("restore", RestoreStates)
	for _, s := range states {
		out = append(out, string(s))
	}
	return strings.Join(out, ", ")
}

func needs(d Description) string {
	var out []string
	for _, n := range d.Needs {
		out = append(out, string(n))
	}
	for _, m := range meanings {
		for _, n := range Table[m.State][d.Method].Needs {
			out = append(out, fmt.Sprintf("in %s: %s", m.State, n))
		}
	}
	return strings.Join(out, "; ")
}
