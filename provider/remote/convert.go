package remote

import (
	providerv1 "github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

func toLUN(l lun.Info) *providerv1.LUNInfo {
	p := &providerv1.LUNInfo{Version: l.Version, DeviceType: uint32(l.DeviceType), DeviceTypeModifier: uint32(l.DeviceTypeModifier), CommandQueueing: l.CommandQueueing,
		BusType: uint32(l.BusType), VendorId: l.VendorID, ProductId: l.ProductID, ProductRevision: l.ProductRevision, SerialNumber: l.SerialNumber}
	if !l.DiskSignature.IsNull() {
		p.DiskSignature = l.DiskSignature[:]
	}
	for _, s := range l.StorageIDs {
		p.StorageIds = append(p.StorageIds, &providerv1.StorageID{CodeSet: uint32(s.CodeSet), Type: uint32(s.Type), Identifier: s.Identifier})
	}
	for _, i := range l.Interconnects {
		p.Interconnects = append(p.Interconnects, &providerv1.Interconnect{AddressType: uint32(i.AddressType), Port: i.Port, Address: i.Address})
	}
	return p
}

func toLUNs(ls []lun.Info) []*providerv1.LUNInfo {
	out := make([]*providerv1.LUNInfo, len(ls))
	for i, l := range ls {
		out[i] = toLUN(l)
	}
	return out
}

func fromLUN(p *providerv1.LUNInfo) lun.Info {
	if p == nil {
		return lun.Info{}
	}
	l := lun.Info{Version: p.Version, DeviceType: uint8(p.DeviceType), DeviceTypeModifier: uint8(p.DeviceTypeModifier), CommandQueueing: p.CommandQueueing,
		BusType: lun.BusType(p.BusType), VendorID: p.VendorId, ProductID: p.ProductId, ProductRevision: p.ProductRevision, SerialNumber: p.SerialNumber,
		DiskSignature: idOf(p.DiskSignature)}
	for _, s := range p.StorageIds {
		l.StorageIDs = append(l.StorageIDs, lun.StorageID{CodeSet: lun.CodeSet(s.GetCodeSet()), Type: lun.IDType(s.GetType()), Identifier: s.GetIdentifier()})
	}
	for _, i := range p.Interconnects {
		l.Interconnects = append(l.Interconnects, lun.Interconnect{AddressType: lun.InterconnectAddressType(i.GetAddressType()), Port: i.GetPort(), Address: i.GetAddress()})
	}
	return l
}

func fromLUNs(ps []*providerv1.LUNInfo) []lun.Info {
	out := make([]lun.Info, len(ps))
	for i, p := range ps {
		out[i] = fromLUN(p)
	}
	return out
}

// idOf reads an ID; what is none is GUID_NULL, which every method refuses.
func idOf(b []byte) (id vss.ID) {
	if len(b) == len(id) {
		copy(id[:], b)
	}
	return id
}

func toProp(p vss.ProviderProp) *vssv1.ProviderProp {
	return &vssv1.ProviderProp{ProviderId: p.ProviderID[:], Name: p.Name, Type: int32(p.Type), Version: p.Version, VersionId: p.VersionID[:], ClassId: p.ClassID[:]}
}

func toImport(im provider.Import) *providerv1.ImportRequest {
	return &providerv1.ImportRequest{SetId: im.SetID[:], ImportId: im.ImportID[:], Ticket: im.Ticket, Digest: im.Digest[:], Luns: toLUNs(im.LUNs)}
}

func fromImport(m *providerv1.ImportRequest) provider.Import {
	im := provider.Import{SetID: idOf(m.SetId), ImportID: idOf(m.ImportId), Ticket: m.Ticket, LUNs: fromLUNs(m.Luns)}
	copy(im.Digest[:], m.Digest)
	return im
}

// optionals are the optional interfaces, and how to find them.
var optionals = []struct {
	wire providerv1.Optional
	ask  any
	has  func(provider.Provider) bool
}{
	{providerv1.Optional_OPTIONAL_LUN_STATE_CHANGER, (*provider.LUNStateChanger)(nil), has[provider.LUNStateChanger]},
	{providerv1.Optional_OPTIONAL_FORCED_RECLAIMER, (*provider.ForcedReclaimer)(nil), has[provider.ForcedReclaimer]},
	{providerv1.Optional_OPTIONAL_DESCRIBER, (*provider.Describer)(nil), has[provider.Describer]},
	{providerv1.Optional_OPTIONAL_IMPORT_BINDER, (*provider.ImportBinder)(nil), has[provider.ImportBinder]},
	{providerv1.Optional_OPTIONAL_IMPORT_CHECKER, (*provider.ImportChecker)(nil), has[provider.ImportChecker]},
	{providerv1.Optional_OPTIONAL_TICKET_ISSUER, (*provider.TicketIssuer)(nil), has[provider.TicketIssuer]},
	{providerv1.Optional_OPTIONAL_TICKET_VERIFIER, (*provider.TicketVerifier)(nil), has[provider.TicketVerifier]},
	{providerv1.Optional_OPTIONAL_BACKING_STORES, (*provider.BackingStores)(nil), has[provider.BackingStores]},
	{providerv1.Optional_OPTIONAL_SET_DROPPER, (*provider.SetDropper)(nil), has[provider.SetDropper]},
	{providerv1.Optional_OPTIONAL_NOTIFICATIONS, (*provider.Notifications)(nil), has[provider.Notifications]},
}

func has[T any](p provider.Provider) bool { _, ok := provider.As[T](p); return ok }
