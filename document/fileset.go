package document

import (
	"path"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// FileSet is files of one folder, or of the tree below it.
//
// Paths are those of the machine the writer runs on: absolute, without
// wildcards, and taken as they are. There are no variables in them, as nobody
// but the writer could say what they stand for.
type FileSet struct {
	Path      string
	FileSpec  string // a name in which ? is any character and * any number of them
	Recursive bool   // the whole tree; empty folders belong to it
	// BackupType says which types of backup must contain the files, and which
	// must read them from a copy. Only file sets of components have one.
	BackupType vss.FileSpecBackupType
	// AlternatePath, of a component's file set, is where the files are read
	// from at backup if it has any of them; in an alternate location mapping
	// it is where they are restored to.
	AlternatePath string
}

// DefaultBackupType is the mask a file set has if nobody says otherwise: in
// every backup, and from a copy.
const DefaultBackupType = vss.FSBT_ALL_BACKUP_REQUIRED | vss.FSBT_ALL_SNAPSHOT_REQUIRED

const knownFileSpecBackupTypes = DefaultBackupType | vss.FSBT_CREATED_DURING_BACKUP

// OnCopy maps the path of a file set on the original volume to the folder that
// holds the same files on the copy: device object and original path. It is
// false if the file set does not lie on that volume, or the copy has no device
// object. Whether another volume is mounted in between it cannot know; see
// [WriterMetadata.OnCopies].
//
// Paths are cleaned and compared by element, so that none leads out of the
// copy by its spelling: /srv/../etc is /etc, and not on /srv. Symbolic links
// are not followed, here or there: where a link on the copy points, seen from
// this machine, is not the copy. Open files with [os.OpenRoot] on the device
// object, which refuses links that lead out of it.
func (f FileSet) OnCopy(originalVolume, deviceObject string) (string, bool) {
	return onCopy(f.Path, originalVolume, deviceObject)
}

func onCopy(file, originalVolume, deviceObject string) (string, bool) {
	if !path.IsAbs(deviceObject) {
		return "", false
	}
	rest, ok := relative(file, originalVolume)
	if !ok {
		return "", false
	}
	return path.Join(deviceObject, rest), true
}

// relative is the path seen from a folder, "." for the folder itself; false if
// it is not below it.
func relative(file, folder string) (string, bool) {
	if !path.IsAbs(file) || !path.IsAbs(folder) {
		return "", false
	}
	file, folder = path.Clean(file), path.Clean(folder)
	if file == folder {
		return ".", true
	}
	if folder != "/" {
		folder += "/"
	}
	return strings.CutPrefix(file, folder)
}

// checkPlace checks path and file specification.
func (f FileSet) checkPlace(at string) *fault {
	return firstFault(checkPath(at, "path", f.Path), checkFileSpec(at, f.FileSpec))
}

// same is the file set without what may differ between two mentions of it.
func (f FileSet) same() FileSet {
	return FileSet{Path: path.Clean(f.Path), FileSpec: f.FileSpec, Recursive: f.Recursive}
}

func checkPath(at, what, s string) *fault {
	if f := checkText(at, what, s, 1); f != nil {
		return f
	}
	switch {
	case s[0] != '/':
		return faultAt(at, "the %s %s is not absolute", what, shown(s))
	case strings.ContainsAny(s, "*?\x00"):
		return faultAt(at, "the %s %s has a wildcard or a zero byte", what, shown(s))
	}
	return nil
}

func checkFileSpec(at, s string) *fault {
	if f := checkText(at, "file specification", s, 1); f != nil {
		return f
	}
	if strings.ContainsAny(s, "/\x00") || s == "." || s == ".." {
		return faultAt(at, "the file specification %s is not the name of a file", shown(s))
	}
	return nil
}

func checkFileName(at, s string) *fault {
	if f := checkFileSpec(at, s); f != nil {
		return f
	}
	if strings.ContainsAny(s, "*?") {
		return faultAt(at, "the file name %s has a wildcard", shown(s))
	}
	return nil
}

// shown is text for a message: printable, and not longer than a line or two.
func shown(s string) string {
	if t := escape(s); len(t) <= 200 {
		return t
	}
	return escape(s[:min(len(s), 50)]) + "…"
}
