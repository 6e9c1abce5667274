package lvmthin

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/vss"
)

const (
	// blockSize is what the pool gives room in, and what a copy and its source
	// stop sharing when a byte of it is written.
	blockSize    = 64 << 10
	blockSectors = blockSize / devicemapper.SectorSize
)

// openPool brings the pool up, or adopts one that is. The pool of somebody else
// is refused, and so are devices that hold anything.
func (s *Store) openPool(ctx context.Context) error {
	meta, data, err := s.devices(ctx)
	if err != nil {
		return err
	}
	s.meta, s.data = meta, data
	length, err := sectors(data)
	if err != nil {
		return refuse(vss.VSS_E_UNEXPECTED, s.place, "the size of the pool's data cannot be read", "Check the device", err)
	}
	length -= length % blockSectors
	target := devicemapper.Target{Length: length, Type: "thin-pool",
		Params: fmt.Sprintf("%s %s %d %d", devicemapper.Number(meta), devicemapper.Number(data), blockSectors, length/blockSectors/20)}
	pool := devicemapper.Name(s.prefix + "pool")
	if d, err := s.dm.Info(ctx, pool); err == nil {
		if d.UUID != s.uuid("pool") {
			return refuse(vss.VSS_E_OBJECT_ALREADY_EXISTS, pool.Name, "another device has the pool's name", "Find who made it with `dmsetup info`", nil)
		}
		return s.adoptPool(ctx, d, target)
	} else if !errors.Is(err, unix.ENXIO) {
		return err
	}
	if err := s.checkDevices(); err != nil {
		return err
	}
	d, err := s.dm.Make(ctx, devicemapper.Spec{Name: pool.Name, UUID: s.uuid("pool"), Udev: devicemapper.Unread, Targets: []devicemapper.Target{target}})
	if err != nil {
		if errors.Is(err, unix.EINVAL) {
			return refuse(vss.VSS_E_NOT_SUPPORTED, s.place, "the kernel does not take the pool", "Load its module with `modprobe dm_thin_pool`; dmesg says more", err)
		}
		return err
	}
	s.pool = d
	return s.checkTransaction(ctx)
}

// adoptPool takes over the pool of an earlier process, enlarged if its device is.
func (s *Store) adoptPool(ctx context.Context, d devicemapper.Device, want devicemapper.Target) error {
	s.pool = d
	is, err := s.dm.Table(ctx, d.Ref())
	if err != nil {
		return err
	}
	if len(is) == 0 { // died before its table was loaded
		if err := s.checkDevices(); err != nil {
			return err
		}
	}
	if len(is) == 0 || is[0].Length < want.Length {
		if err := s.dm.Load(ctx, d.Ref(), false, want); err != nil {
			return err
		}
		if err := s.dm.Resume(ctx, d.Ref(), devicemapper.Unread); err != nil {
			return err
		}
		s.log.Info("the pool is as large as its device now", "pool", d.Name, "sectors", want.Length)
	}
	return s.checkTransaction(ctx)
}

// checkTransaction compares the pool's number with the record's, and gives it
// to a new pool.
func (s *Store) checkTransaction(ctx context.Context) error {
	p, err := s.status(ctx)
	if err != nil {
		return err
	}
	own := s.rec.pool
	switch {
	case p.Failed:
		return refuse(vss.VSS_E_PROVIDER_VETO, s.place, "the pool has failed", "Read dmesg, then repair it with `thin_check` and `thin_repair`", nil)
	case p.Transaction == own.Transaction && !own.Formatting:
		return nil
	case own.Formatting && (p.Transaction == 0 || p.Transaction == own.Transaction):
		if p.Transaction == 0 {
			if _, err := s.dm.Message(ctx, s.pool.Ref(), 0, fmt.Sprintf("set_transaction_id 0 %d", own.Transaction)); err != nil {
				return err
			}
		}
		own.Formatting = false
		return s.rec.change(own, nil)
	}
	return s.notOurs(p.Transaction)
}

func (s *Store) notOurs(transaction uint64) error {
	return refuse(vss.VSS_E_BAD_STATE, s.place, fmt.Sprintf("the pool is not this array's: its transaction number is %d, not %d", transaction, s.rec.pool.Transaction),
		"Give the array its own devices and its own folder; a pool that LVM manages cannot be shared", nil)
}

// Where a thin pool's superblock says what it is.
const (
	superMagic       = 27022010
	offMagic         = 32
	offTransactionID = 48
)

