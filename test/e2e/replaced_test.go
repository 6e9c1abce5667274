package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// onEachTransport runs a test on a site of each kind there is on one machine.
func onEachTransport(t *testing.T, test func(f *fixture)) {
	t.Run("loop", func(t *testing.T) { test(newFixtureWith(t, site.Options{})) })
	t.Run("nbd", func(t *testing.T) { test(overNBD(t)) })
}

const newerVersion = "0.2.0-replaced"

// newer builds the program as another version.
func newer(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "umbra")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X main.version="+newerVersion, "-o", program, "../../cmd/umbra")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// TestReplaced: daemons and array are killed, come back, and are replaced by
// another version, while originals are written and imported, exposed copies are
// read. No program has an error, nothing is found changed, and what was attached
// is attached. State of a version to come is refused and left alone.
func TestReplaced(t *testing.T) {
	program := newer(t)
	onEachTransport(t, func(f *fixture) {
		v, _, _ := f.volume("v", "ext4")
		w, _, _ := f.volume("w", "xfs")
		content := bytes.Repeat([]byte("of the copies\n"), 1<<16)
		f.put(v, "file", string(content))
		f.put(w, "file", string(content))
		set := f.create("app-rollback", v, w)
		im, err := f.importOn(f.b, set.doc)
		f.must(err)
		var all []*churn
		for _, m := range []string{v, w} {
			all = append(all, f.writes(f.a.Path(filepath.Join(m, "churn"))))
		}
		for i, c := range im.Copies {
			folder := filepath.Join(f.site.Dir, fmt.Sprintf("exposed%d", i))
			f.must(os.Mkdir(folder, 0o755))
			_, err := f.b.Umbra(f.ctx, "expose", c.SnapshotID.String(), folder)
			f.must(err)
			all = append(all, f.rereads(f.b.Path(filepath.Join(folder, "file")), content))
		}
		f.goOn("at first", all...)
		attached := func() string {
			var out strings.Builder
			for _, h := range []*site.Host{f.a, f.b} {
				for _, l := range f.luns(h) { // what is on them may take long to read just now
					fmt.Fprintf(&out, "%s has %s as %s (%d), %s\n", h.Name, l.Name, l.Device, l.DiskSeq, l.State)
				}
			}
			for _, c := range f.copiesOn(f.b) {
				fmt.Fprintf(&out, "%+v\n", c)
			}
			return out.String()
		}
		before := attached()
		start := func() {
			f.Helper()
			f.must(f.site.StartArray(f.ctx, nil))
			f.must(f.a.StartDaemon(f.ctx, nil))
			f.must(f.b.StartDaemon(f.ctx, nil))
		}
		for _, step := range []struct {
			name, program string
			end           func()
		}{
			{"killed", binary, func() { f.a.KillDaemon(); f.b.KillDaemon(); f.site.KillArray() }},
			{"killed and replaced", program, func() { f.site.KillArray(); f.b.KillDaemon(); f.a.KillDaemon() }},
		} {
			step.end()
			f.goOn(step.name+", with no service", all...)
			f.site.Use(step.program)
			start()
			f.goOn(step.name, all...)
			if d := cmp.Diff(before, attached()); d != "" {
				f.Errorf("%s: attached are others than before:\n%s", step.name, d)
			}
		}
		for who, status := range map[string]func() (string, error){
			"A":         func() (string, error) { return f.a.Umbra(f.ctx, "status") },
			"the array": func() (string, error) { return f.site.Array(f.ctx, "info") },
		} {
			if out, err := status(); err != nil || who == "A" && !strings.Contains(out, newerVersion) || strings.Contains(out, "Attention") {
				f.Errorf("%s: %v\n%s", who, err, out)
			}
		}
		for _, h := range []*site.Host{f.a, f.b} {
			if e := f.events(h, "recovery"); len(e) != 0 {
				f.Errorf("%s found differences: %+v", h.Name, e)
			}
		}
		f.run("works", func(g *fixture) { g.worksBeside(set.SetID.String(), v, w); g.goOn("a set is made", all...) })

		refused := func(file, bucket, key string, value []byte, start func() error, words ...string) {
			f.Helper()
			was := f.setInDB(file, bucket, key, value)
			sum := f.sumOf(file)
			err := start()
			if err == nil {
				f.Fatalf("%s of a version to come is opened", file)
			}
			for _, word := range words {
				if !strings.Contains(err.Error(), word) {
					f.Errorf("the error does not name %q: %v", word, err)
				}
			}
			if f.sumOf(file) != sum {
				f.Errorf("%s was refused and changed", file)
			}
			f.goOn("state is refused", all...)
			f.setInDB(file, bucket, key, was)
			f.must(start())
			f.goOn("the right version is started", all...)
		}
		f.b.StopDaemon()
		refused(filepath.Join(f.b.StateDir(), "catalog.db"), "meta", "schema", []byte("99"), func() error { return f.b.StartDaemon(f.ctx, nil) }, "newer version", "catalog.db", "99")
		f.site.StopArray()
		refused(filepath.Join(f.site.ArrayDir(), "array.db"), "array", "version", []byte{0, 0, 0, 99}, func() error { return f.site.StartArray(f.ctx, nil) }, "version 99", "array.db")
		if d := cmp.Diff(before, attached()); d != "" {
			f.Errorf("in the end attached are others than before:\n%s", d)
		}
		for _, c := range all {
			c.stop()
		}
		_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
		f.must(err)
		f.nothingOn(f.b)
	})
}

