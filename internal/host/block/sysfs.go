package block

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sysRoot is where the kernel describes devices.
const sysRoot = "/sys"

// attr reads a one-line attribute of a sysfs folder; "" if there is none.
// Attributes vanish with their device at any time, so absence is no error.
func attr(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
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
