package array

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// TestDestroy: a host can have its copies destroyed although it has them
// attached. Who has one open reads on; its space is free when that is closed.
func TestDestroy(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b := r.enroll("a", ""), r.enroll("b", "")
	n, content := r.lun(64*mib, "a")
	set := vss.NewID()
	copies := snapshot(t, a, set, transportable, n)
	r.fill(n) // the blocks are the copy's alone, once that is written
	f, err := os.Open(r.a.store.Path(n))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	tk, err := a.IssueTicket(ctx, set, digest, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.LocateLUNs(ctx, client.Location{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies}); err != nil {
		t.Fatal(err)
	}
	open, err := b.OpenLUNs(ctx, copies)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			closeOpened(open)
		}
	}()

	// What is not b's to delete is not by force.
	wantCode(t, b.DestroyLUNs(ctx, []lun.NAA{n}), vss.E_ACCESSDENIED)
	wantCode(t, a.DestroyLUNs(ctx, copies), vss.VSS_E_VOLUME_IN_USE, "b")
	wantCode(t, b.DeleteLUNs(ctx, copies), vss.VSS_E_VOLUME_IN_USE)
	if r.files() != 2 {
		t.Fatalf("%d files", r.files())
	}

	for range 2 {
		if err := b.DestroyLUNs(ctx, copies); err != nil {
			t.Fatal(err)
		}
	}
	if sets, err := r.admin.ListSets(ctx); err != nil || len(sets) != 0 || r.files() != 1 {
		t.Fatalf("%v, %v, %d files", sets, err, r.files())
	}
	_, err = b.OpenLUNs(ctx, copies)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
	buf := make([]byte, len(content))
	if _, err := unix.Pread(open[0].FD, buf, 0); err != nil || !bytes.Equal(buf, content) {
		t.Fatalf("who has it open cannot read on: %v", err)
	}
	free := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs(r.a.store.Path(n), &st); err != nil {
			t.Fatal(err)
		}
		return st.Bfree * uint64(st.Bsize)
	}
	held := free()
	closeOpened(open)
	closed = true
	for end := time.Now().Add(10 * time.Second); free() < held+uint64(len(content))/2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes free, %d while it was open", free(), held)
		}
	}
}

// TestDestroyIsTheOwners: neither an original nor a copy of another's import.
func TestDestroyIsTheOwners(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	a, b := r.enroll("a", ""), r.enroll("b", "")
	n, _ := r.lun(mib, "a", "b")
	set := vss.NewID()
	copies := snapshot(t, a, set, transportable, n)
	tk, err := a.IssueTicket(ctx, set, digest, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.LocateLUNs(ctx, client.Location{SetID: set, ImportID: vss.NewID(), Ticket: tk, Digest: digest, LUNs: copies}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, a.DestroyLUNs(ctx, copies), vss.E_ACCESSDENIED, "another host's")
	// Its administrator showed it to a third, who has it attached.
	c := r.enroll("c", "")
	if _, err := r.admin.Unmask(ctx, copies[0].String(), "c"); err != nil {
		t.Fatal(err)
	}
	third, err := c.OpenLUNs(ctx, copies)
	if err != nil {
		t.Fatal(err)
	}
	defer closeOpened(third)
	wantCode(t, b.DestroyLUNs(ctx, copies), vss.VSS_E_VOLUME_IN_USE, "attached by c")
	open, err := a.OpenLUNs(ctx, []lun.NAA{n})
	if err != nil {
		t.Fatal(err)
	}
	defer closeOpened(open)
	wantCode(t, a.DestroyLUNs(ctx, []lun.NAA{n}), vss.E_ACCESSDENIED, "not a copy")
	// One that is a set's source at the moment.
	own := vss.NewID()
	mine := snapshot(t, a, own, vss.CTX_NAS_ROLLBACK, n)
	if _, err := r.admin.Unmask(ctx, mine[0].String(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.PrepareSet(ctx, vss.NewID(), transportable, []client.Source{{NAA: mine[0], Snapshots: []vss.ID{vss.NewID()}}}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, a.DestroyLUNs(ctx, mine), vss.VSS_E_VOLUME_IN_USE, "copying")
}
