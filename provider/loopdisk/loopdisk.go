// Package loopdisk makes loop devices that Umbra takes for LUNs. Providers whose
// LUNs are files, or devices, of this machine use it: in OnLoad for originals, in
// LocateLUNs for copies.
//
// Umbra knows such a device by its name, umbra/LUN/HOST, and detaches it itself.
package loopdisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/umbra-vss/umbra/lun"
	"golang.org/x/sys/unix"
)

var loops sync.Mutex // finding a free device and taking it is one step

// devices lists the loop devices of a LUN, of one host or, for "", of all on this
// machine.
func devices(n lun.NAA, host string) (out []string) {
	all, _ := filepath.Glob("/sys/block/loop*/loop")
	for _, d := range all {
		dev := "/dev/" + filepath.Base(filepath.Dir(d))
		f, err := os.Open(dev)
		if err != nil {
			continue
		}
		st, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		f.Close()
		if err != nil {
			continue // it is nobody's by now
		}
		if of, found := strings.CutPrefix(unix.ByteSliceToString(st.File_name[:]), "umbra/"+n.String()+"/"); found && (host == "" || of == host) {
			out = append(out, dev)
		}
	}
	return out
}

// Attach makes the LUN's file a device of this host, unless it is one. host is
// what remote.EnvHostTag says.
func Attach(path string, n lun.NAA, host string, write bool) error {
	loops.Lock()
	defer loops.Unlock()
	if len(devices(n, host)) > 0 {
		return nil
	}
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	for range 20 { // others take loop devices, too
		number, _, e := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.LOOP_CTL_GET_FREE, 0)
		if e != 0 {
			return e
		}
		dev := fmt.Sprintf("/dev/loop%d", number)
		_ = unix.Mknod(dev, unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(number)))) // where no devtmpfs does it
		l, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		c := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 512}
		c.Info.Flags = unix.LO_FLAGS_DIRECT_IO
		if !write {
			c.Info.Flags |= unix.LO_FLAGS_READ_ONLY
		}
		copy(c.Info.File_name[:63], "umbra/"+n.String()+"/"+host)
		err = unix.IoctlLoopConfigure(int(l.Fd()), &c)
		if err == nil && write {
			if err = unix.IoctlSetPointerInt(int(l.Fd()), unix.BLKROSET, 0); err != nil { // the flag of who had the device before
				_, _ = unix.IoctlRetInt(int(l.Fd()), unix.LOOP_CLR_FD)
			}
		}
		l.Close()
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return unix.EBUSY
}

// Detach ends all devices of the LUN on this machine. One that is in use is an
// error (EBUSY) and stays.
func Detach(n lun.NAA) error {
	loops.Lock()
	defer loops.Unlock()
	for _, dev := range devices(n, "") {
		f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
		if errors.Is(err, unix.ENXIO) {
			continue // gone meanwhile
		}
		if err != nil {
			return err
		}
		_, err = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD)
		f.Close()
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return err
		}
	}
	return nil
}

// Devices lists the devices of the LUN on this machine.
func Devices(n lun.NAA) []string { return devices(n, "") }
