package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// TestArrayDies: the array may die between creation and import. LUNs that are
// attached live on meanwhile, and what was durable is still there.
func TestArrayDies(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	f.put(v, "hello", "hello")
	set := f.create("app-rollback", v, w)
	f.site.KillArray()
	f.put(v, "meanwhile", "written without an array")
	f.put(w, "meanwhile", "written without an array")
	for _, m := range []string{v, w} {
		_, err := f.a.Run(f.ctx, "sync", "-f", m) // reports I/O errors
		f.must(err)
	}
	f.must(f.site.StartArray(f.ctx, nil))
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	for _, c := range im.Copies {
		if c.OriginalVolumeName == v {
			if got, err := os.ReadFile(f.b.Path(c.DeviceObject + "/hello")); err != nil || string(got) != "hello" {
				t.Errorf("%q %v", got, err)
			}
		}
		if _, err := os.Stat(f.b.Path(c.DeviceObject + "/meanwhile")); err == nil {
			t.Error("the copy has a file from after it was made")
		}
	}
	// With imported copies attached it may die again: they are read on.
	f.site.KillArray()
	_, err = f.b.Run(f.ctx, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches; cat "+im.Copies[0].BlockDevice+" > /dev/null")
	f.must(err)
	f.must(f.site.StartArray(f.ctx, nil))
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	if got, err := os.ReadFile(f.a.Path(filepath.Join(v, "meanwhile"))); err != nil || !strings.HasPrefix(string(got), "written") {
		t.Errorf("%q %v", got, err)
	}
	f.works(v, w)
}

// TestRestartWithCopies: imported copies, their device objects and exposures
// are there before and after a restart of the daemon, however it ended.
func TestRestartWithCopies(t *testing.T) {
	f := newFixture(t)
	var volumes []string
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		m, _, _ := f.volume(fs, fs)
		f.put(m, "hello", "hello")
		volumes = append(volumes, m)
	}
	set := f.create("app-rollback", volumes...)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	folders := map[string]string{}
	for _, c := range im.Copies {
		d := filepath.Join(f.site.Dir, "exposed", filepath.Base(c.OriginalVolumeName))
		f.must(os.MkdirAll(d, 0o755))
		_, err := f.b.Umbra(f.ctx, "expose", c.SnapshotID.String(), d)
		f.must(err)
		folders[d] = c.DeviceObject
	}
	before, err := f.b.Umbra(f.ctx, "list", "copies", "--output", "json")
	f.must(err)
	luns, err := f.b.Umbra(f.ctx, "list", "luns", "--output", "json")
	f.must(err)
	mounts := func(g *fixture) int {
		out, err := g.b.Run(g.ctx, "cat", "/proc/self/mountinfo")
		g.must(err)
		return strings.Count(out, im.Copies[0].BlockDevice+" ")
	}
	n := mounts(f)
	for name, end := range map[string]func(h *site.Host){"stopped": (*site.Host).StopDaemon, "killed": (*site.Host).KillDaemon} {
		f.run(name, func(g *fixture) {
			reading, err := os.Open(g.b.Path(im.Copies[0].DeviceObject + "/hello"))
			g.must(err)
			defer reading.Close()
			end(g.b)
			for d, object := range folders {
				for _, p := range []string{d, object} { // nobody needs a daemon to read
					if got, err := os.ReadFile(g.b.Path(p + "/hello")); err != nil || string(got) != "hello" {
						g.Errorf("without the daemon: %q %v", got, err)
					}
				}
			}
			g.must(g.b.StartDaemon(g.ctx, nil))
			if after, err := g.b.Umbra(g.ctx, "list", "copies", "--output", "json"); err != nil || after != before {
				g.Errorf("copies:\n%s\nbefore:\n%s%v", after, before, err)
			}
			if after, err := g.b.Umbra(g.ctx, "list", "luns", "--output", "json"); err != nil || after != luns {
				g.Errorf("LUNs:\n%s\nbefore:\n%s%v", after, luns, err)
			}
			if got := mounts(g); got != n {
				g.Errorf("%d mounts, %d before", got, n)
			}
			for d, object := range folders {
				for _, p := range []string{d, object} {
					if got, err := os.ReadFile(g.b.Path(p + "/hello")); err != nil || string(got) != "hello" {
						g.Errorf("%q %v", got, err)
					}
				}
			}
		})
	}
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	f.nothingOn(f.b)
}

// TestAutoReleaseAtRestart: auto-release copies do not outlive the daemon
// their requester was talking to.
func TestAutoReleaseAtRestart(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	set := f.create("backup", v)
	here := filepath.Join(f.site.Dir, "here")
	script := filepath.Join(f.site.Dir, "wait")
	f.must(os.WriteFile(script, []byte("#!/bin/sh\ntouch "+here+"\nexec sleep 20\n"), 0o755))
	cmd := f.requesterOn(f.b, "import", set.doc, "--exec", script)
	eventually(t, "the copies are used", 10*time.Second, exists(here))
	f.b.KillDaemon()
	f.must(cmd.Process.Kill())
	f.must(f.b.StartDaemon(f.ctx, nil))
	if c := f.copiesOnArray(); len(c) != 0 {
		t.Errorf("copies left: %+v", c)
	}
	f.nothingOn(f.b)
}

// TestCancelledImport: what was unmasked stays, listed, until the requester
// says what to do with it.
func TestCancelledImport(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	for _, point := range []string{"import.after-hide", "import.after-locate", "import.after-arrive"} {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", v)
			here := filepath.Join(g.site.Dir, "here")
			_ = os.Remove(here)
			g.armOn(g.b, point+"=touch("+here+")+sleep(20s)")
			bc, err := requester.CreateBackupComponents(g.ctx, requester.Endpoint(g.b.Socket()))
			g.must(err)
			defer bc.Close()
			raw, _ := g.readSet(set)
			g.must(bc.InitializeForBackup(g.ctx, raw))
			g.must(bc.SetContext(g.ctx, vss.CTX_ALL))
			op, err := bc.ImportSnapshots(g.ctx)
			g.must(err)
			eventually(g, "the import is there", 10*time.Second, exists(here))
			if code, err := op.Cancel(g.ctx); code != vss.S_OK || err != nil {
				g.Errorf("cancel: %s %v", code.Name(), err)
			}
			if code, _ := op.QueryStatus(g.ctx); code != vss.VSS_S_ASYNC_CANCELLED {
				g.Errorf("status: %s", code.Name())
			}
			if code, _ := op.Cancel(g.ctx); code != vss.VSS_S_ASYNC_CANCELLED {
				g.Errorf("second cancel: %s", code.Name())
			}
			o := g.orphans(g.b)
			if point == "import.after-hide" {
				if len(o) != 0 {
					g.Errorf("listed, though nothing was unmasked: %+v", o)
				}
				g.nothingOn(g.b)
				_, err := g.a.Umbra(g.ctx, "delete", "set", set.SetID.String())
				g.must(err)
				return
			}
			if len(o) != 1 || o[0].SetID != set.SetID {
				g.Fatalf("listed: %+v", o)
			}
			_, err = g.b.Umbra(g.ctx, "cleanup", set.SetID.String(), "--reclaim")
			g.must(err)
			g.nothingOn(g.b)
			if c := g.copiesOnArray(); len(c) != 0 {
				g.Errorf("copies left: %+v", c)
			}
		})
	}
}