func (f *fixture) sumOf(file string) string {
	f.Helper()
	b, err := os.ReadFile(file)
	f.must(err)
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// setInDB writes a value into a database that nobody has open, and returns what
// was there.
func (f *fixture) setInDB(file, bucket, key string, value []byte) (was []byte) {
	f.Helper()
	db, err := bbolt.Open(file, 0o600, nil)
	f.must(err)
	f.must(db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		was = bytes.Clone(b.Get([]byte(key)))
		return b.Put([]byte(key), value)
	}))
	f.must(db.Close())
	return was
}

// event is one as `umbra list events` has it.
type event struct {
	Number  int    `json:"number"`
	Name    string `json:"name"`
	Object  string `json:"object"`
	Message string `json:"message"`
}

// events are a host's of a name or an area.
func (f *fixture) events(h *site.Host, name string) (out []event) {
	f.Helper()
	text, err := h.Umbra(f.ctx, "list", "events", "--name", name, "--output", "json")
	f.must(err)
	f.must(json.Unmarshal([]byte(text), &out))
	return out
}

// worksBeside is works while a set is imported on B.
func (f *fixture) worksBeside(other string, volumes ...string) {
	f.Helper()
	set := f.create("app-rollback", volumes...)
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	if len(im.Copies) != len(volumes) {
		f.Errorf("%d of %d copies imported", len(im.Copies), len(volumes))
	}
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	for _, c := range f.copiesOnArray() {
		if c.SetID != other {
			f.Errorf("left on the array: %+v", c)
		}
	}
}

