package freeze_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
)

// A frozen filesystem whose only mount went with its mount namespace is in no
// mount table, and nobody has a descriptor of it.
func TestRecoverAfterTheMountNamespaceDied(t *testing.T) {
	for _, tc := range []struct{ fsType, option string }{
		{"ext4", "rw"}, {"ext4", "ro"}, {"xfs", "rw"}, {"btrfs", "rw"},
	} {
		t.Run(tc.fsType+"-"+tc.option, func(t *testing.T) {
			v := newVolume(t, tc.fsType)
			f := v.open(t)
			held := f.Held()
			f.Close()
			dir := t.TempDir()
			h := freeze.HoldIntent{SetID: "set", BootID: freeze.BootID(), Filesystems: []freeze.HeldFilesystem{held}}
			if _, err := freeze.WriteIntent(dir, h); err != nil {
				t.Fatal(err)
			}
			private := newPrivate(t, v)
			private.freezeAndDie(t, tc.option)
			if !private.superblockAlive() {
				t.Fatal("the superblock did not survive: nothing to recover")
			}
			rs := recoverIntents(t, dir)
			if got := actions(rs); got != "thawed-remounted" {
				t.Errorf("%s: %+v", got, rs)
			}
			if private.superblockAlive() {
				t.Error("the superblock is still there: frozen")
			}
		})
	}
}

// The daemon dies, and with it the mount namespace that has the only mount of what
// is held: but for the guard, who is in it and thaws.
func TestMountNamespaceEndsWithTheDaemon(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		v := newVolume(t, fsType)
		private := newPrivate(t, v)
		private.unmount(t)
		v.mount = private.dir // where the daemon has it
		d, lines := startFreezingIn(t, "", []string{"unshare", "--mount", "--propagation", "private", "sh", "-c",
			`mount -t "$0" "$1" "$2" && exec "$3"`, fsType, v.loop, private.dir}, v)
		if line, err := lines.ReadString('\n'); line != "holding\n" {
			t.Fatalf("child said %q, %v", line, err)
		}
		if err := d.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Second, "the guard thaws and ends", func() bool { return guardEnded(d.guard) })
		eventually(t, 2*time.Second, "the filesystem, not frozen, goes with the namespace", func() bool { return !private.superblockAlive() })
	})
}

// private mounts a volume's device in a namespace of its own only.
type private struct {
	v   *volume
	dir string
}

// newPrivate takes the volume out of this mount namespace.
func newPrivate(t *testing.T, v *volume) *private {
	t.Helper()
	p := &private{v: v, dir: t.TempDir()}
	_ = unix.Close(v.keeper)
	v.keeper = -1
	return p
}

// unmount ends the mount that everybody sees.
func (p *private) unmount(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(p.v.mount, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "the first mount is gone", func() bool { return !p.superblockAlive() })
	t.Cleanup(func() { p.rescue() })
}

func (p *private) freezeAndDie(t *testing.T, option string) {
	t.Helper()
	p.unmount(t)
	script := `mount -o "$4" -t "$1" "$2" "$3" && fsfreeze -f "$3"`
	out, err := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
		p.v.fsType, p.v.loop, p.dir, option).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// superblockAlive: somebody holds the device.
func (p *private) superblockAlive() bool {
	fd, err := unix.Open(p.v.loop, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == unix.EBUSY
}

// rescue thaws by hand when the recovery under test did not.
func (p *private) rescue() {
	if !p.superblockAlive() {
		return
	}
	if unix.Mount(p.v.loop, p.dir, p.v.fsType, 0, "") == nil || unix.Mount(p.v.loop, p.dir, p.v.fsType, unix.MS_RDONLY, "") == nil {
		if d, err := os.Open(filepath.Clean(p.dir)); err == nil {
			ioctl(int(d.Fd()), fiThaw)
			d.Close()
		}
		_ = unix.Unmount(p.dir, unix.MNT_DETACH)
	}
}
