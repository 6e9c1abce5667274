package loop

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// loopMajor is fixed in the kernel.
const loopMajor = 7

// turn makes "find a free device, take it" one step within this process: it
// takes a quarter of a millisecond, and racing for the same free device would
// take longer. Other processes race all the same.
var turn sync.Mutex

// configure gives the LUN's file to a free loop device and returns its number.
func (i *Initiator) configure(ctx context.Context, o Opened) (int, error) {
	control, err := i.dev.control()
	if err != nil {
		return 0, err
	}
	defer unix.Close(control)
	lastTaken, again := -1, 0
	deadline := time.Now().Add(i.patience)
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		number, err := i.takeFree(control, o, again > 2)
		if err == nil {
			return number, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENXIO) {
			return 0, attachError(o.NAA, "the loop driver refused the LUN", err)
		}
		if time.Now().After(deadline) {
			return 0, attachError(o.NAA, "no free loop device was to be had", err)
		}
		// Somebody else was faster. If it is always the same device, it is free
		// but held open exclusively: then a new one is made.
		if number == lastTaken {
			again++
		} else {
			lastTaken, again = number, 0
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Duration(1+again) * time.Millisecond):
		}
	}
}

func (i *Initiator) takeFree(control int, o Opened, fresh bool) (int, error) {
	turn.Lock()
	defer turn.Unlock()
	var number int
	var err error
	if fresh {
		// Any negative number means: the next that does not exist.
		number, err = ctl(control, unix.LOOP_CTL_ADD, -1)
	} else {
		number, err = ctl(control, unix.LOOP_CTL_GET_FREE, 0)
	}
	if err != nil {
		return -1, err
	}
	node, err := i.dev.ensureNode(number)
	if err != nil {
		return number, err
	}
	// For writing in any case: closing it is then seen by those who watch /dev
	// for want of device events. Read-only is said by the flag, and enforced by
	// the descriptor.
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return number, err
	}
	defer unix.Close(fd)
	config := unix.LoopConfig{Fd: uint32(o.FD), Size: i.blockSize}
	// Direct I/O: no second copy of the LUN in the page cache, and a write that
	// the device has acknowledged is in the file where a snapshot finds it.
	config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	if o.ReadOnly {
		config.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], block.LoopName(o.NAA, i.hostTag))
	if err := unix.IoctlLoopConfigure(fd, &config); err != nil {
		return number, err
	}
	if !o.ReadOnly {
		// BLKROSET outlives the attachment: a device that once was an imported
		// copy would refuse writes to the LUN it is now.
		return number, unix.IoctlSetPointerInt(fd, unix.BLKROSET, 0)
	}
	return number, nil
}

func ctl(fd int, request uintptr, arg int) (int, error) {
	n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// folder is where device nodes are.
type folder string

func (d folder) node(number int) string {
	return filepath.Join(string(d), fmt.Sprintf("loop%d", number))
}

// control opens the loop driver's control node.
func (d folder) control() (int, error) {
	path := filepath.Join(string(d), "loop-control")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	e := &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: attachOp, Object: path, Err: err,
		Reason: "this machine has no loop driver", Remedy: "Load it with modprobe loop, or reach the array over iSCSI or NBD"}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		e.Code, e.Reason = vss.E_ACCESSDENIED, "the loop driver may not be used"
		e.Remedy = "Run the service as root with CAP_SYS_ADMIN and access to the device"
	}
	return -1, e
}

// ensureNode makes the node of a loop device where nobody else does: devtmpfs
// does in a moment, a container's /dev never.
func (d folder) ensureNode(number int) (string, error) {
	node := d.node(number)
	if _, err := unixStat(node); err == nil {
		return node, nil
	}
	err := unix.Mknod(node, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(number))))
	if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	return node, err
}

func unixStat(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st, err
}

// clearLoop takes back an attach that turned out wrong, if it is ours.
func clearLoop(node, hostTag string, naa lun.NAA) {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	st, err := unix.IoctlLoopGetStatus64(fd)
	if err == nil && unix.ByteSliceToString(st.File_name[:]) == block.LoopName(naa, hostTag) {
		_, _ = ctl(fd, unix.LOOP_CLR_FD, 0)
	}
}
