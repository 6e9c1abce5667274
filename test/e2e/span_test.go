package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// TestLogAndJournalElsewhere: filesystems with a part on another LUN are copied
// whole, and their copies are mounted with that part's copy.
func TestLogAndJournalElsewhere(t *testing.T) {
	f := newFixture(t)
	lun := func(name, size string) string {
		_, d, err := f.a.NewLUN(f.ctx, name, size)
		f.must(err)
		return d
	}
	mount := func(name, script string, args ...string) string {
		dir := filepath.Join(f.site.Dir, f.a.Name, "srv", name)
		f.must(os.MkdirAll(dir, 0o755))
		_, err := f.a.Run(f.ctx, "sh", append([]string{"-ec", script, "sh", dir}, args...)...)
		f.must(err)
		f.put(dir, "hello", "hello from "+name)
		return dir
	}
	x := mount("x", `mkfs.xfs -q -f -l logdev=$3 $2 && mount -t xfs -o logdev=$3 $2 $1`, lun("data", "512M"), lun("log", "128M"))
	e := mount("e", `mkfs.ext4 -q -F -O journal_dev $3 && mkfs.ext4 -q -F -J device=$3 $2 && mount -t ext4 $2 $1`, lun("edata", "128M"), lun("journal", "64M"))
	set := f.create("app-rollback", x, e)
	_, d := f.readSet(set)
	for i, s := range d.Set.Snapshots {
		if len(s.LUNs) != 2 || len(s.Devices) != 2 || s.Devices[1].Role != []string{"log", "journal"}[i] {
			t.Errorf("in the document: %+v", s)
		}
	}
	f.put(x, "hello", "changed")
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	if im.Result != vss.VSS_S_ASYNC_FINISHED.Name() {
		t.Fatalf("import: %+v", im)
	}
	for _, v := range []string{x, e} {
		if got := f.onB(im.Copies, v, "hello"); got != "hello from "+filepath.Base(v) {
			t.Errorf("the copy of %s says %q", v, got)
		}
	}
	f.b.KillDaemon()
	<-f.b.DaemonDone()
	f.must(f.b.StartDaemon(f.ctx, nil))
	folder := filepath.Join(f.site.Dir, "exposed")
	f.must(os.Mkdir(folder, 0o755))
	_, err = f.b.Umbra(f.ctx, "expose", im.Copies[0].SnapshotID.String(), folder)
	f.must(err)
	f.gone(f.b, set)
}
