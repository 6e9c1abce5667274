package outlive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program that was started, as it is kept on disk.
type Process struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks since boot, see proc(5)
	Boot    string `json:"boot"`
}

// stat reads when a process started, and whether it still runs: a zombie does
// not.
func stat(pid int) (started uint64, running bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The name, in brackets, may have anything in it.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, false
	}
	started, err = strconv.ParseUint(fields[19], 10, 64)
	return started, err == nil && fields[0] != "Z" && fields[0] != "X"
}

func boot() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// Alive reports whether it runs.
func (p Process) Alive() bool {
	if p.PID <= 1 || p.Boot != boot() {
		return false
	}
	started, running := stat(p.PID)
	return running && started == p.Started
}

// End asks the program and all it started to end, and kills them after the
// patience. Zero patience kills at once. It returns when the program is gone; one
// that is gone already, or whose number is another's, is left alone.
func (p Process) End(ctx context.Context, patience time.Duration) error {
	if !p.Alive() {
		return nil
	}
	sig := unix.SIGTERM
	if patience == 0 {
		sig = unix.SIGKILL
	}
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if err := unix.Kill(-p.PID, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		if !p.Alive() {
			return nil
		}
		if sig != unix.SIGKILL && time.Now().After(deadline) {
			sig = unix.SIGKILL
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Wait returns when the program has ended, or with ctx.
func (p Process) Wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil || !p.Alive() {
		if err == nil {
			unix.Close(fd)
		}
		return nil
	}
	defer unix.Close(fd)
	for p.Alive() {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200)
	}
	return nil
}

const recordName = "process.json"

// Keep writes the record into a folder, whole or not at all. It is for this boot
// only, so it is not synced.
func (p Process) Keep(dir string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, recordName+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, recordName))
}

// Kept reads the record of a folder; the zero Process, which is not alive, if
// there is none.
func Kept(dir string) Process {
	var p Process
	b, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil || json.Unmarshal(b, &p) != nil {
		return Process{}
	}
	return p
}

// EndAll kills what is on record in the folders below dir: for who takes down
// all that a daemon had, tests above all.
func EndAll(ctx context.Context, dir string) error {
	var errs []error
	folders, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range folders {
		errs = append(errs, Kept(f).End(ctx, 0))
	}
	return errors.Join(errs...)
}
