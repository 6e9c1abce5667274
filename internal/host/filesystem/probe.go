package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// superblocks is how much of a device's start has every superblock in it:
// btrfs's is the farthest, 4 KiB at 64 KiB.
const superblocks = 64<<10 + 4<<10

// firstPage has those of ext2/3/4 and of XFS with sectors up to its size.
const firstPage = 4 << 10

// Probe reads what filesystem the device at a path holds. It reads past the
// page cache, which may be older than the disk, and changes nothing.
//
// A device with nothing Umbra knows is an Identity with an empty Type and no
// error. Errors: VSS_E_OBJECT_NOT_FOUND if there is no such device,
// VSS_E_VOLUME_NOT_SUPPORTED for a superblock that contradicts itself or
// whose checksum is wrong, and VSS_E_UNEXPECTED if the device cannot be read.
func Probe(ctx context.Context, devicePath string) (Identity, error) {
	return ProbeAt(ctx, devicePath, 0)
}

// ProbeAt is Probe of a part of the device that has no node: it begins at an
// offset.
func ProbeAt(ctx context.Context, devicePath string, offset uint64) (Identity, error) {
	if err := ctx.Err(); err != nil {
		return Identity{}, err
	}
	// Most superblocks are in the first page. A read of 68 KiB of a copy, whose
	// extents are many, costs as much as the rest of an import's verification.
	head, err := read(ctx, devicePath, offset, firstPage)
	if err != nil {
		return Identity{}, probeError(devicePath, err)
	}
	id, err := Parse(head)
	if err != nil || id.Type == "" {
		if head, err = read(ctx, devicePath, offset, superblocks); err != nil {
			return Identity{}, probeError(devicePath, err)
		}
		id, err = Parse(head)
	}
	if err != nil {
		return Identity{}, &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "probe filesystem", Object: devicePath,
			Reason: "its superblock is damaged: " + err.Error(),
			Remedy: "Check the filesystem with its own fsck, or copy the LUN again", Err: err}
	}
	return id, nil
}

// probeTime bounds the reading of a superblock: a disk whose storage does not
// answer blocks its readers for as long as that lasts.
const probeTime = 30 * time.Second

func read(ctx context.Context, path string, offset uint64, length int) ([]byte, error) {
	b, err := underway.Do(ctx, probeTime, underway.Wait{Kind: underway.Device, What: "reading the superblock", Object: path},
		func() ([]byte, error) { return readHead(path, offset, length) }, nil)
	if errors.As(err, new(underway.Late)) && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return b, err
}

// readHead reads bytes of a device; less if the device is shorter.
func readHead(path string, offset uint64, length int) ([]byte, error) {
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_DIRECT, 0)
	direct := err == nil
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// An anonymous mapping is aligned to a page, as direct reads want it.
	buf, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(buf) }()
	n, err := readFull(f, buf, int64(offset))
	if direct && errors.Is(err, unix.EINVAL) {
		// The device's blocks are larger than ours are aligned to: through the
		// cache then, without what is in it.
		if _, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, 0); err == nil {
			_ = unix.Fadvise(int(f.Fd()), int64(offset), int64(length), unix.FADV_DONTNEED)
			n, err = readFull(f, buf, int64(offset))
		}
	} else if !direct {
		_ = unix.Fadvise(int(f.Fd()), int64(offset), int64(length), unix.FADV_DONTNEED)
	}
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), buf[:n]...), nil
}

func readFull(f *os.File, buf []byte, offset int64) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Pread(int(f.Fd()), buf[n:], offset+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// Parse tells the filesystem from the first bytes of a device, of which 68 KiB
// are enough. It returns an error only for something that is recognized and
// wrong; the zero Identity is "nothing known".
func Parse(head []byte) (Identity, error) {
	for _, parse := range []func([]byte) (Identity, bool, error){parseXFS, parseExt, parseBtrfs, parseLUKS, parseLVM} {
		id, found, err := parse(head)
		if err != nil {
			return Identity{}, err
		}
		if found {
			return id, nil
		}
	}
	return Identity{}, nil
}

// at returns n bytes of b at an offset, or nil if they are not all there.
func at(b []byte, off, n int) []byte {
	if off < 0 || n < 0 || len(b) < off+n {
		return nil
	}
	return b[off : off+n]
}

// uuidText writes 16 bytes as a UUID; "" for the nil UUID.
func uuidText(b []byte) string {
	for _, c := range b {
		if c != 0 {
			return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
		}
	}
	return ""
}

// text reads a label that ends at its first NUL or with its field.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

func probeError(path string, err error) error {
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "probe filesystem", Object: path,
		Reason: "the device cannot be read", Remedy: "See the kernel log for the device", Err: err}
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		e.Code, e.Reason = vss.VSS_E_OBJECT_NOT_FOUND, "there is no such device"
		e.Remedy = "Attach the LUN, or name the device it has now"
	case errors.Is(err, os.ErrPermission):
		e.Code, e.Reason, e.Remedy = vss.E_ACCESSDENIED, "the device may not be read", "Run as root"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EISDIR):
		e.Code, e.Reason, e.Remedy = vss.E_INVALIDARG, "not a block device", "Name a block device"
	}
	return e
}
