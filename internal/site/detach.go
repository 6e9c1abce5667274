package site

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// nobody is the array of hosts that are gone.
type nobody struct{}

func (nobody) OpenLUNs(context.Context, []lun.NAA) ([]loop.Opened, error) { return nil, nil }
func (nobody) CloseLUNs(context.Context, []lun.NAA) error                 { return nil }

// store is the filesystem that holds the array's LUNs, while it is mounted.
func (s *Site) store() (dev uint64) {
	var st unix.Stat_t
	if s.arrayNS != nil && unix.Stat(s.ArrayPath(filepath.Join(s.ArrayDir(), "store")), &st) == nil {
		dev = st.Dev
	}
	return dev
}

// ours reports whether a loop device is of this site: another site on this
// machine may have hosts of the same names.
func (s *Site) ours(d block.Device, store uint64) bool {
	return d.Loop != nil && (strings.HasPrefix(d.Loop.BackingFile, s.Dir+"/") || store != 0 && d.Loop.Dev == store)
}

// detachAll detaches the loop devices of one of the site's hosts. A device
// number is nobody's name: the initiator checks that each device still is the
// one that was found, since others on this machine take and leave them.
func (s *Site) detachAll(ctx context.Context, tag string, store uint64) error {
	ds, err := block.Loops(ctx, tag)
	in := loop.New(tag, nobody{})
	for _, d := range ds {
		if !s.ours(d, store) || d.Loop.HostTag != tag {
			continue // Loops also shows what bears no host's tag at all
		}
		derr := in.Detach(ctx, d)
		// The namespace's mounts go with its last process, in the kernel's own time.
		for deadline := time.Now().Add(5 * time.Second); errors.Is(derr, vss.VSS_E_VOLUME_IN_USE) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			derr = in.Detach(ctx, d)
		}
		err = errors.Join(err, derr)
	}
	return err
}

// detachUnder detaches loop devices whose backing file lies in the site's
// folder: the array's store image, if its last life could not do it.
func detachUnder(ctx context.Context, dir string) error {
	ds, err := block.Loops(ctx, "")
	for _, d := range ds {
		if d.Loop == nil || !strings.HasPrefix(d.Loop.BackingFile, dir+"/") {
			continue
		}
		f, oerr := block.Open(ctx, d, unix.O_RDONLY|unix.O_EXCL)
		// The namespace's mounts go with its last process, in the kernel's own time.
		for deadline := time.Now().Add(5 * time.Second); errors.Is(oerr, vss.VSS_E_VOLUME_IN_USE) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			f, oerr = block.Open(ctx, d, unix.O_RDONLY|unix.O_EXCL)
		}
		if oerr != nil {
			err = errors.Join(err, oerr)
			continue
		}
		_, cerr := unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD)
		err = errors.Join(err, cerr, f.Close())
	}
	return err
}
