package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// localSet is what umbra create prints of a set that does not travel.
type localSet struct {
	SetID     vss.ID `json:"set_id"`
	Snapshots []struct {
		ID           vss.ID `json:"id"`
		Volume       string `json:"volume"`
		DeviceObject string `json:"device_object"`
		BlockDevice  string `json:"block_device"`
	} `json:"snapshots"`
}

// tryLocal makes a set on A that stays there.
func (f *fixture) tryLocal(args ...string) (s localSet, err error) {
	out, err := f.as(f.a, append([]string{"create"}, args...)...)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

func (f *fixture) local(args ...string) localSet {
	f.Helper()
	s, err := f.tryLocal(args...)
	f.must(err)
	return s
}

// copiesOn lists the copies a host has.
func (f *fixture) copiesOn(h *site.Host) (cs []vss.SnapshotProp) {
	f.Helper()
	out, err := h.Umbra(f.ctx, "list", "copies", "--output", "json")
	f.must(err)
	f.must(json.Unmarshal([]byte(out), &cs))
	return cs
}

// reads asserts that a file of A has this content.
func (f *fixture) reads(path, want string) {
	f.Helper()
	if got, err := os.ReadFile(f.a.Path(path)); err != nil || string(got) != want {
		f.Errorf("%s: %q %v, want %q", path, got, err, want)
	}
}

// TestLocalSet: a set that does not travel is shown to the machine that made
// it, beside its mounted originals, which notice nothing.
func TestLocalSet(t *testing.T) {
	f := newFixture(t)
	var volumes []string
	devices := map[string]string{}
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		m, d, _ := f.volume(fs, fs)
		f.put(m, "hello", "before, on "+fs)
		volumes, devices[m] = append(volumes, m), d
	}
	before := f.residue()
	set := f.local(volumes...)
	for _, m := range volumes {
		f.put(m, "later", "after the copy")
		_, err := f.a.Run(f.ctx, "sync", "-f", m) // reports I/O errors
		f.must(err)
		out, err := f.a.Run(f.ctx, "findmnt", "-no", "SOURCE", m)
		f.must(err)
		if got := strings.TrimSpace(out); got != devices[m] {
			t.Errorf("%s is mounted from %s, was from %s", m, got, devices[m])
		}
	}
	copies := f.copiesOn(f.a)
	if len(copies) != 3 || len(set.Snapshots) != 3 {
		t.Fatalf("made %+v\nlisted %+v", set, copies)
	}
	for _, c := range copies {
		fs := filepath.Base(c.OriginalVolumeName)
		want := vss.CTX_APP_ROLLBACK.Attributes() | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_NOT_SURFACED
		if c.Attributes != want || c.SnapshotSetID != set.SetID || c.SnapshotsCount != 3 || c.OriginatingMachine != f.a.Name || c.ServiceMachine != f.a.Name || c.BlockDevice == "" {
			t.Errorf("%s: attributes %s, want %s; %+v", fs, c.Attributes, want, c)
		}
		if c.DeviceObject == "" {
			// The kernel could not keep it apart from its original.
			out, err := f.a.Umbra(f.ctx, "list", "events", "--set", set.SetID.String(), "--output", "json")
			if err != nil || fs != "btrfs" || !strings.Contains(out, "copy.not-mounted") {
				t.Errorf("%s has no device object: %v %s", fs, err, out)
			}
			continue
		}
		f.reads(c.DeviceObject+"/hello", "before, on "+fs)
		if _, err := os.Stat(f.a.Path(c.DeviceObject + "/later")); err == nil {
			t.Errorf("%s: the copy has a file from after it was made", fs)
		}
		if err := os.WriteFile(f.a.Path(c.DeviceObject+"/intruder"), nil, 0o600); err == nil {
			t.Errorf("%s can be written to", fs)
		}
	}
	for _, l := range f.copiesOnArray() {
		if strings.Join(l.Masks, " ") != f.a.Name {
			t.Errorf("%s is unmasked to %v", l.NAA, l.Masks)
		}
	}

	f.run("it does not travel", func(g *fixture) {
		doc := filepath.Join(g.site.Dir, "stays.umbra")
		_, err := g.a.Umbra(g.ctx, "save", set.SetID.String(), "--document", doc)
		g.must(err)
		defer os.Remove(doc)
		for _, h := range []*site.Host{g.a, g.b} {
			_, err := g.importOn(h, doc)
			g.fails(err, 1, vss.VSS_E_NONTRANSPORTABLE_BCD)
		}
		_, err = g.as(g.a, "cleanup", set.SetID.String()) // it is no import
		g.refused(err, vss.VSS_E_OBJECT_NOT_FOUND)
	})
	f.run("through restart and reboot", func(g *fixture) {
		folder := filepath.Join(g.site.Dir, "exposed")
		g.must(os.Mkdir(folder, 0o755))
		defer os.Remove(folder)
		c := copies[0]
		_, err := g.a.Umbra(g.ctx, "expose", c.SnapshotID.String(), folder)
		g.must(err)
		g.reads(folder+"/hello", "before, on "+filepath.Base(c.OriginalVolumeName))
		was := g.copiesOn(g.a)
		g.a.KillDaemon()
		g.must(g.a.StartDaemon(g.ctx, nil))
		for i, c := range g.copiesOn(g.a) {
			if c != was[i] {
				g.Errorf("after a restart: %+v\nbefore: %+v", c, was[i])
			}
		}
		var mounted []vss.SnapshotProp
		for _, c := range was {
			if c.DeviceObject != "" {
				mounted = append(mounted, c)
			}
		}
		g.reboot(g.a, importedSet{Copies: mounted}, folder)
		g.must(g.a.StartDaemon(g.ctx, nil))
		for i, c := range g.copiesOn(g.a) {
			if c.DeviceObject != was[i].DeviceObject || c.ExposedName != was[i].ExposedName || c.Attributes != was[i].Attributes {
				g.Errorf("after a reboot: %+v\nbefore: %+v", c, was[i])
			}
			if c.DeviceObject != "" {
				g.reads(c.DeviceObject+"/hello", "before, on "+filepath.Base(c.OriginalVolumeName))
			}
		}
		g.reads(folder+"/hello", "before, on "+filepath.Base(c.OriginalVolumeName))
		_, err = g.a.Umbra(g.ctx, "unexpose", folder)
		g.must(err)
	})
	f.run("deleted one by one", func(g *fixture) {
		_, err := g.a.Umbra(g.ctx, "delete", "copy", copies[0].SnapshotID.String())
		g.must(err)
		if n := len(g.copiesOnArray()); n != 2 {
			g.Errorf("%d copies on the array", n)
		}
		_, err = g.a.Umbra(g.ctx, "delete", "set", set.SetID.String())
		g.must(err)
		_, err = g.as(g.a, "delete", "set", set.SetID.String())
		g.refused(err, vss.VSS_E_OBJECT_NOT_FOUND)
		if out := g.sets(); !strings.Contains(out, `"deleted"`) {
			g.Errorf("the set's record: %s", out)
		}
	})
	// The rules of reboot's originals are the administrator's to admit again.
	if after := f.residue(); len(f.copiesOn(f.a)) != 0 || len(after) > len(before) {
		t.Errorf("left behind:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	f.works(volumes...)
}

// TestLocalAutoRelease: copies of context backup live as long as the requester
// that made them: closed, killed, or gone with the daemon it talked to.
func TestLocalAutoRelease(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.put(v, "hello", "hello")
	f.run("closed", func(g *fixture) {
		out := filepath.Join(g.site.Dir, "out")
		script := filepath.Join(g.site.Dir, "use")
		g.must(os.WriteFile(script, []byte("#!/bin/sh\nset -e\ncat \"$UMBRA_PATH_1/hello\" > "+out+"\nmkdir -p "+g.site.Dir+"/e\nif "+binary+" expose \"$UMBRA_COPY_1\" "+g.site.Dir+"/e 2>> "+out+"; then exit 1; fi\n"), 0o755))
		g.local(v, "--context", "backup", "--exec", script)
		b, err := os.ReadFile(out)
		g.must(err)
		if !strings.HasPrefix(string(b), "hello") || !strings.Contains(string(b), "VSS_E_UNSUPPORTED_CONTEXT") {
			g.Errorf("the program saw: %s", b)
		}
		if c := g.copiesOnArray(); len(c) != 0 || len(g.copiesOn(g.a)) != 0 { // closed means released
			g.Errorf("copies left: %+v", c)
		}
	})
	here := filepath.Join(f.site.Dir, "here")
	wait := filepath.Join(f.site.Dir, "wait")
	f.must(os.WriteFile(wait, []byte("#!/bin/sh\ntouch "+here+"\nwhile [ -e "+here+" ]; do sleep 0.1; done\n"), 0o755))
	defer os.Remove(here) // which ends it, so that nothing holds A's mounts
	for _, context := range []string{"backup", "file-share-backup"} {
		f.run("requester killed, "+context, func(g *fixture) {
			_ = os.Remove(here)
			cmd := g.requesterOn(g.a, "create", v, "--context", context, "--exec", wait)
			eventually(g, "the copies are used", 10*time.Second, exists(here))
			if len(g.copiesOn(g.a)) != 1 {
				g.Errorf("no copy while its requester lives")
			}
			g.must(cmd.Process.Kill())
			_ = cmd.Wait()
			eventually(g, "the copies go", 10*time.Second, func() bool { return len(g.copiesOnArray()) == 0 })
		})
	}
	f.run("daemon killed", func(g *fixture) {
		_ = os.Remove(here)
		cmd := g.requesterOn(g.a, "create", v, "--context", "backup", "--exec", wait)
		eventually(g, "the copies are used", 10*time.Second, exists(here))
		g.a.KillDaemon()
		g.must(cmd.Process.Kill())
		g.must(g.a.StartDaemon(g.ctx, nil))
		if c := g.copiesOnArray(); len(c) != 0 || len(g.copiesOn(g.a)) != 0 {
			g.Errorf("copies left: %+v", c)
		}
	})
	f.works(v)
}

// TestKilledMakingLocalSet: the daemon dies at every point of making a set
// that stays. It is there as a whole or not at all.
func TestKilledMakingLocalSet(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	f.put(v, "hello", "hello")
	f.put(w, "hello", "hello")
	for _, point := range append(f.points("create."), f.points("local.")...) {
		f.run(point, func(g *fixture) {
			th, th2 := g.thawer(v), g.thawer(w)
			before := g.residue()
			g.armOn(g.a, point+"=kill")
			_, err := g.tryLocal(v, w)
			g.refused(err, vss.VSS_E_UNEXPECTED)
			<-g.a.DaemonDone()
			g.must(g.a.StartDaemon(g.ctx, nil))
			if th.frozen(g) || th2.frozen(g) {
				g.Error("a volume is frozen")
			}
			after := "no set, no copy"
			if strings.HasSuffix(point, ".after-record") || point == "local.after-mount" {
				after = "the set is whole, imported where it was made"
				copies := g.copiesOn(g.a)
				if len(copies) != 2 {
					g.Fatalf("on record, and not there: %+v", copies)
				}
				for _, c := range copies {
					g.reads(c.DeviceObject+"/hello", "hello")
				}
				_, err := g.a.Umbra(g.ctx, "delete", "set", copies[0].SnapshotSetID.String())
				g.must(err)
			}
			if c := g.copiesOn(g.a); len(c) != 0 {
				g.Errorf("copies: %+v", c)
			}
			g.same(before)
			g.died(point, "A's daemon", "create of a set that stays", err, after)
		})
	}
	f.works(v, w)
}

// TestLocalRequesterDies: nobody is left who wants a set that is being made; it
// is given up, unless it is on record by then. What is made lives as its
// context says.
func TestLocalRequesterDies(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	here := filepath.Join(f.site.Dir, "here")
	for _, context := range []string{"backup", "app-rollback"} {
		for _, point := range []string{"local.before-locate", "local.after-locate", "local.after-verify", "local.after-record"} {
			f.run(context+" "+point, func(g *fixture) {
				before := g.residue()
				g.armOn(g.a, point+"=touch("+here+")+sleep(500ms)")
				cmd := g.requesterOn(g.a, "create", v, "--context", context)
				eventually(g, "the creation is there", 10*time.Second, exists(here))
				g.must(cmd.Process.Kill())
				_ = cmd.Wait()
				eventually(g, "the session has ended", 10*time.Second, func() bool {
					out, err := g.a.Umbra(g.ctx, "status", "--output", "json")
					return err == nil && strings.Contains(out, `"sessions": 0`)
				})
				g.must(os.Remove(here))
				if point == "local.after-record" && context == "app-rollback" {
					eventually(g, "the copy is there", 10*time.Second, func() bool {
						cs := g.copiesOn(g.a)
						return len(cs) == 1 && cs[0].DeviceObject != ""
					})
					_, err := g.a.Umbra(g.ctx, "delete", "set", g.copiesOn(g.a)[0].SnapshotSetID.String())
					g.must(err)
				}
				eventually(g, "all is as it was", 10*time.Second, func() bool { return slices.Equal(before, g.residue()) })
				if c := g.copiesOn(g.a); len(c) != 0 {
					g.Errorf("copies: %+v", c)
				}
			})
		}
	}
	f.works(v)
}

// same asserts that the residue is what it was.
func (f *fixture) same(before []string) {
	f.Helper()
	if after := f.residue(); strings.Join(after, "\n") != strings.Join(before, "\n") {
		f.Errorf("left behind, or lost:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// TestLocalSetFails: whatever keeps the copies from being shown, none is left,
// and the code is one of DoSnapshotSet.
func TestLocalSetFails(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "btrfs")
	for _, point := range f.points("local.") {
		if point == "local.after-record" || point == "local.after-mount" {
			continue // it is made by then
		}
		f.run(point, func(g *fixture) {
			g.armOn(g.a, point+"=error")
			g.leavesNothing(func() {
				_, err := g.tryLocal(v, w)
				g.mentions(g.refused(err, vss.VSS_E_UNEXPECTED), "--transportable")
			})
		})
	}
	f.run("cancelled", func(g *fixture) {
		here := filepath.Join(g.site.Dir, "here")
		g.armOn(g.a, "local.after-arrive=touch("+here+")+sleep(20s)")
		before := g.residue()
		bc, err := requester.CreateBackupComponents(g.ctx, requester.Endpoint(g.a.Socket()))
		g.must(err)
		defer bc.Close()
		g.must(bc.InitializeForBackup(g.ctx, nil))
		g.must(bc.SetContext(g.ctx, vss.CTX_NAS_ROLLBACK))
		_, err = bc.StartSnapshotSet(g.ctx)
		g.must(err)
		_, err = bc.AddToSnapshotSet(g.ctx, v, vss.GUIDNull)
		g.must(err)
		op, err := bc.DoSnapshotSet(g.ctx)
		g.must(err)
		eventually(g, "the LUN is there", 10*time.Second, exists(here))
		if code, err := op.Cancel(g.ctx); code != vss.S_OK || err != nil {
			g.Errorf("cancel: %s %v", code.Name(), err)
		}
		if code, _ := op.QueryStatus(g.ctx); code != vss.VSS_S_ASYNC_CANCELLED {
			g.Errorf("status: %s", code.Name())
		}
		g.must(os.Remove(here))
		g.same(before)
	})
	f.run("array dies", func(g *fixture) {
		before := g.residue()
		here := filepath.Join(g.site.Dir, "here")
		g.armOn(g.a, "local.before-locate=touch("+here+")+sleep(500ms)")
		done := make(chan error, 1)
		go func() { _, err := g.tryLocal(v); done <- err }()
		eventually(g, "the copy is durable", 10*time.Second, exists(here))
		g.site.KillArray()
		g.mentions(g.refused(<-done, vss.VSS_E_PROVIDER_VETO), "does not answer", "could not be dropped yet")
		g.must(g.site.StartArray(g.ctx, nil))
		eventually(g, "what was made is dropped", 30*time.Second, func() bool {
			out, err := g.a.Umbra(g.ctx, "list", "events", "--output", "json")
			g.must(err)
			return strings.Contains(out, `"recovery.create-dropped"`)
		})
		g.must(os.Remove(here))
		g.armOn(g.a, "")
		g.same(before)
	})
	f.run("cluster member", func(g *fixture) {
		bundle := filepath.Join(g.site.Dir, "member.bundle")
		_, err := g.site.Array(g.ctx, "enroll", g.a.Name, "--cluster", "c1", "--bundle", bundle)
		g.must(err)
		_, err = g.a.Umbra(g.ctx, "join", bundle)
		g.must(err)
		g.must(os.Remove(bundle))
		g.leavesNothing(func() {
			_, err := g.tryLocal(v)
			g.mentions(g.refused(err, vss.VSS_E_PROVIDER_VETO), "cluster c1", "outside the cluster")
		})
	})
	f.works(v, w)
}
