package e2e

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/failpoint"
	_ "github.com/umbra-vss/umbra/internal/service/copies" // registers its failpoints
	_ "github.com/umbra-vss/umbra/internal/service/create"
	_ "github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// ways are words in failpoints' names: those of a way that a site does not have
// its LUNs are not passed there.
var ways = map[string]string{".nbd.": "nbd", ".iscsi.": "iscsi", ".nvme.": "nvme", "array.export.": "nbd", "array.unexport.": "nbd",
	"array.open.before-token": "loop", "array.redeem.": "loop"}

// points lists the failpoints of a pipeline at which this site's processes are to
// be killed.
func (f *fixture) points(prefix string) (out []string) {
	f.Helper()
	all := 0
	for _, n := range failpoint.Names() {
		if !strings.HasPrefix(n, prefix) {
			continue
		}
		all++
		passed := elsewhere[n] == "" && (f.chosen == nil || slices.Contains(f.chosen, n))
		for word, way := range ways {
			passed = passed && (!strings.Contains(n, word) || way == f.transport)
		}
		if passed {
			out = append(out, n)
		}
	}
	if all < 2 {
		f.Fatalf("failpoints of %s: %v", prefix, out)
	}
	return out
}

// armOn restarts a host's daemon with failpoints.
func (f *fixture) armOn(h *site.Host, spec string) {
	f.Helper()
	h.StopDaemon()
	f.must(h.StartDaemon(f.ctx, []string{"UMBRA_FAILPOINTS=" + spec}))
}

// accounted asserts that every copy on the array is of a set that A lists.
func (f *fixture) accounted() {
	f.Helper()
	sets := f.sets()
	for _, c := range f.copiesOnArray() {
		if !strings.Contains(sets, c.SetID) {
			f.Errorf("a copy of a set nobody lists: %+v", c)
		}
	}
}

// TestKilledCreating: the daemon dies at every point of creation. Nothing is
// frozen, no copy is nobody's, and the next creation works.
func TestKilledCreating(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	for _, point := range f.points("create.") {
		f.run(point, func(g *fixture) {
			th, th2 := g.thawer(v), g.thawer(w)
			g.armOn(g.a, point+"=kill")
			_, err := g.tryCreate("app-rollback", v, w)
			g.refused(err, vss.VSS_E_UNEXPECTED)
			<-g.a.DaemonDone()
			g.must(g.a.StartDaemon(g.ctx, nil))
			if th.frozen(g) || th2.frozen(g) {
				g.Error("a volume is frozen")
			}
			g.accounted()
			copies := g.copiesOnArray()
			if point != "create.after-record" && len(copies) != 0 {
				g.Errorf("copies of a set that never was: %+v", copies)
			}
			for _, s := range strings.Fields(g.idsIn(copies)) { // on record, and its document can be had
				doc := g.site.Dir + "/again.umbra"
				_, err := g.a.Umbra(g.ctx, "save", s, "--document", doc)
				g.must(err)
				_, err = g.importOn(g.b, doc)
				g.must(err)
				_, err = g.b.Umbra(g.ctx, "delete", "set", s)
				g.must(err)
				g.must(os.Remove(doc))
			}
			after := "no set, no copy"
			if len(copies) != 0 {
				after = "the set is whole and on record; its document can be had with `umbra save`"
			}
			g.works(v, w)
			g.died(point, "A's daemon", "create", err, after)
		})
	}
}

// TestArrayAwayAtRestart: a set that was broken off is not forgotten because
// the array cannot be asked to drop it.
func TestArrayAwayAtRestart(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.armOn(f.a, "create.after-post-commit=kill")
	if _, err := f.tryCreate("app-rollback", v); err == nil {
		t.Fatal("create succeeded though the daemon died")
	}
	<-f.a.DaemonDone()
	f.site.KillArray()
	f.must(f.a.StartDaemon(f.ctx, nil))
	out, err := f.a.Umbra(f.ctx, "list", "events", "--output", "json")
	f.must(err)
	if !strings.Contains(out, "recovery.failed") {
		t.Errorf("no event: %s", out)
	}
	f.must(f.site.StartArray(f.ctx, nil))
	eventually(t, "nobody's copies go when the array answers", 20*time.Second, func() bool { return len(f.copiesOnArray()) == 0 })
	f.works(v)
}

