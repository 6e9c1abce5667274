package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scriptHold runs the usual script and returns its hold window: from before
// the first fsfreeze to after the last, as the shell sees it.
func scriptHold(ctx context.Context, j bareJob) (time.Duration, error) {
	for i := range j.Mounts {
		if err := flush(j.Mounts[i], unix.Syncfs); err != nil {
			return 0, err
		}
		if err := flush(j.Sources[i], unix.Fsync); err != nil {
			return 0, err
		}
	}
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	line("set -e")
	line("echo begin")
	for _, m := range j.Mounts {
		line("fsfreeze -f '%s'", m)
	}
	for i := range j.Sources {
		line("cp --reflink=always '%s' '%s'", j.Sources[i], j.Targets[i])
	}
	for _, m := range j.Mounts {
		line("fsfreeze -u '%s'", m)
	}
	line("echo end")
	cmd := exec.CommandContext(ctx, "sh", "-c", s.String())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var stamps []time.Time
	for lines := bufio.NewScanner(out); lines.Scan(); {
		stamps = append(stamps, time.Now())
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("script: %w: %s", err, errs.String())
	}
	if len(stamps) != 2 {
		return 0, fmt.Errorf("script: %d lines, want 2", len(stamps))
	}
	return stamps[1].Sub(stamps[0]), nil
}

func flush(path string, how func(int) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return how(int(f.Fd()))
}
