package freeze

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
	"github.com/umbra-vss/umbra/vss"
)

// DefaultLimit is how long filesystems stay frozen at most, from the first
// FIFREEZE.
const DefaultLimit = 10 * time.Second

// Options of a guard. The zero value is right in production.
type Options struct {
	Limit  time.Duration // of the hold; 0 means DefaultLimit
	Binary []byte        // the guard program; nil means the embedded one
	Logger *slog.Logger  // nothing is logged while anything is held; nil: nowhere
}

// StartGuard starts a guard for these filesystems and waits until it is locked
// in memory. Nothing is frozen yet. The filesystems may be closed at once: the
// guard and the daemon's side of it have copies. Filesystems of one superblock
// are held as one.
//
// Errors: E_NOTIMPL when this binary has no guard program; E_INVALIDARG for
// none or too many filesystems; VSS_E_VOLUME_IN_USE for a quarantined one;
// VSS_E_FLUSH_WRITES_TIMEOUT when ctx ends; VSS_E_UNEXPECTED with the cause.
func StartGuard(ctx context.Context, fss []*Filesystem, o Options) (*Guard, error) {
	const op = "start freeze guard"
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Binary == nil {
		o.Binary = EmbeddedGuard()
	}
	if len(o.Binary) == 0 {
		return nil, &vss.Error{Code: vss.E_NOTIMPL, Op: op, Object: "freeze guard", Reason: "this program was built without it",
			Remedy: "Build umbra with make, which compiles the guard first"}
	}
	if len(fss) == 0 || len(fss) > wire.MaxFilesystems {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: "freeze guard", Reason: "a set has 1 to 256 filesystems",
			Remedy: "Split the set"}
	}
	for _, f := range fss {
		if f.quarantined() {
			return nil, &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: op, Object: f.Name(),
				Reason: "an earlier guard still has a thread in the kernel freezing or thawing it",
				Remedy: "Wait until the storage answers again, and try again"}
		}
	}
	if ctx.Err() != nil {
		return nil, startCancelled(ctx)
	}
	g, err := newGuard(fss, o)
	if err != nil {
		return nil, err
	}
	go g.watch()
	introduced := make(chan error, 1) // killing the guard ends a send that waits
	go func() { introduced <- g.introduce() }()
	select {
	case err := <-introduced:
		if err != nil {
			return nil, startFailed("it did not take the filesystems", errors.Join(err, g.giveUp()))
		}
	case <-ctx.Done():
		_ = g.giveUp()
		return nil, startCancelled(ctx)
	}
	select {
	case <-g.ready:
		return g, nil
	case <-g.gone:
		return nil, startFailed("it ended while starting", g.giveUp())
	case <-ctx.Done():
		_ = g.giveUp()
		return nil, startCancelled(ctx)
	}
}

// newGuard groups the filesystems, copies their descriptors and starts the
// process.
func newGuard(fss []*Filesystem, o Options) (*Guard, error) {
	g := &Guard{
		limit: o.Limit, log: o.Logger, wake: -1, pageFD: -1,
		ready: make(chan struct{}), frozen: make(chan struct{}), done: make(chan struct{}),
		lost: make(chan struct{}), gone: make(chan struct{}),
	}
	fail := func(reason string, err error) (*Guard, error) {
		g.closeFDs()
		return nil, startFailed(reason, err)
	}
	bySuper := map[DeviceNumber]*unit{}
	for _, f := range fss {
		fd, counters, err := f.copyFDs()
		if err != nil {
			return fail("the descriptors of "+f.Name()+" cannot be copied", err)
		}
		if u := bySuper[f.super]; u != nil {
			u.members = append(u.members, f)
			_ = unix.Close(fd)
			u.counters = append(u.counters, counters...)
			continue
		}
		u := &unit{members: []*Filesystem{f}, fd: fd, counters: counters}
		bySuper[f.super] = u
		g.units = append(g.units, u)
	}
	for _, u := range g.units {
		if len(u.counters) >= wire.MaxDescriptors {
			return fail(u.name()+" has too many devices", unix.E2BIG)
		}
		// The last look before the descriptor is handed over.
		if err := u.members[0].target.check(u.fd); err != nil {
			g.closeFDs()
			return nil, err
		}
	}
	var err error
	if g.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fail("no descriptor is free", err)
	}
	if err := g.mapPage(); err != nil {
		return fail("no memory can be shared with it", err)
	}
	g.page.DieAt.Store(guardDeath())
	if g.proc, err = spawn(o.Binary, len(g.units)); err != nil {
		return fail("its program cannot be run", err)
	}
	g.enlist()
	return g, nil
}

// mapPage makes the shared page. Its size is sealed, so that neither side can
// make the other fault.
func (g *Guard) mapPage() error {
	fd, err := unix.MemfdCreate("umbra-freeze-page", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	g.pageFD = fd
	if err := unix.Ftruncate(fd, int64(wire.PageSize)); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	mem, err := unix.Mmap(fd, 0, wire.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	g.page = wire.FromMemory(mem)
	runtime.AddCleanup(g, func(mem []byte) { _ = unix.Munmap(mem) }, mem)
	return nil
}

// introduce hands over all descriptors.
func (g *Guard) introduce() error {
	pidfd, stat, err := ownPidfd()
	if err != nil {
		return err
	}
	defer closeAll([]int{pidfd, stat})
	err = g.send(wire.Message{Kind: wire.Hello, A: wire.Version, B: uint64(len(g.units))}, g.pageFD, pidfd, stat)
	for _, u := range g.units {
		if err != nil {
			return err
		}
		t := u.members[0].target
		err = g.send(wire.Message{Kind: wire.Add, A: t.Dev, B: t.Ino}, append([]int{u.fd}, u.counters...)...)
	}
	return err
}

// send may wait for room in the socket only while nothing is frozen: commands
// are two messages, which always fit.
func (g *Guard) send(m wire.Message, fds ...int) error {
	g.fdmu.RLock() // against closing the descriptors while they are in use
	defer g.fdmu.RUnlock()
	if g.closed {
		return os.ErrClosed
	}
	var b [wire.MessageSize]byte
	m.Put(&b)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return retry(func() error { return unix.Sendmsg(g.proc.sock, b[:], oob, nil, unix.MSG_NOSIGNAL) })
}

// giveUp ends a guard that never froze anything, and returns its last words.
func (g *Guard) giveUp() error {
	g.kill()
	<-g.gone
	if g.words == "" {
		return nil
	}
	return errors.New(g.words)
}
