package document

import (
	"path"
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// FilesOnCopies is where one file set of a component is found among copies.
type FilesOnCopies struct {
	Component *MetadataComponent // of the metadata that was asked
	FileSet   FileSet
	// Places hold the files. The first is the file set's own folder; the others,
	// of recursive file sets only, are volumes that were mounted below it.
	Places []PlaceOnCopy
	// Alternate holds the files that are to be taken instead, if it has any: it
	// is where AlternatePath leads. Nil if the file set has none.
	Alternate []PlaceOnCopy
	// Missing are folders of the file set, or below it, or AlternatePath, that
	// lie on no copy that can be read.
	Missing []MissingPlace
}

// Complete reports whether all of the file set can be read from the copies.
func (f FilesOnCopies) Complete() bool { return len(f.Missing) == 0 }

// PlaceOnCopy is a folder of the original machine and where its copy is.
type PlaceOnCopy struct {
	Original     string // the folder, as its machine named it
	SnapshotID   vss.ID
	DeviceObject string // the root to open, see [FileSet.OnCopy] on links
	Relative     string // the folder below it, "." for the root itself
}

// Path is the folder on the copy.
func (p PlaceOnCopy) Path() string { return path.Join(p.DeviceObject, p.Relative) }

// MissingPlace is a folder that cannot be read from a copy.
type MissingPlace struct {
	Original string
	Volume   string // the mount point it lies on, "" if nothing is known of one
	Reason   string
}

// OnCopies maps each file set of each component to the copies of a set, in the
// order of the metadata.
//
// A folder belongs to the volume with the longest mount point above it: of
// volumes that were mounted at /srv and /srv/db, /srv/db/base is on the second.
// A volume the metadata lists that was not copied counts as well, and what lies
// on it is missing: the folder of that name on the copy of /srv is but the empty
// place where it was mounted. What neither copies nor metadata know to be a
// mount point is taken for a folder.
//
// Copies are known by their original volume's mount point. One that was made
// by a device's name has to be given with the mount point in its place; as it
// is, nothing lies on it.
func (w *WriterMetadata) OnCopies(copies []vss.SnapshotProp) []FilesOnCopies {
	m := mounts{}
	for _, v := range w.Volumes {
		m[path.Clean(v)] = nil
	}
	for i := range copies {
		if v := copies[i].OriginalVolumeName; path.IsAbs(v) {
			m[path.Clean(v)] = &copies[i]
		}
	}
	var out []FilesOnCopies
	for i := range w.Components {
		c := &w.Components[i]
		for _, l := range c.fileLists() {
			for _, s := range l.sets {
				f := FilesOnCopies{Component: c, FileSet: s}
				f.Places = m.find(s.Path, s.Recursive, &f.Missing)
				if s.AlternatePath != "" {
					f.Alternate = m.find(s.AlternatePath, s.Recursive, &f.Missing)
				}
				out = append(out, f)
			}
		}
	}
	return out
}

// mounts are the volumes by mount point; those that were not copied are nil.
type mounts map[string]*vss.SnapshotProp

func (m mounts) find(folder string, recursive bool, missing *[]MissingPlace) []PlaceOnCopy {
	var out []PlaceOnCopy
	add := func(folder, volume string) {
		switch s, known := m[volume]; {
		case !known:
			*missing = append(*missing, MissingPlace{folder, "", "it lies on no copied volume"})
		case s == nil:
			*missing = append(*missing, MissingPlace{folder, volume, "the volume was not copied"})
		case !path.IsAbs(s.DeviceObject):
			*missing = append(*missing, MissingPlace{folder, volume, "the copy has no device object"})
		default:
			rest, _ := relative(folder, volume)
			out = append(out, PlaceOnCopy{folder, s.SnapshotID, s.DeviceObject, rest})
		}
	}
	if !path.IsAbs(folder) {
		*missing = append(*missing, MissingPlace{folder, "", "the path is not absolute"})
		return nil
	}
	folder = path.Clean(folder)
	volume := ""
	for v := range m {
		if _, ok := relative(folder, v); ok && len(v) > len(volume) {
			volume = v
		}
	}
	add(folder, volume)
	if recursive {
		var inside []string
		for v := range m {
			if rest, ok := relative(v, folder); ok && rest != "." {
				inside = append(inside, v)
			}
		}
		slices.SortFunc(inside, strings.Compare)
		for _, v := range inside {
			add(v, v)
		}
	}
	return out
}
