package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// TestBadVolumes: what cannot be copied is refused by name, before anything is
// held, and nothing is left.
func TestBadVolumes(t *testing.T) {
	f := newFixture(t)
	v, dev, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	dir := filepath.Join(f.site.Dir, f.a.Name, "srv")

	// On A: a bind mount, a folder, a tmpfs, a loop device of nobody, an
	// unmounted LUN, a LUN without filesystem.
	bind, tmp, nobody := filepath.Join(dir, "bind"), filepath.Join(dir, "tmp"), filepath.Join(dir, "nobody")
	for _, d := range []string{bind, tmp, nobody, f.a.Path(filepath.Join(v, "folder"))} {
		f.must(os.Mkdir(d, 0o755))
	}
	_, bare, err := f.a.NewLUN(f.ctx, "bare", "64M")
	f.must(err)
	_, unmounted, err := f.a.NewLUN(f.ctx, "unmounted", "64M")
	f.must(err)
	_, err = f.a.Run(f.ctx, "mkfs.ext4", "-q", "-F", unmounted)
	f.must(err)
	for _, c := range [][]string{
		{"mount", "--bind", v, bind},
		{"mount", "-t", "tmpfs", "none", tmp},
		{"sh", "-ec", "truncate -s 64M " + tmp + "/file && mkfs.ext4 -q -F " + tmp + "/file && mount -o loop " + tmp + "/file " + nobody},
	} {
		_, err := f.a.Run(f.ctx, c[0], c[1:]...)
		f.must(err)
	}
	link := filepath.Join(f.site.Dir, "link")
	f.must(os.Symlink(v, link))
	defer os.Remove(link)

	th, th2 := f.thawer(v), f.thawer(w)
	for _, c := range []struct {
		name    string
		volumes []string
		code    vss.HResult
		words   []string
	}{
		{"nothing there", []string{"/no/such/volume"}, vss.VSS_E_OBJECT_NOT_FOUND, []string{"/no/such/volume"}},
		{"folder", []string{v + "/folder"}, vss.E_INVALIDARG, []string{v}},
		{"tmpfs", []string{tmp}, vss.VSS_E_VOLUME_NOT_SUPPORTED, []string{tmp, "tmpfs"}},
		{"proc", []string{"/proc"}, vss.VSS_E_VOLUME_NOT_SUPPORTED, []string{"proc"}},
		{"LUN of nobody", []string{nobody}, vss.VSS_E_VOLUME_NOT_SUPPORTED, []string{nobody, "LUN"}},
		{"LUN without filesystem", []string{bare}, vss.VSS_E_VOLUME_NOT_SUPPORTED, []string{bare}},
		{"not mounted", []string{unmounted}, vss.VSS_E_VOLUME_NOT_SUPPORTED, []string{unmounted}},
		{"twice", []string{v, v}, vss.VSS_E_OBJECT_ALREADY_EXISTS, []string{v}},
		{"twice, by its device", []string{v, dev}, vss.VSS_E_OBJECT_ALREADY_EXISTS, []string{v}},
		{"twice, by a bind mount", []string{w, v, bind}, vss.VSS_E_OBJECT_ALREADY_EXISTS, []string{v, bind}},
		{"twice, by a link", []string{v, link}, vss.VSS_E_OBJECT_ALREADY_EXISTS, []string{v}},
		{"good and bad", []string{v, w, nobody}, vss.VSS_E_VOLUME_NOT_SUPPORTED, []string{nobody}},
		{"provider that is not there", []string{v, "--provider", vss.NewID().String()}, vss.VSS_E_PROVIDER_NOT_REGISTERED, nil},
		{"client-accessible without a system provider", []string{v, "--transportable=false", "--context", "client-accessible"}, vss.VSS_E_VOLUME_NOT_SUPPORTED, []string{v, "system provider"}},
		{"context that may not travel", []string{v, "--context", "client-accessible"}, vss.E_INVALIDARG, nil},
		{"full mirror of an array that clones", []string{v, "--plex"}, vss.VSS_E_VOLUME_NOT_SUPPORTED, []string{v}},
		{"two kinds of copy", []string{v, "--differential", "--plex"}, vss.E_INVALIDARG, []string{"differential", "plex"}},
	} {
		f.run(c.name, func(g *fixture) {
			g.leavesNothing(func() {
				g.mentions(g.refused(g.tryMake(c.volumes...), c.code), c.words...)
			})
			if th.frozen(g.T) || th2.frozen(g.T) {
				g.Error("a volume is frozen")
			}
		})
	}
	f.run("root", func(g *fixture) { // the device is not on a LUN, or may not even be read
		g.leavesNothing(func() {
			if c := g.complaints(g.tryMake("/"), 1); c[0].Name != vss.VSS_E_VOLUME_NOT_SUPPORTED.Name() && c[0].Name != vss.E_ACCESSDENIED.Name() {
				g.Errorf("%+v", c)
			}
		})
	})
	f.run("usage", func(g *fixture) {
		g.leavesNothing(func() {
			for _, args := range [][]string{{}, {v, "--context", "nonsense"}, {v, "--provider", "nonsense"}, {v, "--nonsense"}, {v, "--document", ""}} {
				if err := g.tryMake(args...); err == nil || !strings.Contains(err.Error(), "exit 2") {
					g.Errorf("%v: %v, want exit 2", args, err)
				}
			}
		})
	})
	f.run("frozen by somebody else", func(g *fixture) {
		g.leavesNothing(func() {
			g.must(unix.IoctlSetInt(th.fd, fifreeze, 0))
			g.mentions(g.refused(g.tryMake(v, w), vss.VSS_E_VOLUME_IN_USE), v)
		})
		if !th.frozen(g.T) {
			g.Error("the administrator's freeze was thawed")
		}
		if th2.frozen(g.T) {
			g.Error("the other volume is frozen")
		}
	})
	f.run("and then", func(g *fixture) { g.works(v, w) })
}