// TestKilledImporting: the daemon dies at every point of an import. The
// import is left as it is and listed, or it is done.
func TestKilledImporting(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "btrfs")
	f.put(v, "hello", "hello")
	f.killedImporting(v, w)
}

func (f *fixture) killedImporting(v, w string) {
	f.Helper()
	for _, point := range f.points("import.") {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", v, w)
			g.armOn(g.b, point+"=kill")
			_, killed := g.importOn(g.b, set.doc)
			g.refused(killed, vss.VSS_E_UNEXPECTED)
			<-g.b.DaemonDone()
			_, err := g.as(g.b, "list", "luns")
			g.mentions(g.refused(err, vss.VSS_E_UNEXPECTED), "umbra daemon", g.b.Socket())
			_, err = g.as(g.b, "list", "copies")
			g.mentions(g.refused(err, vss.VSS_E_UNEXPECTED), "umbra daemon", g.b.Socket())
			g.must(g.b.StartDaemon(g.ctx, nil))
			done := point == "import.after-record" || point == "import.after-mount"
			orphans := g.orphans(g.b)
			var listed []string
			for _, o := range orphans {
				listed = append(listed, o.Name)
			}
			for _, c := range g.copiesOnArray() {
				if len(c.Masks) > 0 && !done && !strings.Contains(strings.Join(listed, " "), c.NAA) {
					g.Errorf("unmasked and not listed: %+v", c)
				}
			}
			after := "imported"
			if !done {
				after = "nothing is imported; the LUNs are listed until `umbra cleanup`, after which the import works"
				if len(orphans) == 0 {
					after = "nothing is imported, and no LUN was unmasked; the import works after `umbra cleanup`"
				}
				_, err := g.b.Umbra(g.ctx, "cleanup", set.SetID.String())
				g.must(err)
				_, err = g.importOn(g.b, set.doc)
				g.must(err)
			} else if len(orphans) != 0 {
				g.Errorf("orphans of an import that is done: %+v", orphans)
			}
			out, err := g.b.Umbra(g.ctx, "list", "copies", "--output", "json")
			g.must(err)
			if strings.Count(out, set.SetID.String()) != 2 || strings.Contains(out, `"device_object": ""`) {
				g.Errorf("copies: %s", out)
			}
			_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
			g.must(err)
			if c := g.copiesOnArray(); len(c) != 0 {
				g.Errorf("copies left: %+v", c)
			}
			g.nothingOn(g.b)
			g.died(point, "B's daemon", "import", killed, after)
		})
	}
}

// nothingOn asserts that a host has no LUN of this site, no LUN's rule and no
// device object.
func (f *fixture) nothingOn(h *site.Host) {
	f.Helper()
	out, err := h.Umbra(f.ctx, "list", "luns", "--output", "json")
	f.must(err)
	if strings.TrimSpace(out) != "null" {
		f.Errorf("LUNs on %s: %s", h.Name, out)
	}
	if left := f.rules(h, "*-naa.*"); len(left) != 0 {
		f.Errorf("rules left: %v", left)
	}
	if left, err := os.ReadDir(h.Path(h.RunDir() + "/copies")); err == nil && len(left) != 0 {
		f.Errorf("device objects left: %v", left)
	}
}

// TestKilledDeleting: a deletion that was broken off is finished at the next
// start.
func TestKilledDeleting(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.killedDeleting(v)
	f.works(v)
}

func (f *fixture) killedDeleting(v string) {
	f.Helper()
	for _, point := range f.points("delete.") {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", v)
			_, err := g.importOn(g.b, set.doc)
			g.must(err)
			g.armOn(g.b, point+"=kill")
			_, err = g.as(g.b, "delete", "set", set.SetID.String())
			g.refused(err, vss.VSS_E_UNEXPECTED)
			<-g.b.DaemonDone()
			g.must(g.b.StartDaemon(g.ctx, nil))
			if c := g.copiesOnArray(); len(c) != 0 {
				g.Errorf("copies left: %+v", c)
			}
			g.nothingOn(g.b)
			g.died(point, "B's daemon", "delete of an imported set", err, "deleted at the start")
		})
	}
	for _, point := range f.points("delete-created.") {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", v)
			g.armOn(g.a, point+"=kill")
			_, err := g.as(g.a, "delete", "set", set.SetID.String())
			g.refused(err, vss.VSS_E_UNEXPECTED)
			<-g.a.DaemonDone()
			g.must(g.a.StartDaemon(g.ctx, nil))
			if c := g.copiesOnArray(); len(c) != 0 {
				g.Errorf("copies left: %+v", c)
			}
			g.died(point, "A's daemon", "delete of a set that was not imported", err, "deleted at the start")
		})
	}
}

