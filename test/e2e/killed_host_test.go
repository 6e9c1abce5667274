package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/umbra-vss/umbra/internal/host/attach/loop" // registers its failpoints
	_ "github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/vss"
)

// TestKilledInHost: the daemon dies in the middle of what it does to the
// machine, with one LUN of two hidden, attached, mounted or gone.
func TestKilledInHost(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	f.put(v, "hello", "hello")
	f.killedInHost(v, w)
	f.works(v, w)
}

func (f *fixture) killedInHost(v, w string) {
	f.Helper()
	taking := map[string]bool{"host.hide.after-removal": true, "host.loop.after-clear": true, "host.mount.after-unmount": true, "host.nbd.after-stop": true}
	for _, point := range f.points("host.") {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", v, w)
			before := g.residue()
			if taking[point] {
				_, err := g.importOn(g.b, set.doc)
				g.must(err)
				g.armOn(g.b, point+"=kill")
				_, killed := g.as(g.b, "delete", "set", set.SetID.String())
				g.refused(killed, vss.VSS_E_UNEXPECTED)
				<-g.b.DaemonDone()
				g.must(g.b.StartDaemon(g.ctx, nil))
				after := "deleted at the start"
				if left := g.copiesOn(g.b); len(left) != 0 {
					after = "what was begun is deleted at the start, the rest when the command is given again"
					_, err := g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
					g.must(err)
				}
				g.nothingOn(g.b)
				if c := g.copiesOnArray(); len(c) != 0 {
					g.Errorf("copies left: %+v", c)
				}
				g.died(point, "B's daemon", "delete of an imported set", killed, after)
				return
			}
			g.armOn(g.b, point+"=kill")
			_, killed := g.importOn(g.b, set.doc)
			g.refused(killed, vss.VSS_E_UNEXPECTED)
			<-g.b.DaemonDone()
			g.must(g.b.StartDaemon(g.ctx, nil))
			after := "imported"
			if o := g.orphans(g.b); len(o) != 0 || len(g.copiesOn(g.b)) == 0 {
				after = "nothing is imported; the LUNs are listed until `umbra cleanup`, after which the import works"
				_, err := g.b.Umbra(g.ctx, "cleanup", set.SetID.String())
				g.must(err)
				g.nothingOn(g.b)
				g.same(before)
				_, err = g.importOn(g.b, set.doc)
				g.must(err)
			}
			copies := g.copiesOn(g.b)
			if len(copies) != 2 {
				g.Errorf("copies: %+v", copies)
			}
			for _, c := range copies {
				got, err := os.ReadFile(g.b.Path(filepath.Join(c.DeviceObject, "hello")))
				if strings.HasSuffix(c.OriginalVolumeName, "/v") && (err != nil || string(got) != "hello") {
					g.Errorf("the copy reads %q, %v", got, err)
				}
			}
			_, err := g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
			g.must(err)
			g.nothingOn(g.b)
			g.died(point, "B's daemon", "import", killed, after)
		})
	}
}
