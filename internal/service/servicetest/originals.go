package servicetest

import (
	"context"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Unmasked and the rest of originals.Host: the machine's originals are those
// of AddVolume, and no array shows it others.
func (h *Host) Unmasked(ctx context.Context) ([]lun.Info, error) { return nil, h.hook(ctx, "Unmasked") }

// InUse is said of no disk.
func (h *Host) InUse(context.Context, block.Device) bool { return false }

// Admit is described at Unmasked.
func (h *Host) Admit(ctx context.Context, _ []lun.Info) error { return h.hook(ctx, "Admit") }

// Dismiss is described at Unmasked.
func (h *Host) Dismiss(ctx context.Context, _ []lun.Info) error { return h.hook(ctx, "Dismiss") }

// HideFamily is described at Unmasked.
func (h *Host) HideFamily(ctx context.Context, _ hide.Family) error { return h.hook(ctx, "HideFamily") }

// noArrays joins none: the arrays in memory are there from the beginning.
type noArrays struct{}

func (noArrays) Join(context.Context, []byte, func(context.Context, ...hide.Family) error) (id, name string, err error) {
	return "", "", &vss.Error{Code: vss.E_INVALIDARG, Op: "Join", Reason: "this machine joins no arrays", Remedy: "Use a real one"}
}

func (noArrays) List(context.Context) []service.ArrayStatus { return nil }
