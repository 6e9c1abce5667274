package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// requesterOn starts an umbra command on a host, to be killed.
func (f *fixture) requesterOn(h *site.Host, args ...string) *exec.Cmd {
	f.Helper()
	cmd := exec.Command("nsenter", append([]string{"--mount", "--net", "--target", strconv.Itoa(h.DaemonPID()), "--", binary, "--socket", h.Socket()}, args...)...)
	f.must(cmd.Start())
	f.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// TestRequesterDies: nobody is left who would fetch the document, or use
// auto-release copies; they go.
func TestRequesterDies(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	here := filepath.Join(f.site.Dir, "here")
	arm := func(g *fixture, h *site.Host, spec string) {
		g.Helper()
		_ = os.Remove(here)
		h.StopDaemon()
		g.must(h.StartDaemon(g.ctx, []string{"UMBRA_FAILPOINTS=" + spec}))
	}
	for _, point := range []string{"create.after-intent", "create.in-hold", "create.after-release", "create.before-record", "create.after-record"} {
		f.run("during create at "+point, func(g *fixture) {
			th := g.thawer(v)
			arm(g, g.a, point+"=touch("+here+")+sleep(700ms)")
			cmd := g.requesterOn(g.a, "create", v, "--transportable", "--document", filepath.Join(g.site.Dir, "doc"))
			eventually(g, "the creation is there", 10*time.Second, exists(here))
			g.must(cmd.Process.Kill())
			_ = cmd.Wait()
			eventually(g, "the set is given up", 10*time.Second, func() bool {
				out, err := g.a.Umbra(g.ctx, "status", "--output", "json")
				return err == nil && strings.Contains(out, `"sessions": 0`)
			})
			// From its record on a set is made to the end, whoever is gone.
			eventually(g, "another set can be opened", 10*time.Second, func() bool { return g.canStart(g.a) })
			if th.frozen(g) {
				g.Error("the volume is frozen")
			}
			for _, c := range g.copiesOnArray() {
				if !strings.Contains(g.sets(), c.SetID) { // made and on record before the requester died
					g.Errorf("an unlisted copy: %+v", c)
				}
			}
			// The document is written to a file without a name until it is whole.
			if left, _ := filepath.Glob(filepath.Join(g.site.Dir, ".doc*")); len(left) > 0 {
				g.Errorf("left behind: %v", left)
			}
			for _, s := range strings.Fields(g.idsIn(g.copiesOnArray())) {
				_, err := g.a.Umbra(g.ctx, "delete", "set", s)
				g.must(err)
			}
			g.works(v)
		})
	}
	f.run("during an auto-release import", func(g *fixture) {
		set := g.create("backup", v)
		arm(g, g.b, "import.after-arrive=touch("+here+")+sleep(500ms)")
		cmd := g.requesterOn(g.b, "import", set.doc, "--exec", "/bin/true")
		eventually(g, "the import is there", 10*time.Second, exists(here))
		g.must(cmd.Process.Kill())
		_ = cmd.Wait()
		eventually(g, "the copies go", 10*time.Second, func() bool { return len(g.copiesOnArray()) == 0 })
		if o := g.orphans(g.b); len(o) != 0 {
			g.Errorf("listed: %+v", o)
		}
		g.works(v)
	})
	f.run("during a persistent import", func(g *fixture) {
		set := g.create("app-rollback", v)
		arm(g, g.b, "import.after-arrive=touch("+here+")+sleep(500ms)")
		cmd := g.requesterOn(g.b, "import", set.doc)
		eventually(g, "the import is there", 10*time.Second, exists(here))
		g.must(cmd.Process.Kill())
		_ = cmd.Wait()
		eventually(g, "the copy is there", 10*time.Second, func() bool {
			out, err := g.b.Umbra(g.ctx, "list", "copies", "--output", "json")
			return err == nil && strings.Contains(out, set.SetID.String()) && !strings.Contains(out, `"device_object": ""`)
		})
		_, err := g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
		g.must(err)
	})
}

// canStart reports whether a set can be opened on a host now.
func (f *fixture) canStart(h *site.Host) bool {
	f.Helper()
	bc, err := requester.CreateBackupComponents(f.ctx, requester.Endpoint(h.Socket()))
	f.must(err)
	defer bc.Close()
	f.must(bc.InitializeForBackup(f.ctx, nil))
	f.must(bc.SetContext(f.ctx, vss.CTX_APP_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE)))
	_, err = bc.StartSnapshotSet(f.ctx)
	if err != nil && !errors.Is(err, vss.VSS_E_SNAPSHOT_SET_IN_PROGRESS) {
		f.Fatal(err)
	}
	return err == nil
}

// idsIn lists the sets that copies belong to.
func (f *fixture) idsIn(cs []arrayLUN) string {
	ids := map[string]bool{}
	for _, c := range cs {
		ids[c.SetID] = true
	}
	var out strings.Builder
	for id := range ids {
		out.WriteString(id + " ")
	}
	return out.String()
}
