package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/host/block"
)

// mappedUUID is what device-mapper's owner called a device; "" if the device is
// none of device-mapper's.
func mappedUUID(d block.Device) (uuid string, mapped bool) {
	dir := filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", d.Major, d.Minor), "dm")
	b, err := os.ReadFile(filepath.Join(dir, "uuid"))
	return strings.TrimSpace(string(b)), err == nil
}

// mappedName is a device-mapper device's name.
func mappedName(d block.Device) string {
	b, _ := os.ReadFile(filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", d.Major, d.Minor), "dm/name"))
	return strings.TrimSpace(string(b))
}

// piece is a target of a table: a run of the device that lies on one device
// below, or in turns of chunk bytes on several.
type piece struct {
	length, chunk uint64
	on            []spot
}

// spot is where a piece's bytes begin on a device below.
type spot struct {
	device string // "8:16"
	offset uint64
}

// layMapped lays a device of device-mapper: its table says where its bytes are.
// The kernel's table counts, since it is what writes go through; what LVM has on
// disk is held against it by [logicalVolume].
func layMapped(ctx context.Context, d block.Device) ([]stretch, error) {
	pieces, err := mappedTable(ctx, d)
	if err != nil {
		return nil, err
	}
	var all []stretch
	for _, p := range pieces {
		var runs []stretch
		for _, x := range p.on {
			below, err := block.Inspect(ctx, x.device)
			if err != nil {
				return nil, unsupported(d.Path, fmt.Sprintf("the device %s that %s lies on cannot be looked at: %v", x.device, mappedName(d), err),
					"Make the device's node visible to the service")
			}
			laid, err := lay(ctx, below)
			if err != nil {
				return nil, err
			}
			part, ok := cut(laid, x.offset, p.length/uint64(len(p.on)))
			if !ok {
				return nil, unsupported(d.Path, fmt.Sprintf("a part of %s is not whole stripes of %s, or more than it has", mappedName(d), below.Path),
					"Put the volume group on LUNs or partitions of LUNs, not on other volumes")
			}
			runs = append(runs, part...)
		}
		if p.chunk == 0 {
			all = append(all, runs...)
			continue
		}
		striped := stretch{chunk: p.chunk}
		for _, r := range runs {
			striped.runs = append(striped.runs, r.runs...)
		}
		// A stripe over something that is itself in pieces has no simple form.
		if len(runs) != len(p.on) || len(striped.runs) != len(p.on) {
			return nil, unsupported(d.Path, mappedName(d)+" is striped over volumes that are in several pieces themselves",
				"Put the volume group on LUNs or partitions of LUNs, not on other volumes")
		}
		all = append(all, striped)
	}
	return all, nil
}

// mappedTable reads a device's live table, if it is one that can be copied LUN
// by LUN.
func mappedTable(ctx context.Context, d block.Device) ([]piece, error) {
	c, err := devicemapper.Open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	table, err := c.Table(ctx, devicemapper.Number(d.Dev()))
	if err != nil {
		return nil, err
	}
	var pieces []piece
	var next uint64
	for _, t := range table {
		p, err := parsePiece(t)
		if err != nil {
			return nil, refuseTarget(d, t, err)
		}
		if t.Start != next {
			return nil, refuseTarget(d, t, errors.New("its table has a gap"))
		}
		next += t.Length
		pieces = append(pieces, p)
	}
	if next*devicemapper.SectorSize != d.Size {
		return nil, unsupported(d.Path, fmt.Sprintf("its table has %d bytes and the device %d: it is being changed", next*devicemapper.SectorSize, d.Size),
			"Wait until the change has finished, then take the shadow copy")
	}
	return pieces, nil
}

var errTarget = errors.New("a kind of target that is not copied LUN by LUN")

// parsePiece reads one target.
func parsePiece(t devicemapper.Target) (piece, error) {
	p := piece{length: t.Length * devicemapper.SectorSize}
	f := strings.Fields(t.Params)
	switch t.Type {
	case "linear":
	case "striped": // count, chunk, and a device and offset for each
		if len(f) < 2 {
			return p, errors.New("its parameters are not understood: " + t.Params)
		}
		count, err := strconv.ParseUint(f[0], 10, 16)
		if err != nil || count == 0 || uint64(len(f)) != 2+2*count {
			return p, errors.New("its parameters are not understood: " + t.Params)
		}
		chunk, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil || chunk == 0 || t.Length%(chunk*count) != 0 {
			return p, errors.New("its length is not a whole number of stripes: " + t.Params)
		}
		if count > 1 {
			p.chunk = chunk * devicemapper.SectorSize
		}
		f = f[2:]
	default:
		return p, errTarget
	}
	if len(f) == 0 || len(f)%2 != 0 || t.Type == "linear" && len(f) != 2 {
		return p, errors.New("its parameters are not understood: " + t.Params)
	}
	for i := 0; i < len(f); i += 2 {
		offset, err := strconv.ParseUint(f[i+1], 10, 54)
		if err != nil || !isNumber(f[i]) {
			return p, errors.New("its parameters are not understood: " + t.Params)
		}
		p.on = append(p.on, spot{f[i], offset * devicemapper.SectorSize})
	}
	return p, nil
}

// isNumber reports whether s is a device number, "8:16".
func isNumber(s string) bool {
	a, b, ok := strings.Cut(s, ":")
	_, errA := strconv.ParseUint(a, 10, 32)
	_, errB := strconv.ParseUint(b, 10, 32)
	return ok && errA == nil && errB == nil
}

// remedies say, for each kind of target, what makes a volume that can be copied.
var remedies = map[string]string{
	"crypt":           "Take the shadow copy before encryption comes in: put the filesystem on an unencrypted volume and encrypt on the storage system, or below the LUN",
	"thin":            "Put the filesystem on a linear or striped volume, or on a LUN of its own: thin volumes share blocks that only their pool's own metadata finds",
	"thin-pool":       "Name a volume with a filesystem",
	"snapshot":        "Take the shadow copy of the original volume, after removing its LVM snapshots (lvremove)",
	"snapshot-origin": "Remove the volume's LVM snapshots first (lvs shows them, lvremove removes them), or keep them off the volumes of a set",
	"snapshot-merge":  "Wait until the merge has finished (lvs shows it)",
	"mirror":          "If pvmove runs, wait until it has finished; else make the volume linear (lvconvert -m0) and leave mirroring to the storage system",
	"raid":            "Make the volume linear or striped (lvconvert --type linear) and leave redundancy to the storage system",
	"cache":           "Take the cache off first (lvconvert --uncache): a cache that has not been written back is not on the volume's LUNs",
	"writecache":      "Take the cache off first (lvconvert --uncache): a cache that has not been written back is not on the volume's LUNs",
	"integrity":       "Take integrity off the volume (lvconvert --raidintegrity n), or put the filesystem on a LUN",
	"error":           "Attach the missing LUN, then activate the volume again (vgchange --refresh)",
	"zero":            "Attach the missing LUN, then activate the volume again (vgchange --refresh)",
}

// refuseTarget says of a device-mapper device why it cannot be copied.
func refuseTarget(d block.Device, t devicemapper.Target, err error) error {
	if !errors.Is(err, errTarget) {
		return unsupported(d.Path, fmt.Sprintf("the %s part of %s at sector %d: %v", t.Type, mappedName(d), t.Start, err),
			"Look at dmsetup table "+mappedName(d)+", then put the filesystem on a linear or striped volume")
	}
	uuid, _ := mappedUUID(d)
	reason := fmt.Sprintf("%s is a volume of the kind %s, which cannot be copied LUN by LUN", mappedName(d), t.Type)
	switch {
	case t.Type == "crypt" && strings.HasPrefix(uuid, "CRYPT-LUKS"):
		reason = mappedName(d) + " is what LUKS shows of an encrypted volume; a copy of its LUN could not be verified or read without the key"
	case t.Type == "error" || t.Type == "zero":
		reason = fmt.Sprintf("a part of %s is missing: the kernel answers it with %s", mappedName(d), map[string]string{"error": "errors", "zero": "zeros"}[t.Type])
	}
	remedy := remedies[t.Type]
	if remedy == "" {
		remedy = "Put the filesystem on a LUN, a partition of one, or a linear or striped logical volume"
	}
	return unsupported(d.Path, reason, remedy)
}

// readAt reads a device past the page cache, which may be older than the disk.
type readAt struct{ f *os.File }

func (r readAt) ReadAt(b []byte, offset int64) (int, error) {
	_ = unix.Fadvise(int(r.f.Fd()), offset, int64(len(b)), unix.FADV_DONTNEED)
	return r.f.ReadAt(b, offset)
}
