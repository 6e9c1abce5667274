package requester

import (
	"time"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// idOf reads an ID off the wire; anything but 16 bytes is GUID_NULL.
func idOf(b []byte) vss.ID {
	if len(b) != 16 {
		return vss.GUIDNull
	}
	return vss.ID(b)
}

func propOf(p *vssv1.SnapshotProp) vss.SnapshotProp {
	return vss.SnapshotProp{SnapshotID: idOf(p.SnapshotId), SnapshotSetID: idOf(p.SnapshotSetId), SnapshotsCount: int(p.SnapshotsCount),
		DeviceObject: p.DeviceObject, BlockDevice: p.BlockDevice, OriginalVolumeName: p.OriginalVolumeName, OriginatingMachine: p.OriginatingMachine,
		ServiceMachine: p.ServiceMachine, ExposedName: p.ExposedName, ExposedPath: p.ExposedPath, ProviderID: idOf(p.ProviderId),
		Attributes: vss.Attributes(p.Attributes), CreationTimestamp: vss.Timestamp(p.CreationTimestamp), Status: vss.SnapshotState(p.Status), VolumeGroup: p.VolumeGroup}
}

func logicalVolumesOf(ps []*vssv1.LogicalVolume) []LogicalVolume {
	var out []LogicalVolume
	for _, p := range ps {
		v := LogicalVolume{SnapshotID: idOf(p.SnapshotId), Group: p.Group, GroupUUID: p.GroupUuid, Name: p.Name, UUID: p.Uuid,
			NewGroup: p.NewGroup, NewGroupUUID: p.NewGroupUuid, NewUUID: p.NewUuid, Path: p.Path}
		for _, d := range p.Disks {
			v.Disks = append(v.Disks, PhysicalVolume{UUID: d.Uuid, LUN: d.Lun, Offset: d.Offset, NewUUID: d.NewUuid})
		}
		out = append(out, v)
	}
	return out
}

func providerOf(p *vssv1.ProviderProp) vss.ProviderProp {
	return vss.ProviderProp{ProviderID: idOf(p.ProviderId), Name: p.Name, Type: vss.ProviderType(p.Type), Version: p.Version, VersionID: idOf(p.VersionId), ClassID: idOf(p.ClassId)}
}

func copiesOf(ps []*vssv1.CopyStatus) []CopyStatus {
	var out []CopyStatus
	for _, c := range ps {
		out = append(out, CopyStatus{idOf(c.SnapshotId), c.Lun, vss.HResult(c.Code), rpc.ErrorFromProto(c.Error)})
	}
	return out
}

func phasesOf(ps []*vssv1.Phase) []Phase {
	var out []Phase
	for _, p := range ps {
		out = append(out, Phase{p.Name, p.Object, time.Duration(p.StartNs), time.Duration(p.DurationNs)})
	}
	return out
}

func statusOf(p *vssv1.AsyncStatus) Status {
	return Status{Code: vss.HResult(p.Result), Err: rpc.ErrorFromProto(p.Error), Copies: copiesOf(p.Copies), Timeline: phasesOf(p.Timeline), EndedBeforeCall: p.EndedBeforeCall}
}
