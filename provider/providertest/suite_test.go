package providertest

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// faults are what a provider can get wrong, and the cases that must find it.
// "order/" stands for all cases whose names begin so.
var faults = map[string][]string{
	"has no version":                       {"properties/complete"},
	"changes its properties":               {"properties/constant"},
	"supports nothing":                     {"are-luns-supported/own", "empty/original"},
	"takes an unknown LUN for an error":    {"are-luns-supported/unknown", "are-luns-supported/all-or-nothing"},
	"supports everything":                  {"are-luns-supported/unknown", "are-luns-supported/all-or-nothing"},
	"supports volumes in part":             {"are-luns-supported/all-or-nothing"},
	"is fickle":                            {"are-luns-supported/repeatable"},
	"touches interconnects":                {"are-luns-supported/interconnects", "fill/interconnects"},
	"cannot do differential":               {"are-luns-supported/context"},
	"has no word for its own copies":       {"are-luns-supported/own-copy"},
	"takes a set without an ID":            {"begin/no-set"},
	"takes a snapshot without an ID":       {"begin/no-snapshot"},
	"takes a volume without LUNs":          {"begin/no-luns"},
	"prepares unknown LUNs":                {"begin/unknown-lun"},
	"prepares at once":                     {"begin/quick"},
	"copies a shared LUN twice":            {"begin/shared-lun"},
	"has no limit":                         {"begin/64-volumes"},
	"ignores its context":                  {"begin/cancelled"},
	"drops a complete set for the next":    {"begin/spares-created"},
	"keeps no order":                       {"order/endprepare-", "order/precommit-", "order/commit-", "order/postcommit-", "order/veto-", "order/begin-when-prepared", "begin/replaces-", "abort/when-prepar", "abort/when-pre-committed", "abort/when-committed", "abort/while-preparing", "restart/forgets-unfinished", "load/unload-aborts"},
	"goes on after a veto":                 {"order/veto-drops-the-set"},
	"drops a complete set at a stray call": {"order/veto-spares-created"},
	"does not begin anew":                  {"order/begin-when-prepared"},
	"cannot commit":                        {"order/whole", "order/two-luns"},
	"panics":                               {"order/whole"},
	"hangs":                                {"order/whole", "abort/while-preparing"},
	"commits slowly":                       {"order/whole"},
	"makes one copy of all":                {"order/two-luns", "targets/one-for-one"},
	"names copies after their originals":   {"order/after-created", "fill/tells-apart"},
	"knows no unknown set":                 {"abort/unknown"},
	"aborts whatever is current":           {"abort/unknown-spares-current"},
	"does not abort":                       {"abort/when-prepar", "abort/when-pre-committed", "abort/when-committed", "abort/while-preparing", "restart/abort"},
	"aborts once":                          {"abort/twice"},
	"aborts complete sets":                 {"abort/when-created", "restart/abort-spares-created"},
	"gives copies no name":                 {"targets/identity"},
	"signs its copies":                     {"targets/identity"},
	"names the original":                   {"targets/not-the-source"},
	"invents a name at each call":          {"targets/same-answer", "targets/one-for-one", "restart/keeps-created"},
	"sorts its answers":                    {"targets/one-for-one"},
	"has another word for an unknown set":  {"targets/unknown-set"},
	"knows copies of any set":              {"targets/unknown-set"},
	"knows copies of any LUN":              {"targets/unknown-lun"},
	"makes copies of another size":         {"locate/arrives", "describe/copy"},
	"locates once":                         {"locate/repeats"},
	"locates anything":                     {"locate/unknown", "locate/own-and-unknown", "empty/reclaims", "drop/durable"},
	"lets in without a ticket":             {"import/ticket"},
	"keeps what it is to release":          {"import/released"},
	"releases once":                        {"import/released"},
	"imports what it is to check":          {"import/check"},
	"checks nothing":                       {"import/check"},
	"finds nothing against an import":      {"import/check-bound", "import/check-gone"},
	"lets nobody import":                   {"locate/travels"},
	"lets everybody import":                {"locate/once"},
	"claims every disk":                    {"fill/unknown"},
	"changes every disk":                   {"fill/unknown"},
	"does not know its disks":              {"fill/own-copy", "fill/arrived"},
	"fills in nothing":                     {"fill/own-copy"},
	"takes every copy for the last":        {"fill/tells-apart"},
	"copies when it prepares":              {"content/point-in-time"},
	"shows the original":                   {"content/stays"},
	"mixes up its copies":                  {"content/every-lun"},
	"destroys what it masks":               {"state/mask"},
	"takes lists of any length":            {"state/lists"},
	"takes any flag":                       {"state/unknown-flag"},
	"has no writable window":               {"state/recovery"},
	"counts generations by question":       {"describe/copy"},
	"sorts its descriptions":               {"describe/one-for-one"},
	"describes anything":                   {"describe/unknown"},
	"hides its stores' paths":              {"stores/listed"},
	"signs anything":                       {"ticket/unknown-set"},
	"believes every ticket":                {"ticket/verified"},
	"answers questions one at a time":      {"concurrent/questions"},
	"keeps its sets in memory":             {"restart/keeps-created"},
	"goes on after a restart":              {"restart/forgets-unfinished"},
	"forgets what it began":                {"restart/abort"},
	"does not let itself be unloaded":      {"load/again"},
	"lives on when unloaded":               {"load/unload-aborts"},
	"drops nothing":                        {"drop/durable"},
	"drops known sets only":                {"drop/unknown"},
	"reclaims nothing":                     {"empty/reclaims", "empty/forced"},
	"empties once":                         {"empty/repeats"},
	"reclaims everything":                  {"empty/spares-others", "empty/forced"},
	"keeps what it has shown":              {"empty/located"},
	"destroys originals":                   {"empty/original"},
	"answers E_FAIL":                       {"locate/unknown", "order/", "begin/no-"},
	"answers a success code":               {"locate/unknown"},
	"answers plain errors":                 {"locate/unknown", "begin/no-"},
	"gives no remedy":                      {"locate/unknown"},
	"gives no reason":                      {"locate/unknown"},
}

