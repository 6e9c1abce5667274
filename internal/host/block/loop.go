package block

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/lun"
)

// Loop is what the loop driver says of a device.
type Loop struct {
	BackingFile string  // path as the kernel prints it, in the namespace of whoever reads; may be stale
	Dev         uint64  // st_dev of the backing file
	Ino         uint64  // its inode
	Offset      uint64  // bytes into the backing file
	SizeLimit   uint64  // bytes of it, from there; 0: to its end
	Backing     uint64  // number of the block device that is the backing file; 0 for a regular file
	Name        string  // lo_file_name: free text by whoever attached it
	NAA         lun.NAA // the LUN, if Umbra attached it (HostTag != "")
	HostTag     string  // the Umbra host that attached it, or ""
	ReadOnly    bool    // by the driver: the flag of the device cannot be cleared
	Dead        bool    // what serves the backing file has ended: every access is an error
	Autoclear   bool    // goes away with its last user: detach is under way
	DirectIO    bool
}

const (
	loopPrefix = "umbra/"
	tagLength  = 8
	ouiDigits  = 7 // of an NAA 6 name: its type and the company; the rest is the serial number
)

// HostTag is the short name of a host in the names of its loop devices: the
// first 8 hexadecimal digits of the SHA-256 of the host's name. It keeps hosts
// that share a machine apart; it is no secret and proves nothing.
func HostTag(hostName string) string {
	sum := sha256.Sum256([]byte(hostName))
	return hex.EncodeToString(sum[:])[:tagLength]
}

// LoopName is the name Umbra gives a loop device: "umbra/naa.<32 hex>/<host
// tag>". At 51 bytes it fits into the driver's 64, so that a device can be
// told to be a LUN, and whose, without any record of ours.
func LoopName(naa lun.NAA, hostTag string) string {
	return loopPrefix + naa.String() + "/" + hostTag
}

// ParseLoopName is the reverse of LoopName. Anything not exactly of that form
// is not ours.
func ParseLoopName(name string) (naa lun.NAA, hostTag string, ok bool) {
	rest, ok := strings.CutPrefix(name, loopPrefix)
	if !ok {
		return lun.NAA{}, "", false
	}
	id, tag, ok := strings.Cut(rest, "/")
	if !ok || len(tag) != tagLength || strings.Trim(tag, "0123456789abcdef") != "" {
		return lun.NAA{}, "", false
	}
	naa, err := lun.ParseNAA(id)
	if err != nil || naa.String() != id {
		return lun.NAA{}, "", false
	}
	return naa, tag, true
}

// loopStatus asks the driver; ENXIO means that nothing is attached.
func loopStatus(f *os.File) (*Loop, error) {
	st, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if errors.Is(err, unix.ENOTCONN) {
		return deadLoop(f)
	}
	if err != nil {
		return nil, err
	}
	name := st.File_name[:]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	l := &Loop{
		Dev: st.Device, Ino: st.Inode, Offset: st.Offset, SizeLimit: st.Sizelimit, Backing: st.Rdevice, Name: string(name),
		ReadOnly:  st.Flags&unix.LO_FLAGS_READ_ONLY != 0,
		Autoclear: st.Flags&unix.LO_FLAGS_AUTOCLEAR != 0,
		DirectIO:  st.Flags&unix.LO_FLAGS_DIRECT_IO != 0,
	}
	if naa, tag, ok := ParseLoopName(l.Name); ok {
		l.NAA, l.HostTag = naa, tag
	}
	return l, nil
}

// deadLoop is what can be told of a loop device over a file of FUSE whose server
// has ended: the driver asks the file before it answers, and has no answer then.
// Whoever attaches such files calls them like the device (package attach/nbd), so
// the path says whose it is, as long as the file is mounted.
func deadLoop(f *os.File) (*Loop, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	l := &Loop{Dead: true}
	path := attr(filepath.Join(sysRoot, "dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), "loop"), "backing_file")
	dir, tag := filepath.Split(path)
	if naa, tag, ok := ParseLoopName(loopPrefix + filepath.Base(dir) + "/" + tag); ok {
		l.NAA, l.HostTag = naa, tag
	}
	return l, nil
}

// loopInfo is the LUN identity of a loop device: the NAA in its name, or
// nothing that qualifies for a loop device somebody else made.
func loopInfo(l *Loop) lun.Info {
	info := lun.Info{Version: lun.InfoVersion, BusType: lun.BusFileBackedVirtual}
	if l.HostTag != "" {
		// A loop device has no INQUIRY data. These are the strings that an Umbra
		// array reports; its provider corrects them where they differ.
		info.VendorID, info.ProductID, info.ProductRevision = "UMBRA", "FILE LUN", "1"
		info.CommandQueueing = true
		info.SerialNumber = hex.EncodeToString(l.NAA[:])[ouiDigits:]
		info.StorageIDs = []lun.StorageID{l.NAA.StorageID()}
	}
	return info
}
