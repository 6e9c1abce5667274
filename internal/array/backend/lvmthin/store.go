package lvmthin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpReserved = failpoint.New("array.thin.reserved")
	fpMade     = failpoint.New("array.thin.made")
	fpRemoved  = failpoint.New("array.thin.device-removed")
	fpDeleted  = failpoint.New("array.thin.deleted")
)

// Config says where a store is.
type Config struct {
	Dir            string // for the record of LUNs
	Array          vss.ID // whose devices they are
	VG             string // a volume group; else
	Data, Metadata string // two block devices
	Size           uint64 // bytes of the pool's data in a volume group; 0: all that is free
	Log            *slog.Logger
}

var _ backend.Store = (*Store)(nil)

// Store is an open store.
type Store struct {
	cfg        Config
	log        *slog.Logger
	dm         *devicemapper.Control
	place      string
	prefix     string // of all our devices' names
	meta, data uint64
	pool       devicemapper.Device

	mu    sync.Mutex
	rec   *records
	nodes map[lun.NAA]string // of LUNs that are active
	per   time.Duration      // of copying one LUN
	last  time.Duration

	end     context.CancelFunc
	sweeper sync.WaitGroup
	again   chan struct{} // something is gone that is still open
}

// Open opens a store: it resumes what was left suspended, brings the pool up,
// makes one if the devices are empty, and activates all LUNs.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, log: cfg.Log, nodes: map[lun.NAA]string{}, again: make(chan struct{}, 1), place: cfg.VG,
		prefix: "umbra-" + strings.Trim(cfg.Array.String(), "{}")[:8] + "-"}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.place == "" {
		s.place = cfg.Data + ", " + cfg.Metadata
	}
	var err error
	if s.dm, err = devicemapper.Open(); err != nil {
		return nil, err
	}
	// First of all: hosts may be waiting.
	if err = s.resumeAll(ctx); err == nil {
		err = s.open(ctx)
	}
	if err != nil {
		s.abandon()
		return nil, err
	}
	bg, end := context.WithCancel(context.Background())
	s.end = end
	s.sweeper.Go(func() { s.sweep(bg) })
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return refuse(vss.E_ACCESSDENIED, s.cfg.Dir, "the folder cannot be made", "Check the path and its permissions", err)
	}
	if s.rec, err = openRecords(s.cfg.Dir); err != nil {
		return err
	}
	if err := s.openPool(ctx); err != nil {
		return err
	}
	for n, l := range s.rec.luns {
		if l.Gone {
			s.wake()
			continue
		}
		// One that was never made, because a process died, is no news: the array
		// removes it.
		if err := s.activate(ctx, n, l); err != nil && !errors.Is(err, unix.ENODATA) {
			s.log.Warn("a LUN cannot be activated", "lun", n, "error", err)
		}
	}
	return s.measure(ctx)
}

// resumeAll lets go on whatever a process left suspended that died in a hold.
func (s *Store) resumeAll(ctx context.Context) error {
	gone, err := resume(ctx, s.dm, func(name string) bool { return strings.HasPrefix(name, s.prefix) })
	for _, name := range gone {
		s.log.Warn("a LUN that was left suspended goes on", "device", name)
	}
	return err
}

// ours are the names of all arrays' devices.
var ours = regexp.MustCompile(`^umbra-[0-9a-f]{8}-(pool|naa\.[0-9a-f]{32})$`)

// Resume lets go on what any array of this machine left suspended, and returns
// the devices' names. It is for a machine whose array is not started again. An
// array that is copying right now loses that copy's instant, and no more.
func Resume(ctx context.Context) ([]string, error) {
	dm, err := devicemapper.Open()
	if err != nil {
		return nil, err
	}
	defer dm.Close()
	return resume(ctx, dm, ours.MatchString)
}

