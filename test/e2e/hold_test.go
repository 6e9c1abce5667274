package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// armed restarts A's daemon with failpoints.
func (f *fixture) armed(spec string) {
	f.Helper()
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, []string{"UMBRA_FAILPOINTS=" + spec}))
}

// TestForeignThaw: whoever thaws a volume of the set during the hold makes the
// set fail, also when it is frozen again, and its copies are deleted.
func TestForeignThaw(t *testing.T) {
	f := newFixture(t)
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		mount, _, _ := f.volume(fs, fs)
		other, _, _ := f.volume(fs+"2", "ext4")
		for name, foreign := range map[string]func(th thawer){
			"thaw": func(th thawer) { f.must(unix.IoctlSetInt(th.fd, fithaw, 0)) },
			"thaw, write and freeze": func(th thawer) {
				f.must(unix.IoctlSetInt(th.fd, fithaw, 0))
				f.put(mount, "torn", "written in the middle of the hold")
				f.must(unix.Syncfs(th.fd))
				f.must(unix.IoctlSetInt(th.fd, fifreeze, 0))
			},
		} {
			t.Run(fs+" "+name, func(t *testing.T) {
				g := &fixture{T: t, ctx: f.ctx, site: f.site, a: f.a, b: f.b, docs: f.docs}
				defer func() { f.docs = g.docs }()
				here := filepath.Join(f.site.Dir, "held")
				os.Remove(here)
				g.armed("create.in-hold=touch(" + here + ")+sleep(1500ms)")
				th, th2 := g.thawer(mount), g.thawer(other)
				type result struct {
					err error
				}
				done := make(chan result, 1)
				go func() {
					_, err := g.tryCreate("app-rollback", mount, other)
					done <- result{err}
				}()
				eventually(t, "the hold begins", 20*time.Second, exists(here))
				foreign(th)
				r := <-done
				g.fails(r.err, 1, vss.VSS_E_HOLD_WRITES_TIMEOUT)
				if th.frozen(t) || th2.frozen(t) {
					t.Error("a volume is still frozen")
				}
				if c := g.copiesOnArray(); len(c) != 0 {
					t.Errorf("copies of a torn set: %v", c)
				}
			})
		}
	}
}

// TestForeignFreeze: a volume frozen by somebody else is refused and not thawed.
func TestForeignFreeze(t *testing.T) {
	f := newFixture(t)
	mount, _, _ := f.volume("v", "ext4")
	other, _, _ := f.volume("w", "xfs")
	th, th2 := f.thawer(mount), f.thawer(other)
	f.must(unix.IoctlSetInt(th.fd, fifreeze, 0))
	_, err := f.tryCreate("app-rollback", mount, other)
	f.fails(err, 1, vss.VSS_E_VOLUME_IN_USE)
	if th2.frozen(t) {
		t.Error("the other volume is still frozen")
	}
	if !th.frozen(t) {
		t.Error("the administrator's freeze was thawed")
	}
	if c := f.copiesOnArray(); len(c) != 0 {
		t.Errorf("copies: %v", c)
	}
	// With the freeze gone the same command works.
	f.create("app-rollback", mount, other)
}

// TestDaemonDiesInHold: the guard thaws, the next life drops the set.
func TestDaemonDiesInHold(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	x, _, _ := f.volume("x", "btrfs")
	f.armed("create.in-hold=kill")
	ths := f.thawers(v, w, x)
	_, err := f.tryCreate("app-rollback", v, w, x)
	if err == nil {
		t.Fatal("create succeeded though the daemon died")
	}
	<-f.a.DaemonDone()
	f.thawedWithin(100*time.Millisecond, time.Now(), ths...)
	f.must(f.a.StartDaemon(f.ctx, nil))
	if c := f.copiesOnArray(); len(c) != 0 {
		t.Errorf("copies of a set that never was: %v", c)
	}
	f.create("app-rollback", v, w, x)
}

// TestVolumeGoesInHold: a volume that is unmounted in the hold, lazily, is held
// all the same, and thawed.
func TestVolumeGoesInHold(t *testing.T) {
	f := newFixture(t)
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		v, device, _ := f.volume(fs, fs)
		f.run(fs, func(g *fixture) {
			h := g.hold("300ms", nil, v)
			_, err := g.a.Run(g.ctx, "umount", "-l", v)
			g.must(err)
			g.must(<-h.done)
			// It is gone for good, so it was thawed: a frozen one would keep its device.
			eventually(g, "the device is free", 5*time.Second, func() bool {
				_, err := g.a.Run(g.ctx, "mount", "-o", "ro", device, v)
				return err == nil
			})
			_, err = g.a.Run(g.ctx, "umount", v)
			g.must(err)
			fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
			g.must(err)
			unix.Close(fd)
			_, err = g.a.Run(g.ctx, "mount", device, v)
			g.must(err)
			_, err = g.a.Umbra(g.ctx, "delete", "set", g.lastSet())
			g.must(err)
			g.armOn(g.a, "")
			g.works(v)
		})
	}
}