func run(t *testing.T, fault string) (out []Result) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // no case waits for real time
		f := &faulty{fault: fault, storage: newStorage(dir)}
		s := Subject{Provider: f, LUNs: f.originals(), Scratch: true, Attach: f.attach, Detach: f.detach}
		for _, k := range Cases() {
			// Each on storage of its own, so that one case's trouble is not another's.
			f := &faulty{fault: fault, storage: newStorage(dir)}
			s.Provider, s.Attach, s.Detach, s.Restart = f, f.attach, f.detach, f.restart
			out = append(out, Run(t.Context(), s, nil, k.Name)...)
		}
		time.Sleep(time.Hour) // calls that hung end before the test
	})
	return out
}

func TestTheSuitePasses(t *testing.T) {
	out := run(t, "")
	seen := map[string]bool{}
	for _, r := range out {
		if r.Outcome != Passed {
			t.Errorf("%s %s: %s", r.Name, r.Outcome, r.Words)
		}
		if r.Rule == "" || seen[r.Name] {
			t.Errorf("%s has no rule, or is not the only one of its name", r.Name)
		}
		seen[r.Name] = true
	}
	if len(out) < 40 || len(out) != len(Cases()) {
		t.Errorf("%d cases", len(out))
	}
}

// Every fault is found by the cases that must find it, and there is no case that
// no fault can fail, or that does not return for one.
func TestEveryFaultIsFound(t *testing.T) {
	failed := map[string]bool{}
	for fault, must := range faults {
		t.Run(fault, func(t *testing.T) {
			out := run(t, fault)
			found := map[string]string{}
			for _, r := range out {
				if r.Outcome == Failed {
					found[r.Name], failed[r.Name] = r.Words, true
					if r.Words == "" || strings.Contains(r.Words, "\t") && fault != "panics" {
						t.Errorf("%s says %q", r.Name, r.Words)
					}
				}
			}
			for _, prefix := range must {
				for _, k := range Cases() {
					whole := slices.ContainsFunc(Cases(), func(o Case) bool { return o.Name == prefix })
					meant := k.Name == prefix || !whole && strings.HasPrefix(k.Name, prefix)
					if _, ok := found[k.Name]; meant && !ok && !excepted(fault, k.Name) {
						t.Errorf("%s does not find it", k.Name)
					}
				}
			}
			if len(must) == 0 || len(found) == 0 {
				t.Error("nothing finds it")
			}
		})
	}
	if t.Failed() {
		return
	}
	for _, k := range Cases() {
		if !failed[k.Name] {
			t.Errorf("no fault makes %s fail: it may be unable to", k.Name)
		}
	}
}

// excepted are cases in which no error is seen.
func excepted(fault, name string) bool {
	return fault == "answers E_FAIL" && slices.Contains([]string{"order/whole", "order/two-luns", "order/after-created"}, name)
}

// A subject that has little is told what is missing.
func TestWhatIsMissingIsSkipped(t *testing.T) {
	f := &faulty{storage: newStorage(t.TempDir())}
	n := map[Outcome]int{}
	for _, r := range Run(t.Context(), Subject{Provider: f, LUNs: f.originals()[:1]}, nil) {
		n[r.Outcome]++
		if r.Outcome == Failed || r.Outcome == Skipped && r.Words == "" {
			t.Errorf("%s %s: %s", r.Name, r.Outcome, r.Words)
		}
	}
	if n[Skipped] < 8 || n[Passed] < 40 {
		t.Errorf("%v", n)
	}
	if out := Run(t.Context(), Subject{Provider: f}, nil, "order/whole", "properties/complete"); len(out) != 2 || out[0].Outcome != Passed || out[1].Outcome != Skipped {
		t.Errorf("without LUNs: %+v", out)
	}
}