// TestKilledExposing: an exposure is recorded or taken back.
func TestKilledExposing(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.put(v, "hello", "hello")
	set := f.create("app-rollback", v)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	id, folder := im.Copies[0].SnapshotID.String(), f.site.Dir+"/mnt"
	f.must(os.Mkdir(folder, 0o755))
	exposed := func(g *fixture) bool {
		g.Helper()
		_, ferr := os.Stat(g.b.Path(folder + "/hello"))
		out, err := g.b.Umbra(g.ctx, "list", "copies", "--output", "json")
		g.must(err)
		if listed := strings.Contains(out, folder); listed != (ferr == nil) {
			g.Errorf("exposed in the catalogue: %t, on the machine: %t", listed, ferr == nil)
		}
		return ferr == nil
	}
	for _, point := range append(f.points("expose."), "unexpose.after-unmount") {
		f.run(point, func(g *fixture) {
			if strings.HasPrefix(point, "un") {
				_, err := g.b.Umbra(g.ctx, "expose", id, folder)
				g.must(err)
			}
			g.armOn(g.b, point+"=kill")
			verb := []string{"expose", id, folder}
			if strings.HasPrefix(point, "un") {
				verb = []string{"unexpose", id}
			}
			_, killed := g.as(g.b, verb...)
			g.refused(killed, vss.VSS_E_UNEXPECTED)
			<-g.b.DaemonDone()
			g.must(g.b.StartDaemon(g.ctx, nil))
			after := "not exposed"
			if exposed(g) {
				after = "exposed"
				_, err := g.b.Umbra(g.ctx, "unexpose", id)
				g.must(err)
			}
			_, err := g.b.Umbra(g.ctx, "expose", id, folder)
			g.must(err)
			_, err = g.b.Umbra(g.ctx, "unexpose", id)
			g.must(err)
			exposed(g)
			g.died(point, "B's daemon", verb[0]+" to a folder", killed, after)
		})
	}
}

// TestKilledCleaningUp: a clean-up can be repeated.
func TestKilledCleaningUp(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "ext4")
	f.killedCleaningUp(v, w)
}

func (f *fixture) killedCleaningUp(v, w string) {
	f.Helper()
	for _, point := range f.points("cleanup.") {
		for _, reclaim := range []bool{false, true} {
			name, args := point, []string{"cleanup"}
			if reclaim {
				name, args = name+" reclaim", append(args, "--reclaim")
			}
			f.run(name, func(g *fixture) {
				set := g.create("app-rollback", v, w)
				g.armOn(g.b, "import.after-arrive=kill")
				_, err := g.importOn(g.b, set.doc)
				if err == nil {
					g.Fatal("import succeeded though the daemon died")
				}
				<-g.b.DaemonDone()
				g.must(g.b.StartDaemon(g.ctx, []string{"UMBRA_FAILPOINTS=" + point + "=kill"}))
				args := append(args, set.SetID.String())
				_, killed := g.as(g.b, args...)
				g.refused(killed, vss.VSS_E_UNEXPECTED)
				<-g.b.DaemonDone()
				g.must(g.b.StartDaemon(g.ctx, nil))
				out, err := g.b.Umbra(g.ctx, append(args, "--output", "json")...)
				g.must(err)
				var done []requester.LUN
				g.decode(out, &done)
				if o := g.orphans(g.b); len(o) != 0 {
					g.Errorf("still listed: %+v", o)
				}
				g.nothingOn(g.b)
				if c := g.copiesOnArray(); reclaim {
					if len(c) != 0 {
						g.Errorf("copies left: %+v", c)
					}
					g.died(point, "B's daemon", "cleanup --reclaim", killed, "the clean-up is given again; the copies are deleted")
					return
				}
				_, err = g.importOn(g.b, set.doc) // nothing was mapped: once is still to come
				g.must(err)
				_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
				g.must(err)
				g.died(point, "B's daemon", "cleanup", killed, "the clean-up is given again; then the import works")
			})
		}
	}
}

func (f *fixture) decode(out string, v any) {
	f.Helper()
	f.must(json.Unmarshal([]byte(out), v))
}