// TestBusyVolume: a volume that cannot be flushed in time is not held.
func TestBusyVolume(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	th := f.thawer(v)
	config := filepath.Join(f.site.Dir, "umbra.toml")
	f.must(os.WriteFile(config, []byte("flush_timeout = \"1ms\"\n"), 0o600))
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, nil, "--config", config))
	f.leavesNothing(func() {
		f.put(v, "dirty", strings.Repeat("much to be written", 8<<20))
		f.mentions(f.refused(f.tryMake(v), vss.VSS_E_FLUSH_WRITES_TIMEOUT), v)
	})
	if th.frozen(t) {
		t.Error("the volume is frozen")
	}
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, nil))
	f.works(v)
}

// TestBadDocumentFile: a set whose document cannot be saved does not come to be.
func TestBadDocumentFile(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	there := filepath.Join(f.site.Dir, "there.umbra")
	f.must(os.WriteFile(there, []byte("precious"), 0o600))
	readonly := filepath.Join(f.site.Dir, f.a.Name, "readonly")
	f.must(os.Mkdir(readonly, 0o755))
	_, err := f.a.Run(f.ctx, "mount", "-t", "tmpfs", "-o", "ro", "none", readonly)
	f.must(err)
	for _, c := range []struct {
		name, doc string
		code      vss.HResult
	}{
		{"exists", there, vss.VSS_E_OBJECT_ALREADY_EXISTS},
		{"is a folder", f.site.Dir, vss.VSS_E_OBJECT_ALREADY_EXISTS},
		{"no folder", filepath.Join(f.site.Dir, "no", "set.umbra"), vss.E_ACCESSDENIED},
		{"read-only folder", filepath.Join(readonly, "set.umbra"), vss.E_ACCESSDENIED},
	} {
		f.run(c.name, func(g *fixture) {
			g.leavesNothing(func() {
				sets := g.sets()
				_, err := g.as(g.a, "create", v, "--transportable", "--document", c.doc)
				g.mentions(g.refused(err, c.code), c.doc)
				if g.sets() != sets {
					g.Error("a set was begun")
				}
			})
		})
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "precious" {
		t.Errorf("%q %v", b, err)
	}
}

// sets is the list of sets on A.
func (f *fixture) sets() string {
	f.Helper()
	out, err := f.as(f.a, "list", "sets")
	f.must(err)
	return out
}
