package e2e

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-vss/umbra/vss"
)

// TestDeleteByForce: copies that somebody reads are refused, and stay as they
// are. By force they are gone at once, from the lists, the folders and the array;
// the readers read on, and when they have closed their files nothing is left.
func TestDeleteByForce(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	long := strings.Repeat("a long story, ", 1<<16)
	f.put(v, "story", "v: "+long)
	f.put(w, "story", "w: "+long)
	folder := filepath.Join(f.site.Dir, "exposed")
	f.must(os.Mkdir(folder, 0o755))
	set := f.create("app-rollback", v, w)
	f.must(os.Rename(set.doc, set.doc+".kept")) // not a residue of this
	before := slices.DeleteFunc(f.residue(), func(l string) bool { return strings.HasPrefix(l, "array ") })
	im, err := f.importOn(f.b, set.doc+".kept")
	f.must(err)
	exposed := im.Copies[slices.IndexFunc(im.Copies, func(c vss.SnapshotProp) bool { return c.OriginalVolumeName == v })]
	other := im.Copies[slices.IndexFunc(im.Copies, func(c vss.SnapshotProp) bool { return c.OriginalVolumeName == w })]
	_, err = f.b.Umbra(f.ctx, "expose", exposed.SnapshotID.String(), folder)
	f.must(err)

	readers := map[string]*os.File{}
	for name, path := range map[string]string{"v": folder, "w": other.DeviceObject} {
		r, err := os.Open(f.b.Path(path + "/story"))
		f.must(err)
		defer r.Close()
		readers[name] = r
	}
	whole := f.residue()
	for _, c := range []string{exposed.SnapshotID.String(), other.SnapshotID.String()} {
		_, err = f.as(f.b, "delete", "copy", c)
		f.mentions(f.refused(err, vss.VSS_E_VOLUME_IN_USE), "in use")
	}
	if d := cmp.Diff(whole, f.residue()); d != "" {
		t.Fatalf("a deletion that was refused changed something:\n%s", d)
	}

	out, err := f.as(f.b, "delete", "set", set.SetID.String(), "--force")
	f.must(err)
	var done struct{ Deleted int }
	f.must(json.Unmarshal([]byte(out), &done))
	if c := f.copiesOn(f.b); done.Deleted != 2 || len(c) != 0 || len(f.copiesOnArray()) != 0 {
		t.Fatalf("%d deleted; on b %+v, on the array %+v", done.Deleted, c, f.copiesOnArray())
	}
	for _, gone := range []string{folder + "/story", other.DeviceObject, exposed.DeviceObject} {
		if _, err := os.Lstat(f.b.Path(gone)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", gone, err)
		}
	}
	// Somebody reads: neither the service's end nor its start changes that, and
	// the array does not remember the LUN.
	f.b.KillDaemon()
	f.must(f.b.StartDaemon(f.ctx, nil))
	if c := f.copiesOn(f.b); len(c) != 0 {
		t.Errorf("after a restart: %+v", c)
	}
	for name, r := range readers {
		if got, err := io.ReadAll(r); err != nil || string(got) != name+": "+long {
			t.Errorf("the reader of %s got %d bytes, %v", name, len(got), err)
		}
	}
	left := func() []string {
		return slices.DeleteFunc(f.residue(), func(l string) bool { return strings.HasPrefix(l, "array ") })
	}
	if l := left(); !slices.ContainsFunc(l, func(s string) bool { return strings.Contains(s, "(deleted)") }) {
		t.Errorf("no loop device, though it is read: %v", l)
	}
	held := func() bool {
		info, err := f.site.Array(f.ctx, "info")
		f.must(err)
		return strings.Contains(info, "deleted by force and is still read")
	}
	if !held() {
		t.Error("the array does not list the space that readers hold")
	}
	for _, r := range readers {
		f.must(r.Close())
	}
	for end := time.Now().Add(10 * time.Second); !slices.Equal(left(), before); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left behind, or lost:\n%s", cmp.Diff(before, left()))
		}
	}
	if held() {
		t.Error("the array lists space that nobody holds")
	}
	if strays := f.strays(); len(strays) != 0 {
		t.Errorf("files in the store that no LUN has: %v", strays)
	}
	f.must(os.Remove(set.doc + ".kept"))
	f.works(v, w)
}

// TestKilledDeletingByForce: the daemon dies at every point while somebody reads.
// At its next start the deletion is finished, by force, and the reader reads on.
func TestKilledDeletingByForce(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "btrfs") // which the kernel remembers by its UUID
	f.put(v, "story", "a story")
	for _, point := range f.points("delete.") {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", v)
			im, err := g.importOn(g.b, set.doc)
			g.must(err)
			r, err := os.Open(g.b.Path(im.Copies[0].DeviceObject + "/story"))
			g.must(err)
			defer r.Close()
			g.armOn(g.b, point+"=kill")
			_, killed := g.as(g.b, "delete", "set", set.SetID.String(), "--force")
			g.refused(killed, vss.VSS_E_UNEXPECTED)
			<-g.b.DaemonDone()
			g.must(g.b.StartDaemon(g.ctx, nil))
			if c, a := g.copiesOn(g.b), g.copiesOnArray(); len(c)+len(a) != 0 {
				g.Errorf("copies left: %+v %+v", c, a)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != "a story" {
				g.Errorf("the reader got %q, %v", got, err)
			}
			out, err := g.b.Umbra(g.ctx, "list", "luns", "--output", "json")
			if g.must(err); !strings.Contains(out, `"detaching"`) || strings.Contains(out, `"original"`) {
				g.Errorf("what is read is listed as %s", out)
			}
			g.must(r.Close())
			device := strings.TrimPrefix(im.Copies[0].BlockDevice, "/dev/")
			eventually(g, "the device is gone", 10*time.Second, func() bool {
				b, err := os.ReadFile("/sys/block/" + device + "/loop/backing_file")
				return err != nil || !strings.Contains(string(b), g.site.Dir+"/")
			})
			g.nothingOn(g.b)
			g.must(os.Remove(set.doc))
			g.died(point, "B's daemon", "delete --force of a copy that is read", killed, "deleted at the start; the reader reads on, and the device goes with it")
		})
	}
	f.works(v)
}

// strays are the files of the array's store that no LUN of it has.
func (f *fixture) strays() []string {
	f.Helper()
	out, err := f.site.Array(f.ctx, "info", "--output", "json")
	f.must(err)
	var info struct{ Strays []string }
	f.must(json.Unmarshal([]byte(out), &info))
	return info.Strays
}
