package hide

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func TestLVMDoesNotSeeCopies(t *testing.T) {
	ours := `global_filter = [ "r|^/dev/umbra/hidden/|", "a|^/dev/disk/by-id/umbra-none$|"`
	listed := "devices { use_devicesfile = 1 }"
	for _, c := range []struct {
		name        string
		main, local string // "-": no file
		devices     bool
		written     bool
		refused     bool
	}{
		{"no LVM", "-", "-", false, false, false},
		{"as installed", "devices {\n\t# global_filter = [ \"a|.*|\" ]\n}\n", "local {\n}\n", false, true, false},
		{"without a local file", "devices { }", "-", false, true, false},
		{"ours is there", "devices { }", "devices { " + ours + " ] }", false, false, false},
		{"an administrator's that has ours", "devices { " + ours + `, "r|/dev/sdz|" ] }`, "-", false, false, false},
		{"an administrator's", `devices { global_filter = [ "a|.*|" ] }`, "-", false, false, true},
		{"half of ours", `devices { global_filter = [ "r|^/dev/umbra/hidden/|" ] }`, "-", false, false, true},
		{"ours is overruled", "devices { " + ours + " ] }", "devices { global_filter = \"a|.*|\" }", false, false, true},
		{"a devices file", listed, "-", true, false, false},
		{"a devices file that is not there", listed, "-", false, true, false},
		{"broken", "devices {", "-", false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"lvm.conf": c.main, "lvmlocal.conf": c.local} {
				if text != "-" {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.devices {
				if err := os.MkdirAll(filepath.Join(dir, "devices"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "devices/system.devices"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := Rules{Dir: t.TempDir(), LVM: dir, Reload: func(context.Context) error { return nil }}
			naa, _ := lun.ParseNAA("naa.6001405123456789abcdef0123456789")
			for range 2 { // the second time nothing is added
				err := r.Hide(t.Context(), []lun.Info{{Version: 1, StorageIDs: []lun.StorageID{naa.StorageID()}}})
				if e := vss.AsError("", err); (err != nil) != c.refused || err != nil && !strings.Contains(e.Remedy, lvmPattern[0]) {
					t.Fatal(err)
				}
				if c.refused && files(t, r.Dir) != 0 {
					t.Error("rules were written all the same")
				}
			}
			text, err := os.ReadFile(filepath.Join(dir, "lvmlocal.conf"))
			if n := strings.Count(string(text), ours); err == nil && n != 1 && c.written || (n == 1) != c.written && c.local == "-" {
				t.Errorf("written %d times, %v:\n%s", n, err, text)
			}
			if c.local != "-" && !strings.HasPrefix(string(text), c.local) {
				t.Errorf("the administrator's text is gone:\n%s", text)
			}
			if st, err := os.Stat(filepath.Join(dir, "lvmlocal.conf")); c.local != "-" && (err != nil || st.Mode().Perm() != 0o640) {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
		})
	}
}
