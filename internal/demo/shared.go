package demo

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// fiemap's numbers (linux/fiemap.h).
const (
	fsIocFiemap        = 0xC020660B
	fiemapHeader       = 32
	fiemapExtentSize   = 56
	fiemapExtentLast   = 0x0001
	fiemapExtentShared = 0x2000
	fiemapBatch        = 512
)

// sharedBytes says how many of a file's allocated bytes are shared with
// another file.
func sharedBytes(path string) (shared, allocated uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	buf := make([]byte, fiemapHeader+fiemapBatch*fiemapExtentSize)
	for start := uint64(0); ; {
		clear(buf)
		binary.NativeEndian.PutUint64(buf[0:], start)
		binary.NativeEndian.PutUint64(buf[8:], ^uint64(0)-start)
		binary.NativeEndian.PutUint32(buf[24:], fiemapBatch)
		if err := ioctlBuffer(f, fsIocFiemap, buf); err != nil {
			return 0, 0, fmt.Errorf("extents of %s: %w", path, err)
		}
		n := binary.NativeEndian.Uint32(buf[20:])
		if n == 0 {
			return shared, allocated, nil
		}
		for i := range n {
			e := buf[fiemapHeader+int(i)*fiemapExtentSize:]
			logical, length, flags := binary.NativeEndian.Uint64(e), binary.NativeEndian.Uint64(e[16:]), binary.NativeEndian.Uint32(e[40:])
			allocated += length
			if flags&fiemapExtentShared != 0 {
				shared += length
			}
			if flags&fiemapExtentLast != 0 {
				return shared, allocated, nil
			}
			start = logical + length
		}
	}
}

func ioctlBuffer(f *os.File, req uintptr, buf []byte) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) { errno = ioctlPointer(fd, req, buf) }); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// counters are what loop devices have read and written, in bytes. They count
// on when a device is attached again, so only differences mean something.
type counters map[string][2]uint64

// readCounters reads those of all loop devices (sysfs stat: fields 3 and 7 are
// sectors).
func readCounters() counters {
	c := counters{}
	names, _ := filepath.Glob("/sys/block/loop*/stat")
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b))
		if len(f) < 7 {
			continue
		}
		var r, w uint64
		if _, err := fmt.Sscan(f[2]+" "+f[6], &r, &w); err == nil {
			c["/dev/"+filepath.Base(filepath.Dir(n))] = [2]uint64{r * 512, w * 512}
		}
	}
	return c
}

// since returns what a device read and wrote since before.
func (c counters) since(before counters, device string) (read, written uint64) {
	return c[device][0] - before[device][0], c[device][1] - before[device][1]
}
