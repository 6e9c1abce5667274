package e2e

import (
	"testing"
	"time"

	_ "github.com/umbra-vss/umbra/internal/host/freeze" // registers its failpoints
	"github.com/umbra-vss/umbra/vss"
)

// TestKilledGuard: the freeze guard dies at every point of its own. The daemon
// thaws what it left frozen; a set whose hold it cannot vouch for never was.
func TestKilledGuard(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	x, _, _ := f.volume("x", "btrfs")
	for _, point := range f.points("guard.") {
		f.run(point, func(g *fixture) {
			ths := []thawer{g.thawer(v), g.thawer(w), g.thawer(x)}
			g.armOn(g.a, point+"=kill")
			before := g.residue()
			_, err := g.tryCreate("app-rollback", v, w, x)
			g.thawedWithin(100*time.Millisecond, time.Now(), ths...)
			if point == "guard.done" { // the shared page has it all by then
				g.must(err)
				_, derr := g.a.Umbra(g.ctx, "delete", "set", g.lastSet())
				g.must(derr)
				g.armOn(g.a, "")
				g.works(v, w, x)
				g.died(point, "freeze guard", "create", err, "the set is whole: the hold was over")
				return
			}
			c := g.complaints(err, 1)[0]
			switch c.Name {
			case vss.VSS_E_HOLD_WRITES_TIMEOUT.Name(), vss.VSS_E_FLUSH_WRITES_TIMEOUT.Name(), vss.VSS_E_UNEXPECTED.Name():
			default:
				g.Errorf("%+v", c)
			}
			g.mentions(c, "guard")
			g.same(before)
			g.armOn(g.a, "")
			g.works(v, w, x)
			g.died(point, "freeze guard", "create", err, "no set, no copy, nothing frozen; the next one works")
		})
	}
}
