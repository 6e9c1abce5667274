package array

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// heldByReaders says which loop devices of this machine still have files of
// the store's folder open that have no name any more: copies that were deleted
// by force while somebody read them. Their space comes back when they are closed,
// and nothing else lists it. sys is where sysfs is. Over a network nothing is
// held: the export ends, and with it the readers' devices.
func heldByReaders(sys, folder string) (out []string) {
	if real, err := filepath.EvalSymlinks(folder); err == nil { // as the kernel says it
		folder, _ = filepath.Abs(real)
	}
	loops, _ := filepath.Glob(filepath.Join(sys, "block/loop*/loop/backing_file"))
	for _, f := range loops {
		b, err := os.ReadFile(f)
		path, deleted := strings.CutSuffix(strings.TrimSpace(string(b)), " (deleted)")
		if err != nil || !deleted || filepath.Dir(path) != folder {
			continue
		}
		dir := filepath.Dir(filepath.Dir(f))
		size, _ := os.ReadFile(filepath.Join(dir, "size"))
		sectors, _ := strconv.ParseUint(strings.TrimSpace(string(size)), 10, 64)
		out = append(out, fmt.Sprintf("%s was deleted by force and is still read, through /dev/%s: up to %d MiB come back when its readers have closed it",
			filepath.Base(path), filepath.Base(dir), sectors>>11))
	}
	return out
}