// TestChangedWhileAway: what somebody does to the machine while the daemon is away
// is put right, and each thing is an event that names it.
func TestChangedWhileAway(t *testing.T) {
	onEachTransport(t, func(f *fixture) {
		var mounts, devices, naas []string
		for _, fs := range []string{"ext4", "xfs", "btrfs"} {
			m, d, n := f.volume(fs, fs)
			f.put(m, "hello", "hello "+m)
			mounts, devices, naas = append(mounts, m), append(devices, d), append(naas, n)
		}
		set := f.create("app-rollback", mounts...)
		im, err := f.importOn(f.b, set.doc)
		f.must(err)
		folder := filepath.Join(f.site.Dir, "exposed")
		f.must(os.Mkdir(folder, 0o755))
		_, err = f.b.Umbra(f.ctx, "expose", im.Copies[0].SnapshotID.String(), folder)
		f.must(err)
		sh := func(h *site.Host, script string, args ...string) {
			f.Helper()
			_, err := h.Run(f.ctx, "sh", append([]string{"-ec", script, "sh"}, args...)...)
			f.must(err)
		}
		wait := `udevadm settle 2>/dev/null || true; for i in $(seq 100); do losetup "$2" >/dev/null 2>&1 || exit 0; sleep 0.05; done; exit 1`

		f.b.KillDaemon()
		sh(f.b, `umount "$1"; umount "$2"`, folder, im.Copies[1].DeviceObject)
		sh(f.b, `umount "$1"; losetup -d "$2"; `+wait, im.Copies[2].DeviceObject, im.Copies[2].BlockDevice)
		f.a.KillDaemon()
		sh(f.a, `umount "$1"; losetup -d "$2"; `+wait, mounts[0], devices[0])
		f.must(f.b.StartDaemon(f.ctx, nil))
		f.must(f.a.StartDaemon(f.ctx, nil))

		if now := f.copiesOn(f.b); len(now) != 3 || slices.ContainsFunc(now, func(c vss.SnapshotProp) bool { return c.DeviceObject == "" }) {
			f.Fatalf("copies: %+v", now)
		}
		for i, c := range im.Copies {
			if got, err := os.ReadFile(f.b.Path(filepath.Join(c.DeviceObject, "hello"))); err != nil || !strings.HasPrefix(string(got), "hello /") {
				f.Errorf("copy %d reads %q, %v", i, got, err)
			}
		}
		if got, err := os.ReadFile(f.b.Path(filepath.Join(folder, "hello"))); err != nil || !strings.HasPrefix(string(got), "hello /") {
			f.Errorf("the exposure reads %q, %v", got, err)
		}
		f.hasEvents(f.b, event{Number: 512, Name: "recovery.mount-restored", Object: folder},
			event{Number: 512, Name: "recovery.mount-restored", Object: im.Copies[1].DeviceObject},
			event{Number: 512, Name: "recovery.mount-restored", Object: im.Copies[2].DeviceObject},
			event{Number: 511, Name: "recovery.device-replaced", Object: f.lunOf(f.b, im.Copies[2].SnapshotID).Name})
		f.hasEvents(f.a, event{Number: 513, Name: "recovery.original-missing", Object: naas[0]})
		_, err = f.a.Umbra(f.ctx, "rescan")
		f.must(err)

		// The array shows a copy's LUN to B no more.
		gone := f.lunOf(f.b, im.Copies[2].SnapshotID)
		f.b.KillDaemon()
		sh(f.b, `umount "$1"; losetup -d "$2"; `+wait, im.Copies[2].DeviceObject, gone.Device)
		_, err = f.site.Array(f.ctx, "mask", gone.Name, f.b.Name, "--force")
		f.must(err)
		f.must(f.b.StartDaemon(f.ctx, nil))
		f.hasEvents(f.b, event{Number: 507, Name: "recovery.copy-missing", Object: im.Copies[2].SnapshotID.String()})
		_, err = f.site.Array(f.ctx, "unmask", gone.Name, f.b.Name)
		f.must(err)
		_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
		f.must(err)
	})
}

// lunOf is a copy's only LUN.
func (f *fixture) lunOf(h *site.Host, copy vss.ID) requester.LUN {
	f.Helper()
	all := f.luns(h)
	i := slices.IndexFunc(all, func(l requester.LUN) bool { return l.SnapshotID == copy })
	if i < 0 {
		f.Fatalf("no LUN of %s: %+v", copy, all)
	}
	return all[i]
}

// luns are a host's.
func (f *fixture) luns(h *site.Host) (all []requester.LUN) {
	f.Helper()
	out, err := h.Umbra(f.ctx, "list", "luns", "--output", "json")
	f.must(err)
	f.must(json.Unmarshal([]byte(out), &all))
	return all
}

// hasEvents asserts that each is there, once.
func (f *fixture) hasEvents(h *site.Host, want ...event) {
	f.Helper()
	have := f.events(h, "recovery")
	for _, w := range want {
		n := 0
		for _, e := range have {
			if e.Number == w.Number && e.Name == w.Name && strings.Contains(e.Object, w.Object) {
				n++
			}
		}
		if n != 1 {
			f.Errorf("%d events %+v among %+v", n, w, have)
		}
	}
}
