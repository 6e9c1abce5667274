package document

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

func TestOnCopy(t *testing.T) {
	const dev = "/run/umbra/copies/{1}"
	for _, c := range []struct{ path, volume, device, want string }{
		{"/srv/db", "/srv", dev, dev + "/db"},
		{"/srv", "/srv", dev, dev},
		{"/srv/", "/srv", dev, dev},
		{"/srv", "/srv/", dev, dev},
		{"/srv/db/", "/srv/", dev + "/", dev + "/db"},
		{"//srv//db", "/srv", dev, dev + "/db"},
		{"/srv/./a/../b", "/srv", dev, dev + "/b"},
		{"/srv/db", "/", dev, dev + "/srv/db"},
		{"/", "/", dev, dev},
		{"/srv/..hidden", "/srv", dev, dev + "/..hidden"},
		{"/srv/a\xff\n", "/srv", dev, dev + "/a\xff\n"},
		{"/srv/../etc", "/srv", dev, ""},
		{"/srv/../../srv/x", "/srv", dev, dev + "/x"},
		{"/srv/db/../../etc/passwd", "/srv", dev, ""},
		{"/srvx/db", "/srv", dev, ""},
		{"/", "/srv", dev, ""},
		{"srv/db", "/srv", dev, ""},
		{"", "/srv", dev, ""},
		{"/srv/db", "srv", dev, ""},
		{"/srv/db", "", dev, ""},
		{"/srv/db", "/srv", "", ""},
		{"/srv/db", "/srv", "copies", ""},
	} {
		got, ok := FileSet{Path: c.path}.OnCopy(c.volume, c.device)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%q of volume %q on %q: %q, %v", c.path, c.volume, c.device, got, ok)
		}
	}
}

func copies(volumes ...string) []vss.SnapshotProp {
	var out []vss.SnapshotProp
	for i, v := range volumes {
		out = append(out, vss.SnapshotProp{SnapshotID: vss.ID{1, 15: byte(i)}, OriginalVolumeName: v, DeviceObject: fmt.Sprintf("/c/%d", i)})
	}
	return out
}

func TestOnCopies(t *testing.T) {
	noDevice := copies("/srv", "/srv/db")
	noDevice[1].DeviceObject = ""
	for _, c := range []struct {
		name    string
		set     FileSet
		volumes []string // known to the metadata
		copies  []vss.SnapshotProp
		places  string
		missing string
	}{
		{"plain", FileSet{Path: "/srv/x"}, nil, copies("/srv"), "/c/0/x", ""},
		{"longest mount point", FileSet{Path: "/srv/db/base"}, nil, copies("/srv", "/srv/db"), "/c/1/base", ""},
		{"in any order", FileSet{Path: "/srv/db/base"}, nil, copies("/srv/db", "/srv"), "/c/0/base", ""},
		{"by element", FileSet{Path: "/srv/dbx"}, nil, copies("/srv", "/srv/db"), "/c/0/dbx", ""},
		{"the mount point itself", FileSet{Path: "/srv/db"}, nil, copies("/srv", "/srv/db"), "/c/1", ""},
		{"root", FileSet{Path: "/etc"}, nil, copies("/", "/srv"), "/c/0/etc", ""},
		{"elsewhere", FileSet{Path: "/etc"}, nil, copies("/srv"), "", "/etc: it lies on no copied volume"},
		{"out by its spelling", FileSet{Path: "/srv/../etc"}, nil, copies("/srv"), "", "/etc: it lies on no copied volume"},
		{"out of the longest", FileSet{Path: "/srv/db/../x"}, nil, copies("/srv", "/srv/db"), "/c/0/x", ""},
		{"nothing copied", FileSet{Path: "/srv"}, nil, nil, "", "/srv: it lies on no copied volume"},
		{"on a volume that was not copied", FileSet{Path: "/srv/db/base"}, []string{"/srv", "/srv/db"}, copies("/srv"), "", "/srv/db/base on /srv/db: the volume was not copied"},
		{"no device object", FileSet{Path: "/srv/db/base"}, nil, noDevice, "", "/srv/db/base on /srv/db: the copy has no device object"},
		{"a copy made by device name", FileSet{Path: "/srv"}, nil, copies("/dev/loop2"), "", "/srv: it lies on no copied volume"},
		{"relative", FileSet{Path: "srv"}, nil, copies("/"), "", "srv: the path is not absolute"},
		{"not recursive", FileSet{Path: "/srv"}, nil, copies("/srv", "/srv/db"), "/c/0", ""},
		{"recursive", FileSet{Path: "/srv", Recursive: true}, nil, copies("/srv", "/srv/db", "/srvx", "/srv/a"), "/c/0 /c/3 /c/1", ""},
		{"recursive over what was not copied", FileSet{Path: "/srv", Recursive: true}, []string{"/srv/log", "/etc"}, copies("/srv", "/srv/db"), "/c/0 /c/1", "/srv/log on /srv/log: the volume was not copied"},
		{"recursive over copied volumes", FileSet{Path: "/", Recursive: true}, nil, copies("/srv"), "/c/0", "/: it lies on no copied volume"},
		{"alternate path", FileSet{Path: "/srv", AlternatePath: "/dump"}, nil, copies("/srv", "/dump"), "/c/0 or /c/1", ""},
		{"missing alternate path", FileSet{Path: "/srv", AlternatePath: "/dump"}, nil, copies("/srv"), "/c/0", "/dump: it lies on no copied volume"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.set.FileSpec = "*"
			w := &WriterMetadata{Volumes: c.volumes, Components: []MetadataComponent{{Name: "a"}, {Name: "b", Files: []FileSet{c.set}}}}
			got := w.OnCopies(c.copies)
			if len(got) != 1 || got[0].Component != &w.Components[1] || got[0].FileSet != c.set {
				t.Fatalf("%+v", got)
			}
			paths := func(ps []PlaceOnCopy) string {
				var s []string
				for _, p := range ps {
					s = append(s, p.Path())
				}
				return strings.Join(s, " ")
			}
			places := paths(got[0].Places)
			if got[0].Alternate != nil {
				places += " or " + paths(got[0].Alternate)
			}
			var missing []string
			for _, m := range got[0].Missing {
				at := m.Original
				if m.Volume != "" {
					at += " on " + m.Volume
				}
				missing = append(missing, at+": "+m.Reason)
			}
			if places != c.places || strings.Join(missing, "; ") != c.missing || got[0].Complete() != (c.missing == "") {
				t.Errorf("%q, missing %q", places, missing)
			}
		})
	}
}

