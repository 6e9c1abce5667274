package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/internal/outlive"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// loadModule is tried once, best effort: the service may not load modules
// itself. Without devices made beforehand: ours are made when they are needed.
var loadModule = sync.OnceFunc(func() {
	_, _, _ = underway.Run(context.Background(), time.Minute, nil, "modprobe", "-q", "nbd", "nbds_max=0")
})

// kernelReady reports whether the kernel has an NBD client that keeps a LUN's
// name for us (5.14).
func kernelReady() bool {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) != nil {
		return false
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil || major < 5 || major == 5 && minor < 14 {
		return false
	}
	if _, err := os.Stat("/sys/module/nbd"); err != nil {
		loadModule()
	}
	_, err := nbdFamily()
	return err == nil
}

// useKernel reports whether LUNs that come are given to the kernel's client: where
// their sockets have paths of the length that a socket may have. nbdkit makes
// them absolute.
func (i *Initiator) useKernel() bool { return i.socketsFit() && kernelReady() }

func (i *Initiator) socketsFit() bool {
	path, err := filepath.Abs(filepath.Join(i.folder(lun.NAA{}), socketName))
	return err == nil && len(path) < len(unix.RawSockaddrUnix{}.Path)
}

// inKernel reports whether a device, or the record of one, is of the kernel's NBD
// client.
func inKernel(dev block.Device) bool { return dev.NBD != nil || strings.HasPrefix(dev.Name, "nbd") }

