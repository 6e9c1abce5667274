package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/outlive"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Exported is a LUN that the array shows to this host.
type Exported struct {
	NAA        lun.NAA
	Size       uint64 // bytes the device must have
	Generation uint64
	ReadOnly   bool
}

// Exports are LUNs and where they are.
type Exports struct {
	Portals []string // address:port, any of them
	LUNs    []Exported
}

// Target is the array as this host sees it. It is safe for concurrent use.
type Target interface {
	// ExportLUNs shows LUNs that are unmasked to this host over NBD, all or none.
	// What is shown already stays as it is.
	ExportLUNs(ctx context.Context, naas []lun.NAA) (Exports, error)
	// CloseLUNs tells the array that this host has let go of LUNs. It is
	// idempotent.
	CloseLUNs(ctx context.Context, naas []lun.NAA) error
}

// Credentials are the key by which this host and the array know each other.
type Credentials struct {
	Identity string
	Key      string // hexadecimal
}

var (
	fpAfterStart = failpoint.New("host.nbd.after-start") // the LUN is a file, no device
	fpAfterStop  = failpoint.New("host.nbd.after-stop")  // neither, and the array not told
)

const (
	attachOp = "attach LUN"
	parallel = 4
	// Each process of a LUN; it has a tenth of that under load.
	memory  = 512 << 20
	cgroup  = "nbd-attach"
	logName = "log"
	// retries is how often nbdkit connects again, a second apart.
	retries = 20
)

// Initiator attaches LUNs of one array. Use New.
type Initiator struct {
	*loop.Initiator
	hostTag     string
	dir         string
	target      Target
	credentials Credentials
	patience    time.Duration
	kernel      chan struct{} // whose turn it is, see kernel.go
	announced   sync.Map      // devices of which udev was told, by their sequence numbers
}

var _ attach.Initiator = (*Initiator)(nil)

// New makes the initiator of the host with this tag (block.HostTag). What runs
// for it is kept in dir, which must be empty after a boot. What is attached
// already has the key from now on: the array may have made a new one.
func New(hostTag, dir string, t Target, c Credentials) *Initiator {
	i := &Initiator{hostTag: hostTag, dir: dir, target: t, credentials: c, patience: 20 * time.Second, kernel: make(chan struct{}, 1)}
	i.Initiator = loop.New(hostTag, files{i})
	if _, err := os.Stat(i.keyFile()); err == nil {
		_ = i.writeKey() // what fails now fails again, and is told, when it is used
	}
	return i
}

// Name is "nbd".
func (i *Initiator) Name() string { return "nbd" }

// Ready reports whether this machine can attach over NBD.
func (i *Initiator) Ready() error {
	inKernel := i.useKernel()
	for _, n := range []struct{ program, pkg string }{{"nbdkit", "nbdkit"}, {"nbdfuse", "libnbd-bin"}} {
		if inKernel && n.program == "nbdfuse" {
			continue
		}
		if _, err := exec.LookPath(n.program); err != nil {
			return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: attachOp, Object: n.program, Reason: "it is not installed", Remedy: "Install it (apt install " + n.pkg + ")", Err: err}
		}
	}
	if inKernel {
		return nil
	}
	for _, n := range []struct{ node, module string }{{"/dev/fuse", "fuse"}, {"/dev/loop-control", "loop"}} {
		if _, err := os.Stat(n.node); err != nil {
			return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: attachOp, Object: n.node, Reason: "this kernel does not have it, or it is not loaded", Remedy: "Run modprobe " + n.module + " as root", Err: err}
		}
	}
	return nil
}

// folder is where everything of a LUN is. udev's rules look for the identifier
// in the path of a loop device's file.
func (i *Initiator) folder(n lun.NAA) string { return filepath.Join(i.dir, n.String()) }

// file is what nbdfuse shows, called like its loop device (block.LoopName): when
// nbdfuse has ended, the path is all that the driver tells of the device.
func (i *Initiator) file(n lun.NAA) string { return filepath.Join(i.folder(n), i.hostTag) }

