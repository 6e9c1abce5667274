package requester

import (
	"context"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// ImportSnapshots imports the set of the loaded document. The call itself
// answers S_OK, E_ACCESSDENIED, E_OUTOFMEMORY, VSS_E_BAD_STATE or
// VSS_E_UNEXPECTED; what becomes of the import is the Async's result
// (requester.md 3.4). While another import runs on this machine it answers
// vss.ErrImportInProgress.
//
// A failed import is never undone: see CleanupImport.
func (b *BackupComponents) ImportSnapshots(ctx context.Context) (*Async, error) {
	return start(ctx, b, "ImportSnapshots", rpcs.ImportSnapshots, &vssv1.ImportRequest{Token: b.sessionToken()})
}

// ImportSnapshotsQueued is ImportSnapshots that waits for its turn while
// another import runs on this machine.
func (b *BackupComponents) ImportSnapshotsQueued(ctx context.Context) (*Async, error) {
	return start(ctx, b, "ImportSnapshots", rpcs.ImportSnapshots, &vssv1.ImportRequest{Token: b.sessionToken(), Queue: true})
}

// CheckItem is one verification of CheckImport; Err is nil if it passed.
type CheckItem struct {
	Name   string     `json:"name"`
	Object string     `json:"object"`
	OK     bool       `json:"ok"`
	Detail string     `json:"detail"`
	Err    *vss.Error `json:"error,omitempty"`
}

// CheckImport makes every verification of an import of the loaded document and
// changes nothing, neither here nor on the storage system. Umbra's own.
func (b *BackupComponents) CheckImport(ctx context.Context) ([]CheckItem, error) {
	r, err := call(ctx, b, "CheckImport", rpcs.CheckImport, b.session())
	if err != nil {
		return nil, err
	}
	var out []CheckItem
	for _, i := range r.Items {
		out = append(out, CheckItem{i.Name, i.Object, i.Ok, i.Detail, rpc.ErrorFromProto(i.Error)})
	}
	return out, nil
}

// CleanupMode says what CleanupImport does with the LUNs it finds.
type CleanupMode int

// Cleanup modes.
const (
	Mask    CleanupMode = iota // hide them from this machine, keep the data (the default: a copy may be the only backup)
	Reclaim                    // destroy the copies
)

// CleanupImport removes what a failed, cancelled or broken-off import of the
// set left on this machine, and says what it did, also beside an error: then
// some LUNs are clean and the rest is still listed. Nothing else in Umbra does
// that. Umbra's own (requester.md 3.5 F1).
func (b *BackupComponents) CleanupImport(ctx context.Context, set vss.ID, mode CleanupMode) ([]LUN, error) {
	r, err := call(ctx, b, "CleanupImport", rpcs.CleanupImport, &vssv1.CleanupImportRequest{Token: b.sessionToken(), SetId: set[:], Reclaim: mode == Reclaim})
	if err != nil {
		return nil, err
	}
	if e := rpc.ErrorFromProto(r.Error); e != nil {
		err = e
	}
	return lunsOf(r.Luns), err
}
