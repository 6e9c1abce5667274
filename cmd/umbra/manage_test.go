package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// umbra runs a command as main does.
func umbra(t *testing.T, m *servicetest.Machine, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	out, errs := os.Stdout, os.Stderr
	defer func() { os.Stdout, os.Stderr = out, errs }()
	files := [2]string{}
	for i, f := range []**os.File{&os.Stdout, &os.Stderr} {
		tmp, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer tmp.Close()
		*f, files[i] = tmp, tmp.Name()
	}
	code = run(t.Context(), append(args, "--socket", m.Socket))
	o, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	e, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	return code, string(o), string(e)
}

// TestCleanupInPart: what was done is printed beside why the rest was not, and
// the command failed.
func TestCleanupInPart(t *testing.T) {
	m := servicetest.NewMachine(t)
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B)
	a, b := d.Set.Snapshots[0].LUNs[0].Target.Name(), d.Set.Snapshots[1].LUNs[0].Target.Name()
	m.A.Change(a, func(l *servicetest.LUN) { l.Generation++ })
	m.B.Change(b, func(l *servicetest.LUN) { l.Generation++ })
	m.Imported(d, vss.VSS_E_NO_SNAPSHOTS_IMPORTED)
	m.B.Fail("OnLUNStateChange", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "mask LUN", Object: b, Reason: "no", Remedy: "Ask"})
	code, out, errs := umbra(t, m, "cleanup", d.Set.ID.String(), "--output", "json")
	var luns []requester.LUN
	if err := json.Unmarshal([]byte(out), &luns); err != nil || len(luns) != 1 || luns[0].Name != a || luns[0].Action != "masked" {
		t.Errorf("%v, printed %s", err, out)
	}
	if code != exitFailed || !strings.Contains(errs, "VSS_E_PROVIDER_VETO") || !strings.Contains(errs, b) {
		t.Errorf("exit %d, said %s", code, errs)
	}
	if code, out, errs = umbra(t, m, "cleanup", d.Set.ID.String()); code != exitFailed || out != "" || !strings.Contains(errs, b) {
		t.Errorf("nothing done: exit %d, printed %q, said %s", code, out, errs)
	}
	m.B.Fail("OnLUNStateChange", nil)
	if code, out, errs = umbra(t, m, "cleanup", d.Set.ID.String()); code != 0 || !strings.Contains(out, b) || errs != "" {
		t.Errorf("the rest: exit %d, printed %q, said %s", code, out, errs)
	}
}
