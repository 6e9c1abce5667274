package session

import (
	"slices"

	"github.com/umbra-vss/umbra/vss"
)

// Results are the codes in which an asynchronous operation may end, beside
// VSS_S_ASYNC_FINISHED and VSS_S_ASYNC_CANCELLED.
type Results struct {
	Published []vss.HResult // requester.md 4.3
	Added     []vss.HResult // Umbra's own, where the published ones would hide what is wrong
}

// Allows reports whether an operation may end in a code.
func (r Results) Allows(code vss.HResult) bool {
	return code == vss.VSS_S_ASYNC_FINISHED || code == vss.VSS_S_ASYNC_CANCELLED || slices.Contains(r.Published, code) || slices.Contains(r.Added, code)
}

// common are in the list of every operation.
var common = []vss.HResult{vss.E_OUTOFMEMORY, vss.VSS_E_BAD_STATE, vss.VSS_E_UNEXPECTED}

func with(codes ...vss.HResult) []vss.HResult { return slices.Concat(common, codes) }

// AsyncResults are the results of every asynchronous method that works.
var AsyncResults = map[Method]Results{
	GatherWriterMetadata: {Published: with(vss.E_ACCESSDENIED, vss.VSS_E_WRITER_INFRASTRUCTURE)},
	GatherWriterStatus:   {Published: with(vss.E_ACCESSDENIED, vss.VSS_E_WRITER_INFRASTRUCTURE)},
	PrepareForBackup:     {Published: with()},
	PreRestore:           {Published: with()},
	BackupComplete:       {Published: with(vss.VSS_E_UNEXPECTED_WRITER_ERROR)},
	PostRestore:          {Published: with(vss.E_ACCESSDENIED, vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)},
	QueryRevertStatus: {Published: with(vss.E_ACCESSDENIED, vss.E_FAIL, vss.E_INVALIDARG, vss.E_NOTIMPL, vss.E_POINTER, vss.VSS_E_OBJECT_NOT_FOUND,
		vss.VSS_E_VOLUME_NOT_SUPPORTED, vss.VSS_E_REVERT_VOLUME_LOST)},
	DoSnapshotSet: {
		Published: with(vss.E_ACCESSDENIED, vss.E_INVALIDARG, vss.VSS_E_INSUFFICIENT_STORAGE, vss.VSS_E_FLUSH_WRITES_TIMEOUT, vss.VSS_E_HOLD_WRITES_TIMEOUT,
			vss.VSS_E_NESTED_VOLUME_LIMIT, vss.VSS_E_PROVIDER_VETO, vss.VSS_E_REBOOT_REQUIRED, vss.VSS_E_TRANSACTION_FREEZE_TIMEOUT,
			vss.VSS_E_TRANSACTION_THAW_TIMEOUT, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR),
		// A filesystem that somebody else has frozen, that was unmounted since it
		// was added, or that cannot be frozen.
		Added: []vss.HResult{vss.VSS_E_VOLUME_IN_USE, vss.VSS_E_OBJECT_NOT_FOUND, vss.VSS_E_VOLUME_NOT_SUPPORTED},
	},
	ImportSnapshots: {
		Published: with(vss.E_ACCESSDENIED, vss.E_INVALIDARG, vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED, vss.VSS_E_NO_SNAPSHOTS_IMPORTED,
			vss.VSS_E_NONTRANSPORTABLE_BCD, vss.VSS_E_MISSING_DISK, vss.VSS_E_MISSING_HIDDEN_VOLUME, vss.VSS_E_MISSING_VOLUME,
			vss.VSS_E_DYNAMIC_DISK_ERROR, vss.VSS_E_AUTORECOVERY_FAILED, vss.VSS_E_PROVIDER_VETO, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR,
			vss.VSS_E_PROVIDER_NOT_REGISTERED, vss.VSS_E_INVALID_XML_DOCUMENT),
		// A machine without the means to attach LUNs.
		Added: []vss.HResult{vss.VSS_E_NOT_SUPPORTED},
	},
}
