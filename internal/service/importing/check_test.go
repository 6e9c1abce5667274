package importing_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

// TestCheckChangesNothing: no call that changes anything, and not a byte of
// the catalogue.
func TestCheckChangesNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.cat.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "catalog.db")
	cat, err := catalog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	w.im.Catalog, w.cat = cat, cat
	t.Cleanup(func() { cat.Close() })
	read := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	check := func(want vss.HResult, spoil func(name string)) {
		t.Helper()
		d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.b)
		spoil(target(d, 0))
		before := read()
		var got vss.HResult
		for _, i := range w.im.Check(t.Context(), d) {
			if i.Name == "" {
				t.Errorf("item without a name: %+v", i)
			}
			if i.Err != nil && got == vss.S_OK {
				got = vss.CodeOf(i.Err)
			}
		}
		if got != want {
			t.Errorf("%v, want %v", got, want)
		}
		if c := w.journal.Calls(); len(c) != 0 {
			t.Errorf("calls %v", c)
		}
		if !bytes.Equal(before, read()) {
			t.Error("the catalogue was written to")
		}
	}
	check(vss.S_OK, func(string) {})
	check(vss.VSS_E_MISSING_HIDDEN_VOLUME, func(n string) { w.a.Change(n, func(l *servicetest.LUN) { l.Generation++ }) })
	check(vss.VSS_E_MISSING_HIDDEN_VOLUME, func(n string) { w.a.Change(n, func(l *servicetest.LUN) { l.Size++ }) })
	check(vss.VSS_E_PROVIDER_VETO, func(string) {
		w.a.Fail("CheckImport", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "CheckImport", Reason: "cluster", Remedy: "Mask it"})
	})
	w.a.Fail("CheckImport", nil)
	check(vss.VSS_E_UNEXPECTED, func(string) { w.host.Fail("Ready", errors.New("no initiator")) })
	w.host.Fail("Ready", nil)
	release, err := w.im.Acquire(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	check(vss.VSS_E_BAD_STATE, func(string) {})
	release()
}
