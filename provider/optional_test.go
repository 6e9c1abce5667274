package provider_test

import (
	"context"
	"testing"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

type plain struct{}

func (plain) Properties() vss.ProviderProp { return vss.ProviderProp{} }

type describer struct{ plain }

func (describer) DescribeLUNs(context.Context, []lun.Info) ([]provider.Description, error) {
	return nil, nil
}

type standIn struct {
	describer
	does bool
}

func (s standIn) Offers(optional any) bool {
	_, ok := optional.(*provider.Describer)
	return ok && s.does
}

func TestAs(t *testing.T) {
	for name, tt := range map[string]struct {
		p    provider.Provider
		want bool
	}{"without the methods": {plain{}, false}, "with them": {describer{}, true}, "a stand-in of one that does": {standIn{does: true}, true},
		"a stand-in of one that does not": {standIn{}, false}} {
		if _, ok := provider.As[provider.Describer](tt.p); ok != tt.want {
			t.Errorf("%s: %v", name, ok)
		}
	}
	if _, ok := provider.As[provider.TicketIssuer](standIn{does: true}); ok {
		t.Error("an interface without methods here is offered")
	}
}
