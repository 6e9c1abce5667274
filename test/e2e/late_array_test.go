package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
)

// reboot takes from a host what a boot takes: its daemon, what is mounted, the
// loop devices of the imported copies, and the rules in /run.
func (f *fixture) reboot(h *site.Host, im importedSet, mounts ...string) {
	f.Helper()
	h.StopDaemon()
	for _, c := range im.Copies {
		mounts = append(mounts, c.DeviceObject)
	}
	for _, m := range mounts {
		_, err := h.Run(f.ctx, "umount", m)
		f.must(err)
	}
	for _, c := range im.Copies {
		_, err := h.Run(f.ctx, "losetup", "-d", c.BlockDevice)
		f.must(err)
		f.must(os.Remove(h.Path(c.DeviceObject)))
	}
	for _, r := range f.rules(h, "*") {
		f.must(os.Remove(r))
	}
}

// TestArrayComesLate: a host that boots before its array has its copies and
// their exposures when the array is there, hidden and read-only as ever, and
// needs no restart for it.
func TestArrayComesLate(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	f.put(v, "hello", "hello")
	f.put(w, "hello", "hello")
	set := f.create("app-rollback", v, w)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	folder := filepath.Join(f.site.Dir, "exposed")
	f.must(os.Mkdir(folder, 0o755))
	_, err = f.b.Umbra(f.ctx, "expose", im.Copies[0].SnapshotID.String(), folder)
	f.must(err)
	rules := len(f.rules(f.b, "*-naa.*"))

	f.reboot(f.b, im, folder)
	f.site.KillArray()
	f.must(f.b.StartDaemon(f.ctx, nil))
	event := func(name string) int {
		t.Helper()
		out, err := f.b.Umbra(f.ctx, "list", "events", "--output", "json")
		f.must(err)
		return strings.Count(out, `"`+name+`"`)
	}
	if n := event("recovery.copy-missing"); n != 2 {
		t.Errorf("%d copies are said to be missing", n)
	}
	time.Sleep(2 * time.Second) // at least one attempt that fails
	if n := event("recovery.copy-found"); n != 0 {
		t.Errorf("%d copies found without the array", n)
	}

	f.must(f.site.StartArray(f.ctx, nil))
	eventually(t, "the copies are found", 30*time.Second, func() bool { return event("recovery.copy-found") == 2 })
	paths := []string{folder}
	for _, c := range im.Copies {
		paths = append(paths, c.DeviceObject)
	}
	for _, p := range paths {
		if got, err := os.ReadFile(f.b.Path(p + "/hello")); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q %v", p, got, err)
		}
		if err := os.WriteFile(f.b.Path(p+"/more"), nil, 0o644); err == nil {
			t.Errorf("%s can be written to", p)
		}
	}
	if n := len(f.rules(f.b, "*-naa.*")); n != rules {
		t.Errorf("%d rules, %d before", n, rules)
	}
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	f.nothingOn(f.b)
	if c := f.copiesOnArray(); len(c) != 0 {
		t.Errorf("copies left: %+v", c)
	}
}

// TestArrayComesLateForNobody: a copy that is given up while its array is away
// does not come back.
func TestArrayComesLateForNobody(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	set := f.create("app-rollback", v)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	f.reboot(f.b, im)
	f.site.KillArray()
	f.must(f.b.StartDaemon(f.ctx, nil))
	f.must(f.site.StartArray(f.ctx, nil))
	// Before or after it was found, it is deleted and stays so.
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	time.Sleep(5 * time.Second)
	f.nothingOn(f.b)
	if c := f.copiesOnArray(); len(c) != 0 {
		t.Errorf("copies left: %+v", c)
	}
}

// TestLeftoversGoByThemselves: the array dies when a set's copies are durable
// and the set is not recorded. The copies are nobody's; they go when the array
// is back, and A's daemon is not restarted for it.
func TestLeftoversGoByThemselves(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	here := filepath.Join(f.site.Dir, "here")
	f.armOn(f.a, "create.after-post-commit=touch("+here+")+sleep(300ms)")
	done := make(chan error, 1)
	go func() { _, err := f.tryCreate("app-rollback", v); done <- err }()
	eventually(t, "the copies are durable", 10*time.Second, exists(here))
	f.site.KillArray()
	err := <-done
	f.mentions(f.complaints(err, 1)[0], "could not be dropped yet")
	daemon := f.a.DaemonPID()

	f.must(f.site.StartArray(f.ctx, nil))
	eventually(t, "the leftovers are dropped", 30*time.Second, func() bool {
		out, err := f.a.Umbra(f.ctx, "list", "events", "--output", "json")
		f.must(err)
		return strings.Contains(out, `"recovery.create-dropped"`)
	})
	if c := f.copiesOnArray(); len(c) != 0 {
		t.Errorf("copies left: %+v", c)
	}
	if f.a.DaemonPID() != daemon {
		t.Error("the daemon was restarted")
	}
	f.armOn(f.a, "")
	f.works(v)
}
