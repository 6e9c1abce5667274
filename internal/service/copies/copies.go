// Package copies manages the shadow copies that exist on this machine: query,
// expose, unexpose, delete (requester.md 2.4, 2.5).
//
// Deletion follows the safe order (unmount, detach, then tell the provider
// that the LUN is empty) with an intent on disk first, so that a deletion that
// was broken off is finished at the next start. Every step checks the device's
// diskseq: a node that has become another disk is never touched. By force it takes
// the same steps without waiting for whoever uses the copy.
package copies

import (
	"context"
	"sync"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/host/regroup"
	"github.com/umbra-vss/umbra/internal/host/surface"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints of exposure and deletion.
var (
	fpExposeAfterIntent = failpoint.New("expose.after-intent")
	fpExposeAfterMount  = failpoint.New("expose.after-mount")
	fpUnexposeAfterUmnt = failpoint.New("unexpose.after-unmount")
	fpDeleteAfterIntent = failpoint.New("delete.after-intent")
	fpDeleteAfterUnmnt  = failpoint.New("delete.after-unmount")
	fpDeleteAfterDetach = failpoint.New("delete.after-detach")
	fpDeleteAfterEmpty  = failpoint.New("delete.after-lun-empty")
)

// Host is what managing copies needs of this machine.
type Host interface {
	MountClone(ctx context.Context, m filesystem.CloneMount) error
	Enumerate(ctx context.Context) ([]block.Device, error)
	Unmount(ctx context.Context, target string, d block.Device) error
	UnmountLazily(ctx context.Context, target string, d block.Device) error
	TakeDown(ctx context.Context, d surface.Device, lazily bool) error
	Detach(ctx context.Context, d block.Device) error
	Abandon(ctx context.Context, d block.Device) error
	Unhide(ctx context.Context, luns []lun.Info) error
	// A volume group under another identity (package regroup).
	IdentifyGroup(ctx context.Context, name string, g regroup.Group) (lvm.Identity, error)
	ShowGroup(ctx context.Context, g regroup.Group) error
	EndGroup(ctx context.Context, id lvm.Identity, force bool) error
}

// Keeper manages copies. One exists per service; its methods are safe for
// concurrent use, though requesters must serialise their own deletions.
type Keeper struct {
	Host         Host
	Providers    *registry.Registry
	Catalog      *catalog.Catalog
	BootID       string
	DeviceObject func(vss.ID) string
	Resurface    func(context.Context, *catalog.Copy) error // finds the block devices of a copy whose LUNs are here
	Shares       Shares                                     // nil if there are none

	once sync.Once
	turn chan struct{}
}

// Turn waits for this Keeper's turn, or until ctx ends. Exposures and
// deletions come one after the other: whether a LUN is shared, or a copy
// exposed, must not change while one of them acts on it. Who attaches a copy
// again takes a turn as well, after the importer's place if it takes both.
func (k *Keeper) Turn(ctx context.Context) (release func(), err error) {
	k.once.Do(func() { k.turn = make(chan struct{}, 1) })
	select {
	case k.turn <- struct{}{}:
		return func() { <-k.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Get returns one copy; VSS_E_OBJECT_NOT_FOUND when it is not on this machine.
func (k *Keeper) Get(op string, id vss.ID) (c catalog.Copy, err error) {
	err = k.Catalog.View(func(t *catalog.Tx) error {
		var found bool
		c, found, err = t.Copy(id)
		if err == nil && !found {
			return notFound(op, id)
		}
		return err
	})
	return c, err
}

func notFound(op string, id vss.ID) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: id.String(),
		Reason: "no such shadow copy on this machine", Remedy: "See umbra list copies; a transportable copy is not on the machine that created it"}
}

// Each calls yield for the copies that a context shows and the filter means, in
// the order of their IDs, those after one (GUID_NULL: all), until it returns
// false: all of them for CTX_ALL, else those made in that context
// (requester.md 2.4). Nothing may be written meanwhile.
func (k *Keeper) Each(ctx context.Context, sc vss.Context, f catalog.CopyFilter, after vss.ID, yield func(catalog.Copy) bool) error {
	return k.Catalog.View(func(t *catalog.Tx) error {
		for c, err := range t.CopiesAfter(after, f) {
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if sc != vss.CTX_ALL && vss.Context(c.Prop.Attributes).Base() != sc.Base() {
				continue
			}
			if !yield(c) {
				return nil
			}
		}
		return nil
	})
}
