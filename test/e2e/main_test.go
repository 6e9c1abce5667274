package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/site/sitetest"
)

// binary is the umbra program under test.
var binary string

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("end-to-end tests need root; skipped")
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("/tmp", "umbra-e2e-")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if binary, err = sitetest.Program(filepath.Join("..", ".."), dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	before := inventory()
	code := m.Run()
	if code == 0 {
		if err := checkMatrix(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	if left := leaks(before); len(left) > 0 {
		fmt.Println("left behind:")
		for _, l := range left {
			fmt.Println("  " + l)
		}
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// inventory is what Umbra could leave behind, as one set of lines: loop
// devices by backing file, mounts, and our own processes by command line.
// Other users of this machine may come and go, so only things that bear this
// project's marks count.
func inventory() map[string]bool {
	out := map[string]bool{}
	if b, err := os.ReadFile("/sys/kernel/rcu_expedited"); err == nil && strings.TrimSpace(string(b)) != "0" {
		out["grace periods expedited: "+strings.TrimSpace(string(b))] = true
	}
	names, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.Contains(string(b), "/umbra-site-") {
			out["loop device "+filepath.Base(filepath.Dir(filepath.Dir(n)))+" of "+strings.TrimSpace(string(b))] = true
		}
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for l := range strings.Lines(string(b)) {
			if strings.Contains(l, "umbra-site-") {
				out["mount "+strings.TrimSpace(l)] = true
			}
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), "umbra-site-") {
			out["process "+filepath.Base(filepath.Dir(p))+" "+strings.ReplaceAll(string(b), "\x00", " ")] = true
		}
	}
	dirs, _ := filepath.Glob("/tmp/umbra-site-*")
	for _, d := range dirs {
		out["folder "+d] = true
	}
	return out
}

// leaks is what is new; processes get a moment to be gone.
func leaks(before map[string]bool) []string {
	var left []string
	for range 50 {
		left = nil
		for l := range inventory() {
			if !before[l] {
				left = append(left, l)
			}
		}
		if len(left) == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return left
}