// Present reports whether a LUN is here over NBD.
func (i *Initiator) Present(n lun.NAA) bool {
	_, err := os.Stat(filepath.Join(i.folder(n), logName))
	return err == nil
}

// Has reports whether a device came over NBD.
func (i *Initiator) Has(dev block.Device) bool {
	n, ok := dev.LUN.NAA()
	if dev.Loop != nil && dev.Loop.HostTag != "" {
		n, ok = dev.Loop.NAA, true
	}
	if dev.NBD != nil {
		n, ok = dev.NBD.NAA, true
	}
	return ok && i.Present(n)
}

// CloseAbsent closes those of the LUNs that have no device here.
func (i *Initiator) CloseAbsent(ctx context.Context, luns []lun.NAA) error {
	here, err := block.Own(ctx, i.hostTag)
	if err != nil {
		return err
	}
	kernel, err := block.OwnNBD(ctx, i.hostTag)
	if err != nil {
		return err
	}
	here = append(here, kernel...)
	var absent []lun.NAA
	for _, n := range luns {
		if !has(here, n) {
			absent = append(absent, n)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return files{i}.CloseLUNs(ctx, absent)
}

func has(devices []block.Device, n lun.NAA) bool {
	for _, d := range devices {
		if d.Loop != nil && d.Loop.NAA == n || d.NBD != nil && d.NBD.NAA == n && !d.NBD.Going {
			return true
		}
	}
	return false
}

// Rescan implements attach.Initiator.
func (i *Initiator) Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error) {
	devices, rest, err := i.rescanKernel(ctx, luns)
	if len(rest) == 0 {
		return devices, err
	}
	more, ferr := i.rescanFiles(ctx, rest)
	return append(devices, more...), vss.Join(attachOp, err, ferr)
}

func (i *Initiator) rescanFiles(ctx context.Context, luns []lun.Info) ([]block.Device, error) {
	for _, l := range luns {
		if n, ok := l.NAA(); ok && i.dead(n) {
			if err := i.clearDead(ctx, n, unix.O_EXCL); err != nil {
				return nil, err
			}
		}
	}
	return i.Initiator.Rescan(ctx, luns)
}

// Detach implements attach.Initiator.
func (i *Initiator) Detach(ctx context.Context, dev block.Device) error {
	if inKernel(dev) {
		return i.detachKernel(ctx, dev, i.letGo)
	}
	n, ok := dev.LUN.NAA()
	if !ok || !i.dead(n) {
		return i.Initiator.Detach(ctx, dev)
	}
	return vss.Join("detach LUN", i.clearDead(ctx, n, unix.O_EXCL), i.target.CloseLUNs(ctx, []lun.NAA{n}))
}

// Abandon implements attach.Initiator. The programs that serve the file are
// ended, so who uses the device gets errors.
func (i *Initiator) Abandon(ctx context.Context, dev block.Device) error {
	if inKernel(dev) {
		return i.detachKernel(ctx, dev, i.abandon)
	}
	n, ok := dev.LUN.NAA()
	if !ok || !i.Present(n) {
		return i.Initiator.Abandon(ctx, dev)
	}
	err := i.Initiator.Abandon(ctx, dev)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// It cannot be flushed: the array does not answer.
	if err := outlive.Kept(i.folder(n)).End(ctx, 0); err != nil {
		return err
	}
	return vss.Join("detach LUN", i.clearDead(ctx, n, 0), i.target.CloseLUNs(ctx, []lun.NAA{n}))
}

// dead reports whether a LUN was attached and its processes have ended.
func (i *Initiator) dead(n lun.NAA) bool {
	return i.Present(n) && !outlive.Kept(i.folder(n)).Alive()
}

// clearDead takes the loop device of a LUN away whose processes have ended:
// nothing can be read from it any more, and what was written is written or lost.
func (i *Initiator) clearDead(ctx context.Context, n lun.NAA, flags int) error {
	here, err := block.Own(ctx, i.hostTag)
	if err != nil {
		return err
	}
	for _, d := range here {
		if d.Loop == nil || d.Loop.NAA != n {
			continue
		}
		f, err := block.Open(ctx, d, unix.O_RDONLY|flags)
		if err != nil {
			return err // in use: whoever uses it gets errors, and has to let go
		}
		_, err = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD)
		f.Close()
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return i.failed(n, "its device is dead and cannot be detached", "Detach "+d.Path+" with losetup -d", err)
		}
	}
	return i.stop(ctx, n)
}

