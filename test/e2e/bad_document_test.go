package e2e

import (
	"archive/zip"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/vss"
)

// readSet reads the document of a set.
func (f *fixture) readSet(s createdSet) (raw []byte, d *document.Document) {
	f.Helper()
	raw, err := os.ReadFile(s.doc)
	f.must(err)
	d, err = document.Read(raw)
	f.must(err)
	return raw, d
}

// put a document where it can be imported from.
func (f *fixture) saveDocument(b []byte) string {
	f.Helper()
	p := filepath.Join(f.site.Dir, "forged.umbra")
	f.must(os.WriteFile(p, b, 0o600))
	return p
}

// altered is a document with something changed, as XML.
func (f *fixture) altered(raw []byte, change func(*document.Document)) []byte {
	f.Helper()
	d, err := document.Read(raw)
	f.must(err)
	change(d)
	out, err := document.Marshal(d)
	f.must(err)
	return out
}

// TestBadDocuments: a document that is not what the array signed opens nothing.
func TestBadDocuments(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	f.put(v, "hello", "hello")
	set := f.create("app-rollback", v)
	other := f.create("app-rollback", w)
	raw, d := f.readSet(set)
	xml, err := document.Marshal(d)
	f.must(err)
	_, od := f.readSet(other)
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	var foreign bytes.Buffer
	z := zip.NewWriter(&foreign)
	fw, err := z.Create("letter.txt")
	f.must(err)
	_, err = fw.Write([]byte("something else"))
	f.must(err)
	f.must(z.Close())
	flip := func(b []byte, part string) []byte {
		i := bytes.Index(b, []byte(part))
		if i < 0 {
			f.Fatalf("no %q in the document", part)
		}
		out := bytes.Clone(b)
		if out[i+len(part)-1] == '0' {
			out[i+len(part)-1] = '1'
		} else {
			out[i+len(part)-1] = '0'
		}
		return out
	}
	change := func(fn func(*document.SnapshotSet)) []byte {
		return f.altered(raw, func(d *document.Document) { fn(d.Set) })
	}
	const bad = vss.VSS_E_INVALID_XML_DOCUMENT
	saved := f.saveDocument(nil)
	defer os.Remove(saved)
	for _, c := range []struct {
		name string
		doc  []byte
		code vss.HResult
	}{
		{"empty", nil, bad},
		{"truncated bundle", raw[:len(raw)*2/3], bad},
		{"truncated XML", xml[:len(xml)*2/3], bad},
		{"random", noise, bad},
		{"zip of something else", foreign.Bytes(), bad},
		{"zeros", make([]byte, 4096), bad},
		{"bundle with a bit flipped", flip(raw, string(raw[len(raw)/2:len(raw)/2+8])), bad},
		{"set ID", flip(xml, set.SetID.String()[:20]), bad},
		{"another set's ID", change(func(s *document.SnapshotSet) { s.ID = other.SetID }), bad},
		{"LUN", change(func(s *document.SnapshotSet) { s.Snapshots[0].LUNs[0].Target = od.Set.Snapshots[0].LUNs[0].Target }), bad},
		{"source LUN", change(func(s *document.SnapshotSet) { s.Snapshots[0].LUNs[0].Source = od.Set.Snapshots[0].LUNs[0].Source }), bad},
		{"size", change(func(s *document.SnapshotSet) { s.Snapshots[0].LUNs[0].Size += 4096 }), bad},
		{"generation", change(func(s *document.SnapshotSet) { s.Snapshots[0].LUNs[0].Generation++ }), bad},
		{"filesystem", change(func(s *document.SnapshotSet) { s.Snapshots[0].Filesystem.UUID = od.Set.Snapshots[0].Filesystem.UUID }), bad},
		{"original volume", change(func(s *document.SnapshotSet) { s.Snapshots[0].OriginalVolumeName = "/etc" }), bad},
		{"machine", change(func(s *document.SnapshotSet) { s.OriginatingMachine = "mallory" }), bad},
		{"persistence", change(func(s *document.SnapshotSet) {
			s.Attributes = vss.CTX_BACKUP.Attributes() | vss.ATTR_TRANSPORTABLE | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_NOT_SURFACED
			s.Snapshots[0].Attributes = s.Attributes
		}), bad},
		{"ticket with a bit flipped", change(func(s *document.SnapshotSet) { s.Tickets[0].Data[40] ^= 1 }), bad},
		{"signature with a bit flipped", change(func(s *document.SnapshotSet) { s.Tickets[0].Data[len(s.Tickets[0].Data)-1] ^= 1 }), bad},
		{"truncated ticket", change(func(s *document.SnapshotSet) { s.Tickets[0].Data = s.Tickets[0].Data[:50] }), bad},
		{"ticket of another set", change(func(s *document.SnapshotSet) { s.Tickets = od.Set.Tickets }), bad},
		{"no ticket", change(func(s *document.SnapshotSet) { s.Tickets = nil }), vss.VSS_E_PROVIDER_VETO},
		{"no set", f.altered(raw, func(d *document.Document) { d.Set = nil }), vss.VSS_E_NONTRANSPORTABLE_BCD},
		{"not transportable", change(func(s *document.SnapshotSet) {
			s.Attributes &^= vss.ATTR_TRANSPORTABLE
			s.Snapshots[0].Attributes &^= vss.ATTR_TRANSPORTABLE
			s.Tickets = nil
		}), vss.VSS_E_NONTRANSPORTABLE_BCD},
		{"no hardware", change(func(s *document.SnapshotSet) {
			s.Attributes &^= vss.ATTR_HARDWARE_ASSISTED
			s.Snapshots[0].Attributes &^= vss.ATTR_HARDWARE_ASSISTED
			s.Tickets = nil
		}), vss.VSS_E_NONTRANSPORTABLE_BCD},
		{"unknown provider", change(func(s *document.SnapshotSet) {
			s.Snapshots[0].ProviderID = vss.NewID()
			s.Tickets = nil
		}), vss.VSS_E_PROVIDER_NOT_REGISTERED},
	} {
		f.run(c.name, func(g *fixture) {
			g.leavesNothing(func() {
				g.must(os.WriteFile(saved, c.doc, 0o600))
				for _, args := range [][]string{{"import", saved, "--check"}, {"import", saved}} {
					_, err := g.as(g.b, args...)
					g.refused(err, c.code)
				}
				if o := g.orphans(g.b); len(o) != 0 {
					g.Errorf("listed: %+v", o)
				}
			})
		})
	}
	f.run("no such file", func(g *fixture) {
		_, err := g.as(g.b, "import", "/no/such/file")
		g.mentions(g.refused(err, vss.E_INVALIDARG), "/no/such/file")
		_, err = g.as(g.b, "import", f.site.Dir)
		g.refused(err, vss.E_INVALIDARG)
	})
	f.run("endless file", func(g *fixture) {
		_, err := g.as(g.b, "import", "/dev/zero")
		g.refused(err, bad)
	})
	f.run("untouched after all", func(g *fixture) {
		im, err := g.importOn(g.b, set.doc)
		g.must(err)
		if got, err := os.ReadFile(g.b.Path(im.Copies[0].DeviceObject + "/hello")); err != nil || string(got) != "hello" {
			g.Errorf("%q %v", got, err)
		}
	})
}

