package registry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

func TestGet(t *testing.T) {
	a, b := servicetest.NewArray(1, &servicetest.Journal{}), servicetest.NewArray(2, &servicetest.Journal{})
	r := registry.New(a, b)
	if p, err := r.Get(b.ID); err != nil || p != b {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := r.Get(vss.NewID()); !errors.Is(err, vss.VSS_E_PROVIDER_NOT_REGISTERED) {
		t.Error(err)
	}
	if l := r.List(); len(l) != 2 || l[0].ProviderID != a.ID || len(r.Hardware()) != 2 {
		t.Errorf("%v", l)
	}
}

// TestChecked is provider.md 4.1: what may pass, and what is translated.
func TestChecked(t *testing.T) {
	p := servicetest.NewArray(1, &servicetest.Journal{})
	checked := func(ctx context.Context, err error) vss.HResult {
		return vss.CodeOf(registry.Checked(ctx, p, "LocateLUNs", err))
	}
	for _, c := range []vss.HResult{vss.E_OUTOFMEMORY, vss.E_INVALIDARG, vss.E_ACCESSDENIED, vss.VSS_E_BAD_STATE, vss.VSS_E_OBJECT_NOT_FOUND, vss.VSS_E_INSUFFICIENT_STORAGE,
		vss.VSS_E_VOLUME_NOT_SUPPORTED, vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER, vss.VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED, vss.VSS_E_PROVIDER_VETO, vss.VSS_E_CANNOT_REVERT_DISKID} {
		if got := checked(t.Context(), &vss.Error{Code: c}); got != c {
			t.Errorf("%v became %v", c, got)
		}
	}
	for _, err := range []error{errors.New("boom"), &vss.Error{Code: vss.E_ABORT}, &vss.Error{Code: vss.VSS_E_UNEXPECTED}, &vss.Error{Code: vss.S_OK}, &vss.Error{Code: vss.S_FALSE}, context.Canceled} {
		if got := checked(t.Context(), err); got != vss.VSS_E_UNEXPECTED_PROVIDER_ERROR {
			t.Errorf("%v became %v", err, got)
		}
	}
	e := vss.AsError("", registry.Checked(t.Context(), p, "LocateLUNs", errors.New("boom")))
	if e.Op != "LocateLUNs" || e.Object != p.Name || e.Remedy == "" {
		t.Errorf("%+v", e)
	}
	if err := registry.Checked(t.Context(), p, "x", nil); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cause")
	cancel(cause)
	for _, err := range []error{context.Canceled, cause, &vss.Error{Code: vss.E_ABORT, Err: cause}} {
		if got := registry.Checked(ctx, p, "x", err); got != err {
			t.Errorf("cancelled: %v became %v", err, got)
		}
	}
}

func TestGuard(t *testing.T) {
	if err := registry.Guard("m", func() error { panic("x") }); !errors.Is(err, vss.VSS_E_UNEXPECTED) {
		t.Error(err)
	}
	boom := errors.New("boom")
	if err := registry.Guard("m", func() error { return boom }); err != boom {
		t.Error(err)
	}
}
