package attach

import (
	"context"
	"errors"
	"slices"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Shown has an array export LUNs to this host, which it does for all of them or
// none. Those that it does not have for this host are left out, and err says so of
// each: one LUN that was masked or deleted meanwhile is no reason for the others
// not to come. With any other trouble none is shown, which is what an empty shown
// says.
func Shown[E any](ctx context.Context, luns []lun.NAA, export func(context.Context, []lun.NAA) (E, error)) (out E, shown []lun.NAA, err error) {
	shown = slices.Clone(luns)
	for len(shown) > 0 {
		var failed error
		if out, failed = export(ctx, shown); failed == nil {
			return out, shown, err
		}
		err = vss.Join("", err, failed)
		i := -1
		if errors.Is(failed, vss.VSS_E_OBJECT_NOT_FOUND) {
			object := vss.AsError("", failed).Object
			i = slices.IndexFunc(shown, func(n lun.NAA) bool { return n.String() == object })
		}
		if i < 0 {
			break
		}
		shown = slices.Delete(shown, i, i+1)
	}
	var none E
	return none, nil, err
}
