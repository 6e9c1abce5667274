package attach

import (
	"context"
	"slices"
	"time"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Named are the identifiers of LUNs, each once. An error says which have none; the
// others are returned beside it.
func Named(op string, luns []lun.Info) (named []lun.NAA, err error) {
	for _, l := range luns {
		if naa, ok := l.NAA(); !ok {
			err = vss.Join("", err, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: l.Name(), Reason: "a LUN of this array has an NAA identifier, this one has none",
				Remedy: "Use the document that the array's own provider made"})
		} else if !slices.Contains(named, naa) {
			named = append(named, naa)
		}
	}
	return named, err
}

// Network is what a rescan needs of a transport that the kernel has devices of.
type Network struct {
	Op      string
	Present func(lun.NAA) bool                     // the kernel has a device of the LUN
	Close   func(context.Context, []lun.NAA) error // the array exports LUNs no longer
	Leave   func(context.Context)                  // ends the connection, if nothing uses it
}

// Bring is a rescan, whatever the transport: the array exports the LUNs, they come,
// and those that do not are given up. What comes is the transport's own; it
// returns which LUNs have not come, and why.
func Bring[E any](ctx context.Context, n Network, luns []lun.Info, export func(context.Context, []lun.NAA) (E, error),
	come func(exports E, shown []lun.NAA) (devices []block.Device, failed []lun.NAA, err error)) ([]block.Device, error) {
	wanted, err := Named(n.Op, luns)
	if len(wanted) == 0 {
		return nil, vss.Join(n.Op, err)
	}
	exports, shown, unshown := Shown(ctx, wanted, export)
	if err = vss.Join("", err, unshown); len(shown) == 0 {
		return nil, vss.Join(n.Op, err)
	}
	devices, failed, cerr := come(exports, shown)
	if cerr != nil {
		cerr = n.giveUp(ctx, failed, cerr)
	}
	return devices, vss.Join(n.Op, err, cerr)
}

// giveUp closes LUNs that did not come; why is returned. The caller's context may
// be what ended, so it has one of its own.
func (n Network) giveUp(ctx context.Context, luns []lun.NAA, why error) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	why = vss.Join("", why, n.CloseAbsent(tidy, luns))
	n.Leave(tidy)
	return why
}

// CloseAbsent closes those of the LUNs that have no device here: who masks or
// deletes a LUN that never arrived has nothing to detach. A disk that was here
// before keeps its export.
func (n Network) CloseAbsent(ctx context.Context, luns []lun.NAA) error {
	absent := slices.DeleteFunc(slices.Clone(luns), n.Present)
	if len(absent) == 0 {
		return nil
	}
	return n.Close(ctx, absent)
}
