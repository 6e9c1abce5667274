package providertest

import (
	"context"
	"time"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var identityCases = []Case{
	{"properties/complete", "Properties names an ID, a name, a type and a version", func(c *check) {
		p := c.p().Properties()
		switch {
		case p.ProviderID.IsNull():
			c.failf("the provider's ID is GUID_NULL")
		case p.Name == "" || p.Version == "":
			c.failf("the provider has no name or no version (%q, %q)", p.Name, p.Version)
		case p.Type != vss.PROV_HARDWARE:
			c.failf("the provider has LUNs and its type is %v, not hardware", p.Type)
		}
	}},
	{"properties/constant", "Properties are constant for the life of the provider", func(c *check) {
		if a, b := c.p().Properties(), c.p().Properties(); a != b {
			c.failf("asked twice, the provider said it is %v and %v", a, b)
		}
	}},
}

var selectionCases = []Case{
	{"are-luns-supported/own", "a LUN that can be copied now is supported", func(c *check) {
		if ok, err := c.supported(setContext, c.lun(0)); !ok || err != nil {
			c.failf("AreLUNsSupported of %s, which is to be copied, answered %v, %v", c.lun(0).Name(), ok, err)
		}
	}},
	{"are-luns-supported/unknown", "a LUN of somebody else is not supported, and that is no error", func(c *check) {
		if ok, err := c.supported(setContext, stranger()); ok || err != nil {
			c.failf("AreLUNsSupported of a LUN that no provider has answered %v, %v; it must be false and no error", ok, err)
		}
	}},
	{"are-luns-supported/all-or-nothing", "a volume is supported only if every LUN below it is", func(c *check) {
		for _, luns := range [][]lun.Info{{c.lun(0), stranger()}, {stranger(), c.lun(0)}} {
			if ok, err := c.supported(setContext, luns...); ok || err != nil {
				c.failf("AreLUNsSupported of an own LUN and one of somebody else answered %v, %v; it must be false and no error", ok, err)
			}
		}
	}},
	{"are-luns-supported/repeatable", "asking changes nothing", func(c *check) {
		a, err := c.supported(setContext, c.lun(0))
		c.must("AreLUNsSupported", err)
		b, err := c.supported(setContext, c.lun(0))
		c.must("AreLUNsSupported, asked again,", err)
		if a != b {
			c.failf("AreLUNsSupported of one LUN answered %v, then %v", a, b)
		}
	}},
	{"are-luns-supported/interconnects", "a provider never touches interconnects", func(c *check) {
		l := c.lun(0)
		l.Interconnects = []lun.Interconnect{{AddressType: lun.AddressSCSI, Port: []byte("port"), Address: []byte("address")}}
		before := clone(l)
		_, err := c.supported(setContext, l)
		c.must("AreLUNsSupported", err)
		after := l
		after.Interconnects = clone(l).Interconnects
		if !same(lun.Info{Interconnects: before.Interconnects}, lun.Info{Interconnects: after.Interconnects}) ||
			string(after.Interconnects[0].Port) != "port" {
			c.failf("AreLUNsSupported changed the interconnects of the LUN it was asked about")
		}
	}},
	{"are-luns-supported/context", "the context's attributes are part of the question: differential and plex answer yes or no, never an error", func(c *check) {
		for _, a := range []vss.Attributes{vss.ATTR_DIFFERENTIAL, vss.ATTR_PLEX, vss.ATTR_TRANSPORTABLE} {
			_, err := c.supported(setContext|vss.Context(a), c.lun(0))
			c.must("AreLUNsSupported with attribute "+a.String(), err)
		}
	}},
	{"are-luns-supported/own-copy", "the provider's own copy is an ordinary question, too", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		_, err := c.supported(setContext, copies[0])
		c.must("AreLUNsSupported of a copy the provider made", err)
	}},
}

