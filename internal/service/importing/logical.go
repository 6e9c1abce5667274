package importing

import (
	"context"
	"errors"
	"fmt"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/vss"
)

// verifyDisks holds the LUNs of a copy's logical volumes to what LVM wrote on
// them: each must be the physical volume that the document says, of that volume
// group. A LUN that is another disk of the group, or was given back and used
// again, has the right size perhaps, and would put wrong bytes into the volume
// where no filesystem's superblock is to tell.
func (r *run) verifyDisks(ctx context.Context, s document.Snapshot, luns []block.Device) error {
	for _, d := range s.Devices {
		if d.Logical == nil {
			continue
		}
		for _, p := range d.Logical.Disks {
			got, err := r.im.Host.PhysicalVolume(ctx, luns[p.LUN], p.Offset)
			wrong := func(reason string, err error) error {
				return &vss.Error{Code: vss.VSS_E_MISSING_HIDDEN_VOLUME, Op: verifyOp, Object: key(s.LUNs[p.LUN].Target),
					Reason: fmt.Sprintf("physical volume %s of volume group %s is missing: %s", p.UUID, d.Logical.Group, reason),
					Remedy: "Create a new set; the content of this LUN is not what the document describes", Err: err}
			}
			switch {
			case errors.Is(err, lvm.ErrNone):
				return wrong("the LUN is no physical volume of LVM", nil)
			case err != nil && ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				return wrong("what LVM wrote on the LUN cannot be read", err)
			case got.UUID != p.UUID:
				return wrong("the LUN is the physical volume "+got.UUID, nil)
			case got.Group.Name != "" && got.Group.UUID != d.Logical.GroupUUID:
				return wrong(fmt.Sprintf("the LUN is of volume group %s (%s)", got.Group.Name, got.Group.UUID), nil)
			}
		}
	}
	return nil
}

// partOf says which physical volume is missing with a LUN that did not come.
func partOf(s document.Snapshot, index int, err error) error {
	for _, d := range s.Devices {
		if d.Logical == nil {
			continue
		}
		for _, p := range d.Logical.Disks {
			if p.LUN == index && errors.Is(err, vss.VSS_E_MISSING_DISK) {
				e := *vss.AsError("", err)
				e.Reason = fmt.Sprintf("physical volume %s of %s/%s is missing: %s", p.UUID, d.Logical.Group, d.Logical.Name, e.Reason)
				return &e
			}
		}
	}
	return err
}