// TestForeignArray: the document of an array this machine has not joined.
func TestForeignArray(t *testing.T) {
	f, other := newFixture(t), newFixture(t)
	v, _, _ := other.volume("v", "ext4")
	set := other.create("app-rollback", v)
	f.leavesNothing(func() {
		other.leavesNothing(func() {
			for _, args := range [][]string{{"import", set.doc, "--check"}, {"import", set.doc}} {
				_, err := f.as(f.b, args...)
				f.mentions(f.refused(err, vss.VSS_E_PROVIDER_NOT_REGISTERED), "umbra array enroll")
			}
		})
	})
}

// TestTickets: a ticket opens its set, in its time, to its host.
func TestTickets(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	set := f.create("app-rollback", v)
	second := f.create("app-rollback", v)
	raw, _ := f.readSet(set)
	n := 0
	issue := func(g *fixture, s createdSet, args ...string) string {
		g.Helper()
		n++
		file := filepath.Join(g.site.Dir, fmt.Sprintf("ticket%d", n))
		_, err := g.site.Array(g.ctx, append([]string{"ticket", s.SetID.String(), "--file", file}, args...)...)
		g.must(err)
		return file
	}
	reject := func(g *fixture, code vss.HResult, args ...string) {
		g.Helper()
		g.leavesNothing(func() {
			for _, check := range [][]string{{"--check"}, nil} {
				_, err := g.as(g.b, append(append([]string{"import"}, args...), check...)...)
				g.refused(err, code)
			}
		})
	}
	f.run("expired", func(g *fixture) {
		file := issue(g, set, "--life", "1s")
		time.Sleep(2100 * time.Millisecond)
		reject(g, vss.VSS_E_PROVIDER_VETO, set.doc, "--ticket", file)
	})
	f.run("another host's", func(g *fixture) {
		reject(g, vss.VSS_E_PROVIDER_VETO, set.doc, "--ticket", issue(g, set, "--host", g.a.Name))
	})
	f.run("another set's", func(g *fixture) {
		reject(g, vss.VSS_E_INVALID_XML_DOCUMENT, set.doc, "--ticket", issue(g, second))
	})
	f.run("no ticket at all", func(g *fixture) {
		reject(g, vss.E_INVALIDARG, set.doc, "--ticket", "/no/such/ticket")
	})
	f.run("in the document", func(g *fixture) {
		b, err := os.ReadFile(issue(g, set, "--host", g.a.Name))
		g.must(err)
		doc := g.saveDocument(g.altered(raw, func(d *document.Document) { d.Set.Tickets[0].Data = b }))
		defer os.Remove(doc)
		reject(g, vss.VSS_E_PROVIDER_VETO, doc)
	})
	f.run("of a set that is gone", func(g *fixture) {
		_, err := g.a.Umbra(g.ctx, "delete", "set", second.SetID.String())
		g.must(err)
		reject(g, vss.VSS_E_PROVIDER_VETO, second.doc)
		_, err = g.site.Array(g.ctx, "ticket", second.SetID.String(), "--output", "json")
		g.refused(err, vss.VSS_E_OBJECT_NOT_FOUND)
	})
	f.run("good", func(g *fixture) {
		im, err := g.importOn(g.b, set.doc, "--ticket", issue(g, set, "--host", g.b.Name, "--life", "1m"))
		g.must(err)
		if len(im.Copies) != 1 {
			g.Errorf("%+v", im)
		}
	})
}
