package block

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysRoot is where the kernel describes devices.
const sysRoot = "/sys"

// attr reads a one-line attribute of a sysfs folder; "" if there is none.
// Attributes vanish with their device at any time, so absence is no error.
//
// By plain system calls: os.ReadFile takes three times as many, and looking at
// one disk reads ten attributes.
func attr(dir, name string) string { return strings.TrimSpace(string(page(dir, name))) }

func open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// number reads a decimal attribute; 0 if there is none.
func number(dir, name string) uint64 {
	n, _ := strconv.ParseUint(attr(dir, name), 10, 64)
	return n
}

// page reads an attribute as it is, such as a vital product data page; nil if
// there is none.
func page(dir, name string) []byte {
	fd, err := open(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096) // the most an attribute of text has
	for size := 0; ; {
		n, err := unix.Read(fd, buf[size:])
		switch {
		case err == unix.EINTR:
			continue
		case n == len(buf)-size: // a page may be longer
			size, buf = len(buf), append(buf, make([]byte, len(buf))...)
			continue
		}
		return buf[:size+max(n, 0)]
	}
}

func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}
