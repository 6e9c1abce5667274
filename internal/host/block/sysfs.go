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
func attr(dir, name string) string {
	fd, err := open(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var buf [4096]byte // the most an attribute of text has
	for {
		n, err := unix.Read(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		return strings.TrimSpace(string(buf[:max(n, 0)]))
	}
}

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

// page reads a binary attribute, such as a vital product data page.
func page(dir, name string) []byte {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	return b
}

func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}