func resume(ctx context.Context, dm *devicemapper.Control, which func(name string) bool) (resumed []string, err error) {
	all, err := dm.List(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, d := range all {
		if !which(d.Name) {
			continue
		}
		i, err := dm.Info(ctx, devicemapper.Number(d.Dev))
		if err != nil || !i.Suspended || !i.Live || !strings.HasPrefix(i.UUID, "UMBRA-") {
			continue
		}
		if err := dm.Resume(ctx, i.Ref(), devicemapper.Unread); err != nil {
			errs = append(errs, err)
			continue
		}
		resumed = append(resumed, d.Name)
	}
	return resumed, vss.Join("", errs...)
}

func (s *Store) uuid(what string) string {
	return "UMBRA-" + strings.Trim(s.cfg.Array.String(), "{}") + "-" + what
}

func (s *Store) name(n lun.NAA) string { return s.prefix + n.String() }

// activate makes the device of a LUN, or takes over the one that is there; s.mu
// is held, or nobody has the store yet.
func (s *Store) activate(ctx context.Context, n lun.NAA, l record) error {
	spec := devicemapper.Spec{Name: s.name(n), UUID: s.uuid(n.String()), Udev: devicemapper.Unread,
		Targets: []devicemapper.Target{{Length: l.Size / devicemapper.SectorSize, Type: "thin", Params: fmt.Sprintf("%s %d", devicemapper.Number(s.pool.Dev), l.ID)}}}
	d, err := s.dm.Info(ctx, devicemapper.Name(spec.Name))
	if err == nil && !d.Live {
		// Died between its name and its table.
		if _, err := s.dm.Remove(ctx, d.Ref(), false, devicemapper.Unread); err != nil {
			return err
		}
		err = unix.ENXIO
	}
	switch {
	case errors.Is(err, unix.ENXIO), err == nil && !d.Live:
		if d, err = s.dm.Make(ctx, spec); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		is, err := s.dm.Table(ctx, d.Ref())
		if err != nil {
			return err
		}
		if d.UUID != spec.UUID || len(is) != 1 || is[0] != spec.Targets[0] {
			return refuse(vss.VSS_E_OBJECT_ALREADY_EXISTS, d.Name, "a device with this name is something else", "Find who made it with `dmsetup table`", nil)
		}
	}
	node, err := d.Node()
	if err != nil {
		return err
	}
	s.nodes[n] = node
	return nil
}

// reserve records numbers for LUNs before they are made; s.mu is held.
func (s *Store) reserve(op string, luns map[lun.NAA]uint64) error {
	pool, fresh := s.rec.pool, map[lun.NAA]*record{}
	for n, size := range luns {
		if _, ok := s.rec.luns[n]; ok {
			return &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: op, Object: n.String(), Reason: "the LUN is there", Remedy: "Report it"}
		}
		if pool.Next > maxID {
			return &vss.Error{Code: vss.VSS_E_INSUFFICIENT_STORAGE, Op: op, Object: s.place, Reason: "the pool has given out all of its 16 million numbers", Remedy: "Make a new array"}
		}
		fresh[n] = &record{ID: pool.Next, Size: size}
		pool.Next++
	}
	return s.rec.change(pool, fresh)
}

// Create makes a thin device.
func (s *Store) Create(ctx context.Context, n lun.NAA, size uint64) (err error) {
	const op = "create LUN"
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.sound(ctx, op); err != nil {
		return err
	}
	if err := s.reserve(op, map[lun.NAA]uint64{n: size}); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if rerr := s.remove(context.WithoutCancel(ctx), n); rerr != nil {
				s.log.Warn("a LUN that could not be made stays on record", "lun", n, "error", rerr)
			}
		}
	}()
	if err := fpReserved.Hit(ctx); err != nil {
		return injected(op, n, err)
	}
	l := s.rec.luns[n]
	if _, err := s.dm.Message(ctx, s.pool.Ref(), 0, fmt.Sprintf("create_thin %d", l.ID)); err != nil {
		return s.failed(op, n, "the pool did not make it", err)
	}
	if err := fpMade.Hit(ctx); err != nil {
		return injected(op, n, err)
	}
	return s.activate(ctx, n, l)
}

// sound refuses to make anything in a pool that is not well.
func (s *Store) sound(ctx context.Context, op string) error {
	p, err := s.status(ctx)
	if err != nil {
		return err
	}
	if why := trouble(p); why != "" {
		code, remedy := vss.VSS_E_PROVIDER_VETO, "Read dmesg on the array, and repair the pool with `thin_check` and `thin_repair`"
		if p.Mode == "out_of_data_space" {
			code, remedy = vss.VSS_E_INSUFFICIENT_STORAGE, "Delete copies that are no longer needed, or enlarge the pool's data device and restart the array"
		}
		return &vss.Error{Code: code, Op: op, Object: s.place, Reason: why, Remedy: remedy}
	}
	return nil
}

// Remove deletes a LUN.
func (s *Store) Remove(ctx context.Context, n lun.NAA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(ctx, n)
}

// busyFor is how long somebody may look at a device that is to go: udev does,
// after it was written to.
const busyFor = 300 * time.Millisecond

