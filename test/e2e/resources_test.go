package e2e

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// TestImportSnapshots_E_OUTOFMEMORY: a daemon that runs out of descriptors
// anywhere on the way says so, lives, and loses nothing: what is left is cleaned
// up, and the set is imported when there are descriptors again.
func TestImportSnapshots_E_OUTOFMEMORY(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	f.put(v, "hello", "hello")
	set := f.create("app-rollback", v)
	xml, err := os.ReadFile(set.doc)
	f.must(err)
	doc, err := document.Read(xml)
	f.must(err)
	daemon := f.b.DaemonPID()
	var ample unix.Rlimit
	f.must(unix.Prlimit(daemon, unix.RLIMIT_NOFILE, nil, &ample))

	lacked := 0
	for spare := uint64(0); spare < 40; spare++ {
		bc, err := requester.CreateBackupComponents(f.ctx, requester.Endpoint(f.b.Socket()))
		f.must(err)
		f.must(bc.InitializeForBackup(f.ctx, xml))
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", daemon))
		f.must(err)
		f.must(unix.Prlimit(daemon, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open)) + spare, Max: ample.Max}, nil))
		op, err := bc.ImportSnapshots(f.ctx)
		code := vss.CodeOf(err)
		if err == nil {
			code, err = op.Wait(f.ctx)
		}
		f.must(unix.Prlimit(daemon, unix.RLIMIT_NOFILE, &ample, nil))
		switch code {
		case vss.VSS_S_ASYNC_FINISHED:
			f.must(bc.Close())
			if lacked == 0 {
				t.Error("it never ran out of descriptors")
			}
			t.Logf("out of descriptors %d times; %d to spare are enough", lacked, spare)
			if f.b.DaemonPID() != daemon {
				t.Error("it is another daemon")
			}
			_, err := f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
			f.must(err)
			f.nothingOn(f.b)
			return
		case vss.E_OUTOFMEMORY:
			lacked++
			if e := vss.AsError("", err); !errors.Is(err, vss.E_OUTOFMEMORY) || e.Reason == "" || e.Remedy == "" {
				t.Errorf("with %d to spare: %+v", spare, e)
			}
		default:
			t.Errorf("with %d to spare: %v, %v", spare, code, err)
		}
		if _, err := bc.CleanupImport(f.ctx, doc.Set.ID, requester.Mask); err != nil && !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			t.Fatalf("clean-up with %d to spare: %v", spare, err)
		}
		f.must(bc.Close())
		f.nothingOn(f.b)
	}
	t.Error("it never had enough")
}
