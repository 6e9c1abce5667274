package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// TestOneCreation: one set at a time is made on a machine.
func TestOneCreation(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	here := filepath.Join(f.site.Dir, "here")
	f.armOn(f.a, "create.after-end-prepare=touch("+here+")+sleep(700ms)")
	done := make(chan error, 1)
	f.docs++
	go func() {
		_, err := f.a.Umbra(f.ctx, "create", v, "--transportable", "--document", filepath.Join(f.site.Dir, "first.umbra"))
		done <- err
	}()
	eventually(t, "the first creation is there", 10*time.Second, exists(here))
	f.refused(f.tryMake(w), vss.VSS_E_SNAPSHOT_SET_IN_PROGRESS)
	f.must(<-done)
	if c := f.copiesOnArray(); len(c) != 1 {
		t.Errorf("copies: %+v", c)
	}
	f.must(os.Remove(here))
	f.armOn(f.a, "")
	_, err := f.importOn(f.b, filepath.Join(f.site.Dir, "first.umbra"))
	f.must(err)
	_, err = f.b.Umbra(f.ctx, "delete", "all")
	f.must(err)
	f.works(v, w)
}

// TestOneImport: one import at a time runs on a machine; the others queue, or
// are refused at once if they do not want to wait.
func TestOneImport(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	first, second := f.create("app-rollback", v), f.create("app-rollback", v)
	here := filepath.Join(f.site.Dir, "here")
	f.armOn(f.b, "import.after-locate=touch("+here+")+sleep(700ms)")
	run := func(doc string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := f.importOn(f.b, doc)
			done <- err
		}()
		return done
	}
	one := run(first.doc)
	eventually(t, "the first import is there", 10*time.Second, exists(here))
	f.refused(func() error { _, err := f.as(f.b, "import", second.doc, "--no-wait"); return err }(), vss.VSS_E_BAD_STATE)
	_, err := f.as(f.b, "import", second.doc, "--check")
	f.refused(err, vss.VSS_E_BAD_STATE)
	_, err = f.as(f.b, "cleanup", first.SetID.String())
	f.refused(err, vss.VSS_E_BAD_STATE)
	two := run(second.doc)
	select {
	case err := <-two:
		t.Errorf("the second import did not queue: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	// The same set again, queued: it is refused when its turn comes.
	three := run(first.doc)
	f.must(<-one)
	f.must(<-two)
	f.fails(<-three, 1, vss.VSS_E_BAD_STATE)
	_, err = f.b.Umbra(f.ctx, "delete", "all")
	f.must(err)
	f.nothingOn(f.b)
}

// TestTooManyVolumes: the 65th volume of a set is refused, the 64 are made.
func TestTooManyVolumes(t *testing.T) {
	f := newFixture(t)
	bc, err := requester.CreateBackupComponents(f.ctx, requester.Endpoint(f.a.Socket()))
	f.must(err)
	defer bc.Close()
	f.must(bc.InitializeForBackup(f.ctx, nil))
	f.must(bc.SetContext(f.ctx, vss.CTX_NAS_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE)))
	_, err = bc.StartSnapshotSet(f.ctx)
	f.must(err)
	for i := range 65 {
		naa, device, err := f.a.NewLUN(f.ctx, fmt.Sprintf("l%d", i), "16M")
		f.must(err)
		mount, err := f.a.Format(f.ctx, device, fmt.Sprintf("l%d", i), "ext4")
		f.must(err)
		_, err = bc.AddToSnapshotSet(f.ctx, mount, vss.GUIDNull)
		switch {
		case i < 64 && err != nil:
			t.Fatalf("volume %d (%s): %v", i, naa, err)
		case i == 64 && vss.CodeOf(err) != vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED:
			t.Errorf("volume 65: %v", err)
		}
	}
	op, err := bc.DoSnapshotSet(f.ctx)
	f.must(err)
	if code, err := op.Wait(f.ctx); code != vss.VSS_S_ASYNC_FINISHED {
		t.Fatalf("%s %v", code.Name(), err)
	}
	raw, err := bc.SaveAsXML(f.ctx)
	f.must(err)
	im, err := f.importOn(f.b, f.saveDocument(raw))
	f.must(err)
	if len(im.Copies) != 64 {
		t.Errorf("%d copies", len(im.Copies))
	}
	_, err = f.b.Umbra(f.ctx, "delete", "all")
	f.must(err)
	f.nothingOn(f.b)
}