var beginCases = []Case{
	{"begin/no-set", "a set has an ID", func(c *check) {
		c.refused("BeginPrepareSnapshot with GUID_NULL for a set", c.addAs(vss.GUIDNull, vss.NewID(), setContext, c.lun(0)), vss.E_INVALIDARG)
		c.sets = nil
	}},
	{"begin/no-snapshot", "a snapshot has an ID", func(c *check) {
		c.refused("BeginPrepareSnapshot with GUID_NULL for a snapshot", c.addAs(vss.NewID(), vss.GUIDNull, setContext, c.lun(0)), vss.E_INVALIDARG)
	}},
	{"begin/no-luns", "a snapshot has at least one LUN", func(c *check) {
		c.refused("BeginPrepareSnapshot without LUNs", c.addAs(vss.NewID(), vss.NewID(), setContext), vss.E_INVALIDARG)
	}},
	{"begin/unknown-lun", "a LUN of somebody else cannot be prepared", func(c *check) {
		c.refused("BeginPrepareSnapshot of a LUN that no provider has", c.addAs(vss.NewID(), vss.NewID(), setContext, stranger()),
			vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER, vss.VSS_E_VOLUME_NOT_SUPPORTED, vss.VSS_E_PROVIDER_VETO)
	}},
	{"begin/quick", "BeginPrepareSnapshot returns quickly and leaves slow work to EndPrepareSnapshots", func(c *check) {
		begin := time.Now()
		c.reach(0)
		if took := time.Since(begin); took > c.s.Quick {
			c.failf("BeginPrepareSnapshot took %s; it must not wait for anything slow", took)
		}
	}},
	{"begin/shared-lun", "a LUN below several volumes of a set is copied once", func(c *check) {
		set := vss.NewID()
		c.add(set, c.lun(0))
		c.add(set, c.lun(0))
		c.advance(set, 0, postCommit+1)
		copies := c.targets(set, c.lun(0), c.lun(0))
		if copies[0].Name() != copies[1].Name() {
			c.failf("the LUN below two volumes has two copies, %s and %s", copies[0].Name(), copies[1].Name())
		}
	}},
	{"begin/64-volumes", "a set takes 64 volumes, or as many as the provider's own limit says, and no 65th", func(c *check) {
		set := vss.NewID()
		for n := range 65 {
			err := c.addAs(set, vss.NewID(), setContext, c.lun(0))
			switch code := vss.CodeOf(err); {
			case code == vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED || code == vss.VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED && n < 64:
				return
			case err != nil:
				c.failf("BeginPrepareSnapshot of volume %d of a set failed: %v; a limit has the code VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED", n+1, err)
			}
		}
		c.failf("a set took a 65th volume; it must be VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED")
	}},
	{"begin/replaces-unfinished", "a new set may begin at any time; it silently replaces one that is not prepared", func(c *check) {
		old := c.reach(0)
		c.reach(postFinal + 1)
		c.refused("EndPrepareSnapshots of a set that another had replaced", c.phase(endPrepare, old), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
	}},
	{"begin/replaces-prepared", "a new set replaces one that is prepared, and what that had reserved is given back", func(c *check) {
		old := c.reach(preCommit)
		set := c.reach(0)
		c.refused("PreCommitSnapshots of a prepared set that another had replaced", c.phase(preCommit, old), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
		c.must("AbortSnapshots", c.abort(set))
	}},
	{"begin/replaces-committed", "a new set replaces one that is committed and not durable yet", func(c *check) {
		old := c.reach(postCommit)
		c.reach(postFinal + 1)
		c.refused("PostCommitSnapshots of a set that another had replaced", c.phase(postCommit, old), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
	}},
	{"begin/spares-created", "a new set leaves a complete one alone", func(c *check) {
		old, copies := c.create(setContext, c.lun(0))
		c.reach(preCommit)
		again, err := c.askTargets(old, c.lun(0))
		c.must("GetTargetLUNs of a complete set, after another had begun,", err)
		if len(again) != 1 || again[0].Name() != copies[0].Name() {
			c.failf("the copies of a complete set have other names since another set began")
		}
		c.must("LocateLUNs of a complete set, after another had begun,", c.locate(copies...))
	}},
	{"begin/cancelled", "every method honours its context, and a call that was given up harms nothing", func(c *check) {
		gone, cancel := context.WithCancel(c.ctx)
		cancel()
		set := vss.NewID()
		c.sets = append(c.sets, set)
		begin := time.Now()
		for name, f := range map[string]func(){
			"AreLUNsSupported": func() { _, _ = c.p().AreLUNsSupported(gone, setContext, nil, []lun.Info{c.lun(0)}) },
			"BeginPrepareSnapshot": func() {
				_ = c.p().BeginPrepareSnapshot(gone, set, vss.NewID(), setContext, nil, []lun.Info{c.lun(0)})
			},
			"LocateLUNs": func() { _ = c.p().LocateLUNs(gone, []lun.Info{stranger()}) },
		} {
			_ = c.do(name, c.s.Patience, func(context.Context) error { f(); return nil })
			if took := time.Since(begin); took > c.s.Quick {
				c.failf("%s took %s with a context that had ended before", name, took)
			}
		}
		c.reach(preCommit)
	}},
}