func (s *Store) remove(ctx context.Context, n lun.NAA) error {
	const op = "delete LUN"
	l, ok := s.rec.luns[n]
	if !ok {
		return nil
	}
	for until := time.Now().Add(busyFor); ; {
		_, err := s.dm.Remove(ctx, devicemapper.Name(s.name(n)), false, devicemapper.Unread)
		if err == nil || errors.Is(err, unix.ENXIO) {
			break
		}
		if !errors.Is(err, unix.EBUSY) {
			return s.failed(op, n, "its device cannot be removed", err)
		}
		if held, _ := backend.Holders(s.node(n)); len(held) == 0 && time.Now().Before(until) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		return s.park(n)
	}
	delete(s.nodes, n)
	if err := fpRemoved.Hit(ctx); err != nil {
		return injected(op, n, err)
	}
	_, err := s.dm.Message(ctx, s.pool.Ref(), 0, fmt.Sprintf("delete %d", l.ID))
	switch {
	case err == nil, errors.Is(err, unix.ENODATA): // never made, or deleted before a crash
	case errors.Is(err, unix.EBUSY):
		return s.park(n)
	default:
		return s.failed(op, n, "the pool did not delete it", err)
	}
	if err := fpDeleted.Hit(ctx); err != nil {
		return injected(op, n, err)
	}
	return s.rec.change(s.rec.pool, map[lun.NAA]*record{n: nil})
}

// park marks a LUN as gone that is still in use; s.mu is held.
func (s *Store) park(n lun.NAA) error {
	l := s.rec.luns[n]
	if !l.Gone {
		l.Gone = true
		if err := s.rec.change(s.rec.pool, map[lun.NAA]*record{n: &l}); err != nil {
			return err
		}
	}
	s.wake()
	return nil
}

func (s *Store) wake() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// sweepEvery is how often it is tried to delete what somebody has open: the
// kernel does not say when he closes it.
const sweepEvery = 200 * time.Millisecond

// sweep deletes what is gone when its last user has closed it.
func (s *Store) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.again:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepEvery):
		}
		s.mu.Lock()
		s.sweepOnce(ctx)
		s.mu.Unlock()
	}
}

func (s *Store) sweepOnce(ctx context.Context) {
	for n, l := range s.rec.luns {
		if !l.Gone {
			continue
		}
		if d, err := s.dm.Info(ctx, devicemapper.Name(s.name(n))); err == nil && d.Opened > 0 {
			s.wake()
			continue
		}
		if err := s.remove(ctx, n); err != nil {
			s.log.Warn("a LUN that is gone cannot be deleted yet", "lun", n, "error", err)
			s.wake()
		}
	}
}

// List are the LUNs that are active.
func (s *Store) List(context.Context) (luns []lun.NAA, others []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, l := range s.rec.luns {
		switch {
		case l.Gone:
		case s.nodes[n] != "":
			luns = append(luns, n)
		default:
			others = append(others, n.String())
		}
	}
	return luns, others, nil
}

func (s *Store) node(n lun.NAA) string {
	if p := s.nodes[n]; p != "" {
		return p
	}
	return "/dev/mapper/" + s.name(n) // it says what is missing
}

// Path is the device of a LUN.
func (s *Store) Path(n lun.NAA) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node(n)
}

// Descriptor opens a LUN for a holder. The device can be written; that copies
// are not is the descriptor's doing, as it is with files.
func (s *Store) Descriptor(n lun.NAA, readOnly bool, holder uint32) (*os.File, error) {
	f, err := backend.Open(s.Path(n), readOnly, holder)
	if err != nil {
		return nil, s.failed("open LUN", n, "its device cannot be opened and marked as held", err)
	}
	return f, nil
}

// WaitUnheld waits until nobody holds the LUN.
func (s *Store) WaitUnheld(ctx context.Context, n lun.NAA, d time.Duration) ([]uint32, error) {
	h, err := backend.WaitUnheld(ctx, s.Path(n), d)
	if err != nil && ctx.Err() != nil {
		return h, givenUp(ctx, "wait for LUN", n)
	}
	if err != nil {
		return h, s.failed("read LUN", n, "who holds it is unknown", err)
	}
	return h, nil
}

// Allocated is what the pool has given the LUN.
func (s *Store) Allocated(n lun.NAA) uint64 {
	t, err := s.dm.Status(context.Background(), devicemapper.Name(s.name(n)))
	if err != nil || len(t) != 1 {
		return 0
	}
	mapped, err := devicemapper.ParseThin(t[0].Params)
	if err != nil {
		return 0
	}
	return mapped * devicemapper.SectorSize
}

