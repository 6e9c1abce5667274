package importing

import (
	"context"
	"fmt"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// part is one provider's share of a set.
type part struct {
	provider provider.Hardware
	luns     []lun.Info // without repeats
	ticket   []byte
}

func (im *Importer) verifyTicket(set *document.SnapshotSet, t document.Ticket) error {
	p, err := im.Providers.Get(t.ProviderID)
	if err != nil {
		return err
	}
	if v, ok := provider.As[provider.TicketVerifier](p); ok {
		return v.VerifyTicket(t.Data, set.ID, set.Digest())
	}
	return nil
}

// admissible checks what can be known before anything is done: the document
// is of a transportable hardware set, its providers are here and its tickets
// are good, and this machine has not imported the set yet.
func (im *Importer) admissible(d *document.Document) ([]part, error) {
	const op = "ImportSnapshots: validate"
	set := d.Set
	if set == nil || !set.Transportable() || !set.Attributes.Has(vss.ATTR_HARDWARE_ASSISTED) {
		e := &vss.Error{Code: vss.VSS_E_NONTRANSPORTABLE_BCD, Op: op, Object: "backup components document", Reason: "the document describes no transportable hardware shadow copy set",
			Remedy: "Create the set with --transportable and save its document after creation"}
		if set != nil {
			e.Object = set.ID.String()
		}
		return nil, e
	}
	parts, err := im.parts(set)
	if err != nil {
		return nil, err
	}
	for _, t := range set.Tickets {
		if err := im.verifyTicket(set, t); err != nil {
			return nil, err
		}
	}
	return parts, im.once(set)
}

// parts groups the set's LUNs by provider.
func (im *Importer) parts(set *document.SnapshotSet) ([]part, error) {
	var parts []part
	index := map[vss.ID]int{}
	seen := map[string]bool{}
	for _, s := range set.Snapshots {
		i, ok := index[s.ProviderID]
		if !ok {
			p, err := im.Providers.Get(s.ProviderID)
			if err != nil {
				return nil, err
			}
			pt := part{provider: p, ticket: set.Ticket(s.ProviderID)}
			i = len(parts)
			index[s.ProviderID] = i
			parts = append(parts, pt)
		}
		for _, l := range s.LUNs {
			if k := key(l.Target); !seen[k] {
				seen[k] = true
				parts[i].luns = append(parts[i].luns, l.Target)
			}
		}
	}
	return parts, nil
}

// once refuses a set this machine has imported before (requester.md 3.2 P5).
func (im *Importer) once(d *document.SnapshotSet) error {
	set := d.ID
	return im.Catalog.View(func(t *catalog.Tx) error {
		if err := othersLUN(t, d); err != nil {
			return err
		}
		rec, found, err := t.Set(catalog.Imported, set)
		if err != nil || !found {
			return err
		}
		e := &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "ImportSnapshots", Object: set.String()}
		switch rec.State {
		case catalog.SetImportFailed:
			luns, err := t.LUNsOf(set)
			if err != nil {
				return err
			}
			if len(luns) == 0 {
				return nil // an import that left nothing may be tried again
			}
			e.Reason = fmt.Sprintf("an earlier import of this set failed and left %d LUNs", len(luns))
			e.Remedy = "Clean up with umbra cleanup " + set.String() + ", then import again"
		case catalog.SetImporting:
			e.Reason, e.Remedy = "an import of this set runs or was broken off", "Wait, or clean up with umbra cleanup "+set.String()
		default:
			e.Reason = "a set can be imported only once, and this machine has imported it (" + string(rec.State) + ")"
			e.Remedy = "Use the imported copies (umbra list copies), or create a new set"
		}
		return e
	})
}

// othersLUN refuses a document that claims a LUN which this machine knows as
// another set's: its record, and the duty to clean it up, stay that set's.
func othersLUN(t *catalog.Tx, d *document.SnapshotSet) error {
	for _, s := range d.Snapshots {
		for _, m := range s.LUNs {
			l, found, err := t.LUN(key(m.Target))
			if err != nil {
				return err
			}
			if found && l.SetID != d.ID {
				return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "ImportSnapshots", Object: l.Name,
					Reason: "the LUN is here already, as set " + l.SetID.String() + "'s", Remedy: "Delete that set's copies, or clean up with umbra cleanup " + l.SetID.String()}
			}
		}
	}
	return nil
}

// CheckItem is one verification of Check.
type CheckItem struct {
	Name, Object, Detail string
	Err                  error
}

// Check makes every verification of an import and changes nothing: no mask, no
// rule, no record.
func (im *Importer) Check(ctx context.Context, d *document.Document) []CheckItem {
	var items []CheckItem
	add := func(name, object, detail string, err error) bool {
		items = append(items, CheckItem{name, object, detail, err})
		return err == nil
	}
	id := ""
	if d.Set != nil {
		id = d.Set.ID.String()
	}
	parts, err := im.admissible(d)
	if !add("document", id, "transportable hardware set, providers registered, tickets good, not imported here before", err) {
		return items
	}
	if im.busy() {
		add("import slot", im.HostName, "", vss.ErrImportInProgress)
	} else {
		add("import slot", im.HostName, "no other import runs", nil)
	}
	add("initiator", im.HostName, "LUNs can be attached", im.Host.Ready(ctx))
	for _, p := range parts {
		name := p.provider.Properties().Name
		ch, ok := provider.As[provider.ImportChecker](p.provider)
		if !ok {
			add("storage system", name, "its provider cannot be asked without unmasking", nil)
			continue
		}
		desc, err := ch.CheckImport(ctx, im.request(d.Set, p, vss.GUIDNull))
		if !add("storage system", name, "reachable, and would accept the ticket", registry.Checked(ctx, p.provider, "CheckImport", err)) {
			continue
		}
		for i, l := range p.luns {
			if i >= len(desc) {
				add("LUN", l.Name(), "", &vss.Error{Code: vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, Op: "CheckImport", Object: l.Name(),
					Reason: "provider " + name + " said nothing of it", Remedy: "Report it to the provider's maker"})
				continue
			}
			add("LUN", l.Name(), fmt.Sprintf("%d bytes, generation %d", desc[i].Size, desc[i].Generation), checkDescription(d.Set, l, desc[i]))
		}
	}
	return items
}

func (im *Importer) busy() bool { return len(im.slot) > 0 }

func (im *Importer) request(set *document.SnapshotSet, p part, importID vss.ID) provider.Import {
	return provider.Import{SetID: set.ID, ImportID: importID, Ticket: p.ticket, Digest: set.Digest(), LUNs: p.luns}
}

// checkDescription compares the storage system's word on a LUN with the document.
func checkDescription(set *document.SnapshotSet, l lun.Info, d provider.Description) error {
	for _, s := range set.Snapshots {
		for _, m := range s.LUNs {
			if key(m.Target) != key(l) {
				continue
			}
			e := &vss.Error{Code: vss.VSS_E_MISSING_HIDDEN_VOLUME, Op: "ImportSnapshots: verify", Object: l.Name()}
			switch {
			case d.Size != m.Size:
				e.Reason = fmt.Sprintf("the LUN has %d bytes, the document says %d", d.Size, m.Size)
				e.Remedy = "Check on the array what became of the copy; create a new set"
				return e
			case d.Generation != m.Generation:
				e.Reason = fmt.Sprintf("the LUN's content is of generation %d, the document's of %d: it was changed after the commit", d.Generation, m.Generation)
				e.Remedy = "Create a new set; the copy is no longer what the document describes"
				return e
			}
			return nil
		}
	}
	return nil
}
