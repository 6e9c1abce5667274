package block

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// NBD is what the kernel's NBD client says of a device that Umbra attached: its
// backend identifier has the LUN's name, in the form of [LoopName].
type NBD struct {
	NAA     lun.NAA
	HostTag string
	Going   bool // disconnected, or about to be: there for who still has it open
}

// nbdInfo reads the backend identifier, which kernels have from 5.14 on. One of
// another form is somebody else's, and then the device has no identity.
func nbdInfo(dir string) *NBD {
	naa, tag, ok := ParseLoopName(attr(dir, "backend"))
	if !ok {
		return nil
	}
	return &NBD{NAA: naa, HostTag: tag, Going: attr(dir, readAhead) == going}
}

// The driver does not tell that a device was disconnected which somebody still
// has open. So its read-ahead does, which nothing reads any more: an amount that
// no administrator wants, and a multiple of every page size.
const (
	readAhead = "queue/read_ahead_kb"
	going     = "3141568"
)

// MarkGoing is called for a device of the kernel's NBD client that is about to be
// disconnected: from now on it is Going.
func MarkGoing(dev Device) error {
	return os.WriteFile(filepath.Join(sysRoot, "class/block", dev.Name, readAhead), []byte(going), 0o644)
}

func nbdLUN(n *NBD) lun.Info { return identity.Info(n.NAA) }

// OwnNBD lists the devices of the kernel's NBD client that the host with this tag
// attached.
func OwnNBD(ctx context.Context, hostTag string) ([]Device, error) {
	class := filepath.Join(sysRoot, "class/block")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, unlisted(class, err)
	}
	var devices []Device
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "nbd") {
			continue
		}
		dir := filepath.Join(class, e.Name())
		if n := nbdInfo(dir); n == nil || n.HostTag != hostTag {
			continue
		}
		dev, err := Inspect(ctx, e.Name())
		if errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if dev.NBD != nil && dev.NBD.HostTag == hostTag {
			devices = append(devices, dev)
		}
	}
	return devices, nil
}
