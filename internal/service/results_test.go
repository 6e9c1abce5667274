package service

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/vss"
)

// TestPublished: an operation ends in a code of its list, and what it would have
// said otherwise is not lost.
func TestPublished(t *testing.T) {
	odd := &vss.Error{Code: vss.VSS_E_MISSING_DISK, Op: "somewhere", Object: "naa.1", Reason: "it is away", Remedy: "Bring it back"}
	out := published("DoSnapshotSet", async.Outcome{Code: odd.Code, Err: odd})
	e := vss.AsError("", out.Err)
	if out.Code != vss.VSS_E_UNEXPECTED || e.Code != out.Code || e.Object != odd.Object || e.Remedy != odd.Remedy ||
		!strings.Contains(e.Reason, "VSS_E_MISSING_DISK") || !strings.Contains(e.Reason, odd.Reason) {
		t.Errorf("%v, %+v", out.Code, e)
	}
	for _, code := range []vss.HResult{vss.VSS_S_ASYNC_FINISHED, vss.VSS_S_ASYNC_CANCELLED, vss.VSS_E_PROVIDER_VETO, vss.VSS_E_VOLUME_IN_USE} {
		if got := published("DoSnapshotSet", async.Outcome{Code: code}); got.Code != code {
			t.Errorf("%v became %v", code, got.Code)
		}
	}
	if got := published("ImportSnapshots", async.Outcome{Code: vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED}); got.Code != vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED {
		t.Errorf("a partial import became %v", got.Code)
	}
}
