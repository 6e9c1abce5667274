package daemon

import (
	"context"
	"slices"

	"github.com/umbra-vss/umbra/internal/host"
	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// foreign is the way to the LUNs of providers that are programs of their own:
// the provider itself makes the device, in LocateLUNs, a loop device named as
// docs/provider-guide.md says. Here it is found, and it is detached as any other.
type foreign struct {
	attach.Initiator // without loop's Look, which would not see what others make
	hostTag          string
}

// nobodys are LUNs whose storage is not asked for descriptors, nor told.
type nobodys struct{}

func (nobodys) OpenLUNs(_ context.Context, naas []lun.NAA) ([]loop.Opened, error) {
	var errs []error
	for _, n := range naas {
		errs = append(errs, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "attach LUN", Object: n.String(), Reason: "its provider has not made a device of it",
			Remedy: "See the provider's own log, and whether the LUN still is there"})
	}
	return nil, vss.Join("", errs...)
}

func (nobodys) CloseLUNs(context.Context, []lun.NAA) error { return nil }

// withForeign adds the way to such LUNs, which are all that are no array's, while
// there is a provider or a device that one has made.
func withForeign(arrays func() []host.Initiator, hostTag string, some func() bool) func() []host.Initiator {
	in := foreign{loop.New(hostTag, nobodys{}), hostTag}
	return func() []host.Initiator {
		joined := arrays()
		owns := func(l lun.Info) bool {
			n, ok := l.NAA()
			if !ok || slices.ContainsFunc(joined, func(a host.Initiator) bool { return a.Owns(l) }) {
				return false
			}
			return some() || in.here(n)
		}
		return append(joined, host.Initiator{Initiator: in, Owns: owns, Unmasked: func(context.Context) ([]lun.Info, error) { return nil, nil }})
	}
}

func (f foreign) here(n lun.NAA) bool {
	ds, err := block.Own(context.Background(), f.hostTag)
	return err == nil && slices.ContainsFunc(ds, func(d block.Device) bool { return d.Loop != nil && d.Loop.NAA == n })
}
