package array

import (
	"context"
	"fmt"
	"testing"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/provider/providertest"
	"github.com/umbra-vss/umbra/vss"
)

// files opens the array's LUNs for the loop initiator.
type files struct{ *client.Client }

func (f files) OpenLUNs(ctx context.Context, naas []lun.NAA) (out []loop.Opened, err error) {
	os, err := f.Client.OpenLUNs(ctx, naas)
	for _, o := range os {
		out = append(out, loop.Opened(o))
	}
	return out, err
}

// The suite every provider passes, on a real array and real loop devices.
func TestConformance(t *testing.T) {
	s := newSite(t)
	host := fmt.Sprintf("conformance-%s", vss.NewID().Bare()[:8])
	c := s.enroll(host)
	in := loop.New(block.HostTag(host), files{c})
	attach := func(ctx context.Context, l lun.Info) (providertest.Disk, error) {
		ds, err := in.Rescan(ctx, []lun.Info{l})
		if err != nil {
			return providertest.Disk{}, err
		}
		return providertest.Disk{Info: ds[0].LUN, Device: ds[0].Path, Size: ds[0].Size}, nil
	}
	detach := func(ctx context.Context, d providertest.Disk) error {
		dev, err := block.Inspect(ctx, d.Device)
		if err != nil {
			return err
		}
		return in.Detach(ctx, dev)
	}
	subject := providertest.Subject{Provider: joined(c), Scratch: true, Attach: attach, Detach: detach,
		Restart: func(context.Context) (provider.Hardware, error) { return joined(c), nil }}
	for range 2 {
		l, _ := s.lun(host)
		d, err := attach(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := detach(context.Background(), d); err != nil {
				t.Error(err)
			}
		})
		subject.LUNs = append(subject.LUNs, d)
	}
	providertest.Test(t, subject)
	if len(s.sets()) != 0 || s.files() != 2 {
		t.Errorf("the suite left %v", s.sets())
	}
}
