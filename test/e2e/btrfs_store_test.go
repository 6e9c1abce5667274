package e2e

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/demo"
	"github.com/umbra-vss/umbra/vss"
)

// TestStoreOnBtrfs: an array whose folder is on btrfs has its store there,
// without an image of its own, and does all that another does.
func TestStoreOnBtrfs(t *testing.T) {
	f := newFixtureOn(t, "btrfs")
	var st unix.Statfs_t
	f.must(unix.Statfs(f.site.ArrayPath(filepath.Join(f.site.ArrayDir(), "store", "luns")), &st))
	if uint32(st.Type) != unix.BTRFS_SUPER_MAGIC {
		t.Fatalf("the LUNs are on a filesystem of type %x", st.Type)
	}
	free := f.free()

	ext, _, extLUN := f.volume("ext", "ext4")
	xfs, _, xfsLUN := f.volume("xfs", "xfs")
	content := make([]byte, 8<<20)
	rand.Read(content)
	for _, m := range []string{ext, xfs} {
		f.put(m, "content", string(content))
	}
	w, err := demo.StartWorkload(f.ctx, f.a.Path(filepath.Join(ext, "log")), f.a.Path(filepath.Join(xfs, "log")))
	f.must(err)
	eventually(t, "the workload runs", 1e10, func() bool { return w.Written() > 50 })

	// Again and again: every copy makes its original write elsewhere.
	var sets []createdSet
	var before []int
	for range 3 {
		before = append(before, w.Written())
		sets = append(sets, f.create("app-rollback", ext, xfs))
	}
	f.must(w.Stop())
	for _, m := range []string{ext, xfs} {
		f.put(m, "content", strings.Repeat("x", len(content))) // in the blocks of before
	}
	_, err = f.a.Run(f.ctx, "sync")
	f.must(err)

	for i, set := range sets {
		im, err := f.importOn(f.b, set.doc)
		f.must(err)
		if im.Result != vss.VSS_S_ASYNC_FINISHED.Name() || len(im.Copies) != 2 {
			t.Fatalf("import: %+v", im)
		}
		logs := map[string]string{}
		for _, c := range im.Copies {
			logs[c.OriginalVolumeName] = f.b.Path(filepath.Join(c.DeviceObject, "log"))
			got, err := os.ReadFile(f.b.Path(filepath.Join(c.DeviceObject, "content")))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("copy %d of %s has other content: %d bytes, %v", i, c.OriginalVolumeName, len(got), err)
			}
		}
		if n, err := demo.VerifyPrefix(logs[ext], logs[xfs]); err != nil || n < before[i] {
			t.Errorf("copy %d: prefix %d of at least %d: %v", i, n, before[i], err)
		}
	}

	for _, set := range sets {
		_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
		f.must(err)
	}
	f.nothingOn(f.b)
	if c := f.copiesOnArray(); len(c) != 0 {
		t.Errorf("copies left: %+v", c)
	}
	f.works(ext, xfs)

	// The originals go, too, and with them what they took.
	for _, m := range []string{ext, xfs} {
		_, err = f.a.Run(f.ctx, "umount", m)
		f.must(err)
	}
	for _, naa := range []string{extLUN, xfsLUN} {
		_, err = f.a.Umbra(f.ctx, "detach", naa)
		f.must(err)
		_, err = f.site.Array(f.ctx, "lun", "delete", naa)
		f.must(err)
	}
	luns, err := os.ReadDir(f.site.ArrayPath(filepath.Join(f.site.ArrayDir(), "store", "luns")))
	f.must(err)
	if len(luns) != 0 {
		t.Errorf("files left in the store: %v", luns)
	}
	// What btrfs keeps for itself is not ours; a volume's content would be.
	if now := f.free(); now+uint64(len(content)) < free {
		t.Errorf("%d MiB were free, %d MiB are", free>>20, now>>20)
	}
}

// free is the room in the filesystem under the array, once what was deleted is
// given back.
func (f *fixture) free() uint64 {
	f.Helper()
	dir := f.site.ArrayPath(f.site.ArrayDir())
	d, err := os.Open(dir)
	f.must(err)
	defer d.Close()
	f.must(unix.Syncfs(int(d.Fd())))
	var st unix.Statfs_t
	f.must(unix.Statfs(dir, &st))
	return st.Bavail * uint64(st.Bsize)
}

// TestArrayInSubvolume: an array that lies in a subvolume is not frozen by way
// of the one above it. Each has a device number of its own.
func TestArrayInSubvolume(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "btrfs")
	sub := filepath.Join(v, "sub")
	_, err := f.a.Run(f.ctx, "btrfs", "subvolume", "create", sub)
	f.must(err)
	socket := filepath.Join(f.site.Dir, "array2.sock")
	stop := f.background(f.a, binary, "array", "serve", "--dir", filepath.Join(sub, "array2"), "--name", "second", "--array-socket", socket,
		"--data-socket", filepath.Join(f.site.Dir, "d2"), "--listen", "unix://"+filepath.Join(f.site.Dir, "h2"), "--exit-with-stdin")
	defer stop()
	eventually(t, "the second array serves", 1e10, exists(socket))
	bundle := filepath.Join(f.site.Dir, "b2")
	_, err = f.a.Run(f.ctx, binary, "array", "--array-socket", socket, "enroll", f.a.Name, "--bundle", bundle)
	f.must(err)
	_, err = f.a.Umbra(f.ctx, "join", bundle)
	f.must(err)
	f.leavesNothing(func() {
		f.mentions(f.refused(f.tryMake(v), vss.VSS_E_NESTED_VOLUME_LIMIT), v, sub)
	})
}
