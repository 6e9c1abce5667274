package service_test

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// TestCleanupInPart: what was cleaned before and after the failure is returned
// beside the error, the rest stays listed.
func TestCleanupInPart(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B, m.A, m.B)
	for _, s := range d.Set.Snapshots {
		for _, a := range []*servicetest.Array{m.A, m.B} {
			if _, ok := a.LUN(s.LUNs[0].Target.Name()); ok {
				a.Change(s.LUNs[0].Target.Name(), func(l *servicetest.LUN) { l.Generation++ })
			}
		}
	}
	m.Imported(d, vss.VSS_E_NO_SNAPSHOTS_IMPORTED)
	bc := m.Initialised(vss.CTX_ALL)
	m.B.Fail("OnLUNStateChange", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "mask", Object: "array2", Reason: "no", Remedy: "Ask"})
	done, err := bc.CleanupImport(ctx, d.Set.ID, requester.Mask)
	is(t, "two cannot be masked", err, vss.VSS_E_PROVIDER_VETO)
	if len(done) != 2 || done[0].Action != "masked" || done[0].Name == done[1].Name {
		t.Errorf("done %+v", done)
	}
	for _, l := range done {
		if _, ok := m.A.LUN(l.Name); !ok {
			t.Errorf("%s was masked, it says", l.Name)
		}
	}
	if _, l, i := m.Count(); l != 2 || i != 0 {
		t.Errorf("%d LUNs, %d intents left", l, i)
	}
	done, err = bc.CleanupImport(ctx, d.Set.ID, requester.Mask)
	if is(t, "none can", err, vss.VSS_E_PROVIDER_VETO); len(done) != 0 {
		t.Errorf("done %+v", done)
	}
	m.B.Fail("OnLUNStateChange", nil)
	done, err = bc.CleanupImport(ctx, d.Set.ID, requester.Mask)
	if is(t, "the rest", err, vss.S_OK); len(done) != 2 || !strings.HasPrefix(done[0].Name, "naa.") {
		t.Errorf("done %+v", done)
	}
}