// turn waits until no other call attaches or detaches devices of the kernel's
// client.
func (i *Initiator) turn(ctx context.Context) (done func(), err error) {
	select {
	case i.kernel <- struct{}{}:
		return func() { <-i.kernel }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// rescanKernel returns what the kernel's client has of the LUNs, or can get, and
// the LUNs that are not for it.
func (i *Initiator) rescanKernel(ctx context.Context, luns []lun.Info) (devices []block.Device, rest []lun.Info, err error) {
	done, err := i.turn(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	here, err := block.OwnNBD(ctx, i.hostTag)
	if err != nil {
		return nil, nil, err
	}
	ready := i.useKernel()
	if !ready && len(here) == 0 {
		return nil, luns, nil
	}
	files, err := block.Own(ctx, i.hostTag)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range here {
		if d.NBD.Going { // whoever marked it may have been killed before it did more
			_ = disconnect(index(d))
		}
	}
	var missing []lun.NAA
	var errs []error
	for _, l := range luns {
		n, ok := l.NAA()
		at := indexOf(here, n)
		switch {
		case ok && at >= 0 && i.Present(n) && !i.dead(n):
			i.announce(here[at])
			devices = append(devices, here[at])
		case ok && at >= 0:
			// Nothing can be read from it any more.
			if err := i.letGo(ctx, here[at]); err != nil {
				errs = append(errs, err)
				continue
			}
			missing = append(missing, n)
		case !ok || !ready || has(files, n):
			rest = append(rest, l)
		default:
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		came, err := i.attachKernel(ctx, missing)
		devices, errs = append(devices, came...), append(errs, err)
	}
	return devices, rest, vss.Join(attachOp, errs...)
}

// announce has udev look at a device again, once in the daemon's life: it may
// have been made by one that was killed before it had said so.
func (i *Initiator) announce(dev block.Device) {
	if _, done := i.announced.LoadOrStore(dev.DiskSeq, true); !done {
		_ = os.WriteFile("/sys/class/block/"+dev.Name+"/uevent", []byte("change"), 0)
	}
}

// indexOf finds a LUN's device. One that was given up is none.
func indexOf(devices []block.Device, n lun.NAA) int {
	for k, d := range devices {
		if d.NBD != nil && d.NBD.NAA == n && !d.NBD.Going {
			return k
		}
	}
	return -1
}

func (i *Initiator) attachKernel(ctx context.Context, naas []lun.NAA) ([]block.Device, error) {
	exports, shown, missing := attach.Shown(ctx, naas, i.target.ExportLUNs)
	if len(shown) == 0 {
		return nil, missing
	}
	if err := i.writeKey(); err != nil {
		return nil, err
	}
	all, errs := make([]block.Device, len(exports.LUNs)), make([]error, len(exports.LUNs))
	var g errgroup.Group
	g.SetLimit(parallel)
	for k, l := range exports.LUNs {
		g.Go(func() error {
			all[k], errs[k] = i.give(ctx, exports.Portals, l)
			return nil
		})
	}
	_ = g.Wait()
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var out []block.Device
	for k, err := range errs {
		if n := exports.LUNs[k].NAA; err == nil {
			out = append(out, all[k])
		} else {
			errs = append(errs, i.stop(tidy, n), i.target.CloseLUNs(tidy, []lun.NAA{n}))
		}
	}
	return out, vss.Join(attachOp, append(errs, missing)...)
}

// give starts the proxy of a LUN and gives the kernel a connection to it.
func (i *Initiator) give(ctx context.Context, portals []string, l Exported) (block.Device, error) {
	var errs []error
	for _, p := range portals {
		d, err := i.giveAt(ctx, p, l)
		if err == nil || ctx.Err() != nil {
			return d, err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, i.failed(l.NAA, "the array names no portal", "Start the array with --nbd-portal", nil))
	}
	return block.Device{}, vss.Join(attachOp, errs...)
}

func (i *Initiator) giveAt(ctx context.Context, portal string, l Exported) (block.Device, error) {
	var none block.Device
	host, port, err := net.SplitHostPort(portal)
	if err != nil {
		return none, i.failed(l.NAA, "the array names a portal that is no address: "+portal, "Give the array's --nbd-portal as ADDRESS:PORT", err)
	}
	if err := i.stop(ctx, l.NAA); err != nil {
		return none, err
	}
	if err := reachable(ctx, portal); err != nil {
		if ctx.Err() != nil {
			return none, ctx.Err()
		}
		return none, i.failed(l.NAA, "the array's portal "+portal+" does not answer", "Check that the array runs, that the network leads to its --nbd-portal and the ports above it, and that no firewall is between", err)
	}
	dir := i.folder(l.NAA)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return none, i.failed(l.NAA, "its folder cannot be made", "Check --run-dir", err)
	}
	args := []string{"nbdkit", "-f", "-U", socketName}
	if l.ReadOnly {
		args = append(args, "-r")
	}
	p, err := outlive.Start(outlive.Program{Args: append(args, i.proxied(l, host, port)...), Dir: dir, Log: filepath.Join(dir, logName), Cgroup: cgroup, Memory: memory, Orphan: true})
	if err != nil {
		return none, i.failed(l.NAA, "nbdkit cannot be started", "Check that nbdkit is installed", err)
	}
	c, e, err := i.connection(ctx, p, l)
	if err != nil {
		return none, err
	}
	defer c.Close()
	switch {
	case e.size != l.Size:
		return none, i.failed(l.NAA, fmt.Sprintf("the array's server shows %d bytes, the LUN has %d", e.size, l.Size), "Restart the array, which makes its exports right", nil)
	case l.ReadOnly && e.flags&flagReadOnly == 0:
		return none, i.failed(l.NAA, "nbdkit would let it be written", "Check that nbdkit is as its package has it", nil)
	}
	i.boundSilence(p)
	index, err := connect(c, e, block.LoopName(l.NAA, i.hostTag))
	if err != nil {
		return none, i.failed(l.NAA, "the kernel's NBD client refused it", "See the kernel log", err)
	}
	return i.arrived(ctx, index, l)
}

// arrived is the device that the kernel made, with its node, once udev was told
// to look at it again: now it says which LUN it is.
func (i *Initiator) arrived(ctx context.Context, index int, l Exported) (block.Device, error) {
	name := fmt.Sprint("nbd", index)
	deadline := time.Now().Add(i.patience)
	for {
		dev, err := block.Inspect(ctx, name)
		if err == nil {
			if _, nerr := os.Stat(dev.Path); nerr == nil && dev.NBD != nil && dev.NBD.NAA == l.NAA && dev.Size == l.Size && (dev.ReadOnly || !l.ReadOnly) {
				i.announce(dev)
				return dev, nil
			}
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			_ = disconnect(index)
			if ctx.Err() != nil {
				return dev, ctx.Err()
			}
			return dev, i.failed(l.NAA, name+" did not become what it should be", "See the kernel log, and whether devtmpfs is at /dev", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

const socketName = "s" // short, see socketsFit

// connection connects to the proxy, which connects to the array meanwhile.
func (i *Initiator) connection(ctx context.Context, p outlive.Process, l Exported) (*os.File, exported, error) {
	type shaken struct {
		c   *os.File
		e   exported
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, i.patience)
	defer cancel()
	done := make(chan shaken, 1)
	go func() {
		c, e, err := dial(ctx, i.folder(l.NAA))
		done <- shaken{c, e, err}
	}()
	drop := func() {
		cancel()
		if s := <-done; s.c != nil {
			s.c.Close()
		}
	}
	for {
		select {
		case s := <-done:
			if s.err == nil {
				return s.c, s.e, nil
			}
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, s.e, ctx.Err()
			}
			if ctx.Err() != nil {
				return nil, s.e, i.failed(l.NAA, "nbdkit is not ready: "+firstLine(i.said(l.NAA)), "See "+filepath.Join(i.folder(l.NAA), logName)+", the array's log, and whether the machine is too busy", s.err)
			}
			return nil, s.e, i.refused(l, i.said(l.NAA)+" "+s.err.Error())
		case <-time.After(20 * time.Millisecond):
			if said := i.said(l.NAA); !p.Alive() || refusal(said) {
				drop()
				return nil, exported{}, i.refused(l, said)
			}
		}
	}
}

// detachKernel is Detach, or Abandon, of a device of the kernel's client.
func (i *Initiator) detachKernel(ctx context.Context, dev block.Device, letGo func(context.Context, block.Device) error) error {
	done, err := i.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	n, ok := dev.LUN.NAA()
	if dev.NBD != nil {
		n, ok = dev.NBD.NAA, dev.NBD.HostTag == i.hostTag
	}
	if !ok {
		return nil // whatever it was, it was none of ours
	}
	here, err := block.OwnNBD(ctx, i.hostTag)
	if err != nil {
		return err
	}
	live := indexOf(here, n)
	for k, d := range here {
		if d.NBD.NAA != n || d.Name != dev.Name || dev.DiskSeq != 0 && d.DiskSeq != dev.DiskSeq {
			continue
		}
		if err := letGo(ctx, d); err != nil {
			return err
		}
		if live == k {
			live = -1
		}
	}
	if live >= 0 {
		return nil // another attachment of the LUN
	}
	return vss.Join("detach LUN", i.stop(ctx, n), i.target.CloseLUNs(ctx, []lun.NAA{n}))
}

// letGo takes a device from the kernel once what was written is stored. One in
// use stays.
func (i *Initiator) letGo(ctx context.Context, dev block.Device) error {
	n := dev.NBD.NAA
	f, err := block.Open(ctx, dev, unix.O_RDONLY|unix.O_EXCL)
	if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		return nil
	}
	if err != nil {
		return err
	}
	stored := make(chan error, 1)
	go func() { // as long as the array does not answer
		defer f.Close()
		if !dev.ReadOnly && !dev.NBD.Going {
			if err := f.Sync(); err != nil && !i.dead(n) {
				stored <- i.failed(n, "what was written to it cannot be stored", "See that the array answers, and detach again", err)
				return
			}
		}
		if ctx.Err() != nil {
			stored <- ctx.Err()
			return
		}
		// Nobody can begin to use it between the question and this. The kernel
		// takes the device away with its last user.
		stored <- i.disconnect(dev)
	}()
	select {
	case err = <-stored:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return i.awaitGone(ctx, dev)
}

// abandon takes a device from under who uses it. The proxy goes first: the kernel
// might wait for one that waits for the array.
func (i *Initiator) abandon(ctx context.Context, dev block.Device) error {
	if dev.NBD.Going {
		return nil
	}
	if !dev.ReadOnly && !i.dead(dev.NBD.NAA) {
		flushed := make(chan struct{})
		go func() {
			defer close(flushed)
			if f, err := block.Open(ctx, dev, unix.O_RDONLY); err == nil {
				_ = f.Sync()
				f.Close()
			}
		}()
		select { // what can be stored is, if that is soon
		case <-flushed:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
	if err := outlive.Kept(i.folder(dev.NBD.NAA)).End(ctx, 0); err != nil {
		return i.failed(dev.NBD.NAA, "its processes do not end", "End them", err)
	}
	return i.disconnect(dev)
}

func (i *Initiator) disconnect(dev block.Device) error {
	err := block.MarkGoing(dev)
	if err == nil {
		err = disconnect(index(dev))
	} else if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return i.failed(dev.NBD.NAA, "the kernel's NBD client does not let it go", "See the kernel log", err)
	}
	return nil
}

func index(dev block.Device) int {
	var n int
	_, _ = fmt.Sscanf(dev.Name, "nbd%d", &n)
	return n
}

func (i *Initiator) awaitGone(ctx context.Context, dev block.Device) error {
	deadline := time.Now().Add(i.patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		now, err := block.Inspect(ctx, dev.Name)
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || err == nil && (now.NBD == nil || now.DiskSeq != dev.DiskSeq) {
			return nil
		}
		if err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "detach LUN", Object: dev.Path,
				Reason: "a program still has the device open; it goes when that closes it", Remedy: "End the program that reads the device, and detach again"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// free are the numbers that no device has, in the order to try.
func free() []int {
	var out []int
	for n := hide.NBDIndex; n < hide.NBDIndex+hide.NBDCount; n++ {
		if _, err := os.Lstat(fmt.Sprint("/sys/class/block/nbd", n)); err != nil {
			out = append(out, n)
		}
	}
	return out
}
