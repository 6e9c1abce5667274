package importing

import (
	"slices"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/contents"
)

// ContentsOf is what the catalogue keeps of a LUN's contents, with the copies of
// the set that lie on each volume; set may be nil.
func ContentsOf(c contents.Contents, set *document.SnapshotSet, name string) catalog.Contents {
	out := catalog.Contents{Table: string(c.Table), Fault: c.Fault}
	for _, v := range c.Volumes {
		o := catalog.Volume{Number: v.Number, Offset: v.Offset, Length: v.Length, Name: v.Name,
			Filesystem: v.Filesystem.Type, UUID: v.Filesystem.UUID, Label: v.Filesystem.Label, Fault: v.Fault}
		if set != nil {
			for _, s := range set.Snapshots {
				if slices.ContainsFunc(s.LUNs, func(m document.LUNMapping) bool { return key(m.Target) == name && touches(m, v) }) {
					o.Copies = append(o.Copies, s.ID)
				}
			}
		}
		out.Volumes = append(out.Volumes, o)
	}
	return out
}

func touches(m document.LUNMapping, v contents.Volume) bool {
	for _, x := range m.Extents {
		if x.Offset < v.Offset+v.Length && v.Offset < x.Offset+x.Length {
			return true
		}
	}
	return false
}
