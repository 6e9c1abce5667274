package site

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// underSize is how large the filesystem under the array is. It is a sparse file.
const underSize = 4 << 30

// mountUnder gives the array's folder a filesystem of its own, seen by the
// array alone.
func (s *Site) mountUnder(ctx context.Context) error {
	if s.under == "" {
		return nil
	}
	image := filepath.Join(s.Dir, "under.img")
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(underSize); err != nil {
		return err
	}
	mkfs, err := mkfsOf(s.under)
	if err != nil {
		return err
	}
	if _, err := run(ctx, s.arrayNS, mkfs[0], append(mkfs[1:], image)...); err != nil {
		return err
	}
	// A free device may still be read-only for its last user's sake. Detached
	// while it is mounted, it goes when the filesystem does.
	_, err = run(ctx, s.arrayNS, "sh", "-ec", `dev=$(losetup --find --show "$1")
		trap 'losetup --detach "$dev"' EXIT
		blockdev --setrw "$dev"
		mount -t "$2" "$dev" "$3"`, "sh", image, s.under, s.ArrayDir())
	return err
}

// unmountUnder fails while a LUN is attached.
func (s *Site) unmountUnder(ctx context.Context) error {
	if s.under == "" || !s.underMounted() {
		return nil
	}
	if _, err := run(ctx, s.arrayNS, "umount", s.ArrayDir()); err != nil {
		return fmt.Errorf("filesystem under the array: %w", err)
	}
	return nil
}

// underMounted reports whether the array's folder is another filesystem's than
// the site's.
func (s *Site) underMounted() bool {
	in, err := os.Stat(s.ArrayPath(s.ArrayDir()))
	if err != nil {
		return false
	}
	out, err := os.Stat(s.ArrayDir())
	return err == nil && !os.SameFile(in, out)
}
