package site

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
)

// detachAll detaches the loop devices of one of the site's hosts.
func detachAll(ctx context.Context, tag string) error {
	ds, err := block.Loops(ctx, tag)
	for _, d := range ds {
		err = errors.Join(err, clear(d.Path))
	}
	return err
}

// detachUnder detaches loop devices whose backing file lay in the site's
// folder: the array's store image, if its last life could not do it.
func detachUnder(ctx context.Context, dir string) error {
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	var errs error
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil || !strings.HasPrefix(string(b), dir+"/") {
			continue
		}
		errs = errors.Join(errs, clear("/dev/"+filepath.Base(filepath.Dir(filepath.Dir(n)))))
	}
	return errs
}

// clear detaches a loop device and waits until the kernel has let go.
func clear(path string) error {
	for range 200 {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_, err = unix.IoctlRetInt(fd, unix.LOOP_CLR_FD)
		unix.Close(fd)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New(path + " does not let go of its file")
}
