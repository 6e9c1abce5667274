package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// TestTwoMachineProtocol is an off-host backup as requester.md 3.8 has it, with
// a requester on each machine: A keeps its object until B reports, and only then
// says that the backup is complete.
func TestTwoMachineProtocol(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.put(v, "hello", "hello")
	ctx := f.ctx
	wait := func(op *requester.Async, err error) {
		t.Helper()
		f.must(err)
		if code, err := op.Wait(ctx); code != vss.VSS_S_ASYNC_FINISHED {
			t.Fatalf("%v, %v", code, err)
		}
		f.must(op.Release(ctx))
	}

	// 1: A creates the set, in a context with writers and of copies that go with
	// their requester. 2: it sends the document. 3: it keeps the object.
	a, err := requester.CreateBackupComponents(ctx, requester.Endpoint(f.a.Socket()))
	f.must(err)
	defer a.Close()
	f.must(a.InitializeForBackup(ctx, nil))
	f.must(a.SetContext(ctx, vss.CTX_BACKUP|vss.Context(vss.ATTR_TRANSPORTABLE)))
	f.must(a.SetBackupState(ctx, true, false, vss.BT_FULL, false))
	wait(a.GatherWriterMetadata(ctx))
	_, err = a.StartSnapshotSet(ctx)
	f.must(err)
	id, err := a.AddToSnapshotSet(ctx, v, vss.GUIDNull)
	f.must(err)
	wait(a.PrepareForBackup(ctx))
	wait(a.DoSnapshotSet(ctx))
	document, err := a.SaveAsXML(ctx)
	f.must(err)

	reports := make(chan error)
	go func() { // machine B
		reports <- func() error {
			b, err := requester.CreateBackupComponents(ctx, requester.Endpoint(f.b.Socket()))
			if err != nil {
				return err
			}
			// 6: the copies are of a context in which they go with the importer.
			defer b.Close()
			if err := b.InitializeForBackup(ctx, document); err != nil {
				return err
			}
			op, err := b.ImportSnapshots(ctx)
			if err != nil {
				return err
			}
			if code, err := op.Wait(ctx); code != vss.VSS_S_ASYNC_FINISHED {
				return err
			}
			p, err := b.GetSnapshotProperties(ctx, id) // 5
			if err != nil {
				return err
			}
			_, err = os.ReadFile(f.b.Path(filepath.Join(p.DeviceObject, "hello")))
			return err
		}() // 7
	}()
	if err := <-reports; err != nil {
		t.Fatalf("machine B reports %v", err)
	}
	wait(a.BackupComplete(ctx)) // 8
	f.must(a.Close())
	if left := f.copiesOnArray(); len(left) != 0 {
		t.Errorf("both have released, and the array has %v", left)
	}
	f.nothingOn(f.b)
}
