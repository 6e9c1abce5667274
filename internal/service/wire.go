package service

import (
	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
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

func snapshotProto(p vss.SnapshotProp) *vssv1.SnapshotProp {
	return &vssv1.SnapshotProp{SnapshotId: p.SnapshotID[:], SnapshotSetId: p.SnapshotSetID[:], SnapshotsCount: int32(p.SnapshotsCount),
		DeviceObject: p.DeviceObject, BlockDevice: p.BlockDevice, OriginalVolumeName: p.OriginalVolumeName, OriginatingMachine: p.OriginatingMachine,
		ServiceMachine: p.ServiceMachine, ExposedName: p.ExposedName, ExposedPath: p.ExposedPath, ProviderId: p.ProviderID[:],
		Attributes: uint32(p.Attributes), CreationTimestamp: int64(p.CreationTimestamp), Status: int32(p.Status), VolumeGroup: p.VolumeGroup}
}

func providerProto(p vss.ProviderProp) *vssv1.ProviderProp {
	return &vssv1.ProviderProp{ProviderId: p.ProviderID[:], Name: p.Name, Type: int32(p.Type), Version: p.Version, VersionId: p.VersionID[:], ClassId: p.ClassID[:]}
}

func copyStatusProto(c catalog.CopyStatus) *vssv1.CopyStatus {
	return &vssv1.CopyStatus{SnapshotId: c.SnapshotID[:], Lun: c.LUN, Code: uint32(c.Code), Error: rpc.ErrorToProto(c.Failure.Err())}
}

func phaseProto(p catalog.Phase) *vssv1.Phase {
	return &vssv1.Phase{Name: p.Name, Object: p.Object, StartNs: int64(p.Start), DurationNs: int64(p.Duration)}
}

func lunProto(l catalog.LUN) *vssv1.LUN {
	p := &vssv1.LUN{Name: l.Name, State: string(l.State), SetId: l.SetID[:], SnapshotId: l.SnapshotID[:], Reason: l.Reason}
	putContents(p, l.Contents)
	return p
}

// putContents says what a LUN holds, if that is known.
func putContents(p *vssv1.LUN, c *catalog.Contents) {
	if c == nil {
		return
	}
	p.Table, p.Fault = c.Table, c.Fault
	for _, v := range c.Volumes {
		o := &vssv1.LUNVolume{Number: int32(v.Number), Offset: v.Offset, Length: v.Length, Name: v.Name, Filesystem: v.Filesystem, Uuid: v.UUID, Label: v.Label, Fault: v.Fault}
		for _, id := range v.Copies {
			o.SnapshotIds = append(o.SnapshotIds, id[:])
		}
		p.Volumes = append(p.Volumes, o)
	}
}

func eventProto(e catalog.Event) *vssv1.Event {
	return &vssv1.Event{Id: e.ID, TimeUnixNs: e.Time.UnixNano(), Level: e.Level, Name: e.Name, Number: int32(e.Number), Session: e.Session.String(), SetId: e.SetID[:],
		Object: e.Object, Message: e.Message, Error: rpc.ErrorToProto(e.Failure.Err())}
}

// logicalProto are the logical volumes that a set was made of, with what they are
// called here if their group is shown.
func logicalProto(d *document.SnapshotSet, cs []catalog.Copy) (out []*vssv1.LogicalVolume) {
	if d == nil {
		return nil
	}
	for _, s := range d.Snapshots {
		var shown []catalog.Group
		for _, c := range cs {
			if c.Prop.SnapshotID == s.ID {
				shown = c.Groups
			}
		}
		for _, dev := range s.Devices {
			l := dev.Logical
			if l == nil {
				continue
			}
			p := &vssv1.LogicalVolume{SnapshotId: s.ID[:], Group: l.Group, GroupUuid: l.GroupUUID, Name: l.Name, Uuid: l.UUID}
			var now catalog.Group
			for _, g := range shown {
				if g.OriginalUUID == l.GroupUUID {
					now = g
					p.NewGroup, p.NewGroupUuid, p.NewUuid = g.Identity.Name, g.Identity.UUID, g.Identity.Volumes[l.UUID]
					p.Path = "/dev/" + g.Identity.Name + "/" + l.Name
				}
			}
			for _, x := range l.Disks {
				pv := &vssv1.PhysicalVolume{Uuid: x.UUID, Offset: x.Offset, NewUuid: now.Identity.Disks[x.UUID]}
				if x.LUN < len(s.LUNs) {
					pv.Lun = s.LUNs[x.LUN].Target.Name()
				}
				p.Disks = append(p.Disks, pv)
			}
			out = append(out, p)
		}
	}
	return out
}
