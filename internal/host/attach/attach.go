// Package attach is the host's rescan: how a LUN that a storage system has
// unmasked to this host becomes a block device here, and stops being one.
//
// VSS rescans every bus and waits for what comes. Umbra asks for the LUNs it
// wants, by identifier, through an [Initiator] for the way they are reached:
// a local array over loop devices (package loop), iSCSI, NBD. An initiator
// decides nothing about identity: what it returns is looked at again by the
// service and compared with the document.
package attach

import (
	"context"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
)

// Initiator makes LUNs that a storage system has unmasked to this host appear
// as block devices, and removes them. Implementations are safe for concurrent
// use.
type Initiator interface {
	// Name says which way LUNs are reached: "loop", "iscsi", "nbd".
	Name() string

	// Rescan makes the LUNs appear and returns their devices, in no particular
	// order. A LUN that is here already is returned as it is. Some may come and
	// others fail: then it returns those that came and the errors of the rest,
	// each a *vss.Error that names its LUN, put together by vss.Join.
	Rescan(ctx context.Context, luns []lun.Info) ([]block.Device, error)

	// Detach removes a device and returns when it is really gone. It is
	// idempotent: a device that is gone, or whose place another has taken, is
	// left alone and no error. A device in use is VSS_E_VOLUME_IN_USE and
	// stays usable.
	Detach(ctx context.Context, dev block.Device) error

	// Abandon is for a device in use that must go: from now on it is not a
	// device of the LUN (Rescan does not return it), and it goes with its last
	// user, or if its kind cannot wait for that, from under them. It does not
	// wait. What Detach leaves alone it leaves alone.
	Abandon(ctx context.Context, dev block.Device) error
}
