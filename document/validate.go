package document

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// contextBits of a copy's attributes are those of the context its set was
// created in.
const contextBits = vss.ATTR_PERSISTENT | vss.ATTR_CLIENT_ACCESSIBLE | vss.ATTR_NO_AUTO_RELEASE |
	vss.ATTR_NO_WRITERS

const knownAttributes = contextBits | vss.ATTR_TRANSPORTABLE | vss.ATTR_NO_AUTORECOVERY | vss.ATTR_NOT_SURFACED |
	vss.ATTR_NOT_TRANSACTED | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_DIFFERENTIAL | vss.ATTR_PLEX |
	vss.ATTR_IMPORTED | vss.ATTR_EXPOSED_LOCALLY | vss.ATTR_EXPOSED_REMOTELY | vss.ATTR_AUTORECOVER |
	vss.ATTR_ROLLBACK_RECOVERY | vss.ATTR_DELAYED_POSTSNAPSHOT | vss.ATTR_TXF_RECOVERY | vss.ATTR_FILE_SHARE

// Validate checks all that the schema cannot say: that counts and limits hold,
// that IDs are there and unique, that extents lie inside their LUN and do not
// overlap, and, for transportable sets, that every LUN has an identifier which
// no other LUN of the set has. The error is VSS_E_INVALID_XML_DOCUMENT and its
// object says where. Unmarshal and Marshal call it.
//
// A valid document need not be importable: see SnapshotSet.Transportable.
func (d *Document) Validate() error {
	if f := d.check(); f != nil {
		return f.err("validate document")
	}
	return nil
}

func (d *Document) check() *fault {
	if d.SchemaVersion != "" && !knownSchema(d.SchemaVersion) {
		return faultAt("", "schema version %q is not %s or %s", d.SchemaVersion, firstSchema, CurrentSchema).withRemedy(remedyUpdate)
	}
	if err := d.Context.Validate(); err != nil {
		return faultAt("", "the context is none a requester can set: %v", err)
	}
	if d.State.Type < vss.BT_UNDEFINED || d.State.Type > vss.BT_OTHER {
		return faultAt("backupState", "there is no backup type %d", d.State.Type)
	}
	if !restoreTypes.has(d.RestoreState) {
		return faultAt("restoreState", "there is no restore type %d", d.RestoreState)
	}
	if f := d.checkComponents(); f != nil {
		return f
	}
	if d.Set == nil {
		return nil
	}
	return d.Set.check("snapshotSet")
}

func (s *SnapshotSet) check(at string) *fault {
	if f := firstFault(
		checkID(at, "set", s.ID),
		checkAttributes(at, s.Attributes),
		checkTimestamp(at, s.CreationTimestamp),
		checkText(at, "originating machine", s.OriginatingMachine, 1),
		checkText(at, "service machine", s.ServiceMachine, 1),
	); f != nil {
		return f
	}
	if err := vss.Context(s.Attributes & contextBits).Validate(); err != nil {
		return faultAt(at, "the attributes belong to no context: %v", err)
	}
	if s.Count < 1 || s.Count > MaxSnapshots {
		return faultAt(at, "a count of %d volumes, a set has 1 to %d", s.Count, MaxSnapshots)
	}
	if n := len(s.Snapshots); n < 1 || n > s.Count {
		return faultAt(at, "%d shadow copies in a set of %d volumes", n, s.Count)
	}
	ids := map[vss.ID]bool{s.ID: true}
	extents := 0
	for i := range s.Snapshots {
		sn, at := &s.Snapshots[i], fmt.Sprintf("%s/snapshot[%d]", at, i+1)
		if f := sn.check(at); f != nil {
			return f
		}
		if ids[sn.ID] {
			return faultAt(at, "the ID %s is used twice", sn.ID)
		}
		ids[sn.ID] = true
		if have, want := sn.Attributes&(contextBits|vss.ATTR_TRANSPORTABLE), s.Attributes&(contextBits|vss.ATTR_TRANSPORTABLE); have != want {
			return faultAt(at, "the context attributes (%s) are not those of the set (%s)", have, want)
		}
		for _, m := range sn.LUNs {
			extents += len(m.Extents)
		}
	}
	if extents > maxExtents {
		return faultAt(at, "%d extents, %d is the limit", extents, maxExtents)
	}
	if f := s.checkLUNs(at); f != nil {
		return f
	}
	return s.checkTickets(at)
}

func (s *SnapshotSet) checkTickets(at string) *fault {
	if len(s.Tickets) > MaxSnapshots {
		return faultAt(at, "%d tickets, %d is the limit", len(s.Tickets), MaxSnapshots)
	}
	seen := map[vss.ID]bool{}
	for i, t := range s.Tickets {
		at := fmt.Sprintf("%s/ticket[%d]", at, i+1)
		if f := checkID(at, "provider", t.ProviderID); f != nil {
			return f
		}
		if len(t.Data) == 0 || len(t.Data) > MaxTicket {
			return faultAt(at, "a ticket of %d bytes, 1 to %d are allowed", len(t.Data), MaxTicket)
		}
		if seen[t.ProviderID] {
			return faultAt(at, "a second ticket of provider %s", t.ProviderID)
		}
		seen[t.ProviderID] = true
		if !slices.ContainsFunc(s.Snapshots, func(sn Snapshot) bool { return sn.ProviderID == t.ProviderID }) {
			return faultAt(at, "no shadow copy of the set is provider %s's", t.ProviderID)
		}
	}
	return nil
}

