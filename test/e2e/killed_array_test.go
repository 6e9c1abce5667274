package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/umbra-vss/umbra/internal/array" // registers its failpoints
)

// supervised arms a failpoint in the array, does something, and starts the
// array again as its unit would as soon as it is dead: before or after the
// caller has noticed, as it comes. It is an error if nobody died.
func (f *fixture) supervised(point string, do func() error) error {
	f.Helper()
	f.site.StopArray()
	f.must(f.site.StartArray(f.ctx, []string{"UMBRA_FAILPOINTS=" + point + "=kill"}))
	done, restarted := f.site.ArrayDone(), make(chan error, 1)
	go func() {
		select {
		case <-done:
			restarted <- f.site.StartArray(f.ctx, nil)
		case <-f.ctx.Done():
			restarted <- f.ctx.Err()
		}
	}()
	err := do()
	select {
	case rerr := <-restarted:
		f.must(rerr)
	case <-time.After(10 * time.Second):
		f.site.KillArray() // releases the goroutine
		f.must(<-restarted)
		f.Fatalf("the array did not pass %s", point)
	}
	return err
}

// TestKilledArray: the array dies at every point of its own. What its caller
// was doing is done, or undone, or can be done again; no LUN is lost or
// nobody's.
func TestKilledArray(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	f.put(v, "hello", "hello")
	f.killedArray(v, w)
	f.works(v, w)
	// While it starts: the volumes do not care, and the next start works.
	f.run("array.open.before-recovery", func(g *fixture) {
		const point = "array.open.before-recovery"
		g.site.StopArray()
		if err := g.site.StartArray(g.ctx, []string{"UMBRA_FAILPOINTS=" + point + "=kill"}); err == nil {
			g.Fatal("it started")
		}
		g.must(g.site.StartArray(g.ctx, nil))
		g.works(v, w)
		g.died(point, "array", "its own start", nil, "the next start works")
	})
}

