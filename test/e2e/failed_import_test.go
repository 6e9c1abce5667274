package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// TestBrokenOffImport: kill and restart never undo an import; its LUNs stay
// unchanged and listed until the requester cleans up.
func TestBrokenOffImport(t *testing.T) {
	f := newFixture(t)
	m, _, _ := f.volume("v", "ext4")
	f.put(m, "hello", "hello")
	for _, point := range []string{"import.after-locate", "import.after-arrive", "import.after-verify"} {
		t.Run(point, func(t *testing.T) {
			g := &fixture{T: t, ctx: f.ctx, site: f.site, a: f.a, b: f.b, docs: f.docs}
			defer func() { f.docs = g.docs }()
			set := g.create("app-rollback", m)
			g.b.StopDaemon()
			g.must(g.b.StartDaemon(g.ctx, []string{"UMBRA_FAILPOINTS=" + point + "=kill"}))
			if _, err := g.importOn(g.b, set.doc); err == nil {
				t.Fatal("import succeeded though the daemon died")
			}
			<-g.b.DaemonDone()
			before := g.copiesOnArray()
			if len(before) != 1 || strings.Join(before[0].Masks, ",") != g.b.Name {
				t.Fatalf("on the array: %+v", before)
			}
			for range 2 { // restart, kill, restart: nothing changes
				g.must(g.b.StartDaemon(g.ctx, nil))
				time.Sleep(300 * time.Millisecond)
				o := g.orphans(g.b)
				if len(o) != 1 || o[0].Name != before[0].NAA || o[0].Reason == "" {
					t.Fatalf("listed: %+v", o)
				}
				g.b.KillDaemon()
			}
			if after := g.copiesOnArray(); len(after) != 1 || after[0].NAA != before[0].NAA || strings.Join(after[0].Masks, ",") != g.b.Name {
				t.Fatalf("the service undid a failed import: %+v", after)
			}
			g.must(g.b.StartDaemon(g.ctx, nil))
			_, err := g.importOn(g.b, set.doc)
			g.fails(err, 1, vss.VSS_E_BAD_STATE)

			out, err := g.b.Umbra(g.ctx, "cleanup", set.SetID.String(), "--output", "json")
			g.must(err)
			if !strings.Contains(out, "masked") {
				t.Errorf("cleanup: %s", out)
			}
			if c := g.copiesOnArray(); len(c) != 1 || len(c[0].Masks) != 0 {
				t.Fatalf("after masking: %+v", c)
			}
			// Nothing was mapped, so the set may be imported after all.
			im, err := g.importOn(g.b, set.doc)
			g.must(err)
			got, err := os.ReadFile(g.b.Path(im.Copies[0].DeviceObject + "/hello"))
			if err != nil || string(got) != "hello" {
				t.Errorf("%q %v", got, err)
			}
			_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
			g.must(err)
		})
	}
}

// TestPartialImport: a copy whose content is not the document's is not
// imported, the others are, and the code says so.
func TestPartialImport(t *testing.T) {
	f := newFixture(t)
	m1, _, _ := f.volume("v", "ext4")
	m2, _, _ := f.volume("w", "xfs")
	f.put(m1, "hello", "hello")
	set := f.create("app-rollback", m1, m2)
	out, err := f.a.Umbra(f.ctx, "show", set.SetID.String(), "--output", "json")
	f.must(err)
	var shown struct {
		LUNs []struct {
			Name       string `json:"name"`
			SnapshotID vss.ID `json:"snapshot_id"`
		} `json:"luns"`
	}
	f.must(json.Unmarshal([]byte(out), &shown))
	for _, l := range shown.LUNs {
		if l.SnapshotID == set.Snapshots[1].ID { // damage the xfs copy behind the array's back
			fh, err := os.OpenFile(f.site.LUNFile(l.Name), os.O_WRONLY, 0)
			f.must(err)
			_, err = fh.WriteAt(make([]byte, 4096), 0)
			f.must(err)
			f.must(fh.Close())
		}
	}
	im, err := f.importOn(f.b, set.doc)
	f.fails(err, 3, vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED)
	if len(im.Copies) != 1 || im.Copies[0].SnapshotID != set.Snapshots[0].ID {
		t.Fatalf("imported: %+v", im.Copies)
	}
	if got, err := os.ReadFile(f.b.Path(im.Copies[0].DeviceObject + "/hello")); err != nil || string(got) != "hello" {
		t.Errorf("%q %v", got, err)
	}
	if o := f.orphans(f.b); len(o) != 1 || o[0].SnapshotID != set.Snapshots[1].ID {
		t.Fatalf("orphans: %+v", o)
	}
	_, err = f.b.Umbra(f.ctx, "cleanup", set.SetID.String(), "--reclaim")
	f.must(err)
	_, err = f.b.Umbra(f.ctx, "delete", "all")
	f.must(err)
	if c := f.copiesOnArray(); len(c) != 0 {
		t.Errorf("left: %+v", c)
	}
}
