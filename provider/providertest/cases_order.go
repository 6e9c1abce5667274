package providertest

import (
	"strings"
	"sync"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// orderCases are the table of provider.md 5: in every state every phase that is
// not its turn is vetoed. PreFinal and PostFinal need keep no order.
func orderCases() []Case {
	var out []Case
	short := func(n int) string { return strings.ToLower(strings.TrimSuffix(phases[n].name, "Snapshots")) }
	for at := endPrepare; at <= preFinal; at++ {
		for n := endPrepare; n <= postCommit; n++ {
			if n == at {
				continue
			}
			out = append(out, Case{"order/" + short(n) + "-when-" + state(at), phases[n].name + " of a " + state(at) + " set is vetoed", func(c *check) {
				set := c.reach(at)
				c.refused(phases[n].name+" of a "+state(at)+" set", c.phase(n, set), vss.VSS_E_PROVIDER_VETO)
			}})
		}
	}
	for n := endPrepare; n <= postCommit; n++ {
		out = append(out, Case{"order/" + short(n) + "-of-another-set", phases[n].name + " of a set that is not the current one is vetoed", func(c *check) {
			c.reach(n)
			c.refused(phases[n].name+" of a set that never began", c.phase(n, vss.NewID()), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
		}})
	}
	return append(out,
		Case{"order/veto-drops-the-set", "a call out of order drops what is not complete: the set cannot go on", func(c *check) {
			set := c.reach(preCommit)
			c.refused("CommitSnapshots of a prepared set", c.phase(commit, set), vss.VSS_E_PROVIDER_VETO)
			c.refused("PreCommitSnapshots of a set that was vetoed before", c.phase(preCommit, set), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
		}},
		Case{"order/veto-spares-created", "a call out of order leaves a complete set alone", func(c *check) {
			set, copies := c.create(setContext, c.lun(0))
			for n := endPrepare; n <= postCommit; n++ {
				c.refused(phases[n].name+" of a complete set", c.phase(n, set), vss.VSS_E_PROVIDER_VETO)
			}
			c.must("LocateLUNs of a complete set, after calls out of order,", c.locate(copies...))
		}},
		Case{"order/begin-when-prepared", "BeginPrepareSnapshot of a prepared set begins it anew", func(c *check) {
			set := c.reach(preCommit)
			c.add(set, c.lun(0))
			c.refused("PreCommitSnapshots of a set that has begun anew", c.phase(preCommit, set), vss.VSS_E_PROVIDER_VETO)
		}},
		Case{"order/whole", "a set in the right order is made", func(c *check) {
			c.create(setContext, c.lun(0))
		}},
		Case{"order/two-luns", "a set of two volumes on two LUNs is made", func(c *check) {
			set := vss.NewID()
			c.add(set, c.lun(0))
			c.add(set, c.lun(1))
			c.advance(set, 0, postCommit+1)
			copies := c.targets(set, c.lun(0), c.lun(1))
			if copies[0].Name() == copies[1].Name() {
				c.failf("two LUNs have one copy, %s", copies[0].Name())
			}
		}},
		Case{"order/after-created", "after a complete set another can be made", func(c *check) {
			_, a := c.create(setContext, c.lun(0))
			_, b := c.create(setContext, c.lun(0))
			if a[0].Name() == b[0].Name() {
				c.failf("the copies of two sets have one name, %s", a[0].Name())
			}
		}},
	)
}

// aborted makes the case of an abort after n phases.
func aborted(n int) Case {
	return Case{"abort/when-" + state(n), "an abort drops a " + state(n) + " set, and the next can be made", func(c *check) {
		set := c.reach(n)
		c.must("AbortSnapshots of a "+state(n)+" set", c.abort(set))
		c.refused(phases[n].name+" of an aborted set", c.phase(n, set), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
		if copies, err := c.askTargets(set, c.lun(0)); err == nil {
			for _, l := range copies {
				c.gone("the set was aborted", l)
			}
		}
		c.reach(preCommit)
	}}
}

var abortCases = []Case{
	{"abort/unknown", "an abort of a set nothing is known of is success or VSS_E_OBJECT_NOT_FOUND", func(c *check) {
		if err := c.abort(vss.NewID()); err != nil {
			c.refused("AbortSnapshots of a set that never was", err, vss.VSS_E_OBJECT_NOT_FOUND)
		}
	}},
	{"abort/unknown-spares-current", "an abort of another set leaves the current one alone", func(c *check) {
		set := c.reach(preCommit)
		_ = c.abort(vss.NewID())
		c.advance(set, preCommit, postCommit+1)
		c.targets(set, c.lun(0))
	}},
	aborted(0), aborted(preCommit), aborted(commit), aborted(postCommit),
	{"abort/twice", "an abort can be repeated", func(c *check) {
		set := c.reach(commit)
		c.must("AbortSnapshots", c.abort(set))
		if err := c.abort(set); err != nil {
			c.refused("AbortSnapshots of an aborted set", err, vss.VSS_E_OBJECT_NOT_FOUND)
		}
	}},
	{"abort/when-created", "an abort leaves a complete set alone", func(c *check) {
		set, copies := c.create(setContext, c.lun(0))
		_ = c.abort(set)
		c.must("LocateLUNs of a complete set, after AbortSnapshots,", c.locate(copies...))
	}},
	{"abort/while-preparing", "an abort may come while EndPrepareSnapshots is under way; both return, and the set is gone", func(c *check) {
		set := c.reach(0)
		var wg sync.WaitGroup
		var thrown any
		wg.Go(func() {
			defer func() { thrown = recover() }()
			_ = c.phase(endPrepare, set) // either answer is right
		})
		func() {
			defer wg.Wait()
			if err := c.abort(set); err != nil {
				c.refused("AbortSnapshots during EndPrepareSnapshots", err, vss.VSS_E_OBJECT_NOT_FOUND)
			}
		}()
		if thrown != nil {
			panic(thrown)
		}
		_ = c.abort(set) // had the first come before the preparation began
		c.refused("PreCommitSnapshots of a set that was aborted", c.phase(preCommit, set), vss.VSS_E_PROVIDER_VETO, vss.VSS_E_OBJECT_NOT_FOUND)
		c.reach(preCommit)
	}},
}

var targetCases = []Case{
	{"targets/identity", "a copy is named by a page 0x83 identifier of its own; version is 1, the disk signature GUID_NULL", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		l := copies[0]
		switch {
		case l.Version != lun.InfoVersion:
			c.failf("the copy's LUN information has version %d, not 1", l.Version)
		case len(l.QualifyingIDs()) == 0:
			c.failf("the copy has no page 0x83 identifier of type 1, 2, 3 or 8: no host could recognise it")
		case !l.DiskSignature.IsNull():
			c.failf("the copy's disk signature is %v; the provider must leave it GUID_NULL", l.DiskSignature)
		}
	}},
	{"targets/not-the-source", "a copy is not called like its original", func(c *check) {
		_, copies := c.create(setContext, c.lun(0))
		if lun.Match(c.lun(0), copies[0]) == nil {
			c.failf("GetTargetLUNs named the original %s as its own copy", copies[0].Name())
		}
	}},
	{"targets/same-answer", "asked twice, GetTargetLUNs answers the same", func(c *check) {
		set, copies := c.create(setContext, c.lun(0))
		again, err := c.askTargets(set, c.lun(0))
		c.must("GetTargetLUNs, asked again,", err)
		if len(again) != 1 || !same(copies[0], again[0]) {
			c.failf("asked twice about one LUN, GetTargetLUNs answered %+v and %+v", copies, again)
		}
	}},
	{"targets/one-for-one", "GetTargetLUNs answers in the order of the question", func(c *check) {
		set := vss.NewID()
		c.add(set, c.lun(0), c.lun(1))
		c.advance(set, 0, postCommit+1)
		ab := c.targets(set, c.lun(0), c.lun(1))
		ba := c.targets(set, c.lun(1), c.lun(0))
		if ab[0].Name() == ab[1].Name() {
			c.failf("two LUNs have one copy, %s", ab[0].Name())
		}
		if ab[0].Name() != ba[1].Name() || ab[1].Name() != ba[0].Name() {
			c.failf("asked in another order, GetTargetLUNs named other copies: %s, %s and then %s, %s", ab[0].Name(), ab[1].Name(), ba[0].Name(), ba[1].Name())
		}
	}},
	{"targets/unknown-set", "a set that never was has no copies: VSS_E_OBJECT_NOT_FOUND, by which the service knows that nothing is left of a broken-off creation", func(c *check) {
		_, err := c.askTargets(vss.NewID(), c.lun(0))
		c.refused("GetTargetLUNs of a set that never was", err, vss.VSS_E_OBJECT_NOT_FOUND)
	}},
	{"targets/unknown-lun", "a LUN that is not in the set has no copy", func(c *check) {
		set, _ := c.create(setContext, c.lun(0))
		_, err := c.askTargets(set, stranger())
		c.refused("GetTargetLUNs of a LUN that is not in the set", err)
	}},
}
