package site

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/outlive"
)

// unmountScript unmounts what is mounted of the site in a host's namespace, but
// for what loop devices are made of.
const unmountScript = `while read -r dev point type rest; do
	case $type:$point in fuse*) ;; *:"$0"/*) printf '%s\n' "$point" ;; esac
done </proc/self/mounts | sort -r | while read -r point; do
	point=$(printf %b "$point"); umount "$point" || umount -l "$point"
done`

// endData ends what carries a host's data and outlives its daemon: it would keep
// the namespace, and dead it would keep its loop devices.
func (h *Host) endData(ctx context.Context) error {
	arrays, _ := filepath.Glob(filepath.Join(h.RunDir(), "nbd", "*"))
	if len(arrays) == 0 {
		return nil
	}
	// In good order if that can be: a test may have cut the host off from its
	// array, and what is lost then was the test's to lose.
	tag := block.HostTag(h.Name)
	gentle, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := h.ns.command(gentle, "sh", "-c", unmountScript, h.site.Dir)
	cmd.WaitDelay = time.Second
	if cmd.Run() == nil && h.site.detachAll(gentle, tag, 0) != nil {
		cancel()
	}
	var errs []error
	for _, a := range arrays {
		errs = append(errs, outlive.EndAll(ctx, a))
	}
	left, err := block.Own(ctx, tag)
	errs = append(errs, err)
	for _, d := range left {
		if !h.site.ours(d, 0) {
			continue
		}
		f, err := block.Open(ctx, d, unix.O_RDONLY)
		if err == nil {
			_, _ = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD) // it goes with the namespace's mounts
			err = f.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
