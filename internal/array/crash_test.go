package array

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// The array dies at every state change of a set. Started again, it has either
// the whole set or nothing of it, and in both cases no file too many.
func TestDeathInASet(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a := r.enroll("a", "")
	n1, c1 := r.lun(mib, "a")
	n2, c2 := r.lun(mib, "a")
	kept := map[string]bool{"array.postcommit.after-record": true}
	for _, point := range []string{"array.prepare.before-intent", "array.prepare.after-intent", "array.prepare.before-targets", "array.prepare.after-targets",
		"array.precommit.before-count", "array.commit.before-clone", "array.commit.after-clone", "array.postcommit.before-fsync",
		"array.postcommit.after-fsync", "array.postcommit.before-record", "array.postcommit.after-record"} {
		t.Run(point, func(t *testing.T) {
			set := vss.NewID()
			var targets map[lun.NAA]lun.NAA
			// The call stops where it would have died, the process is taken away
			// from under it, and only then may the call go on, into nothing.
			hit := stall(t, point)
			dying, cut := context.WithCancel(ctx)
			defer cut()
			returned := make(chan struct{})
			go func() {
				defer close(returned)
				p, err := a.PrepareSet(dying, set, transportable, []client.Source{{NAA: n1}, {NAA: n2}})
				targets = p.Targets
				for _, f := range []func() error{
					func() error { return a.PreCommitSet(dying, set) },
					func() error { _, err := a.CommitSet(dying, set); return err },
					func() error { _, err := a.PostCommitSet(dying, set); return err },
				} {
					if err == nil {
						err = f()
					}
				}
			}()
			r.revive(hit(r), cut)
			<-returned
			a = r.redial("a")

			luns, err := r.admin.ListLUNs(ctx)
			if err != nil {
				t.Fatal(err)
			}
			info, err := r.admin.Info(ctx)
			if err != nil || len(info.Strays) != 0 || len(info.Lost) != 0 {
				t.Fatalf("%+v, %v", info, err)
			}
			if !kept[point] {
				if len(luns) != 2 || info.Sets != 0 || r.files() != 2 {
					t.Fatalf("left: %d LUNs, %d sets, %d files", len(luns), info.Sets, r.files())
				}
				if err := a.AbortSet(ctx, set, false); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(luns) != 4 || r.files() != 4 {
				t.Fatalf("%d LUNs, %d files", len(luns), r.files())
			}
			if !bytes.Equal(r.read(targets[n1]), c1) || !bytes.Equal(r.read(targets[n2]), c2) {
				t.Fatal("a recorded copy is not whole")
			}
			// Its maker asks again, or gives it up.
			if g, err := a.PostCommitSet(ctx, set); err != nil || g == 0 {
				t.Fatal(g, err)
			}
			if err := a.AbortSet(ctx, set, true); err != nil {
				t.Fatal(err)
			}
			if r.files() != 2 {
				t.Fatalf("%d files after the abort", r.files())
			}
		})
	}
}

// The same for what changes one record.
func TestDeathInAChange(t *testing.T) {
	ctx := t.Context()
	for point, after := range map[string]bool{
		"array.locate.before-record": false, "array.locate.after-record": true,
		"array.delete.before-record": false, "array.delete.after-record": true, "array.delete.after-remove": true,
		"array.abort.before-remove": true, "array.abort.after-remove": true, "array.abort.after-record": true,
		"array.release.before-record": false, "array.release.after-record": true,
		"array.access.before-record": false, "array.access.after-record": true,
	} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t)
			a := r.enroll("a", "")
			n, _ := r.lun(mib, "a")
			set, open := vss.NewID(), vss.NewID()
			copies := snapshot(t, a, set, transportable, n)
			tk, err := a.IssueTicket(ctx, set, digest, "", 0)
			if err != nil {
				t.Fatal(err)
			}
			im := client.Location{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies}
			op := strings.Split(point, ".")[1]
			switch op {
			case "release", "access":
				_, err = a.LocateLUNs(ctx, im)
			case "abort":
				_, err = a.PrepareSet(ctx, open, transportable, []client.Source{{NAA: n}})
			}
			if err != nil {
				t.Fatal(err)
			}
			hit := stall(t, point)
			dying, cut := context.WithCancel(ctx)
			defer cut()
			returned := make(chan struct{})
			go func() {
				defer close(returned)
				switch op {
				case "locate":
					_, _ = a.LocateLUNs(dying, im)
				case "delete":
					_ = a.DeleteLUNs(dying, copies)
				case "abort":
					_ = a.AbortSet(dying, open, false)
				case "release":
					_ = a.ReleaseImport(dying, set, im.ImportID)
				case "access":
					_ = a.SetLUNAccess(dying, copies, client.Recovery)
				}
			}()
			r.revive(hit(r), cut)
			<-returned
			a = r.redial("a")
			sets, err := r.admin.ListSets(ctx)
			if err != nil {
				t.Fatal(err)
			}
			visible, err := a.ReportLUNs(ctx, copies...)
			if err != nil {
				t.Fatal(err)
			}
			switch op {
			case "locate":
				if bound := sets[0].BoundHost == "a"; bound != after || len(visible) == 1 != after {
					t.Fatalf("bound %v, visible %d", bound, len(visible))
				}
			case "release":
				if bound := sets[0].BoundHost == "a"; bound == after || len(visible) == 1 == after {
					t.Fatalf("bound %v, visible %d", bound, len(visible))
				}
			case "access":
				if open := !visible[0].ReadOnly; open != after {
					t.Fatalf("writable %v", open)
				}
			case "delete":
				if gone := len(sets) == 0; gone != after || r.files() == 1 != after {
					t.Fatalf("gone %v, %d files", gone, r.files())
				}
			case "abort":
				if len(sets) != 1 || r.files() != 2 {
					t.Fatalf("%d sets, %d files", len(sets), r.files())
				}
			}
		})
	}
}