// checkDevices looks at devices that no pool is on now. A new array takes empty
// ones, and one that has a pool takes that one.
func (s *Store) checkDevices() error {
	super, err := head(s.meta)
	if err != nil {
		return refuse(vss.VSS_E_UNEXPECTED, s.place, "the pool's metadata cannot be read", "Check the device with dmesg", err)
	}
	own := s.rec.pool
	if binary.LittleEndian.Uint64(super[offMagic:]) == superMagic {
		if id := binary.LittleEndian.Uint64(super[offTransactionID:]); id != own.Transaction && !(own.Formatting && id == 0) {
			return s.notOurs(id)
		}
		return nil
	}
	if own.Transaction != 0 && !own.Formatting {
		return refuse(vss.VSS_E_BAD_STATE, s.place, "the pool of this array is not on its metadata device", "Give the array the devices it had", nil)
	}
	first, err := head(s.data)
	if err != nil {
		return refuse(vss.VSS_E_UNEXPECTED, s.place, "the pool's data cannot be read", "Check the device with dmesg", err)
	}
	if !empty(super) || !empty(first) {
		return refuse(vss.VSS_E_OBJECT_ALREADY_EXISTS, s.place, "a device that is to become the pool's holds something", "Give other devices; if they are the right ones, empty them with `wipefs -a` and `blkdiscard -z`", nil)
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	own.Transaction = uint64(binary.NativeEndian.Uint32(b[:])|1<<31)<<32 | 1
	own.Formatting, own.Next = true, 1
	return s.rec.change(own, nil)
}

func empty(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// head are the first bytes of a device, from the disk.
func head(dev uint64) ([]byte, error) {
	f, err := openDevice(dev, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 4096)
	_, err = io.ReadFull(f, b)
	return b, err
}

func sectors(dev uint64) (uint64, error) {
	f, err := openDevice(dev, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	return uint64(n) / devicemapper.SectorSize, err
}

// openDevice opens a device by its number, by a node of our own: its names are
// other programs' doing.
func openDevice(dev uint64, mode int) (*os.File, error) {
	link := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
	if to, err := os.Readlink(link); err == nil {
		path := "/dev/" + base(to)
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == dev {
			return os.OpenFile(path, mode, 0)
		}
	}
	dir, err := os.MkdirTemp("", "umbra-pool-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	node := dir + "/device"
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(dev)); err != nil {
		return nil, err
	}
	return os.OpenFile(node, mode, 0)
}

// devices are the numbers of the devices the pool is on.
func (s *Store) devices(ctx context.Context) (meta, data uint64, err error) {
	if s.cfg.VG != "" {
		return volumes(ctx, s.dm, s.cfg.VG, s.cfg.Size)
	}
	for path, dev := range map[string]*uint64{s.cfg.Metadata: &meta, s.cfg.Data: &data} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return 0, 0, refuse(vss.E_INVALIDARG, path, "it is not a block device", "Give the pool's two devices, or a volume group", err)
		}
		*dev = st.Rdev
	}
	if meta == data {
		return 0, 0, refuse(vss.E_INVALIDARG, s.cfg.Data, "data and metadata are one device", "Give two devices", nil)
	}
	return meta, data, nil
}

func (s *Store) status(ctx context.Context) (devicemapper.Pool, error) {
	t, err := s.dm.Status(ctx, s.pool.Ref())
	if err != nil {
		return devicemapper.Pool{}, err
	}
	if len(t) != 1 || t[0].Type != "thin-pool" {
		return devicemapper.Pool{}, refuse(vss.VSS_E_UNEXPECTED, s.pool.Name, "it is no thin pool", "Find who changed it with `dmsetup table`", nil)
	}
	p, err := devicemapper.ParsePool(t[0].Params)
	if err != nil {
		return p, refuse(vss.VSS_E_UNEXPECTED, s.pool.Name, "its status cannot be read", "Report it", err)
	}
	return p, nil
}

// trouble says why a pool makes no copies, "" if it does.
func trouble(p devicemapper.Pool) string {
	switch {
	case p.Failed:
		return "the pool has failed"
	case p.NeedsCheck:
		return "the pool's metadata must be checked (`thin_check`)"
	case p.Mode == "ro":
		return "the pool is read-only"
	case p.Mode == "out_of_data_space":
		return "the pool is full"
	}
	return ""
}

func refuse(code vss.HResult, object, reason, remedy string, err error) error {
	return &vss.Error{Code: code, Op: "open store", Object: object, Reason: reason, Remedy: remedy, Err: err}
}
