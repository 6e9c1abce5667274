package freeze

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// HoldIntent says what is about to be frozen, for whoever has to thaw it when
// daemon and guard are both gone. It is a small file of its own, so that
// recovery needs no database.
type HoldIntent struct {
	SetID       string           `json:"set"`
	BootID      string           `json:"boot"` // a freeze does not survive a boot
	Created     time.Time        `json:"created"`
	Expedites   bool             `json:"expedites,omitempty"` // grace periods: the switch was off before, see expedite
	Filesystems []HeldFilesystem `json:"filesystems"`
}

// HeldFilesystem is one filesystem of a HoldIntent, in every way by which it
// may be found again.
type HeldFilesystem struct {
	Name    string       `json:"name"`
	Path    string       `json:"path"`
	Dev     uint64       `json:"dev"`   // st_dev
	Super   string       `json:"super"` // major:minor in the mount table
	FSType  string       `json:"type"`
	Source  string       `json:"source"` // in the mount table
	Devices []HeldDevice `json:"devices"`
}

// HeldDevice is a block device at the time of the intent. The disk sequence
// number tells it from a later device of the same number.
type HeldDevice struct {
	Major   uint32 `json:"major"`
	Minor   uint32 `json:"minor"`
	DiskSeq uint64 `json:"diskseq"` // 0: unknown
}

// NewIntent describes the set's filesystems as they are now.
func NewIntent(setID string, fss []*Filesystem) HoldIntent {
	h := HoldIntent{SetID: setID, BootID: BootID(), Created: time.Now().UTC(), Expedites: expects()}
	for _, f := range fss {
		h.Filesystems = append(h.Filesystems, f.Held())
	}
	return h
}

// Held describes the filesystem for a HoldIntent.
func (f *Filesystem) Held() HeldFilesystem {
	h := HeldFilesystem{Name: f.Name(), Path: f.target.Path, Dev: f.target.Dev, Super: f.super.String(), FSType: f.fsType, Source: f.source}
	for _, d := range f.devices {
		h.Devices = append(h.Devices, HeldDevice{d.Major, d.Minor, diskSeq(d)})
	}
	return h
}

// BootID is the kernel's identifier of this boot, "" if it cannot be read.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b))
}

// diskSeq reads the sequence number of a disk, or of a partition's disk; 0 if
// the kernel has none.
func diskSeq(d DeviceNumber) uint64 {
	dir, err := filepath.EvalSymlinks(filepath.Join("/sys/dev/block", d.String()))
	if err != nil {
		return 0
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "diskseq"))
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	return n
}

const (
	intentPrefix = "hold-"
	intentSuffix = ".json"
)

// WriteIntent records the intent in dir, which is made if need be, so that it
// survives a power failure. It is called before Guard.Freeze, and dir must not
// lie on a filesystem of the set. The returned function removes the record
// once everything is thawed; calling it again does nothing.
//
// Errors: E_INVALIDARG for a set ID that is no file name; VSS_E_UNEXPECTED
// when it cannot be written.
func WriteIntent(dir string, h HoldIntent) (remove func() error, err error) {
	const op = "record hold intent"
	name := strings.Trim(h.SetID, "{}")
	if name == "" || strings.ContainsAny(name, "/\x00") || len(name) > 200 {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: h.SetID, Reason: "the set ID cannot be a file name",
			Remedy: "Use the set's GUID"}
	}
	path := filepath.Join(dir, intentPrefix+name+intentSuffix)
	if err := writeDurably(path, h); err != nil {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: path, Reason: "it cannot be written",
			Remedy: "Make room and check the permissions of " + dir, Err: err}
	}
	return func() error {
		if err := removeDurably(path); err != nil {
			return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "remove hold intent", Object: path, Reason: "it cannot be removed",
				Remedy: "Check the permissions of " + dir, Err: err}
		}
		return nil
	}, nil
}

func writeDurably(path string, h HoldIntent) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".hold-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(append(b, '\n')); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}

func removeDurably(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
