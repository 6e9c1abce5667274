package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// TestOpenCopy: the catalogue can be read while a daemon has it, and what is
// damaged is an error and never a panic.
func TestOpenCopy(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	path := filepath.Join(t.TempDir(), "catalog.db")
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := vss.NewID()
	if err := c.Update(t.Context(), func(t *Tx) error { return t.PutSet(Set{ID: id, Role: Created, State: SetCreated}) }); err != nil {
		t.Fatal(err)
	}
	// reads asserts that the file is read whole, or refused.
	reads := func(what, path string) (refused error) {
		t.Helper()
		o, done, err := OpenCopy(path)
		if err != nil {
			return err
		}
		defer done()
		if err := o.View(func(tx *Tx) error {
			sets, err := tx.Sets()
			if len(sets) != 1 || sets[0].ID != id {
				t.Errorf("%s: %+v", what, sets)
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return nil
	}
	if err := reads("the file", path); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(whole); n += 4096 {
		bad := filepath.Join(t.TempDir(), "bad.db")
		if err := os.WriteFile(bad, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := reads(fmt.Sprintf("a file that was cut at %d", n), bad); err != nil && vss.CodeOf(err) != vss.VSS_E_UNEXPECTED {
			t.Error(err)
		}
		b := append([]byte(nil), whole...)
		for i := n; i < min(n+64, len(b)); i++ { // a page's head
			b[i] ^= 0x5a
		}
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, done, err := OpenCopy(bad); err == nil {
			done() // a page that is not used, or one of two
		} else if vss.CodeOf(err) != vss.VSS_E_UNEXPECTED {
			t.Errorf("page %d: %v", n/4096, err)
		}
	}
	if err := os.WriteFile(path+".short", whole[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{path + ".short", path + ".none"} {
		if _, _, err := OpenCopy(f); vss.CodeOf(err) != vss.VSS_E_UNEXPECTED {
			t.Errorf("%s: %v", f, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "umbra-catalogue-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