func (i *Initiator) failed(n lun.NAA, reason, remedy string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: attachOp, Object: n.String(), Reason: reason, Remedy: remedy, Err: err}
}

// files is what the loop initiator takes for an array on this machine: it gives
// files that FUSE shows.
type files struct{ i *Initiator }

// OpenLUNs implements loop.Target.
func (f files) OpenLUNs(ctx context.Context, naas []lun.NAA) ([]loop.Opened, error) {
	i := f.i
	exports, shown, missing := attach.Shown(ctx, naas, i.target.ExportLUNs)
	if len(shown) == 0 {
		return nil, missing
	}
	if err := i.writeKey(); err != nil {
		return nil, err
	}
	all, errs := make([]loop.Opened, len(exports.LUNs)), make([]error, len(exports.LUNs))
	var g errgroup.Group
	g.SetLimit(parallel)
	for k, l := range exports.LUNs {
		g.Go(func() error {
			all[k], errs[k] = i.open(ctx, exports.Portals, l)
			return nil
		})
	}
	_ = g.Wait()
	var out []loop.Opened
	var failed []lun.NAA
	for k, err := range errs {
		if err == nil {
			out = append(out, all[k])
		} else {
			failed = append(failed, exports.LUNs[k].NAA)
		}
	}
	if len(failed) > 0 {
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		errs = append(errs, f.CloseLUNs(tidy, failed))
	}
	return out, vss.Join(attachOp, append(errs, missing)...)
}

// CloseLUNs implements loop.Target: what the loop driver has let go of.
func (f files) CloseLUNs(ctx context.Context, naas []lun.NAA) error {
	var errs []error
	for _, n := range naas {
		errs = append(errs, f.i.stop(ctx, n))
	}
	errs = append(errs, f.i.target.CloseLUNs(ctx, naas))
	return vss.Join("detach LUN", errs...)
}

// keyFile has this host's key for the array. nbdkit reads it at every connection.
func (i *Initiator) keyFile() string { return filepath.Join(i.dir, i.credentials.Identity+".psk") }

func (i *Initiator) writeKey() error {
	err := os.MkdirAll(i.dir, 0o700)
	if err == nil {
		text := i.credentials.Identity + ":" + i.credentials.Key + "\n"
		if now, rerr := os.ReadFile(i.keyFile()); rerr == nil && string(now) == text {
			return nil
		}
		if err = os.WriteFile(i.keyFile()+".new", []byte(text), 0o600); err == nil {
			err = os.Rename(i.keyFile()+".new", i.keyFile())
		}
	}
	if err != nil {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: attachOp, Object: i.keyFile(), Reason: "the key cannot be written", Remedy: "Check --run-dir", Err: err}
	}
	return nil
}

// open starts what shows a LUN as a file, and opens that.
func (i *Initiator) open(ctx context.Context, portals []string, l Exported) (loop.Opened, error) {
	var errs []error
	for _, p := range portals {
		o, err := i.openAt(ctx, p, l)
		if err == nil || ctx.Err() != nil {
			return o, err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, i.failed(l.NAA, "the array names no portal", "Start the array with --nbd-portal", nil))
	}
	return loop.Opened{}, vss.Join(attachOp, errs...)
}

