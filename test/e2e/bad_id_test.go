package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// TestBadIDs: an ID of nothing is not found, whatever is asked of it.
func TestBadIDs(t *testing.T) {
	f := newFixture(t)
	id, empty := vss.NewID().String(), filepath.Join(f.site.Dir, "empty")
	f.must(os.Mkdir(empty, 0o755))
	const naa = "naa.6001405000000000000000000000beef"
	for _, args := range [][]string{
		{"expose", id, empty}, {"unexpose", id}, {"unexpose", empty}, {"delete", "copy", id}, {"delete", "set", id}, {"delete", "oldest"},
		{"cleanup", id}, {"cleanup", id, "--reclaim"}, {"show", id}, {"save", id, "--document", filepath.Join(f.site.Dir, "saved")},
		{"detach", naa}, {"rescan", naa},
	} {
		f.run(args[0]+" "+args[1], func(g *fixture) {
			g.leavesNothing(func() {
				_, err := g.as(g.b, args...)
				g.refused(err, vss.VSS_E_OBJECT_NOT_FOUND)
			})
		})
	}
	for _, args := range [][]string{{"lun", "delete", naa}, {"unmask", naa, f.a.Name}, {"mask", naa, f.a.Name}, {"host", "remove", "nobody"}, {"ticket", id}} {
		f.run("array "+args[0], func(g *fixture) {
			g.leavesNothing(func() {
				_, err := g.site.Array(g.ctx, append(args, "--output", "json")...)
				g.refused(err, vss.VSS_E_OBJECT_NOT_FOUND)
			})
		})
	}
	f.run("no IDs at all", func(g *fixture) {
		for _, args := range [][]string{
			{"expose", "nonsense", empty}, {"expose", id}, {"delete", "copy", "{}"}, {"delete", "set", ""}, {"delete"}, {"cleanup", "nonsense"}, {"cleanup"}, {"show", id + "0"},
			{"save", id}, {"list", "nonsense"}, {"nonsense"}, {"import"}, {"import", "a", "b"}, {"list", "sets", "--output", "yaml"}, {"list", "events", "--set", "x"},
		} {
			if _, err := g.b.Umbra(g.ctx, args...); err == nil || !strings.Contains(err.Error(), "exit 2") {
				g.Errorf("%v: %v, want exit 2", args, err)
			}
		}
	})
	f.run("not a LUN's name", func(g *fixture) {
		for _, verb := range []string{"rescan", "detach"} {
			_, err := g.as(g.b, verb, "nonsense")
			g.refused(err, vss.E_INVALIDARG)
		}
	})
}

// TestBadExposure: a copy is mounted on an existing empty folder or not at
// all, and stays when it cannot be let go of.
func TestBadExposure(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.put(v, "hello", "hello")
	f.must(os.Mkdir(f.a.Path(filepath.Join(v, "folder")), 0o755))
	set := f.create("app-rollback", v)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	id := im.Copies[0].SnapshotID.String()
	dir := filepath.Join(f.site.Dir, "mnt")
	full, file, empty := filepath.Join(dir, "full"), filepath.Join(dir, "full", "file"), filepath.Join(dir, "empty")
	for _, d := range []string{dir, full, empty} {
		f.must(os.Mkdir(d, 0o755))
	}
	f.must(os.WriteFile(file, nil, 0o600))
	for name, folder := range map[string]string{"not empty": full, "a file": file, "absent": filepath.Join(dir, "absent"), "relative": "mnt", "nothing": "", "a dead link": filepath.Join(dir, "dead")} {
		f.run(name, func(g *fixture) {
			if name == "a dead link" {
				g.must(os.Symlink("/no/such/place", folder))
				defer os.Remove(folder)
			}
			g.leavesNothing(func() {
				_, err := g.as(g.b, "expose", id, folder)
				c := g.complaints(err, 1)
				if c[0].Name != vss.E_INVALIDARG.Name() {
					g.Errorf("%+v", c)
				}
			})
		})
	}
	f.run("in use", func(g *fixture) {
		_, err := g.b.Umbra(g.ctx, "expose", id, empty)
		g.must(err)
		sitting, err := os.Open(g.b.Path(filepath.Join(empty, "hello")))
		g.must(err)
		defer sitting.Close()
		g.leavesNothing(func() {
			_, err = g.as(g.b, "unexpose", id)
			g.mentions(g.refused(err, vss.VSS_E_VOLUME_IN_USE), empty)
			_, err = g.as(g.b, "delete", "set", set.SetID.String())
			g.refused(err, vss.VSS_E_VOLUME_IN_USE)
		})
		if _, err := os.ReadFile(g.b.Path(filepath.Join(empty, "hello"))); err != nil {
			g.Errorf("the exposure is gone: %v", err)
		}
		out, err := g.b.Umbra(g.ctx, "list", "copies", "--output", "json")
		g.must(err)
		if !strings.Contains(out, empty) {
			g.Errorf("the exposure is not listed: %s", out)
		}
		g.must(sitting.Close())
		_, err = g.b.Umbra(g.ctx, "unexpose", empty)
		g.must(err)
	})
	f.run("device object in use", func(g *fixture) {
		sitting, err := os.Open(g.b.Path(filepath.Join(im.Copies[0].DeviceObject, "hello")))
		g.must(err)
		defer sitting.Close()
		g.leavesNothing(func() {
			_, err = g.as(g.b, "delete", "copy", id)
			g.refused(err, vss.VSS_E_VOLUME_IN_USE)
		})
	})
	f.run("where a link leads", func(g *fixture) {
		link := filepath.Join(dir, "link")
		g.must(os.Symlink(empty, link))
		defer os.Remove(link)
		_, err := g.b.Umbra(g.ctx, "expose", id, link)
		g.must(err)
		_, err = g.b.Umbra(g.ctx, "unexpose", empty)
		g.must(err)
	})
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	f.works(v)
}
