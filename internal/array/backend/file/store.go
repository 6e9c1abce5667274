package file

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Config says where a store is.
type Config struct {
	Dir       string // the store's directory; made if missing
	Image     string // where the store's own XFS image is, or goes if Dir cannot reflink
	ImageSize int64  // bytes of a new image; 0: 64 GiB, at most 80 % of what is free
	Log       *slog.Logger
}

var _ backend.Store = (*Store)(nil)

// Store is an open store. Its methods are safe for concurrent use; calls for
// one LUN must not overlap with its Remove.
type Store struct {
	dir, luns string
	image     string // "" when the directory itself reflinks
	loop      string // the loop device under the image, "" if none
	mounted   bool   // this store mounted the image, or found its own mount
	btrfs     bool   // see btrfs.go
	log       *slog.Logger
	rate      *Rate
	slots     chan struct{} // one per clone that may run at a time
}

// Open opens a store, making and mounting its image if the directory cannot
// reflink, and measures it. E_ACCESSDENIED without root where root is needed;
// VSS_E_INSUFFICIENT_STORAGE without room for an image.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{dir: cfg.Dir, luns: filepath.Join(cfg.Dir, "luns"), log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, failed("open store", s.dir, "its folder cannot be made", "Check the path and its permissions", err)
	}
	if err := s.provideReflink(ctx, cfg); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.luns, 0o700); err != nil {
		s.release()
		return nil, failed("open store", s.luns, "its folder cannot be made", "Check that the store is mounted read-write", err)
	}
	if s.btrfs = isBtrfs(s.luns); s.btrfs {
		if err := prepareBtrfs(s.luns); err != nil {
			s.release()
			return nil, err
		}
	}
	if err := syncDir(s.dir); err != nil {
		s.release()
		return nil, err
	}
	rate, err := measure(ctx, s.dir)
	if err != nil {
		s.release()
		return nil, err
	}
	s.rate = rate
	s.slots = make(chan struct{}, rate.Parallel())
	return s, nil
}

// Close unmounts and detaches the store's own image if nothing uses it any
// more. A LUN that is still attached keeps the image where it is; the next Open
// adopts it.
func (s *Store) Close() { s.release() }

// Rate is the store's measured clone rate.
func (s *Store) Rate() *Rate { return s.rate }

// Dir returns the directory of the store.
func (s *Store) Dir() string { return s.dir }

// Image returns the path of the store's own image, "" if it has none.
func (s *Store) Image() string { return s.image }

// Path returns the file of a LUN.
func (s *Store) Path(n lun.NAA) string { return filepath.Join(s.luns, n.String()) }

// Create makes an empty, sparse, durable LUN of size bytes.
func (s *Store) Create(_ context.Context, n lun.NAA, size uint64) error {
	f, err := os.OpenFile(s.Path(n), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return failed("create LUN", n.String(), "its file cannot be made", "Check the store's free space and state", err)
	}
	defer f.Close()
	err = f.Truncate(int64(size))
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(s.luns)
	}
	if err != nil {
		os.Remove(s.Path(n))
		return failed("create LUN", n.String(), "its file cannot be written", "Check the store's free space and state", err)
	}
	return nil
}

// Remove deletes a LUN's file. A file that is already gone is success.
func (s *Store) Remove(_ context.Context, n lun.NAA) error {
	if err := os.Remove(s.Path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("delete LUN", n.String(), "its file cannot be removed", "Check the store's state with dmesg", err)
	}
	return nil
}

// Quicken is what an administrator can do to bring a LUN's file together again.
func (s *Store) Quicken(n lun.NAA) string {
	return "Defragment " + n.String() + " on the array (" + s.defragment(n) + ")"
}

func (s *Store) defragment(n lun.NAA) string {
	if s.btrfs {
		return "btrfs filesystem defragment -f -t 32M " + s.Path(n)
	}
	return "xfs_fsr " + s.Path(n)
}

// Describe is for administrators.
func (s *Store) Describe(context.Context) backend.Description {
	r := s.rate
	return backend.Description{Kind: "file", Place: s.dir, Image: s.image, PerLUN: r.File(), PerPiece: r.Extent(), AtOnce: r.Parallel(), Last: r.Last()}
}

// Size returns a LUN's size in bytes; VSS_E_OBJECT_NOT_FOUND if its file is gone.
func (s *Store) Size(n lun.NAA) (uint64, error) {
	fi, err := os.Stat(s.Path(n))
	if err != nil {
		return 0, failed("read LUN", n.String(), "its file cannot be read", "Check the store, then delete the LUN if its file is lost", err)
	}
	return uint64(fi.Size()), nil
}

