package requester

import (
	"context"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// QueryProviders lists the registered providers.
func (b *BackupComponents) QueryProviders(ctx context.Context) ([]vss.ProviderProp, error) {
	r, err := b.query(ctx, question(vss.OBJECT_PROVIDER))
	if err != nil {
		return nil, err
	}
	var out []vss.ProviderProp
	for _, p := range r.Providers {
		out = append(out, providerOf(p))
	}
	return out, nil
}

// GetSnapshotProperties returns one copy's properties;
// VSS_E_OBJECT_NOT_FOUND when it is not on this machine.
func (b *BackupComponents) GetSnapshotProperties(ctx context.Context, id vss.ID) (vss.SnapshotProp, error) {
	r, err := call(ctx, b, "GetSnapshotProperties", rpcs.GetSnapshotProperties, &vssv1.SnapshotRequest{Token: b.sessionToken(), SnapshotId: id[:]})
	if err != nil {
		return vss.SnapshotProp{}, err
	}
	return propOf(r), nil
}

// DeleteSnapshots deletes one copy (OBJECT_SNAPSHOT) or a set's copies
// (OBJECT_SNAPSHOT_SET) in sequence and stops at the first failure: deleted
// counts those done, firstFailed names the one that failed, beside the error.
//
// A copy in use is VSS_E_VOLUME_IN_USE, unless force: then it is taken from its
// users. What they have open they can read until they close it.
func (b *BackupComponents) DeleteSnapshots(ctx context.Context, id vss.ID, kind vss.ObjectType, force bool) (deleted int, firstFailed vss.ID, err error) {
	r, err := call(ctx, b, "DeleteSnapshots", rpcs.DeleteSnapshots, &vssv1.DeleteSnapshotsRequest{Token: b.sessionToken(), SourceId: id[:], SourceType: int32(kind), Force: force})
	if err != nil {
		return 0, vss.GUIDNull, err
	}
	if e := rpc.ErrorFromProto(r.Error); e != nil {
		err = e
	}
	return int(r.Deleted), idOf(r.FirstFailed), err
}

// ExposeSnapshot mounts a persistent copy read-only on name, an existing empty
// folder (attribute ATTR_EXPOSED_LOCALLY), or shares it read-only under that name
// (ATTR_EXPOSED_REMOTELY): the folder pathFromRoot of the copy, "" for all of it;
// with no name the service chooses one. It returns the folder or the share's
// name. Codes: requester.md 2.5, and VSS_E_NOT_SUPPORTED if the machine has no
// file server for it.
func (b *BackupComponents) ExposeSnapshot(ctx context.Context, id vss.ID, pathFromRoot string, attr vss.Attributes, name string) (string, error) {
	r, err := call(ctx, b, "ExposeSnapshot", rpcs.ExposeSnapshot, &vssv1.ExposeSnapshotRequest{Token: b.sessionToken(), SnapshotId: id[:], PathFromRoot: pathFromRoot, Attributes: uint32(attr), Name: name})
	if err != nil {
		return "", err
	}
	return r.Exposed, nil
}

// UnexposeSnapshot takes the mount or the share away; the copy stays.
// VSS_E_OBJECT_NOT_FOUND if it is unknown or not exposed.
func (b *BackupComponents) UnexposeSnapshot(ctx context.Context, id vss.ID) error {
	_, err := call(ctx, b, "UnexposeSnapshot", rpcs.UnexposeSnapshot, &vssv1.SnapshotRequest{Token: b.sessionToken(), SnapshotId: id[:]})
	return err
}

// ExposeVolumeGroups shows the volume groups of LVM that a copy, or the copies of a
// set, lie in to this machine's LVM, read-only, under a new name and new UUIDs, and
// returns the volumes that can be read there. It is an exposure beside the others.
// With no name each group is called as its original, with "_" and the first digits
// of the set's ID. VSS has no such call.
//
// E_INVALIDARG for copies on no logical volume, for a name that is none and one
// for several groups; VSS_E_OBJECT_ALREADY_EXISTS if they are shown or the name is
// taken; VSS_E_NOT_SUPPORTED without LVM; else as ExposeSnapshot.
func (b *BackupComponents) ExposeVolumeGroups(ctx context.Context, id vss.ID, name string) ([]LogicalVolume, error) {
	r, err := call(ctx, b, "ExposeSnapshot", rpcs.ExposeSnapshot, &vssv1.ExposeSnapshotRequest{Token: b.sessionToken(), SnapshotId: id[:], NewIdentity: true, Name: name})
	if err != nil {
		return nil, err
	}
	return logicalVolumesOf(r.LogicalVolumes), nil
}

// UnexposeVolumeGroups takes the volume groups of a copy, or of a set's copies,
// away; UnexposeSnapshot does so, too, of a copy that is exposed in no other way.
// VSS_E_OBJECT_NOT_FOUND if none is shown, VSS_E_VOLUME_IN_USE while a volume of one
// is in use.
func (b *BackupComponents) UnexposeVolumeGroups(ctx context.Context, id vss.ID) error {
	_, err := call(ctx, b, "UnexposeSnapshot", rpcs.UnexposeSnapshot, &vssv1.SnapshotRequest{Token: b.sessionToken(), SnapshotId: id[:], NewIdentity: true})
	return err
}
