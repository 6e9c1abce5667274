package freeze_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
)

// The test binary runs itself again as a daemon that can be killed.
const (
	childPaths  = "UMBRA_TEST_FREEZE_PATHS"  // mount point and device, "PATH=DEVICE", one a line
	childIntent = "UMBRA_TEST_FREEZE_INTENT" // folder for the hold intent
	childLimit  = "UMBRA_TEST_FREEZE_LIMIT"  // of the hold
	childGuard  = "UMBRA_TEST_FREEZE_GUARD"  // file with the guard program
	childCgroup = "UMBRA_TEST_FREEZE_CGROUP" // file to enter a cgroup by
)

func TestMain(m *testing.M) {
	if paths := os.Getenv(childPaths); paths != "" {
		holdForEver(strings.Split(paths, "\n"))
	}
	before, _ := os.ReadFile(expeditedPath)
	code := m.Run()
	if code == 0 && !expeditedIs(before) {
		fmt.Println("grace periods are left expedited: some death in a freeze was not undone")
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// expeditedIs waits a moment: another hold on this machine may use the switch,
// and may have used it when before was read.
func expeditedIs(before []byte) bool {
	if strings.TrimSpace(string(before)) != "0" {
		return true
	}
	for range 100 {
		if now, _ := os.ReadFile(expeditedPath); string(now) == string(before) {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// holdForEver freezes, prints the guard's PID and waits to be killed, or, told so
// by a signal, uses all the memory there is.
func holdForEver(lines []string) {
	hungry := make(chan os.Signal, 1)
	signal.Notify(hungry, unix.SIGUSR1)
	fail := func(err error) {
		fmt.Println("child:", err)
		os.Exit(1)
	}
	if procs := os.Getenv(childCgroup); procs != "" {
		if err := os.WriteFile(procs, []byte("0"), 0o644); err != nil {
			fail(err)
		}
	}
	program, err := os.ReadFile(os.Getenv(childGuard))
	if err != nil {
		fail(err)
	}
	limit, _ := time.ParseDuration(os.Getenv(childLimit))
	var fss []*freeze.Filesystem
	for _, line := range lines {
		path, device, _ := strings.Cut(line, "=")
		var st, dev unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			fail(err)
		}
		if err := unix.Stat(device, &dev); err != nil {
			fail(err)
		}
		f, err := freeze.Open(freeze.Target{Path: path, Dev: uint64(st.Dev), Ino: st.Ino,
			Devices: []freeze.DeviceNumber{{Major: unix.Major(uint64(dev.Rdev)), Minor: unix.Minor(uint64(dev.Rdev))}}})
		if err != nil {
			fail(err)
		}
		fss = append(fss, f)
	}
	if dir := os.Getenv(childIntent); dir != "" {
		if _, err := freeze.WriteIntent(dir, freeze.NewIntent("set", fss)); err != nil {
			fail(err)
		}
	}
	g, err := freeze.StartGuard(context.Background(), fss, freeze.Options{Binary: program, Limit: limit})
	if err != nil {
		fail(err)
	}
	fmt.Println("guard", g.PID())
	if err := g.Freeze(context.Background()); err != nil {
		fail(err)
	}
	fmt.Println("holding")
	<-hungry
	for eaten := [][]byte{}; ; {
		eaten = append(eaten, bytes.Repeat([]byte{1}, 1<<20))
	}
}