// Allocated returns the bytes a LUN's file occupies, shared blocks included.
func (s *Store) Allocated(n lun.NAA) uint64 {
	var st unix.Stat_t
	if unix.Stat(s.Path(n), &st) != nil {
		return 0
	}
	return uint64(st.Blocks) * 512
}

// List returns the LUNs that have a file, and the names of other files beside
// them.
func (s *Store) List(context.Context) (luns []lun.NAA, others []string, err error) {
	entries, err := os.ReadDir(s.luns)
	if err != nil {
		return nil, nil, failed("list store", s.luns, "the folder cannot be read", "Check that the store is mounted", err)
	}
	for _, e := range entries {
		n, err := lun.ParseNAA(e.Name())
		if err != nil || n.String() != e.Name() || !e.Type().IsRegular() {
			others = append(others, e.Name())
			continue
		}
		luns = append(luns, n)
	}
	return luns, others, nil
}

// Space asks the filesystems. For a store on its own image, Free is the lesser of
// what the image and the filesystem under it have left.
func (s *Store) Space(context.Context) (backend.Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.luns, &st); err != nil {
		return backend.Space{}, failed("measure store", s.luns, "its free space is unknown", "Check that the store is mounted", err)
	}
	sp := backend.Space{Total: st.Blocks * uint64(st.Bsize), Free: st.Bavail * uint64(st.Bsize)}
	if s.image != "" {
		if err := unix.Statfs(filepath.Dir(s.image), &st); err != nil {
			return backend.Space{}, failed("measure store", s.image, "the free space under it is unknown", "Check the filesystem of the image", err)
		}
		sp.Free = min(sp.Free, st.Bavail*uint64(st.Bsize))
	}
	return sp, nil
}

// Devices returns the device numbers of every filesystem the store depends on:
// its own, and those that the devices below it are files of. Freezing any of
// them stops the store.
func (s *Store) Devices(ctx context.Context) map[uint64]string {
	out := map[uint64]string{}
	backend.Beneath(ctx, s.luns, out)
	if s.image != "" {
		backend.Beneath(ctx, filepath.Dir(s.image), out)
	}
	return out
}

// WaitUnheld waits until nobody holds the LUN, at most for d, and returns who
// still does.
func (s *Store) WaitUnheld(ctx context.Context, n lun.NAA, d time.Duration) ([]uint32, error) {
	h, err := backend.WaitUnheld(ctx, s.Path(n), d)
	if ctx.Err() != nil && err != nil {
		return h, given(ctx, "wait for LUN", n.String())
	}
	if err != nil {
		return h, failed("read LUN", n.String(), "who holds it is unknown", "Check that the store is a local filesystem", err)
	}
	return h, nil
}

// Descriptor opens a LUN for a holder and marks it held for as long as the
// open file description lives, wherever it is passed on to. The caller closes
// the file.
func (s *Store) Descriptor(n lun.NAA, readOnly bool, holder uint32) (*os.File, error) {
	f, err := backend.Open(s.Path(n), readOnly, holder)
	if err != nil {
		return nil, failed("open LUN", n.String(), "its file cannot be opened and marked as held", "Check the store, then delete the LUN if its file is lost", err)
	}
	return f, nil
}

// Holders lists who holds the LUN now, in ascending order.
func (s *Store) Holders(n lun.NAA) ([]uint32, error) {
	return s.WaitUnheld(context.Background(), n, 0)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err == nil {
		err = d.Sync()
		d.Close()
	}
	if err != nil {
		return failed("sync store", dir, "the folder cannot be made durable", "Check the store's device with dmesg", err)
	}
	return nil
}

// failed classifies an error of the operating system.
func failed(op, object, reason, remedy string, err error) error {
	code := vss.VSS_E_PROVIDER_VETO
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		code, remedy = vss.VSS_E_INSUFFICIENT_STORAGE, "Delete copies that are no longer needed, or enlarge the store"
	case errors.Is(err, fs.ErrNotExist):
		code = vss.VSS_E_OBJECT_NOT_FOUND
	case errors.Is(err, fs.ErrPermission):
		code = vss.E_ACCESSDENIED
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOLCK):
		code, remedy = vss.E_OUTOFMEMORY, "Raise the array's limit of open files, or free memory"
	case errors.Is(err, fs.ErrExist):
		code = vss.VSS_E_OBJECT_ALREADY_EXISTS
	}
	return &vss.Error{Code: code, Op: op, Object: object, Reason: reason, Remedy: remedy, Err: err}
}

// given is the error of a call its caller gave up.
func given(ctx context.Context, op, object string) error {
	return &vss.Error{Code: vss.E_ABORT, Op: op, Object: object, Reason: "the call was given up",
		Remedy: "Repeat it with more time", Err: context.Cause(ctx)}
}

// firstLine shortens a program's output for a message.
func firstLine(b []byte) string {
	s, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return s
}
