package devicemapper

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// ControlNode is where the kernel takes requests.
const ControlNode = "/dev/mapper/control"

// Control is an open way to device-mapper. Its methods are safe for concurrent
// use.
type Control struct {
	mu    sync.RWMutex
	f     *os.File
	ioctl func(command uint32, buffer []byte) error // the kernel; something else in tests
}

// Open opens the way to the kernel's device-mapper. VSS_E_NOT_SUPPORTED if it
// has none, or its module is not loaded and cannot be.
func Open() (*Control, error) {
	f, err := os.OpenFile(ControlNode, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// Where nobody makes nodes (a container, a small initramfs) the kernel
		// may have device-mapper all the same.
		if merr := makeControlNode(); merr == nil {
			f, err = os.OpenFile(ControlNode, os.O_RDWR, 0)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "open device-mapper", Object: ControlNode, Reason: "this kernel has no device-mapper, or it is not loaded",
			Remedy: "Load it with `modprobe dm_mod`", Err: err}
	case errors.Is(err, fs.ErrPermission):
		return nil, &vss.Error{Code: vss.E_ACCESSDENIED, Op: "open device-mapper", Object: ControlNode, Reason: "only root may use it", Remedy: "Run it as root", Err: err}
	case err != nil:
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "open device-mapper", Object: ControlNode, Reason: "it cannot be opened", Remedy: "Read dmesg", Err: err}
	}
	c := &Control{f: f}
	c.ioctl = c.kernel
	return c, nil
}

// Close gives the way back. Devices stay as they are.
func (c *Control) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f == nil {
		return nil
	}
	err := c.f.Close()
	c.f = nil
	return err
}

func (c *Control) kernel(command uint32, buffer []byte) error {
	// A call that was given up may run longer than its caller: the descriptor
	// must not be closed, and its number given to another file, meanwhile.
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.f == nil {
		return os.ErrClosed
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, c.f.Fd(), uintptr(command), uintptr(unsafe.Pointer(&buffer[0]))); errno != 0 {
		return errno
	}
	return nil
}

// makeControlNode makes the node of a device-mapper that is loaded.
func makeControlNode() error {
	f, err := os.Open("/proc/misc")
	if err != nil {
		return err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) != 2 || fields[1] != "device-mapper" {
			continue
		}
		minor, err := strconv.ParseUint(fields[0], 10, 20)
		if err != nil {
			return err
		}
		const miscMajor = 10
		if err := os.MkdirAll("/dev/mapper", 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(ControlNode, unix.S_IFCHR|0o600, int(unix.Mkdev(miscMajor, uint32(minor)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	}
	return fs.ErrNotExist
}

// nudge is how often a call that is given up is told so, and patience for how
// long, before it is left to itself.
const (
	nudge    = 5 * time.Millisecond
	patience = 500 * time.Millisecond
)

// do makes a call, on a thread of its own, until it is through or ctx ends.
// undo, if there is one, is run when a call that was given up succeeds after
// all.
//
// The kernel's waits end with a signal, and Go sends its threads signals when
// it likes: a call that was interrupted is made again. The same signal, which
// does nothing else, is how a call that is given up is told.
func (c *Control) do(ctx context.Context, op string, command uint32, r request, undo func()) (answer, error) {
	if ctx.Err() != nil {
		return nil, givenUp(ctx, op, r.ref)
	}
	for {
		b, err := r.encode()
		if err != nil {
			return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: r.ref.String(), Reason: err.Error(), Remedy: "Report it"}
		}
		err = c.once(ctx, command, b, undo)
		switch {
		case errors.Is(err, errGivenUp), errors.Is(err, unix.EINTR):
			return nil, givenUp(ctx, op, r.ref)
		case err != nil:
			return nil, failed(op, r.ref, err)
		}
		a := answer(b)
		if a.flags()&unix.DM_BUFFER_FULL_FLAG == 0 {
			return a, nil
		}
		if r.room = max(4*r.room, 16<<10); r.room > maxData {
			return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: r.ref.String(), Reason: "the kernel's answer is too long", Remedy: "Report it"}
		}
	}
}

var errGivenUp = errors.New("given up")

func (c *Control) once(ctx context.Context, command uint32, b []byte, undo func()) error {
	thread := make(chan int, 1)
	ended := make(chan error, 1)
	var mu sync.Mutex
	abandoned := false
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		fresh := append([]byte(nil), b...)
		var err error
		for {
			copy(b, fresh)
			if err = c.ioctl(command, b); !errors.Is(err, unix.EINTR) || ctx.Err() != nil {
				break
			}
		}
		mu.Lock()
		late := abandoned
		ended <- err
		mu.Unlock()
		if late && err == nil && undo != nil {
			undo()
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	tid := <-thread
	for until := time.Now().Add(patience); time.Now().Before(until); {
		_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
		select {
		case err := <-ended:
			return err // nil: it came in time after all
		case <-time.After(nudge):
		}
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case err := <-ended:
		return err
	default:
		abandoned = true
		return errGivenUp
	}
}

func givenUp(ctx context.Context, op string, r Ref) error {
	return &vss.Error{Code: vss.E_ABORT, Op: op, Object: r.String(), Reason: "device-mapper did not answer in time",
		Remedy: "Check the devices below with dmesg, then repeat it", Err: context.Cause(ctx)}
}

// failed says what an errno of device-mapper means. Callers that want to know
// more ask errors.Is for the errno.
func failed(op string, r Ref, err error) error {
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: r.String(), Reason: "device-mapper refused", Remedy: "Read dmesg", Err: err}
	switch {
	case errors.Is(err, unix.ENXIO):
		e.Code, e.Reason, e.Remedy = vss.VSS_E_OBJECT_NOT_FOUND, "there is no such device", "List them with `dmsetup ls`"
	case errors.Is(err, unix.EBUSY) && op == opCreate, errors.Is(err, unix.EEXIST):
		e.Code, e.Reason, e.Remedy = vss.VSS_E_OBJECT_ALREADY_EXISTS, "a device with this name or UUID is there", "Find who made it with `dmsetup info`"
	case errors.Is(err, unix.EBUSY):
		e.Code, e.Reason, e.Remedy = vss.VSS_E_VOLUME_IN_USE, "the device is in use", "Unmount what is on it, and close it"
	case errors.Is(err, unix.ENOSPC):
		e.Code, e.Reason, e.Remedy = vss.VSS_E_INSUFFICIENT_STORAGE, "there is no room", "Make room, then repeat it"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		e.Code, e.Reason, e.Remedy = vss.E_ACCESSDENIED, "only root may use device-mapper", "Run it as root"
	case errors.Is(err, unix.ENOMEM):
		e.Code, e.Reason, e.Remedy = vss.E_OUTOFMEMORY, "the kernel has no memory for it", "Free memory, then repeat it"
	case errors.Is(err, unix.EINVAL) && op == opLoad:
		e.Reason, e.Remedy = "the kernel does not take its table", "Read dmesg, which says why; the kind of target may need a module (dm_thin_pool)"
	case errors.Is(err, os.ErrClosed):
		e.Code, e.Reason, e.Remedy = vss.VSS_E_BAD_STATE, "device-mapper is closed", "Report it"
	}
	return e
}
