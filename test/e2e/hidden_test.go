package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/vss"
)

// rules are the udev rules files of a host whose names match.
func (f *fixture) rules(h *site.Host, pattern string) []string {
	f.Helper()
	names, err := filepath.Glob(h.Path(filepath.Join(h.RulesDir(), pattern)))
	f.must(err)
	return names
}

// TestHiddenByDefault: a joined array's LUNs are hidden from udev, but those
// that umbra rescan let through. What udev makes of the rules is shown beside
// them (internal/host/hide).
func TestHiddenByDefault(t *testing.T) {
	f := newFixture(t)
	for _, h := range []*site.Host{f.a, f.b} {
		if all := f.rules(h, "10-umbra-array-*"); len(all) != 1 || !strings.HasPrefix(filepath.Base(all[0]), "10-umbra-array-6001405") {
			t.Errorf("after joining %s has the rules %v", h.Name, all)
		}
	}
	v, _, naa := f.volume("v", "ext4")
	admitted := "09-umbra-" + naa + ".rules"
	family := filepath.Base(f.rules(f.a, "10-umbra-array-*")[0])
	if digits := strings.TrimSuffix(strings.TrimPrefix(family, "10-umbra-array-"), ".rules"); !strings.HasPrefix(naa, "naa."+digits) {
		t.Errorf("%s is not of the array that %s hides", naa, family)
	}
	has := func(what string, want int) {
		t.Helper()
		if len(f.rules(f.a, admitted)) != want || len(f.rules(f.a, family)) != 1 {
			t.Errorf("%s: rules %v", what, f.rules(f.a, "*"))
		}
	}
	has("an original", 1)

	// After a reboot the rules are written again, before the service answers.
	f.a.StopDaemon()
	for _, r := range f.rules(f.a, "*") {
		f.must(os.Remove(r))
	}
	f.must(f.a.StartDaemon(f.ctx, nil))
	has("restarted", 1)

	// A copy that the array's administrator shows a host by hand does not come
	// by a rescan, named or not.
	set := f.create("app-rollback", v)
	copied := f.copiesOnArray()[0].NAA
	_, err := f.site.Array(f.ctx, "unmask", copied, f.b.Name)
	f.must(err)
	f.leavesNothing(func() {
		_, err := f.as(f.b, "rescan", copied)
		f.refused(err, vss.VSS_E_OBJECT_NOT_FOUND)
		_, err = f.b.Umbra(f.ctx, "rescan")
		f.must(err)
	})
	_, err = f.site.Array(f.ctx, "mask", copied, f.b.Name)
	f.must(err)
	_, err = f.a.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)

	_, err = f.a.Run(f.ctx, "umount", v)
	f.must(err)
	_, err = f.a.Umbra(f.ctx, "detach", naa)
	f.must(err)
	has("detached", 0)
}
