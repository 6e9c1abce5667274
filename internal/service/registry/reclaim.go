package registry

import (
	"context"
	"slices"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// Reclaim has a provider destroy the copies it has of these LUNs in a set that
// nobody was told of. AbortSnapshots leaves a complete set alone, so its copies
// are asked for by name and destroyed one by one. That there are none is
// VSS_E_OBJECT_NOT_FOUND; any other error leaves it open, and is returned.
func Reclaim(ctx context.Context, p provider.Hardware, set vss.ID, devices []string, luns []lun.Info) (left error) {
	targets, err := p.GetTargetLUNs(ctx, set, devices, slices.Clone(luns))
	if err = Checked(ctx, p, "GetTargetLUNs", err); err != nil {
		if vss.CodeOf(err) == vss.VSS_E_OBJECT_NOT_FOUND {
			return nil
		}
		return err
	}
	for _, l := range targets {
		left = vss.Join("", left, Checked(ctx, p, "OnLUNEmpty", p.OnLUNEmpty(ctx, "", l)))
	}
	return left
}
