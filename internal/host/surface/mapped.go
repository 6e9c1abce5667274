package surface

import (
	"context"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// mapped surfaces a volume of several extents or LUNs.
func (s *Surfacer) mapped(ctx context.Context, r Request, segments []lun.Segment) (Device, error) {
	return Device{}, refuse(vss.VSS_E_VOLUME_NOT_SUPPORTED, r.Name, "the volume is put together from several parts of LUNs, and this kernel has no device-mapper",
		"Load it (modprobe dm-mod), or import on a machine that has it; the LUNs are here", nil)
}

func (s *Surfacer) dropMapped(ctx context.Context, d block.Device, lazily bool) error { return nil }

func (s *Surfacer) clearMapped(ctx context.Context, below block.Device, lazily bool) error {
	return nil
}
