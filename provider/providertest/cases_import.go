package providertest

import (
	"context"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

var locateCases = []Case{
	{"locate/arrives", "a copy that was located is a disk of this host, and has the size of its original", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		c.must("LocateLUNs", c.locate(copies...))
		d := c.attach(copies[0])
		if want := c.s.LUNs[0].Size; want != 0 && d.Size != want {
			c.failf("the copy has %d bytes, its original %d", d.Size, want)
		}
	}},
	{"locate/repeats", "repeats of a LUN, in one call or in two, are tolerated", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		c.must("LocateLUNs with one LUN twice", c.locate(copies[0], copies[0]))
		c.must("LocateLUNs, called again,", c.locate(copies[0]))
	}},
	{"locate/unknown", "a LUN of nobody is vetoed", func(c *check) {
		c.refused("LocateLUNs of a LUN that no provider has", c.locate(stranger()), vss.VSS_E_PROVIDER_VETO)
	}},
	{"locate/own-and-unknown", "a list with a LUN of nobody in it is vetoed", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		c.refused("LocateLUNs of a copy and of a LUN that no provider has", c.locate(copies[0], stranger()), vss.VSS_E_PROVIDER_VETO)
	}},
	{"locate/travels", "a set that travels is unmasked to nobody by its creation, and to whoever has the document by an import", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		binder := need[provider.ImportBinder](c)
		set, copies := c.create(travelling, c.lun(0))
		im := c.ticket(issuer, set, copies)
		c.must("BeginImport", c.begin(binder, im))
		c.must("LocateLUNs after BeginImport", c.locate(copies...))
	}},
	{"locate/once", "a set is imported once in the world", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		binder := need[provider.ImportBinder](c)
		set, copies := c.create(travelling, c.lun(0))
		first := c.ticket(issuer, set, copies)
		c.must("BeginImport", c.begin(binder, first))
		c.must("LocateLUNs after BeginImport", c.locate(copies...))
		second := first
		second.ImportID = vss.NewID()
		err := c.begin(binder, second)
		if err == nil {
			err = c.locate(copies...)
		}
		c.refused("another import of a set that was imported", err, vss.VSS_E_BAD_STATE)
	}},
}

var importCases = []Case{
	{"import/ticket", "without a ticket that fits the set, nothing is imported", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		binder := need[provider.ImportBinder](c)
		set, copies := c.create(travelling, c.lun(0))
		good := c.ticket(issuer, set, copies)
		none, other := good, good
		none.Ticket = nil
		other.Digest = [32]byte{9}
		for what, im := range map[string]provider.Import{"an import without a ticket": none, "an import whose ticket is of another description": other} {
			err := c.begin(binder, im)
			if err == nil {
				err = c.locate(copies...)
			}
			c.refused(what, err, vss.VSS_E_PROVIDER_VETO, vss.VSS_E_INVALID_XML_DOCUMENT)
		}
		c.must("BeginImport with the ticket, after two without,", c.begin(binder, good))
		c.must("LocateLUNs after BeginImport", c.locate(copies...))
	}},
	{"import/released", "an import that was cleaned up and released leaves the set to be imported by another", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		binder := need[provider.ImportBinder](c)
		need[provider.LUNStateChanger](c)
		set, copies := c.create(travelling, c.lun(0))
		first := c.ticket(issuer, set, copies)
		c.must("BeginImport", c.begin(binder, first))
		c.must("LocateLUNs after BeginImport", c.locate(copies...))
		c.must("OnLUNStateChange with DO_MASK_LUNS", c.change(copies, []lun.Info{c.lun(0)}, vss.ONLUNSTATECHANGE_DO_MASK_LUNS))
		for range 2 {
			c.must("ReleaseImport", c.do("ReleaseImport", c.s.Patience, func(ctx context.Context) error { return binder.ReleaseImport(ctx, set, first.ImportID) }))
		}
		second := first
		second.ImportID = vss.NewID()
		c.must("BeginImport of another import, after the first was released,", c.begin(binder, second))
		c.must("LocateLUNs of another import, after the first was released,", c.locate(copies...))
	}},
	{"import/check", "CheckImport answers for every LUN, in order, and changes nothing", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		binder := need[provider.ImportBinder](c)
		checker := need[provider.ImportChecker](c)
		set, copies := c.create(travelling, c.lun(0))
		im := c.ticket(issuer, set, copies)
		for range 2 {
			got, err := c.checkImport(checker, im)
			c.must("CheckImport", err)
			if want := c.s.LUNs[0].Size; len(got) != 1 || got[0].Size == 0 || want != 0 && got[0].Size != want {
				c.failf("CheckImport of one copy answered %+v", got)
			}
		}
		im.ImportID = vss.NewID()
		c.must("BeginImport, after another import was checked,", c.begin(binder, im))
		c.must("LocateLUNs, after another import was checked,", c.locate(copies...))
	}},
	{"import/check-bound", "CheckImport of a set that was imported says so", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		binder := need[provider.ImportBinder](c)
		checker := need[provider.ImportChecker](c)
		set, copies := c.create(travelling, c.lun(0))
		im := c.ticket(issuer, set, copies)
		c.must("BeginImport", c.begin(binder, im))
		c.must("LocateLUNs after BeginImport", c.locate(copies...))
		im.ImportID = vss.NewID()
		_, err := c.checkImport(checker, im)
		c.refused("CheckImport of a set that another import has", err, vss.VSS_E_BAD_STATE)
	}},
	{"import/check-gone", "CheckImport of copies that are gone is an error", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		checker := need[provider.ImportChecker](c)
		set, copies := c.create(travelling, c.lun(0))
		im := c.ticket(issuer, set, copies)
		c.must("OnLUNEmpty", c.empty("", copies[0]))
		_, err := c.checkImport(checker, im)
		c.refused("CheckImport of a set whose copy was destroyed", err)
	}},
}