func (i *Initiator) openAt(ctx context.Context, portal string, l Exported) (loop.Opened, error) {
	host, port, err := net.SplitHostPort(portal)
	if err != nil {
		return loop.Opened{}, i.failed(l.NAA, "the array names a portal that is no address: "+portal, "Give the array's --nbd-portal as ADDRESS:PORT", err)
	}
	// One from an attach that broke off: of what it is connected to nothing is
	// known.
	if err := i.stop(ctx, l.NAA); err != nil {
		return loop.Opened{}, err
	}
	if err := reachable(ctx, portal); err != nil {
		if ctx.Err() != nil {
			return loop.Opened{}, ctx.Err()
		}
		return loop.Opened{}, i.failed(l.NAA, "the array's portal "+portal+" does not answer", "Check that the array runs, that the network leads to its --nbd-portal and the ports above it, and that no firewall is between", err)
	}
	dir := i.folder(l.NAA)
	if err = os.MkdirAll(dir, 0o700); err == nil {
		err = os.WriteFile(i.file(l.NAA), nil, 0o600) // where the file is mounted
	}
	if err != nil {
		return loop.Opened{}, i.failed(l.NAA, "its folder cannot be made", "Check --run-dir", err)
	}
	args := append([]string{"nbdfuse", i.file(l.NAA), "--socket-activation", "nbdkit", "-f", "--exit-with-parent"}, i.proxied(l, host, port)...)
	if l.ReadOnly {
		args = append([]string{"nbdfuse", "-r"}, args[1:]...)
	}
	p, err := outlive.Start(outlive.Program{Args: args, Dir: dir, Log: filepath.Join(dir, logName), Cgroup: cgroup, Memory: memory})
	if err != nil {
		return loop.Opened{}, i.failed(l.NAA, "nbdfuse cannot be started", "Check that libnbd-bin and nbdkit are installed", err)
	}
	if err := i.await(ctx, p, l); err != nil {
		return loop.Opened{}, err
	}
	if err := fpAfterStart.Hit(ctx); err != nil {
		return loop.Opened{}, vss.AsError(attachOp, err)
	}
	flags := unix.O_RDWR
	if l.ReadOnly {
		flags = unix.O_RDONLY
	}
	fd, err := unix.Open(i.file(l.NAA), flags|unix.O_CLOEXEC, 0)
	var st unix.Stat_t
	if err == nil {
		if err = unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return loop.Opened{}, i.failed(l.NAA, "the file of nbdfuse cannot be opened", "See "+filepath.Join(dir, logName), err)
	}
	i.boundSilence(p)
	return loop.Opened{NAA: l.NAA, FD: fd, Size: l.Size, Generation: l.Generation, ReadOnly: l.ReadOnly, Dev: st.Dev, Ino: st.Ino}, nil
}

// proxied are nbdkit's arguments for the array's server.
func (i *Initiator) proxied(l Exported, host, port string) []string {
	return []string{"--filter=retry", "nbd",
		"hostname=" + host, "port=" + port, "export=" + l.NAA.String(), "tls=require", "tls-username=" + i.credentials.Identity, "tls-psk=" + i.keyFile(),
		"retries=" + strconv.Itoa(retries), "retry-delay=1", "retry-exponential=no"}
}

// reachable connects once: nbdkit would try for long before it says that nobody
// is there.
func reachable(ctx context.Context, portal string) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "tcp", portal)
	if err == nil {
		c.Close()
	}
	return err
}

// await waits for the file to be there with the LUN's size. nbdfuse has connected
// by then.
func (i *Initiator) await(ctx context.Context, p outlive.Process, l Exported) error {
	deadline := time.Now().Add(i.patience)
	var below unix.Stat_t
	if err := unix.Stat(i.folder(l.NAA), &below); err != nil {
		return i.failed(l.NAA, "its folder is gone", "Try again", err)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		var st unix.Stat_t
		if err := unix.Stat(i.file(l.NAA), &st); err == nil && st.Dev != below.Dev {
			if uint64(st.Size) != l.Size {
				return i.failed(l.NAA, fmt.Sprintf("the array's server shows %d bytes, the LUN has %d", st.Size, l.Size), "Restart the array, which makes its exports right", nil)
			}
			return nil
		}
		said := i.said(l.NAA)
		if !p.Alive() || refusal(said) {
			return i.refused(l, said)
		}
		if time.Now().After(deadline) {
			return i.failed(l.NAA, "the array's server does not show it: "+firstLine(said), "See "+filepath.Join(i.folder(l.NAA), logName)+" and the array's log", nil)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
