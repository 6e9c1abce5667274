package importing_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

// TestNotMountedTwice: a device object that outlived the service is left as it
// is; with a real mount, whose device number the block device is given.
func TestNotMountedTwice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.want(w.run(t.Context(), d), finished)
	c := w.copies()[0]
	target := w.im.DeviceObject(c.Prop.SnapshotID)
	if importing.MountedAt(target, importing.VolumeOf(c)) {
		t.Error("mounted before it is")
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	if importing.MountedAt(target, importing.VolumeOf(c)) {
		t.Error("another filesystem is taken for the copy")
	}
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil {
		t.Fatal(err)
	}
	c.Surfaces[0].Major, c.Surfaces[0].Minor = unix.Major(st.Dev), unix.Minor(st.Dev)
	if !importing.MountedAt(target, importing.VolumeOf(c)) || importing.MountedAt(filepath.Dir(target), importing.VolumeOf(c)) {
		t.Error("the mount is not seen where it is, or where it is not")
	}
	if err := w.cat.Update(t.Context(), func(tx *catalog.Tx) error { return tx.PutCopy(c) }); err != nil {
		t.Fatal(err)
	}
	w.journal.Reset()
	if err := w.im.MountCopies(t.Context(), d.Set.ID); err != nil {
		t.Fatal(err)
	}
	if w.journal.Count("MountClone") != 0 || w.copies()[0].Prop.DeviceObject != target {
		t.Errorf("calls %v, copy %+v", w.journal.Calls(), w.copies()[0].Prop)
	}
}
