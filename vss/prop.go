package vss

import "time"

// SnapshotProp is VSS_SNAPSHOT_PROP (requester.md 5.3).
type SnapshotProp struct {
	SnapshotID         ID            `json:"id"`
	SnapshotSetID      ID            `json:"set_id"`
	SnapshotsCount     int           `json:"snapshots_count"`     // volumes in the set when it was created, at most 64
	DeviceObject       string        `json:"device_object"`       // directory that shows the copy's files, no trailing slash; "" where it cannot be mounted safely
	BlockDevice        string        `json:"block_device"`        // Umbra's own second property: the copy's block node
	OriginalVolumeName string        `json:"original_volume"`     // as given at creation, made absolute
	OriginatingMachine string        `json:"originating_machine"` // holds the original
	ServiceMachine     string        `json:"service_machine"`     // its service created the copy
	ExposedName        string        `json:"exposed_name"`        // folder or share, "" if hidden
	ExposedPath        string        `json:"exposed_path"`        // shared subtree, "" if local
	VolumeGroup        string        `json:"volume_group"`        // Umbra's own: that LVM sees the copy in, under another identity; "" if in none
	ProviderID         ID            `json:"provider_id"`         //
	Attributes         Attributes    `json:"attributes"`          //
	CreationTimestamp  Timestamp     `json:"creation_timestamp"`  // the instant of the copy
	Status             SnapshotState `json:"status"`              // requesters only ever see SS_CREATED
}

// ProviderProp is VSS_PROVIDER_PROP.
type ProviderProp struct {
	ProviderID ID           `json:"id"`
	Name       string       `json:"name"`
	Type       ProviderType `json:"type"`
	Version    string       `json:"version"`
	VersionID  ID           `json:"version_id"`
	ClassID    ID           `json:"class_id"` // how an out-of-process provider is activated; GUID_NULL in-tree
}

// Timestamp is VSS_TIMESTAMP: 100 ns ticks since 1601-01-01 UTC.
type Timestamp int64

// epochDelta is the number of ticks between 1601-01-01 and 1970-01-01.
const epochDelta = 116444736000000000

// TimestampOf converts a time; what is finer than 100 ns is dropped.
func TimestampOf(t time.Time) Timestamp {
	return Timestamp(t.Unix()*1e7 + int64(t.Nanosecond()/100) + epochDelta)
}

// Time converts back, in UTC.
func (t Timestamp) Time() time.Time {
	n := int64(t) - epochDelta
	return time.Unix(n/1e7, n%1e7*100).UTC()
}

// ObjectProp is VSS_OBJECT_PROP: what a Query found. Type says which of the
// two is there.
type ObjectProp struct {
	Type     ObjectType    `json:"type"`
	Snapshot *SnapshotProp `json:"snapshot,omitempty"`
	Provider *ProviderProp `json:"provider,omitempty"`
}
