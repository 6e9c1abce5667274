package iscsi

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/underway"
)

// maps is multipathd, as far as this package has to do with it.
type maps interface {
	// wants reports whether a map is going to be made of some paths: multipathd
	// runs, and its rules for udev say so. It is asked again until the map is there.
	wants(ctx context.Context, paths []block.Device) bool
	// flush takes a map apart, unless somebody uses it.
	flush(ctx context.Context, name string) error
	// fail makes a map that is to lose all its paths fail, instead of waiting for
	// one.
	fail(ctx context.Context, name string) error
}

// multipathd is the real one.
type multipathd struct{}

// multipathdSocket is where it listens, an abstract name.
const multipathdSocket = "@/org/kernel/linux/storage/multipathd"

func (multipathd) runs() bool {
	b, err := os.ReadFile("/proc/net/unix")
	return err == nil && strings.Contains(string(b), multipathdSocket)
}

// settled is how long udev may take to say what it makes of a disk.
const settled = 5 * time.Second

func (m multipathd) wants(ctx context.Context, paths []block.Device) bool {
	if !m.runs() {
		return false
	}
	for _, p := range paths {
		for deadline := time.Now().Add(settled); ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			says, err := os.ReadFile(fmt.Sprintf("/run/udev/data/b%d:%d", p.Major, p.Minor))
			if strings.Contains(string(says), "E:DM_MULTIPATH_DEVICE_PATH=1\n") {
				return true
			}
			if err == nil || time.Now().After(deadline) {
				break
			}
			if _, err := os.Stat("/run/udev/control"); err != nil {
				break // there is no udev
			}
		}
	}
	return false
}

func (m multipathd) flush(ctx context.Context, name string) error {
	if m.runs() {
		return told(ctx, "multipathd", "del", "map", name)
	}
	return told(ctx, "multipath", "-f", name)
}

func (m multipathd) fail(ctx context.Context, name string) error {
	if m.runs() {
		return told(ctx, "multipathd", "disablequeueing", "map", name)
	}
	return told(ctx, "dmsetup", "message", name, "0", "fail_if_no_path")
}

// toldTime is long for a message to multipathd.
const toldTime = 30 * time.Second

// told runs a program of multipath-tools. multipathd's client ends with 0 also
// when multipathd says no.
func told(ctx context.Context, program string, args ...string) error {
	out, errs, err := underway.Run(ctx, toldTime, nil, program, args...)
	said := strings.TrimSpace(out + errs)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, said)
	case said == "fail":
		return fmt.Errorf("%s %s: it refused", program, strings.Join(args, " "))
	}
	return nil
}