func TestOnCopiesTellsWhichCopy(t *testing.T) {
	w := sampleWriter()
	cs := copies("/srv/db", "/srv/log")
	got := w.OnCopies(cs)
	if len(got) != 4 {
		t.Fatalf("%d file sets", len(got))
	}
	want := PlaceOnCopy{Original: "/srv/db/base", SnapshotID: cs[0].SnapshotID, DeviceObject: "/c/0", Relative: "base"}
	if d := cmp.Diff([]PlaceOnCopy{want}, got[0].Places); d != "" {
		t.Error(d)
	}
	if !got[0].Complete() || !got[1].Complete() || got[2].Complete() || got[2].Component.Name != "config" {
		t.Errorf("%+v", got)
	}
}

// staysInside maps everything to copies and checks that every place is in one.
func staysInside(t interface{ Fatalf(string, ...any) }, w *WriterMetadata) {
	cs := copies("/", "/a", "/a/b", "/srv")
	cs = append(cs, vss.SnapshotProp{OriginalVolumeName: "/srv/x"})
	for _, f := range w.OnCopies(cs) {
		for _, p := range append(f.Places, f.Alternate...) {
			got := p.Path()
			if path.Clean(got) != got || got != p.DeviceObject && !strings.HasPrefix(got, p.DeviceObject+"/") || path.IsAbs(p.Relative) {
				t.Fatalf("%q leads to %q", f.FileSet.Path, got)
			}
		}
		if f.Complete() && len(f.Places) == 0 {
			t.Fatalf("%q is nowhere and not missing", f.FileSet.Path)
		}
	}
}

func TestNothingLeadsOutOfACopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := FileSet{Path: "/" + rapid.StringMatching(`((a|b|srv|x|\.|\.\.|)/){0,6}`).Draw(t, "path"), FileSpec: "*",
			Recursive: rapid.Bool().Draw(t, "recursive"), AlternatePath: anyPath().Draw(t, "alternate")}
		w := &WriterMetadata{Components: []MetadataComponent{{Files: []FileSet{s}}}, Volumes: []string{"/a/b/srv"}}
		staysInside(t, w)
		for _, v := range []string{"/a", "/a/b", "/"} {
			if p, ok := s.OnCopy(v, "/c/9"); ok && p != "/c/9" && !strings.HasPrefix(p, "/c/9/") {
				t.Fatalf("%q", p)
			}
		}
		staysInside(t, anyWriter().Draw(t, "writer"))
	})
}