// Space is how full the pool is.
func (s *Store) Space(ctx context.Context) (backend.Space, error) {
	p, err := s.status(ctx)
	if err != nil {
		return backend.Space{}, err
	}
	return backend.Space{Total: p.TotalData * blockSize, Free: (p.TotalData - p.UsedData) * blockSize,
		MetadataTotal: p.TotalMetadata * devicemapper.MetadataBlock, MetadataFree: (p.TotalMetadata - p.UsedMetadata) * devicemapper.MetadataBlock}, nil
}

// Devices are the filesystems below the pool, if its devices are files.
func (s *Store) Devices(ctx context.Context) map[uint64]string {
	out := map[uint64]string{}
	beneath(ctx, s.data, out)
	beneath(ctx, s.meta, out)
	return out
}

// beneath walks from a device to those below it, and to the file below a loop
// device.
func beneath(ctx context.Context, dev uint64, out map[uint64]string) {
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
	if file, err := os.ReadFile(dir + "/loop/backing_file"); err == nil {
		backend.Beneath(ctx, strings.TrimSuffix(string(file), "\n"), out)
		return
	}
	below, _ := filepath.Glob(dir + "/slaves/*/dev")
	if _, err := os.Stat(dir + "/partition"); err == nil {
		below = append(below, dir+"/../dev")
	}
	for _, b := range below {
		text, err := os.ReadFile(b)
		var major, minor uint32
		if _, serr := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err == nil && serr == nil {
			beneath(ctx, unix.Mkdev(major, minor), out)
		}
	}
}

// Describe is for administrators.
func (s *Store) Describe(ctx context.Context) backend.Description {
	s.mu.Lock()
	d := backend.Description{Kind: "lvmthin", Place: s.place, PerLUN: s.per, AtOnce: 1, Last: s.last}
	gone := 0
	for _, l := range s.rec.luns {
		if l.Gone {
			gone++
		}
	}
	s.mu.Unlock()
	if gone > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%d deleted LUNs are still open; their room comes back when they are closed", gone))
	}
	p, err := s.status(ctx)
	if err != nil {
		d.Warnings = append(d.Warnings, err.Error())
	} else if why := trouble(p); why != "" {
		d.Warnings = append(d.Warnings, why)
	}
	return d
}

// Quicken has nothing to say: a copy takes the same time however a LUN is written.
func (s *Store) Quicken(lun.NAA) string { return "" }

// Close takes down what nobody uses. What is in use stays, and is adopted.
func (s *Store) Close() {
	s.mu.Lock()
	if s.rec != nil {
		ctx := context.Background()
		s.sweepOnce(ctx)
		busy := false
		for n := range s.rec.luns {
			_, err := s.dm.Remove(ctx, devicemapper.Name(s.name(n)), false, devicemapper.Unread)
			busy = busy || err != nil && !errors.Is(err, unix.ENXIO)
		}
		if !busy {
			if _, err := s.dm.Remove(ctx, s.pool.Ref(), false, devicemapper.Unread); err != nil && !errors.Is(err, unix.ENXIO) {
				s.log.Warn("the pool stays", "error", err)
			}
		}
	}
	s.mu.Unlock()
	s.abandon()
}

// abandon lets go of everything and leaves the devices, as a crash does.
func (s *Store) abandon() {
	if s.end != nil {
		s.end()
		s.sweeper.Wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec != nil {
		s.rec.db.Close()
		s.rec = nil
	}
	s.dm.Close()
}

func (s *Store) failed(op string, n lun.NAA, reason string, err error) error {
	code, remedy := vss.VSS_E_PROVIDER_VETO, "Read dmesg on the array"
	var e *vss.Error
	switch {
	case errors.Is(err, unix.ENOSPC):
		code, remedy = vss.VSS_E_INSUFFICIENT_STORAGE, "Delete copies that are no longer needed, or enlarge the pool"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO):
		code, remedy = vss.VSS_E_OBJECT_NOT_FOUND, "Check the pool, then delete the LUN if it is lost"
	case errors.As(err, &e):
		code, remedy = e.Code, e.Remedy
	}
	return &vss.Error{Code: code, Op: op, Object: n.String(), Reason: reason, Remedy: remedy, Err: err}
}

func injected(op string, n lun.NAA, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: n.String(), Reason: "injected", Remedy: "Disarm the failpoint", Err: err}
}

func givenUp(ctx context.Context, op string, n lun.NAA) error {
	return &vss.Error{Code: vss.E_ABORT, Op: op, Object: n.String(), Reason: "the call was given up", Remedy: "Repeat it with more time", Err: context.Cause(ctx)}
}

func base(p string) string { return path.Base(p) }
