package providertest

import (
	"context"

	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// restart ends the provider and starts it again.
func (c *check) restart() {
	if c.s.Restart == nil {
		c.skipf("there is no way to restart the provider here")
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.s.Patience)
	defer cancel()
	p, err := c.s.Restart(ctx)
	if err != nil {
		c.failf("the provider does not start again: %v", err)
	}
	c.s.Provider = p
}

func (c *check) unload(force bool) (idle bool, err error) {
	n := need[provider.Notifications](c)
	return call(c, "OnUnload", c.s.Patience, func(ctx context.Context) (bool, error) { return n.OnUnload(ctx, force) })
}

func (c *check) load() {
	n := need[provider.Notifications](c)
	c.must("OnLoad", c.do("OnLoad", c.s.Patience, func(ctx context.Context) error { return n.OnLoad(ctx) }))
}

func (c *check) drop(d provider.SetDropper, set vss.ID) error {
	return c.do("DropSet", c.s.Patience, func(ctx context.Context) error { return d.DropSet(ctx, set) })
}

var lifeCases = []Case{
	{"restart/keeps-created", "a complete set outlives the provider's process", func(c *check) {
		set, copies := c.create(setContext, c.lun(0))
		c.restart()
		again, err := c.askTargets(set, c.lun(0))
		c.must("GetTargetLUNs after a restart", err)
		if len(again) != 1 || !same(copies[0], again[0]) {
			c.failf("after a restart GetTargetLUNs names another copy: %+v, before %+v", again, copies)
		}
		c.must("LocateLUNs after a restart", c.locate(copies...))
	}},
	{"restart/forgets-unfinished", "a set that was being made does not go on after a restart", func(c *check) {
		set := c.reach(preCommit)
		c.restart()
		c.refused("PreCommitSnapshots of a set that began before a restart", c.phase(preCommit, set), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
	}},
	{"restart/abort", "after a restart an abort drops what was being made", func(c *check) {
		set := c.reach(postCommit)
		c.restart()
		if err := c.abort(set); err != nil {
			c.refused("AbortSnapshots after a restart", err, vss.VSS_E_OBJECT_NOT_FOUND)
		}
		if copies, err := c.askTargets(set, c.lun(0)); err == nil {
			c.gone("the set was aborted after a restart", copies...)
		}
	}},
	{"restart/abort-spares-created", "after a restart an abort leaves a complete set alone", func(c *check) {
		set, copies := c.create(setContext, c.lun(0))
		c.restart()
		_ = c.abort(set)
		c.must("LocateLUNs of a complete set, after a restart and AbortSnapshots,", c.locate(copies...))
	}},
	{"load/again", "a provider may be unloaded and loaded as often as one likes; complete sets stay", func(c *check) {
		need[provider.Notifications](c)
		set, copies := c.create(setContext, c.lun(0))
		for range 2 {
			if idle, err := c.unload(true); err != nil || !idle {
				c.failf("OnUnload with force answered %v, %v; with force it must agree", idle, err)
			}
			c.load()
		}
		again, err := c.askTargets(set, c.lun(0))
		c.must("GetTargetLUNs after unloading and loading", err)
		if len(again) != 1 || again[0].Name() != copies[0].Name() {
			c.failf("after unloading and loading the copies have other names")
		}
	}},
	{"load/unload-aborts", "an unload in the middle of a creation is an abort", func(c *check) {
		need[provider.Notifications](c)
		set := c.reach(commit)
		_, err := c.unload(true)
		c.must("OnUnload", err)
		c.load()
		c.refused("CommitSnapshots of a set that an unload has ended", c.phase(commit, set), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
	}},
	{"drop/durable", "DropSet deletes a set that was made durable and never announced", func(c *check) {
		d := need[provider.SetDropper](c)
		set := c.reach(preFinal)
		copies := c.targets(set, c.lun(0))
		for range 2 {
			c.must("DropSet", c.drop(d, set))
		}
		c.gone("the set was dropped", copies...)
	}},
	{"drop/unknown", "DropSet of a set that never was is success", func(c *check) {
		d := need[provider.SetDropper](c)
		c.must("DropSet of a set that never was", c.drop(d, vss.NewID()))
	}},
}

var reclaimCases = []Case{
	{"empty/reclaims", "OnLUNEmpty destroys the copy", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		c.must("OnLUNEmpty", c.empty("", copies[0]))
		c.gone("OnLUNEmpty was called", copies...)
	}},
	{"empty/repeats", "a copy that is already gone is success", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		for range 2 {
			c.must("OnLUNEmpty", c.empty("", copies[0]))
		}
	}},
	{"empty/spares-others", "OnLUNEmpty takes the one copy and no other", func(c *check) {
		_, a := c.create(setContext, c.lun(0))
		_, b := c.create(setContext, c.lun(0))
		c.must("OnLUNEmpty", c.empty("", a[0]))
		c.must("LocateLUNs of a copy, after OnLUNEmpty of another,", c.locate(b...))
	}},
	{"empty/located", "a copy that was shown to this host and is not attached any more can be reclaimed", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		c.must("LocateLUNs", c.locate(copies...))
		if c.s.Attach != nil {
			c.detach(c.attach(copies[0]))
		}
		c.must("OnLUNEmpty", c.empty("", copies[0]))
	}},
	{"empty/forced", "OnLUNEmptyForced destroys the copy, can be repeated, and takes no other", func(c *check) {
		f := need[provider.ForcedReclaimer](c)
		_, copies := c.create(setContext, c.lun(0))
		_, other := c.create(setContext, c.lun(0))
		for range 2 {
			c.must("OnLUNEmptyForced", c.do("OnLUNEmptyForced", c.s.Patience, func(ctx context.Context) error { return f.OnLUNEmptyForced(ctx, "", clone(copies[0])) }))
		}
		c.gone("OnLUNEmptyForced was called", copies...)
		c.must("LocateLUNs of a copy, after OnLUNEmptyForced of another,", c.locate(other...))
	}},
	{"empty/original", "an original is never destroyed: OnLUNEmpty is for copies", func(c *check) {
		l := c.lun(len(c.s.LUNs) - 1)
		if !c.s.Scratch {
			c.skipf("a provider that gets this wrong would destroy the LUN, and it is not said that its content is nobody's")
		}
		c.refused("OnLUNEmpty of the original "+l.Name(), c.empty(c.s.LUNs[len(c.s.LUNs)-1].Device, l))
		if ok, err := c.supported(setContext, l); !ok || err != nil {
			c.failf("after OnLUNEmpty, which was refused, the original %s is not there any more (%v)", l.Name(), err)
		}
	}},
}
