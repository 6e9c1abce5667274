package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// TestNesting: nothing is frozen that the set itself depends on.
func TestNesting(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "ext4")
	th := f.thawer(v)

	// The daemon's own state on a volume.
	f.a.StopDaemon()
	_, err := f.a.Run(f.ctx, "cp", "-a", f.a.StateDir(), filepath.Join(v, "state"))
	f.must(err)
	f.must(f.a.StartDaemon(f.ctx, nil, "--state-dir", filepath.Join(v, "state")))
	f.leavesNothing(func() {
		f.mentions(f.refused(f.tryMake(w, v), vss.VSS_E_NESTED_VOLUME_LIMIT), v, "--state-dir")
	})
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, nil))
	if th.frozen(t) {
		t.Error("the volume is frozen")
	}
	f.works(v, w)
}

// TestArrayOnItsOwnLUN: an array whose folder lies on a volume is not frozen
// under its LUNs.
func TestArrayOnItsOwnLUN(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "xfs")
	dir := filepath.Join(v, "array2")
	socket := filepath.Join(f.site.Dir, "array2.sock")
	stop := f.background(f.a, binary, "array", "serve", "--dir", dir, "--name", "second", "--array-socket", socket, "--data-socket", filepath.Join(f.site.Dir, "d2"),
		"--listen", "unix://"+filepath.Join(f.site.Dir, "h2"), "--exit-with-stdin")
	defer stop()
	eventually(t, "the second array serves", 1e10, exists(socket))
	two := func(args ...string) {
		t.Helper()
		_, err := f.a.Run(f.ctx, binary, append([]string{"array", "--array-socket", socket}, args...)...)
		f.must(err)
	}
	bundle := filepath.Join(f.site.Dir, "b2")
	two("enroll", f.a.Name, "--bundle", bundle)
	_, err := f.a.Umbra(f.ctx, "join", bundle)
	f.must(err)
	f.leavesNothing(func() {
		f.mentions(f.refused(f.tryMake(v), vss.VSS_E_NESTED_VOLUME_LIMIT), v, dir)
	})

	// A volume of the second array can be copied, but not with the one below.
	out, err := f.a.Run(f.ctx, binary, "array", "--array-socket", socket, "lun", "create", "inner", "--size", "64M")
	f.must(err)
	naa := strings.TrimSpace(out)
	two("unmask", naa, f.a.Name)
	out, err = f.a.Umbra(f.ctx, "rescan", naa, "--output", "json")
	f.must(err)
	var luns []requester.LUN
	f.decode(out, &luns)
	inner, err := f.a.Format(f.ctx, luns[0].Device, "inner", "ext4")
	f.must(err)
	defer func() { // before the site ends, which does not know the second array
		_, err := f.a.Run(f.ctx, "umount", inner)
		f.must(err)
		_, err = f.a.Umbra(f.ctx, "detach", naa)
		f.must(err)
	}()
	f.leavesNothing(func() {
		f.refused(f.tryMake(inner, v), vss.VSS_E_NESTED_VOLUME_LIMIT)
		f.refused(f.tryMake(v, inner), vss.VSS_E_NESTED_VOLUME_LIMIT)
	})
	set := f.create("app-rollback", inner)
	_, err = f.a.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
}
