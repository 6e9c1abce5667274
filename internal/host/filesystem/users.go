package filesystem

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// users names some processes that have something open at or below a path, for
// the message to whoever has to end them. It sees what /proc shows us, and no
// more than four.
func users(ctx context.Context, path string) string {
	const limit = 4
	var found []string
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		if ctx.Err() != nil || len(found) == limit {
			break
		}
		if _, err := strconv.Atoi(p.Name()); err == nil && uses(p.Name(), path) {
			comm, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
			found = append(found, fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), p.Name()))
		}
	}
	return strings.Join(found, ", ")
}

func uses(pid, path string) bool {
	links := []string{"cwd", "root", "exe"}
	if fds, err := os.ReadDir(filepath.Join("/proc", pid, "fd")); err == nil {
		for _, fd := range fds {
			links = append(links, "fd/"+fd.Name())
		}
	}
	for _, l := range links {
		to, err := os.Readlink(filepath.Join("/proc", pid, l))
		if err == nil && (to == path || strings.HasPrefix(to, path+"/")) {
			return true
		}
	}
	return false
}