// stall makes the next call stop at a failpoint. The returned function waits
// until it does and returns the database as a SIGKILL would leave it then.
func stall(t *testing.T, point string) (hit func(r *rig) []byte) {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "hit")
	disarm, err := failpoint.Arm(fmt.Sprintf("%s=touch(%s)+sleep(30s)", point, mark))
	if err != nil {
		t.Fatal(err)
	}
	return func(r *rig) []byte {
		t.Helper()
		defer disarm()
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(mark); err == nil {
				break
			}
			if time.Since(start) > 10*time.Second {
				t.Fatalf("%s is not reached", point)
			}
		}
		db, err := os.ReadFile(filepath.Join(r.cfg.Dir, "array.db"))
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
}

// revive puts the state of the moment of death back and starts the array on it.
// What the dying process did to files in the meantime is undone by links made
// before: only a file that was there at that moment is there again.
func (r *rig) revive(db []byte, cut func()) {
	r.t.Helper()
	luns := filepath.Join(r.cfg.Dir, "store", "luns")
	aside := filepath.Join(r.cfg.Dir, "store", "aside")
	if err := os.Mkdir(aside, 0o700); err != nil {
		r.t.Fatal(err)
	}
	entries, err := os.ReadDir(luns)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Link(filepath.Join(luns, e.Name()), filepath.Join(aside, e.Name())); err != nil {
			r.t.Fatal(err)
		}
	}
	cut() // the connection
	// Keep the store mounted as a dead process would.
	hold, err := os.Open(luns)
	if err != nil {
		r.t.Fatal(err)
	}
	defer hold.Close()
	r.a.closing.Do(func() {})
	r.shutdown()
	for _, l := range r.a.hosts {
		l.Close()
	}
	r.a.admin.Close()
	r.a.data.Close()
	r.a.state.close()
	for _, p := range r.a.unfinished(func(*pending) bool { return true }) {
		p.mu.Lock()
		if p.batch != nil {
			p.batch.Finish() // descriptors only
		}
		p.mu.Unlock()
	}
	left, err := os.ReadDir(luns)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range left {
		if err := os.Remove(filepath.Join(luns, e.Name())); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(aside, e.Name()), filepath.Join(luns, e.Name())); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := os.Remove(aside); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.cfg.Dir, "array.db"), db, 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.start()
}

// redial connects a known host anew, with a new certificate.
func (r *rig) redial(name string) *client.Client { return r.enroll(name, "") }

func (r *rig) files() int {
	r.t.Helper()
	e, err := os.ReadDir(filepath.Join(r.cfg.Dir, "store", "luns"))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(e)
}

// Who has a LUN attached is known after the array died: the kernel knows it.
func TestAttachmentOutlivesTheArray(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a := r.enroll("a", "")
	n, want := r.lun(mib, "a")
	open, err := a.OpenLUNs(ctx, []lun.NAA{n})
	if err != nil {
		t.Fatal(err)
	}
	r.shutdown()
	buf := make([]byte, mib)
	if _, err := unix.Pread(open[0].FD, buf, 0); err != nil || !bytes.Equal(buf, want) {
		t.Fatalf("I/O fails without the array: %v", err)
	}
	r.start()
	wantCode(t, r.admin.DeleteLUN(ctx, n.String(), false), vss.VSS_E_VOLUME_IN_USE, "attached by a")
	closeOpened(open)
	if err := r.admin.DeleteLUN(ctx, n.String(), false); err != nil {
		t.Fatal(err)
	}
}

func TestStraysAndLostLUNsAreListed(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	luns := filepath.Join(r.cfg.Dir, "store", "luns")
	stray := filepath.Join(luns, "naa.60014050000000000000000000000001")
	for _, f := range []string{stray, filepath.Join(luns, "note")} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(r.a.store.Path(n)); err != nil {
		t.Fatal(err)
	}
	r.shutdown()
	r.start()
	info, err := r.admin.Info(ctx)
	if err != nil || len(info.Strays) != 2 || len(info.Lost) != 1 || info.Lost[0] != n.String() {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := os.Stat(stray); err != nil {
		t.Fatal("a stray was deleted:", err)
	}
	if ok, why, err := r.redial("a").AreLUNsSupported(ctx, transportable, []lun.NAA{n}); ok || err != nil || !strings.Contains(why, "lost") {
		t.Fatal(ok, why, err)
	}
}

// A set nobody finishes is dropped after its lease.
func TestLease(t *testing.T) {
	ctx := t.Context()
	r := newRig(t, func(c *Config) { c.Lease = 200 * time.Millisecond })
	a := r.enroll("a", "")
	n, _ := r.lun(mib, "a")
	set := vss.NewID()
	if _, err := a.PrepareSet(ctx, set, transportable, []client.Source{{NAA: n}}); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); r.files() != 1; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("the set stays")
		}
	}
	// Its files go first, its record a moment later.
	err := a.PreCommitSet(ctx, set)
	for start := time.Now(); vss.CodeOf(err) == vss.VSS_E_BAD_STATE && time.Since(start) < 10*time.Second; err = a.PreCommitSet(ctx, set) {
		time.Sleep(10 * time.Millisecond)
	}
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND, "lease")
}