func (c *check) begin(b provider.ImportBinder, im provider.Import) error {
	return c.do("BeginImport", c.s.Patience, func(ctx context.Context) error { return b.BeginImport(ctx, im) })
}

func (c *check) checkImport(k provider.ImportChecker, im provider.Import) ([]provider.Description, error) {
	return call(c, "CheckImport", c.s.Patience, func(ctx context.Context) ([]provider.Description, error) { return k.CheckImport(ctx, im) })
}

// ticket makes the import of a set that travels.
func (c *check) ticket(issuer provider.TicketIssuer, set vss.ID, copies []lun.Info) provider.Import {
	digest := [32]byte{1, 2, 3}
	ticket, err := call(c, "IssueTicket", c.s.Patience, func(ctx context.Context) ([]byte, error) { return issuer.IssueTicket(ctx, set, digest) })
	c.must("IssueTicket", err)
	return provider.Import{SetID: set, ImportID: vss.NewID(), Ticket: ticket, Digest: digest, LUNs: clones(copies)}
}

var fillCases = []Case{
	{"fill/unknown", "a disk of somebody else is not the provider's, which is no error, and is left as it was", func(c *check) {
		l := stranger()
		before := clone(l)
		mine, err := c.fill("/dev/null", &l)
		if mine || err != nil {
			c.failf("FillInLUNInfo of a LUN that no provider has answered %v, %v; it must be false and no error", mine, err)
		}
		if !same(l, before) {
			c.failf("FillInLUNInfo changed a LUN that is not the provider's")
		}
	}},
	{"fill/own-copy", "what the host read from a copy becomes what GetTargetLUNs said", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		read := clone(copies[0])
		read.BusType, read.ProductRevision = lun.BusISCSI, ""
		read.SerialNumber += "  "
		mine, err := c.fill("/dev/null", &read)
		c.must("FillInLUNInfo", err)
		if !mine {
			c.failf("FillInLUNInfo did not recognise the copy %s", copies[0].Name())
		}
		if err := lun.Match(copies[0], read); err != nil {
			c.failf("what FillInLUNInfo made of the copy is not what GetTargetLUNs said: %v", err)
		}
		if read.SerialNumber != copies[0].SerialNumber {
			c.failf("FillInLUNInfo left the serial number as the disk shows it, %q; it must be as GetTargetLUNs said, %q", read.SerialNumber, copies[0].SerialNumber)
		}
	}},
	{"fill/interconnects", "FillInLUNInfo never touches the interconnects", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		read := clone(copies[0])
		read.Interconnects = []lun.Interconnect{{AddressType: lun.AddressSCSI, Port: []byte("port"), Address: []byte("address")}}
		before := clone(read)
		_, err := c.fill("/dev/null", &read)
		c.must("FillInLUNInfo", err)
		if !same(lun.Info{Interconnects: before.Interconnects}, lun.Info{Interconnects: read.Interconnects}) {
			c.failf("FillInLUNInfo changed the interconnects from %+v to %+v", before.Interconnects, read.Interconnects)
		}
	}},
	{"fill/arrived", "the disk that arrives is recognised by what it says of itself", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		c.must("LocateLUNs", c.locate(copies...))
		d := c.attach(copies[0])
		info := clone(d.Info)
		mine, err := c.fill(d.Device, &info)
		c.must("FillInLUNInfo", err)
		if !mine {
			c.failf("FillInLUNInfo did not recognise the disk %s, which arrived as %s", d.Device, d.Info.Name())
		}
		if err := lun.Match(copies[0], info); err != nil {
			c.failf("the disk that arrived is not what GetTargetLUNs said: %v", err)
		}
	}},
	{"fill/tells-apart", "two copies are not taken for each other", func(c *check) {
		_, a := c.create(setContext, c.lun(0))
		_, b := c.create(setContext, c.lun(0))
		x, y := clone(a[0]), clone(b[0])
		_, err := c.fill("/dev/null", &x)
		c.must("FillInLUNInfo", err)
		_, err = c.fill("/dev/null", &y)
		c.must("FillInLUNInfo", err)
		if lun.Match(a[0], y) == nil || lun.Match(b[0], x) == nil {
			c.failf("FillInLUNInfo made one copy look like the other")
		}
	}},
}