func (s *Snapshot) check(at string) *fault {
	if f := firstFault(
		checkID(at, "shadow copy", s.ID),
		checkID(at, "provider", s.ProviderID),
		checkAttributes(at, s.Attributes),
		checkTimestamp(at, s.CreationTimestamp),
		checkText(at, "original volume name", s.OriginalVolumeName, 1),
		s.Filesystem.check(at+"/filesystem"),
	); f != nil {
		return f
	}
	if len(s.LUNs) > maxLUNs {
		return faultAt(at, "%d LUNs, %d is the limit", len(s.LUNs), maxLUNs)
	}
	for i := range s.LUNs {
		if f := s.LUNs[i].check(fmt.Sprintf("%s/lunMapping[%d]", at, i+1), i); f != nil {
			return f
		}
	}
	return s.checkDevices(at)
}

func (f *Filesystem) check(at string) *fault {
	if bad := firstFault(
		checkText(at, "type", f.Type, 0),
		checkText(at, "UUID", f.UUID, 0),
		checkText(at, "label", f.Label, 0),
	); bad != nil {
		return bad
	}
	if f.DeviceCount < 0 || f.DeviceCount > maxDevices {
		return faultAt(at, "%d devices, %d is the limit", f.DeviceCount, maxDevices)
	}
	if len(f.DeviceUUIDs) > f.DeviceCount {
		return faultAt(at, "%d device UUIDs for %d devices", len(f.DeviceUUIDs), f.DeviceCount)
	}
	for i, u := range f.DeviceUUIDs {
		if bad := checkText(fmt.Sprintf("%s/device[%d]", at, i+1), "UUID", u, 1); bad != nil {
			return bad
		}
	}
	return nil
}

func (m *LUNMapping) check(at string, index int) *fault {
	if m.Size == 0 {
		return faultAt(at, "the LUN has no size")
	}
	if f := firstFault(checkInfo(at+"/source", &m.Source), checkInfo(at+"/target", &m.Target)); f != nil {
		return f
	}
	if len(m.Extents) == 0 {
		return faultAt(at, "the volume has no extent on this LUN")
	}
	if len(m.Extents) > maxExtents {
		return faultAt(at, "%d extents, %d is the limit", len(m.Extents), maxExtents)
	}
	for i, x := range m.Extents {
		at := fmt.Sprintf("%s/extent[%d]", at, i+1)
		switch {
		case x.LUN != index:
			return faultAt(at, "the extent names LUN %d but is listed with LUN %d", x.LUN, index)
		case x.Length == 0:
			return faultAt(at, "the extent is empty")
		case x.Offset > m.Size || x.Length > m.Size-x.Offset:
			return faultAt(at, "%d bytes at %d do not fit a LUN of %d bytes", x.Length, x.Offset, m.Size)
		}
	}
	sorted := slices.Clone(m.Extents)
	slices.SortFunc(sorted, func(a, b lun.Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; b.Offset-a.Offset < a.Length {
			return faultAt(at, "the extents at %d and %d overlap", a.Offset, b.Offset)
		}
	}
	return nil
}

func checkInfo(at string, i *lun.Info) *fault {
	if i.Version != lun.InfoVersion {
		return faultAt(at, "LUN information of version %d, %d is known", i.Version, lun.InfoVersion)
	}
	if f := firstFault(
		checkText(at, "vendor", i.VendorID, 0),
		checkText(at, "product", i.ProductID, 0),
		checkText(at, "product revision", i.ProductRevision, 0),
		checkText(at, "serial number", i.SerialNumber, 0),
	); f != nil {
		return f
	}
	if n := len(i.StorageIDs); n > maxIdentifiers {
		return faultAt(at, "%d identifiers, %d is the limit", n, maxIdentifiers)
	}
	for n, s := range i.StorageIDs {
		if l := len(s.Identifier); l == 0 || l > lun.MaxIdentifier {
			return faultAt(fmt.Sprintf("%s/identifier[%d]", at, n+1), "an identifier of %d bytes, it has 1 to %d", l, lun.MaxIdentifier)
		}
	}
	if n := len(i.Interconnects); n > maxInterconnects {
		return faultAt(at, "%d interconnects, %d is the limit", n, maxInterconnects)
	}
	for n, c := range i.Interconnects {
		if len(c.Port) > maxAddress || len(c.Address) > maxAddress {
			return faultAt(fmt.Sprintf("%s/interconnect[%d]", at, n+1), "a port or address of more than %d bytes", maxAddress)
		}
	}
	return nil
}

func firstFault(fs ...*fault) *fault {
	for _, f := range fs {
		if f != nil {
			return f
		}
	}
	return nil
}

func checkID(at, what string, id vss.ID) *fault {
	if id.IsNull() {
		return faultAt(at, "the %s ID is GUID_NULL", what)
	}
	return nil
}

func checkAttributes(at string, a vss.Attributes) *fault {
	if unknown := a &^ knownAttributes; unknown != 0 {
		return faultAt(at, "unknown attribute bits 0x%08x", uint32(unknown)).withRemedy(remedyUpdate)
	}
	return nil
}

func checkTimestamp(at string, t vss.Timestamp) *fault {
	if t < earliest || t > latest {
		return faultAt(at, "timestamp %d is outside the years 1601 to 9999", t)
	}
	return nil
}

func checkText(at, what, s string, least int) *fault {
	if len(s) < least {
		return faultAt(at, "the %s is empty", what)
	}
	if len(s) > maxText {
		return faultAt(at, "the %s has %d bytes, %d is the limit", what, len(s), maxText)
	}
	return nil
}