func (f *fixture) killedArray(v, w string) {
	f.Helper()
	_, err := f.site.Array(f.ctx, "lun", "create", "spare", "--size", "8M")
	f.must(err)
	bundle := filepath.Join(f.site.Dir, "x.bundle")
	admin := func(args ...string) func(*fixture) error {
		return func(g *fixture) error { _, err := g.site.Array(g.ctx, args...); return err }
	}
	// An array command that was broken off is given again; what it says then is
	// success, or that it was done before.
	again := func(g *fixture, do func(*fixture) error, word string) string {
		switch err := do(g); {
		case err == nil:
			return "given again, it works"
		case strings.Contains(err.Error(), word):
			return "done; given again, it says so"
		default:
			g.Fatal(err)
			return ""
		}
	}

	type deed struct {
		name    string
		prepare func(g *fixture)
		do      func(g *fixture) error
		after   func(g *fixture, err error) string // leaves things as they were before prepare
	}
	var set createdSet
	made := func(g *fixture, err error) string {
		if err != nil {
			// The daemon gives up the set; what it could not say to the array then
			// it says when the array is back.
			eventually(g, "no copy is left", 20*time.Second, func() bool { return len(g.copiesOnArray()) == 0 })
			return "no set, no copy; the next one works"
		}
		_, err = g.a.Umbra(g.ctx, "delete", "set", set.SetID.String())
		g.must(err)
		return "the set is whole"
	}
	create := deed{"create", nil, func(g *fixture) (err error) { set, err = g.tryCreate("app-rollback", v, w); return err }, made}
	imports := deed{"import", func(g *fixture) { set = g.create("app-rollback", v, w) },
		func(g *fixture) error { _, err := g.importOn(g.b, set.doc); return err },
		func(g *fixture, err error) string {
			after := "imported"
			if err != nil {
				after = "nothing is imported; after `umbra cleanup` the import works"
				_, err := g.b.Umbra(g.ctx, "cleanup", set.SetID.String())
				g.must(err)
				_, err = g.importOn(g.b, set.doc)
				g.must(err)
			}
			for _, c := range g.copiesOn(g.b) {
				if strings.HasSuffix(c.OriginalVolumeName, "/v") {
					got, err := os.ReadFile(g.b.Path(filepath.Join(c.DeviceObject, "hello")))
					if err != nil || string(got) != "hello" {
						g.Errorf("the copy reads %q, %v", got, err)
					}
				}
			}
			_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
			g.must(err)
			return after
		}}
	deletes := deed{"delete of an imported set", func(g *fixture) {
		set = g.create("app-rollback", v, w)
		_, err := g.importOn(g.b, set.doc)
		g.must(err)
	}, func(g *fixture) error { _, err := g.b.Umbra(g.ctx, "delete", "set", set.SetID.String()); return err },
		func(g *fixture, err error) string {
			if err == nil {
				return "deleted"
			}
			_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
			g.must(err)
			return "given again, it works"
		}}
	deeds := map[string]deed{
		"export": imports, "unexport": deletes, "nbd": imports,
		"prepare": create, "precommit": create, "commit": create, "postcommit": create, "ticket": create,
		"locate": imports, "open": imports, "redeem": imports,
		"createlun": {"array lun create", nil, admin("lun", "create", "x", "--size", "8M"), func(g *fixture, _ error) string {
			after := again(g, admin("lun", "create", "x", "--size", "8M"), "x")
			g.must(admin("lun", "delete", "x")(g))
			return after
		}},
		"delete": {"array lun delete", func(g *fixture) { g.must(admin("lun", "create", "x", "--size", "8M")(g)) }, admin("lun", "delete", "x"),
			func(g *fixture, err error) string { return again(g, admin("lun", "delete", "x"), "x") }},
		"mask": {"array mask", nil, admin("mask", "spare", f.b.Name), func(g *fixture, err error) string {
			after := again(g, admin("mask", "spare", f.b.Name), "spare")
			g.must(admin("unmask", "spare", f.b.Name)(g))
			return after
		}},
		"enroll": {"array enroll", nil, admin("enroll", "x", "--bundle", bundle), func(g *fixture, err error) string {
			_ = os.Remove(bundle)
			after := again(g, admin("enroll", "x", "--bundle", bundle), "x")
			g.must(admin("host", "remove", "x")(g))
			g.must(os.Remove(bundle))
			return after
		}},
		"removehost": {"array host remove", func(g *fixture) {
			g.must(admin("enroll", "x", "--bundle", bundle)(g))
			g.must(os.Remove(bundle))
		}, admin("host", "remove", "x"), func(g *fixture, err error) string { return again(g, admin("host", "remove", "x"), "x") }},
		// A creation that fails after the array has prepared it.
		"abort": {"create that fails", func(g *fixture) { g.armOn(g.a, "create.before-hold=error") }, create.do,
			func(g *fixture, err error) string {
				if err == nil {
					g.Fatal("create succeeded")
				}
				g.armOn(g.a, "")
				return made(g, err)
			}},
		"release": {"cleanup", func(g *fixture) {
			set = g.create("app-rollback", v)
			g.armOn(g.b, "import.after-locate=error")
			if _, err := g.importOn(g.b, set.doc); err == nil {
				g.Fatal("import succeeded")
			}
			g.armOn(g.b, "")
		}, func(g *fixture) error { _, err := g.b.Umbra(g.ctx, "cleanup", set.SetID.String()); return err },
			func(g *fixture, err error) string {
				after := "done"
				if err != nil {
					after = "given again, it works"
					_, err := g.b.Umbra(g.ctx, "cleanup", set.SetID.String())
					g.must(err)
				}
				_, err = g.importOn(g.b, set.doc)
				g.must(err)
				_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
				g.must(err)
				return after
			}},
	}
	for _, point := range f.points("array.") {
		d, ok := deeds[strings.Split(point, ".")[1]]
		if point == "array.nbd.after-remove" {
			d = deletes
		}
		if !ok || elsewhere[point] != "" || point == "array.open.before-recovery" {
			continue // checkMatrix says if that is too little
		}
		f.run(point, func(g *fixture) {
			th, th2 := g.thawer(v), g.thawer(w)
			if d.prepare != nil {
				d.prepare(g)
			}
			err := g.supervised(point, func() error { return d.do(g) })
			if th.frozen(g) || th2.frozen(g) {
				g.Error("a volume is frozen")
			}
			after := d.after(g, err)
			if c := g.copiesOnArray(); len(c) != 0 {
				g.Errorf("copies left: %+v", c)
			}
			if s := g.strays(); len(s) != 0 {
				g.Errorf("files of no LUN: %v", s)
			}
			g.nothingOn(g.b)
			g.died(point, "array", d.name, err, after)
		})
	}
}
